package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// ask is a set of annotations without the prefix, and auto-provision on.
func ask(pairs ...string) map[string]string {
	annotations := map[string]string{
		Prefix + "auto-provision": "true",
		"kaito.sh/unrelated":      "is not ours to judge",
	}
	for i := 0; i < len(pairs); i += 2 {
		annotations[Prefix+pairs[i]] = pairs[i+1]
	}
	return annotations
}

func TestTheQuickStartMeansWhatKAITODocuments(t *testing.T) {
	got, notes, err := Parse(Request{
		Annotations:     ask("max-replicas", "5", "threshold", "10"),
		NodeCountLimit:  new(int64(10)),
		NodesPerReplica: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Policy{
		Bounds: Bounds{Min: 1, Max: 5},
		Queue:  Queue{Metric: "vllm:num_requests_waiting", Target: 10, Guard: &Saturation{TTFT: 2500 * time.Millisecond, ITL: 75 * time.Millisecond}},
		Up:     Pace{Window: time.Minute, Cooldown: 5 * time.Minute, Step: 1, Tolerance: 0.1},
		Down:   Pace{Window: 5 * time.Minute, Cooldown: 10 * time.Minute, Step: 1, Tolerance: 0.5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
	if len(notes) > 0 {
		t.Errorf("notes: %q, want none", notes)
	}
}

func TestEveryAnnotationHasItsEffect(t *testing.T) {
	got, _, err := Parse(Request{Annotations: ask(
		"threshold", " 2.5 ", "metricName", "vllm:num_requests_running", "min-replicas", "2", "max-replicas", "7",
		"evaluationwindow", "0", "scaleupcooldown", "15", "scaledowncooldown", "1800",
		"downguard", "true", "ttft-slo", "5s", "itl-slo", "80ms",
	)})
	if err != nil {
		t.Fatal(err)
	}
	want := Policy{
		Bounds: Bounds{Min: 2, Max: 7},
		Queue:  Queue{Metric: "vllm:num_requests_running", Target: 2.5, Guard: &Saturation{TTFT: 5 * time.Second, ITL: 80 * time.Millisecond}},
		Up:     Pace{Window: 0, Cooldown: 15 * time.Second, Step: 1, Tolerance: 0.1},
		Down:   Pace{Window: 0, Cooldown: 30 * time.Minute, Step: 1, Tolerance: 0.5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
}

func TestSecondsMayHaveAUnit(t *testing.T) {
	for _, value := range []string{"300", "300s", "5m", "0h5m", " 5m0s "} {
		got, _, err := Parse(Request{Annotations: ask("threshold", "10", "max-replicas", "5",
			"evaluationwindow", value, "scaleupcooldown", value, "scaledowncooldown", value)})
		if err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		for _, d := range []time.Duration{got.Up.Window, got.Down.Window, got.Up.Cooldown, got.Down.Cooldown} {
			if d != 5*time.Minute {
				t.Errorf("%q is %s, want 5m", value, d)
			}
		}
	}
}

func TestWhatIsUnderstoodOtherwiseIsNoted(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pairs []string
		want  string
	}{
		{"a ratio", []string{"metricName", "vllm:kv_cache_usage_perc", "threshold", "0.7"}, ""},
		{"a ratio taken for per cent", []string{"metricName", "vllm:kv_cache_usage_perc", "threshold", "70"}, "vllm:kv_cache_usage_perc goes from 0 to 1: it is never above 70"},
		{"an old name", []string{"metricName", "vllm:gpu_cache_usage_perc", "threshold", "0.7"}, "vllm:gpu_cache_usage_perc is vllm:kv_cache_usage_perc since vLLM 0.10: whichever a page has is read"},
		{"a promise beside a threshold", []string{"threshold", "10", "ttft-slo", "2s"}, ""},
		{"a promise beside a threshold that isn't guarded", []string{"threshold", "10", "downguard", "false", "ttft-slo", "2s"}, `ttft-slo "2s" is ignored, because threshold is given and downguard is false`},
		{"a promise beside a list", []string{"metrics", listText, "itl-slo", "50ms", "downguard", "true"}, `itl-slo "50ms" is ignored, because metrics is given; downguard "true" is ignored, because metrics is given`},
		{"a guard of nothing", []string{"downguard", "true"}, `downguard "true" is ignored, because there is no threshold`},
		{"a counter taken for a load", []string{"metricName", "vllm:prompt_tokens_total", "threshold", "1000"}, "vllm:prompt_tokens_total is a counter by its name: it only grows, so that it can't be compared with 1000. Give aggregation: rate to compare what it gains a second"},
		{"a counter's rate", []string{"metricName", "vllm:prompt_tokens_total", "threshold", "1000", "aggregation", "rate", "metriccachewindow", "2m"}, ""},
		{"a gauge's rate", []string{"metricName", "vllm:num_requests_running", "threshold", "1000", "aggregation", "rate"}, "vllm:num_requests_running is no counter by its name, which would end in _total: only a counter has a rate"},
		{"a histogram that is called like a counter", []string{"metricName", "vllm:iteration_tokens_total", "threshold", "1000"}, ""},
		{"a window of nothing", []string{"threshold", "10", "metriccachewindow", "2m"}, `metriccachewindow "2m" is ignored, because aggregation isn't rate`},
		{"a window beside nothing but a bound", []string{"metriccachewindow", "2m"}, `metriccachewindow "2m" is ignored, because there is no threshold`},
		{"a rate beside a list", []string{"metrics", listText, "aggregation", "rate"}, `aggregation "rate" is ignored, because metrics is given`},
		{"no replica at least", []string{"threshold", "10", "min-replicas", "0"}, `min-replicas "0" counts as 1, because scaling to zero and back is not supported yet`},
		{"less than none", []string{"threshold", "10", "min-replicas", "-3"}, `min-replicas "-3" counts as 1, because scaling to zero and back is not supported yet`},
		{"the way to zero", []string{"threshold", "10", "cooldownperiod", "300"}, `cooldownperiod "300" is ignored, because scaling to zero and back is not supported yet`},
		{"half a list", []string{"threshold", "10", "combinepolicy", "OR"}, `combinepolicy "OR" is ignored, because there is no metrics`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, notes, err := Parse(Request{Annotations: ask(append(tt.pairs, "max-replicas", "5")...)})
			if got := strings.Join(notes, "; "); err != nil || got != tt.want {
				t.Errorf("notes %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestBoundsHonourTheNodeLimit(t *testing.T) {
	for _, tt := range []struct {
		name  string
		max   string
		limit *int64
		nodes int32
		want  int32
		note  string
	}{
		{"the annotation alone", "8", nil, 2, 8, ""},
		{"the limit alone", "", new(int64(10)), 2, 5, ""},
		{"the limit is no bound", "5", new(int64(10)), 2, 5, ""},
		{"the limit is lower", "8", new(int64(10)), 2, 5, "max-replicas 8 but nodeCountLimit 10 allows 5 at 2 nodes per replica"},
		{"an odd node is left over", "8", new(int64(11)), 3, 3, "max-replicas 8 but nodeCountLimit 11 allows 3 at 3 nodes per replica"},
		{"nodes per replica not known yet", "8", new(int64(10)), 0, 8, ""},
		{"one is a maximum", "1", nil, 1, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pairs := []string{"threshold", "10"}
			if tt.max != "" {
				pairs = append(pairs, "max-replicas", tt.max)
			}
			got, notes, err := Parse(Request{Annotations: ask(pairs...), NodeCountLimit: tt.limit, NodesPerReplica: tt.nodes})
			if err != nil {
				t.Fatal(err)
			}
			if got.Bounds.Max != tt.want {
				t.Errorf("max = %d, want %d", got.Bounds.Max, tt.want)
			}
			if note := strings.Join(notes, "; "); note != tt.note {
				t.Errorf("note = %q, want %q", note, tt.note)
			}
		})
	}
}

func TestARefusalNamesKeyValueAndRule(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pairs []string
		want  string
	}{
		{"threshold is no number", []string{"threshold", "abc", "max-replicas", "5"}, `scaledobject.kaito.sh/threshold "abc": must be a number of at least 0.001, such as 10`},
		{"threshold zero", []string{"threshold", "0", "max-replicas", "5"}, `scaledobject.kaito.sh/threshold "0": must be a number`},
		{"threshold negative", []string{"threshold", "-1", "max-replicas", "5"}, `scaledobject.kaito.sh/threshold "-1": must be a number`},
		{"threshold NaN", []string{"threshold", "NaN", "max-replicas", "5"}, `scaledobject.kaito.sh/threshold "NaN": must be a number`},
		{"threshold infinite", []string{"threshold", "+Inf", "max-replicas", "5"}, `scaledobject.kaito.sh/threshold "+Inf": must be a number`},
		{"threshold that KEDA would round to zero", []string{"threshold", "0.0004", "max-replicas", "5"}, `scaledobject.kaito.sh/threshold "0.0004": must be a number`},
		{"threshold missing", []string{"metricName", "vllm:num_requests_running", "max-replicas", "5"}, `scaledobject.kaito.sh/threshold: required`},
		{"a rule for a list that isn't there", []string{"combinepolicy", "OR", "max-replicas", "5"}, `scaledobject.kaito.sh/threshold: required`},
		{"a promise too quick", []string{"max-replicas", "5", "ttft-slo", "50ms"}, `scaledobject.kaito.sh/ttft-slo "50ms": must be from 100ms to 1m, such as 2.5s`},
		{"a promise of hours", []string{"max-replicas", "5", "ttft-slo", "1h"}, `scaledobject.kaito.sh/ttft-slo "1h": must be from 100ms to 1m, such as 2.5s`},
		{"a promise without a unit, taken for seconds", []string{"max-replicas", "5", "itl-slo", "60"}, `scaledobject.kaito.sh/itl-slo "60": must be from 5ms to 1s, such as 75ms`},
		{"a promise in words", []string{"max-replicas", "5", "itl-slo", "fast"}, `scaledobject.kaito.sh/itl-slo "fast": must be from 5ms to 1s`},
		{"saturation without a bound", nil, `scaledobject.kaito.sh/max-replicas: required unless spec.nodeCountLimit is given`},
		{"a guard that is neither", []string{"threshold", "10", "max-replicas", "5", "downguard", "maybe"}, `scaledobject.kaito.sh/downguard "maybe": must be "true" or "false"`},
		{"max zero", []string{"threshold", "10", "max-replicas", "0"}, `scaledobject.kaito.sh/max-replicas "0": must be a whole number of at least 1`},
		{"max fractional", []string{"threshold", "10", "max-replicas", "2.5"}, `scaledobject.kaito.sh/max-replicas "2.5": must be a whole number`},
		{"max beyond int32", []string{"threshold", "10", "max-replicas", "4294967297"}, `scaledobject.kaito.sh/max-replicas "4294967297": must be a whole number`},
		{"min fractional", []string{"threshold", "10", "max-replicas", "5", "min-replicas", "0.5"}, `scaledobject.kaito.sh/min-replicas "0.5": must be a whole number of at least 1`},
		{"min above max", []string{"threshold", "10", "max-replicas", "2", "min-replicas", "3"}, `scaledobject.kaito.sh/min-replicas "3": must not be above the maximum of 2 replicas`},
		{"no bound", []string{"threshold", "10"}, `scaledobject.kaito.sh/max-replicas: required unless spec.nodeCountLimit is given`},
		{"a slip", []string{"threshold", "10", "max-replicas", "5", "treshold", "10"}, `scaledobject.kaito.sh/treshold "10": no such annotation, did you mean scaledobject.kaito.sh/threshold?`},
		{"another case", []string{"threshold", "10", "maxReplicas", "5", "max-replicas", "5"}, `scaledobject.kaito.sh/maxReplicas "5": no such annotation, did you mean scaledobject.kaito.sh/max-replicas?`},
		{"no slip at all", []string{"threshold", "10", "max-replicas", "5", "colour", "blue"}, `scaledobject.kaito.sh/colour "blue": no such annotation`},
		{"window with a unit, too long", []string{"threshold", "10", "max-replicas", "5", "evaluationwindow", "2h"}, `scaledobject.kaito.sh/evaluationwindow "2h": must be whole seconds from 0 to 3600`},
		{"cooldown of a fraction", []string{"threshold", "10", "max-replicas", "5", "scaleupcooldown", "1500ms"}, `scaledobject.kaito.sh/scaleupcooldown "1500ms": must be whole seconds from 1 to 1800`},
		{"window beyond the HPA's", []string{"threshold", "10", "max-replicas", "5", "evaluationwindow", "3601"}, `scaledobject.kaito.sh/evaluationwindow "3601": must be whole seconds from 0 to 3600, the HPA's limits`},
		{"cooldown of nothing", []string{"threshold", "10", "max-replicas", "5", "scaleupcooldown", "0"}, `scaledobject.kaito.sh/scaleupcooldown "0": must be whole seconds from 1 to 1800`},
		{"cooldown beyond the HPA's", []string{"threshold", "10", "max-replicas", "5", "scaledowncooldown", "1801"}, `scaledobject.kaito.sh/scaledowncooldown "1801": must be whole seconds from 1 to 1800`},
		{"not a metric's name", []string{"threshold", "10", "max-replicas", "5", "metricName", "sum(x)"}, `scaledobject.kaito.sh/metricName "sum(x)": must be the name of a Prometheus metric`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Parse(Request{Annotations: ask(tt.pairs...)})
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("refusal:\n got %s\nwant %s…", err, tt.want)
			}
		})
	}
}

func TestEverythingWrongIsToldAtOnce(t *testing.T) {
	_, _, err := Parse(Request{Annotations: ask("threshold", "abc", "max-replicas", "0", "treshold", "10")})
	for _, part := range []string{"threshold \"abc\"", "max-replicas \"0\"", "did you mean"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("refusal %q lacks %q", err, part)
		}
	}
}

func TestARefusalRepeatsLittleOfAHugeValue(t *testing.T) {
	_, _, err := Parse(Request{Annotations: ask("max-replicas", "5", "threshold", strings.Repeat("9é", 100_000))})
	if err == nil || len(err.Error()) > 400 {
		t.Errorf("a refusal of %d bytes, want a short one", len(err.Error()))
	}
}

func TestANodeLimitBelowOneReplicaIsRefused(t *testing.T) {
	_, _, err := Parse(Request{Annotations: ask("threshold", "10"), NodeCountLimit: new(int64(1)), NodesPerReplica: 2})
	const want = `spec.nodeCountLimit "1": must have nodes for at least one replica, which takes 2 nodes`
	if err == nil || err.Error() != want {
		t.Errorf("refusal %q, want %q", err, want)
	}
}

func TestOnlyAutoProvisionAsksForScaling(t *testing.T) {
	for _, value := range []string{"true", "True", "1", " true"} {
		if got, err := Wanted(map[string]string{Prefix + "auto-provision": value}); err != nil || !got {
			t.Errorf("auto-provision %q: %v, %v, want true", value, got, err)
		}
	}
	for _, value := range []string{"false", "0"} {
		if got, err := Wanted(map[string]string{Prefix + "auto-provision": value}); err != nil || got {
			t.Errorf("auto-provision %q: %v, %v, want false", value, got, err)
		}
	}
	if got, err := Wanted(map[string]string{Prefix + "threshold": "10"}); got || err != nil {
		t.Errorf("no auto-provision: %v, %v, want false", got, err)
	}
	if _, err := Wanted(map[string]string{Prefix + "auto-provision": "yes please"}); err == nil {
		t.Error(`auto-provision "yes please" was accepted`)
	}
}

func TestParseNeverPanicsAndNeverAcceptsWhatTheHPARefuses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SampledFrom(append([]string{"thresholds", ""}, known...))
		values := rapid.OneOf(rapid.String(), rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"1", "5", "10", "0", "-1", "1e9", "0.5", "3600", "5m", "true", "or", listText}).Draw(t, "value")
		}))
		annotations := map[string]string{}
		for key, value := range rapid.MapOf(keys, values).Draw(t, "annotations") {
			annotations[Prefix+key] = value
		}
		p, _, err := Parse(Request{Annotations: annotations, NodesPerReplica: rapid.Int32().Draw(t, "nodes")})
		if err != nil {
			return
		}
		if p.Bounds.Min < 1 || p.Bounds.Max < p.Bounds.Min {
			t.Fatalf("bounds %+v", p.Bounds)
		}
		for _, pace := range []Pace{p.Up, p.Down} {
			if pace.Window < 0 || pace.Window > time.Hour || pace.Cooldown < time.Second || pace.Cooldown > 30*time.Minute {
				t.Fatalf("pace %+v is outside of the HPA's limits", pace)
			}
		}
	})
}
