package policy

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// seconds are whole ones from 1 s to most.
func seconds(most time.Duration) *rapid.Generator[time.Duration] {
	return rapid.Map(rapid.Int64Range(1, int64(most/time.Second)), func(n int64) time.Duration {
		return time.Duration(n) * time.Second
	})
}

func names() *rapid.Generator[string] { return rapid.StringMatching(`[a-zA-Z_:][a-zA-Z0-9_:]{0,30}`) }

func queues() *rapid.Generator[Queue] {
	return rapid.Custom(func(t *rapid.T) Queue {
		queue := Queue{
			Metric:      names().Draw(t, "metric"),
			Target:      rapid.Float64Range(0.001, 1e12).Draw(t, "target"),
			Aggregation: rapid.SampledFrom([]Aggregation{Sum, ServiceAvg, WindowedAvg, Gate, Rate, Quantile, Readiness}).Draw(t, "aggregation"),
		}
		if queue.Aggregation.windowed() {
			queue.Window = seconds(time.Hour).Draw(t, "window")
		}
		switch queue.Aggregation {
		case Quantile:
			queue.Quantile = rapid.SampledFrom([]float64{0.5, 0.95, 0.999, 1}).Draw(t, "quantile")
		case Readiness:
			queue.Target = 1
		case Sum, ServiceAvg, WindowedAvg, Gate, Rate:
		}
		if (queue.Aggregation == Sum || queue.Aggregation == Rate) && rapid.Bool().Draw(t, "guarded") {
			queue.Guard = promises().Draw(t, "promise")
		}
		return queue
	})
}

func promises() *rapid.Generator[*Saturation] {
	return rapid.Custom(func(t *rapid.T) *Saturation {
		return &Saturation{
			TTFT: time.Duration(rapid.Int64Range(minTTFT.Milliseconds(), maxTTFT.Milliseconds()).Draw(t, "ttft")) * time.Millisecond,
			ITL:  time.Duration(rapid.Int64Range(minITL.Milliseconds(), maxITL.Milliseconds()).Draw(t, "itl")) * time.Millisecond,
		}
	})
}

func lists() *rapid.Generator[*List] {
	return rapid.Custom(func(t *rapid.T) *List {
		list := &List{
			Combine:      rapid.SampledFrom([]Combine{And, Or}).Draw(t, "combine"),
			UpCooldown:   seconds(30*time.Minute).Draw(t, "up"),
			DownCooldown: seconds(30*time.Minute).Draw(t, "down"),
		}
		for _, name := range rapid.SliceOfNDistinct(names(), 1, maxMetrics, rapid.ID).Draw(t, "names") {
			metric := Metric{
				Name:   name + "x", // never a name with an alias, nor a histogram's part
				Down:   rapid.Float64().Draw(t, "down"),
				Window: seconds(time.Hour).Draw(t, "window"),
			}
			metric.Up = rapid.Float64Min(metric.Down).Draw(t, "up")
			metric.Kind = rapid.SampledFrom([]Kind{Gauge, Histogram, Counter}).Draw(t, "kind")
			if metric.Kind == Gauge && rapid.Bool().Draw(t, "newest") {
				metric.Window = 0
			}
			if metric.Kind == Histogram {
				metric.Quantile = rapid.SampledFrom([]float64{0, 0.5, 0.95, 0.999, 1}).Draw(t, "quantile")
			}
			list.Metrics = append(list.Metrics, metric)
		}
		return list
	})
}

func pages() *rapid.Generator[Page] {
	return rapid.Custom(func(t *rapid.T) Page {
		return Page{
			Scheme: rapid.SampledFrom([]string{"", "https"}).Draw(t, "scheme"),
			Port:   rapid.Uint16().Filter(func(n uint16) bool { return n != 80 }).Draw(t, "port"),
			Path:   rapid.SampledFrom([]string{"", "/", "/stats/prometheus", "/m.e-t_r~ics/"}).Draw(t, "path"),
			Timeout: rapid.SampledFrom([]time.Duration{
				0, 100 * time.Millisecond, 2500 * time.Millisecond, 3 * time.Second, 30 * time.Second,
			}).Draw(t, "timeout"),
		}
	})
}

func triggers() *rapid.Generator[Trigger] {
	return rapid.Custom(func(t *rapid.T) Trigger {
		trigger := Trigger{
			Namespace:    rapid.StringMatching(`[a-z]([a-z0-9-]{0,20}[a-z0-9])?`).Draw(t, "namespace"),
			InferenceSet: rapid.StringMatching(`[a-z]([a-z0-9-]{0,20}[a-z0-9])?`).Draw(t, "name"),
			Page:         pages().Draw(t, "page"),
		}
		switch rapid.SampledFrom([]string{"list", "saturation", "queue"}).Draw(t, "kind") {
		case "list":
			trigger.List = lists().Draw(t, "list")
		case "saturation":
			trigger.Saturation = promises().Draw(t, "promise")
		default:
			trigger.Queue = queues().Draw(t, "queue")
		}
		if trigger.Queue.Aggregation == Readiness {
			trigger.Page = NoPage
		}
		if rapid.Bool().Draw(t, "bounded") {
			trigger.Bounds.Min = rapid.Int32Range(1, 100).Draw(t, "min")
			trigger.Bounds.Max = rapid.Int32Min(trigger.Bounds.Min).Draw(t, "max")
		}
		return trigger
	})
}

func TestATriggerSurvivesItsMetadata(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := triggers().Draw(t, "trigger")
		metadata := want.Metadata("scaler:10450")
		if metadata["enableTLS"] != "true" || metadata["scalerAddress"] != "scaler:10450" {
			t.Fatalf("metadata %v would make KEDA connect in plaintext or elsewhere", metadata)
		}
		got, err := ParseTrigger(want.Namespace, metadata)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("trigger (-want +got):\n%s", diff)
		}
	})
}

func TestAHandWrittenTriggerIsUnderstood(t *testing.T) {
	own := map[string]string{
		"scalerAddress": "keda-kaito-scaler-svc.keda.svc:10450", "scalerName": "keda-kaito-scaler",
		"inferenceSetName": "phi-4", "inferenceSetNamespace": "default", "threshold": "10",
	}
	waiting := Queue{Metric: "vllm:num_requests_waiting", Target: 10}
	for _, tt := range []struct {
		name  string
		pairs []string
		want  Trigger
	}{
		{"as in KAITO's documents", []string{
			"metricName", "vllm:num_requests_waiting", "metricProtocol", "http", "metricPort", "80",
			"metricPath", "/metrics", "scrapeTimeout", "3s", "metricSource", "modelpod", "aggregation", "sum", "metricCacheWindow", "30",
		}, Trigger{Queue: waiting, Page: Page{Timeout: 3 * time.Second}}},
		{"with a timeout of its own, to the microsecond", []string{"scrapeTimeout", "2.900001s"}, Trigger{Queue: waiting, Page: Page{Timeout: 3 * time.Second}}},
		{"with nothing but the threshold", nil, Trigger{Queue: waiting}},
		{"with keys that say nothing", []string{"metricName", "", "metricPort", "", "metrics", " ", "metricSource", ""}, Trigger{Queue: waiting}},
		{
			"on a page of its own",
			[]string{"metricProtocol", "HTTPS", "metricPort", "5001", "metricPath", "/stats/prometheus", "scrapeTimeout", "5"},
			Trigger{Queue: waiting, Page: Page{Scheme: "https", Port: 5001, Path: "/stats/prometheus", Timeout: 5 * time.Second}},
		},
		{
			"the mean of the replicas",
			[]string{"aggregation", "service-avg", "metricSource", "service", "metricCacheWindow", "30"},
			Trigger{Queue: Queue{Metric: "vllm:num_requests_waiting", Target: 10, Aggregation: ServiceAvg}},
		},
		{
			"the mean of a while of a histogram",
			[]string{"metricName", "vllm:request_queue_time_seconds", "aggregation", "windowed-avg"},
			Trigger{Queue: Queue{Metric: "vllm:request_queue_time_seconds", Target: 10, Aggregation: WindowedAvg, Window: 5 * time.Minute}},
		},
		{
			"a gate",
			[]string{"aggregation", "gate", "metricCacheWindow", "2m"},
			Trigger{Queue: Queue{Metric: "vllm:num_requests_waiting", Target: 10, Aggregation: Gate, Window: 2 * time.Minute}},
		},
		{
			"a counter's rate",
			[]string{"metricName", "vllm:prompt_tokens_total", "aggregation", "rate"},
			Trigger{Queue: Queue{Metric: "vllm:prompt_tokens_total", Target: 10, Aggregation: Rate, Window: time.Minute}},
		},
		{
			"a list",
			[]string{"metrics", listText, "combinePolicy", "or", "scaleUpCooldown", "1m"},
			Trigger{List: &List{Metrics: listMetrics, Combine: Or, UpCooldown: time.Minute, DownCooldown: 5 * time.Minute}},
		},
		{
			"saturation, by its key alone",
			[]string{"threshold", "", "saturation", "true", "itlSLO", "50ms"},
			Trigger{Saturation: &Saturation{TTFT: 2500 * time.Millisecond, ITL: 50 * time.Millisecond}},
		},
		{
			"saturation, as releases wrote it whose default was 2 s and 60 ms",
			[]string{"threshold", "", "saturation", "true", "ttftSLO", "2s", "itlSLO", "60ms"},
			Trigger{Saturation: &Saturation{TTFT: 2 * time.Second, ITL: 60 * time.Millisecond}},
		},
		{
			"a guarded queue",
			[]string{"downGuard", "true", "ttftSLO", "1500ms"},
			Trigger{Queue: Queue{
				Metric: "vllm:num_requests_waiting", Target: 10,
				Guard: &Saturation{TTFT: 1500 * time.Millisecond, ITL: 75 * time.Millisecond},
			}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			metadata := maps.Clone(own)
			for i := 0; i < len(tt.pairs); i += 2 {
				metadata[tt.pairs[i]] = tt.pairs[i+1]
			}
			got, err := ParseTrigger("default", metadata)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Namespace, tt.want.InferenceSet = "default", "phi-4"
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("trigger (-want +got):\n%s", diff)
			}
		})
	}
}

func TestATriggerIsRefusedInWords(t *testing.T) {
	good := map[string]string{"inferenceSetName": "phi-4", "threshold": "10"}
	const path = `: must be a path such as /metrics: one / before each`
	for _, tt := range []struct{ name, key, value, want string }{
		{"no InferenceSet", "inferenceSetName", "", "inferenceSetName: required"},
		{"another namespace", "inferenceSetNamespace", "theirs", `inferenceSetNamespace "theirs": must be the ScaledObject's own namespace "default"`},
		{"no threshold", "threshold", "", "threshold: required"},
		{"a threshold of no meaning", "threshold", "many", `threshold "many": must be a number of at least 0.001`},
		{"a threshold beyond what the HPA counts to", "threshold", "1e300", `threshold "1e300": must be at most 1e+12`},
		{"an SLO to the microsecond", "downGuard", "true\x00itlSLO\x0060.001ms", `itlSLO "60.001ms": must be whole milliseconds, such as 75ms`},
		{"a book", "notes", strings.Repeat("n", 33<<10), `metadata: must have at most 20480 bytes in all`},
		{"a name that no object has", "inferenceSetName", strings.Repeat("n", 254), `inferenceSetName "nnn`},
		{"a path for a metric", "metricName", "../../secrets", `metricName "../../secrets": must be the name`},
		{"another host in the port", "metricPort", "80@169.254.169.254", `metricPort "80@169.254.169.254": must be a port from 1 to 65535`},
		{"no port", "metricPort", "0", `metricPort "0": must be a port`},
		{"beyond ports", "metricPort", "65536", `metricPort "65536": must be a port`},
		{"another host", "metricPath", "//host", `metricPath "//host"` + path},
		{"a user", "metricPath", "@x", `metricPath "@x"` + path},
		{"a user within", "metricPath", "/a@b", `metricPath "/a@b"` + path},
		{"a query", "metricPath", "/metrics?a=b", `metricPath "/metrics?a=b"` + path},
		{"a fragment", "metricPath", "/metrics#a", `metricPath "/metrics#a"` + path},
		{"the way up", "metricPath", "/a/../b", `metricPath "/a/../b"` + path},
		{"the way up in code", "metricPath", "/%2e%2e", `metricPath "/%2e%2e"` + path},
		{"a new line", "metricPath", "/a\nHost: b", `metricPath "/a\nHost: b"` + path},
		{"no slash", "metricPath", "metrics", `metricPath "metrics"` + path},
		{"a book for a path", "metricPath", "/" + strings.Repeat("a", 128), `metricPath "/aaa`},
		{"another protocol", "metricProtocol", "file", `metricProtocol "file": must be http or https`},
		{"no time", "scrapeTimeout", "0s", `scrapeTimeout "0s": must be from 100ms to 30s, such as 3s`},
		{"a time before", "scrapeTimeout", "-1s", `scrapeTimeout "-1s": must be from`},
		{"an hour", "scrapeTimeout", "1h", `scrapeTimeout "1h": must be from`},
		{"a time of no meaning", "scrapeTimeout", "soon", `scrapeTimeout "soon": must be from`},
		{"another source", "metricSource", "prometheus", `metricSource "prometheus": must be modelpod, pod or service`},
		{"another aggregation", "aggregation", "max", `aggregation "max": must be sum, service-avg, windowed-avg, gate, rate or quantile`},
		{"the rate of a gauge that nobody named", "aggregation", "rate", `metricName: required beside rate: a counter, such as vllm:prompt_tokens_total`},
		{"no window", "metricCacheWindow", "0", `metricCacheWindow "0": must be whole seconds from 1 to 3600`},
		{"a list that is none", "metrics", "10", `metrics "10": must be a list of metrics in YAML or JSON`},
		{"saturation and a threshold", "saturation", "true", `threshold "10": must not be given with saturation`},
		{"saturation, or not", "saturation", "perhaps", `saturation "perhaps": must be "true" or "false"`},
		{"a guard, or not", "downGuard", "perhaps", `downGuard "perhaps": must be "true" or "false"`},
		{"a metric without a name", "metrics", "[{type: gauge, upthreshold: 2, downthreshold: 1}]", `metrics[0].name: required`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			metadata := maps.Clone(good)
			// Further keys and values follow after a NUL.
			more := strings.Split(tt.key+"\x00"+tt.value, "\x00")
			for i := 0; i < len(more); i += 2 {
				metadata[more[i]] = more[i+1]
			}
			_, err := ParseTrigger("default", metadata)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s…", err, tt.want)
			}
		})
	}
}

func TestATriggerHasAtMostSoManyKeys(t *testing.T) {
	metadata := map[string]string{"inferenceSetName": "phi-4", "threshold": "10"}
	for i := range 1000 {
		metadata[fmt.Sprint("k", i)] = ""
	}
	if _, err := ParseTrigger("default", metadata); err == nil || err.Error() != "metadata: must have at most 64 keys; this has 1002" {
		t.Errorf("got %v", err)
	}
}

func TestWhatATriggerReads(t *testing.T) {
	queue := func(q Queue) Trigger { return Trigger{Queue: q} }
	const learned = "kaito_ratelimit_rejected_total vllm:generation_tokens_total vllm:inter_token_latency_seconds " +
		"vllm:num_requests_running vllm:num_requests_waiting vllm:prefix_cache_hits_total vllm:prompt_tokens_cached_total vllm:prompt_tokens_total " +
		"vllm:request_time_per_output_token_seconds vllm:time_per_output_token_seconds vllm:time_to_first_token_seconds"
	const busy, generated = "vllm:num_requests_running vllm:num_requests_waiting ", "vllm:generation_tokens_total "
	promise := Saturation{TTFT: 2 * time.Second, ITL: 60 * time.Millisecond}
	for _, tt := range []struct {
		name    string
		trigger Trigger
		want    string
		window  time.Duration
		limits  map[string]float64
	}{
		{"a gauge", queue(Queue{Metric: "vllm:num_requests_running"}), "vllm:num_requests_running", 0, nil},
		{"a gauge that had another name", queue(Queue{Metric: "vllm:kv_cache_usage_perc"}), "vllm:gpu_cache_usage_perc vllm:kv_cache_usage_perc", 0, nil},
		{
			"a window, which may be of a histogram", queue(Queue{Metric: "vllm:request_queue_time_seconds", Aggregation: WindowedAvg, Window: time.Minute}),
			generated + busy + "vllm:request_queue_time_seconds vllm:request_success_total", time.Minute, nil,
		},
		{"a list of gauges", Trigger{List: &List{Metrics: []Metric{
			{Name: "vllm:num_requests_waiting", Window: time.Minute}, {Name: "vllm:gpu_cache_usage_perc", Window: 10 * time.Minute},
		}}}, "vllm:gpu_cache_usage_perc vllm:kv_cache_usage_perc vllm:num_requests_waiting", 10 * time.Minute, nil},
		{"a list with a histogram", Trigger{List: &List{Metrics: []Metric{
			{Name: "vllm:time_per_output_token_seconds", Kind: Histogram, Window: time.Minute},
		}}}, generated + "vllm:inter_token_latency_seconds " + busy + "vllm:request_success_total vllm:time_per_output_token_seconds", time.Minute, nil},
		{"saturation", Trigger{Saturation: &promise}, learned, 0, counts(2, .06)},
		{"a guarded queue of another metric", queue(Queue{Metric: "a:b", Guard: &promise}), "a:b " + learned, 0, counts(2, .06)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.trigger.Page = Page{Port: 5001}
			want := Reading{Page: Page{Port: 5001}, Families: strings.Fields(tt.want), Window: tt.window, Limits: tt.limits}
			if diff := cmp.Diff(want, tt.trigger.Reading()); diff != "" {
				t.Errorf("reading (-want +got):\n%s", diff)
			}
		})
	}
}

// counts are the limits of what is learned from.
func counts(ttft, itl float64) map[string]float64 {
	return map[string]float64{
		"vllm:time_to_first_token_seconds": ttft, "vllm:request_time_per_output_token_seconds": itl,
		"vllm:inter_token_latency_seconds": math.Inf(1),
		// What an older vLLM calls the time between tokens.
		"vllm:time_per_output_token_seconds": math.Inf(1),
	}
}

// A histogram that anybody wants whole is read whole, and of two limits the lesser counts.
func TestLimitsOfTriggersThatShareAPage(t *testing.T) {
	guarded := func(ttft time.Duration) Trigger {
		return Trigger{Queue: Queue{Metric: "a", Guard: &Saturation{TTFT: ttft, ITL: 60 * time.Millisecond}}}
	}
	whole := counts(2, .06)
	delete(whole, "vllm:inter_token_latency_seconds")
	delete(whole, "vllm:time_per_output_token_seconds")
	for _, tt := range []struct {
		name   string
		others []Trigger
		want   map[string]float64
	}{
		{"one alone", nil, counts(2, .06)},
		{"another of the same", []Trigger{guarded(2 * time.Second)}, counts(2, .06)},
		{"another that reads none of them", []Trigger{{Queue: Queue{Metric: "b"}}}, counts(2, .06)},
		{"a later SLO", []Trigger{guarded(3 * time.Second)}, counts(2, .06)},
		{"an earlier SLO", []Trigger{guarded(time.Second)}, counts(1, .06)},
		{"a list of one of them", []Trigger{{List: &List{Metrics: []Metric{
			{Name: "vllm:inter_token_latency_seconds", Kind: Histogram, Window: time.Minute},
		}}}}, whole},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Readings(append(tt.others, guarded(2*time.Second)))
			if len(got) != 1 {
				t.Fatalf("%d readings of one page", len(got))
			}
			if diff := cmp.Diff(tt.want, got[0].Limits); diff != "" {
				t.Errorf("limits (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTriggersShareTheReadingOfAPage(t *testing.T) {
	got := Readings([]Trigger{
		{Queue: Queue{Metric: "b"}},
		{Queue: Queue{Metric: "c"}, Page: Page{Port: 5001}},
		{List: &List{Metrics: []Metric{{Name: "a", Window: time.Minute}, {Name: "b", Window: time.Second}}}},
	})
	want := []Reading{{Families: []string{"a", "b"}, Window: time.Minute}, {Page: Page{Port: 5001}, Families: []string{"c"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
}

func FuzzTrigger(f *testing.F) {
	f.Add("metricPath", "/metrics", "metricPort", "80")
	f.Add("metrics", listText, "combinePolicy", "OR")
	f.Add("aggregation", "gate", "metricCacheWindow", "5m")
	f.Add("saturation", "true", "threshold", "")
	f.Add("downGuard", "true", "itlSLO", "50ms")
	f.Add("aggregation", "gate", "metricName", "readiness_gate")
	f.Add("aggregation", "quantile", "quantile", "0.5")
	f.Add("scrapeTimeout", "3s", "metricProtocol", "https")
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string) {
		metadata := map[string]string{"inferenceSetName": "phi-4", "threshold": "10", key1: value1, key2: value2}
		trigger, err := ParseTrigger("default", metadata)
		if err != nil {
			if trigger.InferenceSet != "" || len(err.Error()) > 64<<10 {
				t.Fatalf("a refusal of %d bytes with %+v", len(err.Error()), trigger)
			}
			return
		}
		page := trigger.Page
		if strings.ContainsAny(page.Path, "@?#%\\ \n") || strings.Contains(page.Path, "//") || strings.Contains(page.Path, "..") ||
			page.Path != "" && page.Path[0] != '/' && page != NoPage || page.Timeout < 0 || page.Timeout > 30*time.Second ||
			!slices.Contains([]string{"", "https"}, page.Scheme) || trigger.Namespace != "default" {
			t.Fatalf("%+v would read elsewhere than asked", trigger)
		}
		if name, target := trigger.Published(); name == "" || !(target >= 0.001) {
			t.Fatalf("published as %q with target %g", name, target)
		}
		again, err := ParseTrigger("default", trigger.Metadata("scaler:10450"))
		if diff := cmp.Diff(trigger, again); err != nil || diff != "" {
			t.Fatalf("%v, trigger after its metadata (-before +after):\n%s", err, diff)
		}
	})
}
