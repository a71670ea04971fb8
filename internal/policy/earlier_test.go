package policy

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Helm templates write "" for what their user leaves out, whatever the dialect.
func TestAnEmptyValueIsNotGiven(t *testing.T) {
	for name, given := range map[string]map[string]string{
		"nothing but a bound": ask("max-replicas", "5"),
		"a threshold":         ask("max-replicas", "5", "threshold", "10"),
		"a metric list":       ask("max-replicas", "5", "metrics", one("upthreshold: 10")),
	} {
		t.Run(name, func(t *testing.T) {
			want, _, err := Parse(Request{Annotations: given})
			if err != nil {
				t.Fatal(err)
			}
			for _, empty := range []string{"", " ", "\n"} {
				filled := maps.Clone(given)
				for _, key := range append([]string{"a-key-of-a-later-version"}, known...) {
					if _, there := filled[Prefix+key]; !there {
						filled[Prefix+key] = empty
					}
				}
				got, notes, err := Parse(Request{Annotations: filled})
				if err != nil || len(notes) > 0 {
					t.Fatalf("%q for all others: %v, notes %q", empty, err, notes)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%q for all others (-want +got):\n%s", empty, diff)
				}
				if kept := Bounded(filled); len(kept) > len(known) {
					t.Errorf("%d annotations are kept of %d that there are", len(kept), len(known))
				}
			}
		})
	}
}

func TestAnEmptyAutoProvisionAsksForNothing(t *testing.T) {
	if wanted, err := Wanted(map[string]string{Prefix + "auto-provision": " "}); wanted || err != nil {
		t.Errorf("wanted %t, %v", wanted, err)
	}
}

func TestEmptyFieldsOfAListAreNotGiven(t *testing.T) {
	for _, text := range []string{
		`[{name: a, type: gauge, source: "", upthreshold: 2, downthreshold: 1, metriccachewindow: "", quantile: "", aggregation: "", activationthreshold: ""}]`,
		`[{"name":"a","type":"gauge","source":"","upthreshold":2,"downthreshold":1,"metriccachewindow":"","quantile":" ","aggregation":null}]`,
	} {
		got, notes, err := Parse(Request{Annotations: ask("max-replicas", "5", "metrics", text)})
		if err != nil || len(notes) > 0 {
			t.Fatalf("%v, notes %q", err, notes)
		}
		if diff := cmp.Diff([]Metric{{Name: "a", Up: 2, Down: 1}}, got.List.Metrics); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
	}
	_, _, err := Parse(Request{Annotations: ask("max-replicas", "5", "metrics", `[{name: "", type: "", upthreshold: "", downthreshold: ""}]`)})
	for _, field := range []string{"name", "type", "upthreshold", "downthreshold"} {
		if err == nil || !strings.Contains(err.Error(), "metrics[0]."+field+": required") {
			t.Errorf("%v doesn't ask for %s", err, field)
		}
	}
}

// The defaults of a list are those of 0.6: an upgraded fleet shrinks no sooner.
func TestAListHasTheDefaultsOfVersion06(t *testing.T) {
	const list = `[{name: a, type: gauge, upthreshold: 10, downthreshold: 1},
		{name: b, type: histogram, upthreshold: 30, downthreshold: 1},
		{name: c, type: gauge, upthreshold: 10, downthreshold: 1, aggregation: windowed-avg},
		{name: d_total, aggregation: rate, upthreshold: 10, downthreshold: 1}]`
	for _, tt := range []struct {
		name     string
		pairs    []string
		up, down Pace
	}{
		{"alone", nil, Pace{Window: time.Minute, Cooldown: 5 * time.Minute, Step: 1}, Pace{Window: 5 * time.Minute, Cooldown: 5 * time.Minute, Step: 1}},
		{
			"with a window, which is of the way up",
			[]string{"evaluationwindow", "60"},
			Pace{Window: time.Minute, Cooldown: 5 * time.Minute, Step: 1},
			Pace{Window: 5 * time.Minute, Cooldown: 5 * time.Minute, Step: 1},
		},
		{
			"with a cooldown, which is the window down",
			[]string{"evaluationwindow", "0", "scaledowncooldown", "900"},
			Pace{Cooldown: 5 * time.Minute, Step: 1},
			Pace{Window: 15 * time.Minute, Cooldown: 15 * time.Minute, Step: 1},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, notes, err := Parse(Request{Annotations: ask(append(tt.pairs, "max-replicas", "5", "metrics", list)...)})
			if err != nil {
				t.Fatal(err)
			}
			if got.Up != tt.up || got.Down != tt.down {
				t.Errorf("up %+v, down %+v", got.Up, got.Down)
			}
			var windows []time.Duration
			for _, m := range got.List.Metrics {
				windows = append(windows, m.Window)
			}
			if !slices.Equal(windows, []time.Duration{0, 5 * time.Minute, 5 * time.Minute, time.Minute}) {
				t.Errorf("windows %s", windows)
			}
			want := []string{"b: its mean is compared, as in 0.6.2; 0.6.0 and 0.6.1 compared its p95, as quantile: 0.95 does"}
			if diff := cmp.Diff(want, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

// What 0.6 ignored stays without effect, and is told.
func TestTheWindowOfAGaugeIsNotedToBeIgnored(t *testing.T) {
	got, notes, err := Parse(Request{Annotations: ask("max-replicas", "5", "metrics", one("metriccachewindow: 300"))})
	want := []string{"vllm:num_requests_waiting: metriccachewindow is ignored, as in 0.6: a gauge's newest value is compared, with aggregation: windowed-avg its mean over the window"}
	if diff := cmp.Diff(want, notes); err != nil || diff != "" {
		t.Fatalf("%v, notes (-want +got):\n%s", err, diff)
	}
	if got.List.Metrics[0].Window != 0 {
		t.Errorf("a window of %s", got.List.Metrics[0].Window)
	}
}

// Lists of the version after 0.6, which isn't released: what can't be done yet is
// refused or noted in these words.
func TestWhatALaterListAsksForIsToldToBeUnsupported(t *testing.T) {
	const band = "{name: vllm:num_requests_waiting, type: gauge, source: modelpod, upthreshold: 10, downthreshold: 1"
	const wakes = "{name: inference_pool_average_queue_size, type: gauge, source: epp, activationthreshold: 0, deactivationthreshold: 0}"
	for _, tt := range []struct{ name, text, refusal, note string }{
		{
			"the endpoint picker's", "[{name: a, type: gauge, source: epp, upthreshold: 10, downthreshold: 1}]",
			`metrics[0].source "epp": is not supported yet: only the replicas' own metrics are read (modelpod)`, "",
		},
		{
			"a total over the replicas", "[" + band + ", aggregation: service-sum}]",
			`metrics[0].aggregation "service-sum": is not supported in a list yet, which compares means over the replicas: leave it out`, "",
		},
		{
			"nothing but a way to zero", "[" + wakes + "]",
			"metrics: must have a metric with upthreshold and downthreshold: scaling to zero and back is not supported yet", "",
		},
		{
			"a way to zero beside a metric", "[" + wakes + ", " + band + ", deactivationthreshold: 1, aggregation: service-avg}]", "",
			"inference_pool_average_queue_size is left out, because scaling to zero and back is not supported yet; " +
				`deactivationthreshold "1" is ignored, because scaling to zero and back is not supported yet`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, notes, err := Parse(Request{Annotations: ask("min-replicas", "1", "max-replicas", "5", "metrics", tt.text)})
			if tt.refusal != "" {
				if err == nil || err.Error() != Prefix+tt.refusal {
					t.Errorf("refusal %v, want %s", err, tt.refusal)
				}
				return
			}
			if err != nil || strings.Join(notes, "; ") != tt.note {
				t.Fatalf("%v, notes %q, want %s", err, notes, tt.note)
			}
			if diff := cmp.Diff([]Metric{{Name: "vllm:num_requests_waiting", Up: 10, Down: 1}}, got.List.Metrics); diff != "" {
				t.Errorf("metrics (-want +got):\n%s", diff)
			}
		})
	}
}

// Triggers of the ScaledObjects that 0.6 wrote, and that people copied.
func TestTriggersOfVersion06AreUnderstood(t *testing.T) {
	page := Page{Timeout: 3 * time.Second}
	for _, tt := range []struct {
		name  string
		pairs []string
		want  Trigger
	}{
		{
			"a gauge",
			[]string{"metricName", "vllm:num_requests_waiting", "aggregation", "service-avg"},
			Trigger{Queue: Queue{Metric: "vllm:num_requests_waiting", Target: 1, Aggregation: ServiceAvg}, Page: page},
		},
		{
			"a histogram of 0.6.2",
			[]string{"metricName", "vllm:request_queue_time_seconds", "aggregation", "windowed-avg"},
			Trigger{Queue: Queue{Metric: "vllm:request_queue_time_seconds", Target: 1, Aggregation: WindowedAvg, Window: 5 * time.Minute}, Page: page},
		},
		{
			"a histogram of 0.6.0",
			[]string{"metricName", "vllm:request_queue_time_seconds", "aggregation", "quantile"},
			Trigger{Queue: Queue{
				Metric: "vllm:request_queue_time_seconds", Target: 1, Aggregation: Quantile, Quantile: .95, Window: 5 * time.Minute,
			}, Page: page},
		},
		{
			"a histogram of 0.6.1 with a threshold",
			[]string{
				"metricName", "vllm:request_queue_time_seconds", "aggregation", "quantile",
				"quantile", "0.5", "threshold", "30", "metricCacheWindow", "120",
			},
			Trigger{Queue: Queue{
				Metric: "vllm:request_queue_time_seconds", Target: 30, Aggregation: Quantile, Quantile: .5, Window: 2 * time.Minute,
			}, Page: page},
		},
		{
			"the readiness gate",
			[]string{"metricName", "readiness_gate", "aggregation", "gate"},
			Trigger{Queue: Queue{Metric: "readiness_gate", Target: 1, Aggregation: Readiness}, Page: NoPage},
		},
		{
			"the readiness gate with a threshold, on a port that nobody reads",
			[]string{
				"metricName", "readiness_gate", "aggregation", "Gate", "threshold", "1", "metricPort", "0",
			},
			Trigger{Queue: Queue{Metric: "readiness_gate", Target: 1, Aggregation: Readiness}, Page: NoPage},
		},
		{
			"a copy of it with a name of its own",
			[]string{"metricName", "all_ready", "aggregation", "gate"},
			Trigger{Queue: Queue{Metric: "all_ready", Target: 1, Aggregation: Readiness}, Page: NoPage},
		},
		{
			"this version's own gate",
			[]string{"metricName", "vllm:num_requests_waiting", "aggregation", "gate", "threshold", "10"},
			Trigger{Queue: Queue{Metric: "vllm:num_requests_waiting", Target: 10, Aggregation: Gate, Window: 5 * time.Minute}, Page: page},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			metadata := map[string]string{
				"scalerAddress": "keda-kaito-scaler-svc.keda.svc:10450", "scalerName": "keda-kaito-scaler",
				"inferenceSetName": "phi-4", "inferenceSetNamespace": "default", "metricSource": "modelpod",
				"metricPort": "80", "metricPath": "/metrics", "metricProtocol": "http", "scrapeTimeout": "3s",
			}
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
			if metric, target := got.Published(); metric != tt.want.Queue.Metric || target < 1 {
				t.Errorf("published as %s with a target of %g", metric, target)
			}
		})
	}
}

// The readiness gate makes nobody read a page.
func TestNothingIsReadForAReadinessGate(t *testing.T) {
	gate := Trigger{Queue: Queue{Metric: "readiness_gate", Target: 1, Aggregation: Readiness}, Page: NoPage}
	waiting := Trigger{Queue: Queue{Metric: "vllm:num_requests_waiting", Target: 1, Aggregation: ServiceAvg}}
	if got := Readings([]Trigger{gate}); len(got) > 0 {
		t.Errorf("read: %+v", got)
	}
	want := Readings([]Trigger{waiting})
	if diff := cmp.Diff(want, Readings([]Trigger{gate, waiting})); diff != "" {
		t.Errorf("read beside a gauge (-want +got):\n%s", diff)
	}
}

func TestTheEndpointPickersTriggersAreToldToBeUnsupported(t *testing.T) {
	_, err := ParseTrigger("default", map[string]string{
		"inferenceSetName": "phi-4", "metricName": "a", "aggregation": "service-avg", "metricSource": "epp", "metricPort": "9090",
	})
	const want = `metricSource "epp": is not supported yet: only the replicas' own metrics are read (modelpod)`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
