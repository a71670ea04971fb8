package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// listText is a list with all that a metric may have.
const listText = `
- name: vllm:num_requests_waiting
  type: gauge
  source: modelpod
  upthreshold: "10"
  downthreshold: 1.5
- name: vllm:time_to_first_token_seconds
  type: histogram
  upthreshold: 2
  downthreshold: 0.5
  quantile: 0.95
  metriccachewindow: "1m"
`

var listMetrics = []Metric{
	{Name: "vllm:num_requests_waiting", Kind: Gauge, Up: 10, Down: 1.5},
	{Name: "vllm:time_to_first_token_seconds", Kind: Histogram, Up: 2, Down: 0.5, Quantile: 0.95, Window: time.Minute},
}

func TestAMetricListMeansWhatKAITODocuments(t *testing.T) {
	want := Policy{
		Bounds: Bounds{Min: 1, Max: 5},
		List:   &List{Metrics: listMetrics, Combine: And, UpCooldown: 5 * time.Minute, DownCooldown: 5 * time.Minute},
		Up:     Pace{Window: time.Minute, Cooldown: 5 * time.Minute, Step: 1},
		Down:   Pace{Window: 5 * time.Minute, Cooldown: 5 * time.Minute, Step: 1},
	}
	for name, text := range map[string]string{
		"YAML": listText,
		"YAML that flows": `[{name: vllm:num_requests_waiting, type: gauge, upthreshold: 10, downthreshold: 1.5},
			{name: vllm:time_to_first_token_seconds, type: histogram, upthreshold: 2, downthreshold: 0.5, quantile: 0.95, metriccachewindow: 60}]`,
		"JSON": `[{"name":"vllm:num_requests_waiting","type":"gauge","source":"modelpod","upthreshold":10,"downthreshold":1.5},` +
			`{"name":"vllm:time_to_first_token_seconds","type":"histogram","upthreshold":"2","downthreshold":5e-1,"quantile":"0.95","metriccachewindow":60}]`,
		"JSON with tabs": "[\n\t{\"name\" : \"vllm:num_requests_waiting\",\n\t\"type\":\t\"gauge\", \"upthreshold\": 10.0, \"downthreshold\": 1.5},\n" +
			"\t{\"name\": \"vllm:time_to_first_token_seconds\", \"type\": \"histogram\", \"upthreshold\": 2, \"downthreshold\": 0.5, \"quantile\": 0.95, \"metriccachewindow\": \"60s\"}]",
		"other cases, comments and nulls": `
# two metrics
- {Name: vllm:num_requests_waiting, Type: Gauge, source: ModelPod, upThreshold: 10, downThreshold: 1.5, quantile: null}
- {NAME: vllm:time_to_first_token_seconds, TYPE: HISTOGRAM, UPTHRESHOLD: 2, DOWNTHRESHOLD: 0.5, QUANTILE: 0.95, metricCacheWindow: 1m} # seconds`,
	} {
		t.Run(name, func(t *testing.T) {
			got, notes, err := Parse(Request{Annotations: ask("max-replicas", "5", "metrics", text)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("policy (-want +got):\n%s", diff)
			}
			if len(notes) > 0 {
				t.Errorf("notes: %q, want none", notes)
			}
		})
	}
}

func TestEveryAnnotationOfAListHasItsEffect(t *testing.T) {
	got, _, err := Parse(Request{Annotations: ask("metrics", listText, "combinepolicy", "Or", "evaluationwindow", "30s",
		"scaleupcooldown", "2m", "scaledowncooldown", "1800", "min-replicas", "2", "max-replicas", "4")})
	if err != nil {
		t.Fatal(err)
	}
	want := Policy{
		Bounds: Bounds{Min: 2, Max: 4},
		List:   &List{Metrics: listMetrics, Combine: Or, UpCooldown: 2 * time.Minute, DownCooldown: 30 * time.Minute},
		Up:     Pace{Window: 30 * time.Second, Cooldown: 2 * time.Minute, Step: 1},
		Down:   Pace{Window: 30 * time.Minute, Cooldown: 30 * time.Minute, Step: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
}

func TestTheListWinsAndSaysSo(t *testing.T) {
	got, notes, err := Parse(Request{Annotations: ask("metrics", listText, "threshold", "abc",
		"metricName", "vllm:num_requests_running", "max-replicas", "4")})
	if err != nil || got.List == nil || got.Queue != (Queue{}) {
		t.Fatalf("policy %+v, %v, want the list alone", got, err)
	}
	want := []string{
		`threshold "abc" is ignored, because metrics is given`,
		`metricName "vllm:num_requests_running" is ignored, because metrics is given`,
	}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

// one is a list of one metric with some of its fields said otherwise.
func one(fields string) string {
	given := strings.Split(fields, ", ")
	for _, usual := range []string{"name: vllm:num_requests_waiting", "type: gauge", "upthreshold: 10", "downthreshold: 1"} {
		name, _, _ := strings.Cut(usual, " ")
		if !slices.ContainsFunc(given, func(field string) bool { return strings.HasPrefix(field, name) }) {
			given = append(given, usual)
		}
	}
	return "[{" + strings.Join(given, ", ") + "}]"
}

func TestWhatIsNotedOfAList(t *testing.T) {
	for fields, want := range map[string]string{
		"name: vllm:gpu_cache_usage_perc, upthreshold: 0.8, downthreshold: 0.2":  "vllm:gpu_cache_usage_perc is vllm:kv_cache_usage_perc since vLLM 0.10: whichever a page has is read",
		"name: vllm:kv_cache_usage_perc, upthreshold: 1, downthreshold: 0.2":     "",
		"name: vllm:kv_cache_usage_perc, upthreshold: 80, downthreshold: 20":     "vllm:kv_cache_usage_perc goes from 0 to 1: it is never above 80",
		"name: vllm:time_per_output_token_seconds, type: histogram, quantile: 1": "vllm:time_per_output_token_seconds is vllm:inter_token_latency_seconds since vLLM 0.11: whichever a page has is read",
		"name: vllm:prompt_tokens_total":                                         "vllm:prompt_tokens_total is a counter by its name: it only grows, so that it can't be compared with 10. Give aggregation: rate to compare what it gains a second",
		"name: vllm:prompt_tokens_total, type: counter, aggregation: Rate":       "",
		"name: vllm:iteration_tokens_total, type: histogram, quantile: 0.5":      "",
		"downthreshold: 0": "vllm:num_requests_waiting is never below 0, so it never lets replicas go",
		"name: vllm:e2e_x, type: histogram, quantile: 0.5, downthreshold: 0": "", // idleness is below all
		"name: vllm:num_requests_running, upthreshold: 1e3":                  "",
	} {
		_, notes, err := Parse(Request{Annotations: ask("max-replicas", "5", "metrics", one(fields))})
		if got := strings.Join(notes, "; "); err != nil || got != want {
			t.Errorf("%s:\n got %s, %v\nwant %s", fields, got, err, want)
		}
	}
}

func TestABadListIsRefusedByKeyValueAndRule(t *testing.T) {
	twice := func(a, b string) string {
		return strings.TrimSuffix(one(a), "]") + ", " + strings.TrimPrefix(one(b), "[")
	}
	for _, tt := range []struct{ name, text, want string }{
		{"an empty list", "[]", `metrics "[]": must be a list of at least one metric`},
		{"a word", "vllm:num_requests_waiting", `metrics "vllm:num_requests_waiting": must be a list of metrics in YAML or JSON, such as [{name: vllm:num_requests_waiting, type: gauge, upthreshold: 10, downthreshold: 1}]`},
		{"a metric without a list", strings.Trim(one("type: gauge"), "[]"), `metrics "{type: `},
		{"a broken list", "[{name: a", `metrics "[{name: a": must be a list in YAML or JSON: line 1: did not find expected`},
		{"two documents", "[]\n---\n[]", `metrics "[]\n---\n[]": must be one list in YAML or JSON, and nothing after it`},
		{"a list of words", "[vllm:num_requests_waiting]", `metrics[0] "vllm:num_requests_waiting": must be an object with name, type`},
		{"seventeen metrics", "[" + strings.Repeat("{},", 16) + "{}]", `metrics "[` + strings.Repeat("{},", 16) + `{}]": must have at most 16 metrics; this has 17`},
		{"no name", `[{type: gauge, upthreshold: 2, downthreshold: 1}]`, `metrics[0].name: required: the metric's name, such as vllm:num_requests_waiting`},
		{"a formula for a name", one("name: sum(x)"), `metrics[0].name "sum(x)": must be the name of a Prometheus metric`},
		{"a histogram's part", one("name: vllm:e2e_request_latency_seconds_bucket, type: histogram"), `metrics[0].name "vllm:e2e_request_latency_seconds_bucket": must be the histogram's own name, without _bucket, did you mean vllm:e2e_request_latency_seconds?`},
		{"no type", `[{name: a, upthreshold: 2, downthreshold: 1}]`, `metrics[0].type: required: gauge, histogram or counter`},
		{"another type", one("type: summary"), `metrics[0].type "summary": must be gauge, histogram or counter`},
		{"a counter's total", one("type: counter"), `metrics[0].aggregation: required for a counter, which only grows: rate compares what it gains a second`},
		{"the rate of a gauge", one("aggregation: rate"), `metrics[0].aggregation "rate": must be left out unless the type is counter: only a counter has a rate`},
		{"the sum of a gauge", one("aggregation: sum"), `metrics[0].aggregation "sum": is not supported in a list yet, which compares means over the replicas: leave it out`},
		{"another source", one("source: prometheus"), `metrics[0].source "prometheus": must be modelpod`},
		{"no upper threshold", `[{name: a, type: gauge, downthreshold: 1}]`, `metrics[0].upthreshold: required: a number, such as 10`},
		{"no lower threshold", `[{name: a, type: gauge, upthreshold: 1}]`, `metrics[0].downthreshold: required: a number, such as 1`},
		{"a threshold in words", one("upthreshold: ten"), `metrics[0].upthreshold "ten": must be a finite number, such as 10`},
		{"NaN", one("upthreshold: .nan"), `metrics[0].upthreshold ".nan": must be a finite number`},
		{"NaN as a string", one(`upthreshold: "NaN"`), `metrics[0].upthreshold "NaN": must be a finite number`},
		{"infinity", one("upthreshold: +Inf"), `metrics[0].upthreshold "+Inf": must be a finite number`},
		{"more than a float holds", one("upthreshold: 1e999"), `metrics[0].upthreshold "1e999": must be a finite number`},
		{"JSON of words", `["vllm:num_requests_waiting"]`, `metrics[0] "vllm:num_requests_waiting": must be an object with name, type`},
		{"JSON of lists", `[[{"name": "a"}]]`, `metrics[0]: must be an object with name, type`},
		{"JSON that is no list", `{"name": "a"}`, `metrics "{\"name\": \"a\"}": must be a list of metrics in YAML or JSON`},
		{"JSON with an object for a threshold", `[{"name": "a", "type": "gauge", "upthreshold": {"a": [1]}, "downthreshold": null}]`, `metrics[0].upthreshold: must be a single value`},
		{"JSON with a field twice", `[{"name": "a", "name": "b", "type": "gauge", "upthreshold": 2, "downthreshold": 1}]`, `metrics[0].name "b": must not be given twice`},
		{"JSON with a boolean", `[{"name": "a", "type": "gauge", "upthreshold": true, "downthreshold": 1}]`, `metrics[0].upthreshold "true": must be a finite number`},
		{"a comment", "# none yet", `metrics "# none yet": must be a list of at least one metric`},
		{"a list for a threshold", one("upthreshold: [1]"), `metrics[0].upthreshold: must be a single value`},
		{"down above up", one("upthreshold: 2, downthreshold: 5"), `metrics[0].upthreshold "2": must not be below downthreshold 5`},
		{"no window", one("metriccachewindow: 0"), `metrics[0].metriccachewindow "0": must be whole seconds from 1 to 3600`},
		{"a day's window", one("metriccachewindow: 24h"), `metrics[0].metriccachewindow "24h": must be whole seconds from 1 to 3600`},
		{"a quantile of zero", one("type: histogram, quantile: 0"), `metrics[0].quantile "0": must be above 0 and at most 1, such as 0.95`},
		{"a percentile", one("type: histogram, quantile: 95"), `metrics[0].quantile "95": must be above 0 and at most 1`},
		{"a gauge's quantile", one("quantile: 0.95"), `metrics[0].quantile "0.95": must be left out unless the type is histogram`},
		{"a slip", one("upthreshhold: 3"), `metrics[0].upthreshhold "3": no such field, did you mean upthreshold?`},
		{"no slip", one("colour: blue"), `metrics[0].colour "blue": no such field`},
		{"a field twice", one("upthreshold: 3, upThreshold: 4"), `metrics[0].upthreshold "4": must not be given twice`},
		{"a metric twice", twice("upthreshold: 10", "upthreshold: 20"), `metrics[1].name "vllm:num_requests_waiting": must not be there twice: it is metrics[0] too, with the same quantile`},
		{"a metric twice under two names", twice("name: vllm:kv_cache_usage_perc", "name: vllm:gpu_cache_usage_perc"), `metrics[1].name "vllm:gpu_cache_usage_perc": must not be there twice`},
		{"an alias", "[&a {name: a}, *a]", `metrics[0].type: required`},
		{"ten thousand lines", strings.Repeat("- name: a\n", 10_000), `metrics "` + strings.Repeat(`- name: a\n`, 6) + `- na…": must have at most 16384 bytes`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Parse(Request{Annotations: ask("max-replicas", "5", "metrics", tt.text)})
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.HasPrefix(err.Error(), Prefix+tt.want) {
				t.Errorf("refusal:\n got %s\nwant %s…", err, Prefix+tt.want)
			}
		})
	}
}

func TestAListAndItsCombinationAreToldTogether(t *testing.T) {
	_, _, err := Parse(Request{Annotations: ask("max-replicas", "0", "combinepolicy", "XOR", "scaleupcooldown", "1h",
		"metrics", `[{name: a, type: gauge, upthreshold: x, downthreshold: y}, {}]`)})
	for _, part := range []string{
		`metrics[0].upthreshold "x"`, `metrics[0].downthreshold "y"`, "metrics[1].name: required",
		`combinepolicy "XOR": must be AND or OR`, `scaleupcooldown "1h"`, `max-replicas "0"`,
	} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("refusal %v lacks %q", err, part)
		}
	}
}

func TestTheSameMetricByMeanAndByQuantileIsNoDuplicate(t *testing.T) {
	text := `[{name: a, type: histogram, upthreshold: 2, downthreshold: 1}, {name: a, type: histogram, upthreshold: 2, downthreshold: 1, quantile: 0.5}]`
	if _, _, err := Parse(Request{Annotations: ask("max-replicas", "5", "metrics", text)}); err != nil {
		t.Error(err)
	}
}

func TestARefusalOfAThousandFieldsIsShort(t *testing.T) {
	var text strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&text, "a%d: 1,", i)
	}
	_, _, err := Parse(Request{Annotations: ask("max-replicas", "5", "metrics", "[{"+text.String()+"}]")})
	if err == nil || len(err.Error()) > 4096 || !strings.HasSuffix(err.Error(), "more") {
		t.Errorf("refusal %.200v…", err)
	}
}

func TestAMetricIsFoundUnderItsOtherName(t *testing.T) {
	for metric, want := range map[string]string{
		"vllm:gpu_cache_usage_perc":           "vllm:gpu_cache_usage_perc vllm:kv_cache_usage_perc",
		"vllm:kv_cache_usage_perc":            "vllm:kv_cache_usage_perc vllm:gpu_cache_usage_perc",
		"vllm:time_per_output_token_seconds":  "vllm:time_per_output_token_seconds vllm:inter_token_latency_seconds",
		"vllm:inter_token_latency_seconds":    "vllm:inter_token_latency_seconds vllm:time_per_output_token_seconds",
		"vllm:num_requests_waiting":           "vllm:num_requests_waiting",
		"vllm:num_requests_waiting_by_reason": "vllm:num_requests_waiting_by_reason",
	} {
		if got := strings.Join(Names(metric), " "); got != want {
			t.Errorf("%s: %s, want %s", metric, got, want)
		}
	}
}

func TestTheNearestName(t *testing.T) {
	page := []string{"vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"}
	for word, want := range map[string]string{
		"vllm:num_request_waiting":     "vllm:num_requests_waiting",
		"VLLM:NUM_REQUESTS_RUNNING":    "vllm:num_requests_running",
		"num_requests_waiting":         "vllm:num_requests_waiting",
		"DCGM_FI_DEV_GPU_UTIL":         "",
		"":                             "",
		strings.Repeat("vllm:num", 50): "",
	} {
		if got, found := Nearest(word, page); got != want || found != (want != "") {
			t.Errorf("%q: %q, %t, want %q", word, got, found, want)
		}
	}
}

func FuzzMetrics(f *testing.F) {
	f.Add(listText, "AND")
	f.Add(one("type: histogram, quantile: 1"), "or")
	f.Add(`[{"name":"a","type":"gauge","upthreshold":1e308,"downthreshold":-1e308}]`, "")
	f.Add("[&a {name: a, name: b}, *a, <<: *a]", "and")
	f.Fuzz(func(t *testing.T, text, combine string) {
		annotations := ask("max-replicas", "5", "metrics", text, "combinepolicy", combine)
		policy, _, err := Parse(Request{Annotations: annotations})
		if err != nil {
			if len(err.Error()) > 8192 {
				t.Fatalf("a refusal of %d bytes", len(err.Error()))
			}
			return
		}
		if n := len(policy.List.Metrics); n < 1 || n > maxMetrics {
			t.Fatalf("%d metrics", n)
		}
		for _, m := range policy.List.Metrics {
			if !(m.Down <= m.Up) || math.IsInf(m.Up, 0) || math.IsInf(m.Down, 0) || m.Window < time.Second && (m.Kind != Gauge || m.Window != 0) || m.Window > time.Hour ||
				m.Quantile < 0 || m.Quantile > 1 || m.Quantile > 0 && m.Kind == Gauge || !metricName.MatchString(m.Name) {
				t.Fatalf("accepted %+v", m)
			}
		}
		want := policy.Trigger("default", "phi-4")
		want.DownWindow = 0 // it is the ScaledObject's
		got, err := ParseTrigger("default", want.Metadata("scaler:10450"))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%v, trigger (-want +got):\n%s", err, diff)
		}
	})
}
