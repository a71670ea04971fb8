package policy

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestATriggerSurvivesItsMetadata(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Trigger{
			Namespace:    rapid.StringMatching(`[a-z]([a-z0-9-]{0,20}[a-z0-9])?`).Draw(t, "namespace"),
			InferenceSet: rapid.StringMatching(`[a-z]([a-z0-9-]{0,20}[a-z0-9])?`).Draw(t, "name"),
			Queue: Queue{
				Metric: rapid.StringMatching(`[a-zA-Z_:][a-zA-Z0-9_:]{0,30}`).Draw(t, "metric"),
				Target: rapid.Float64Range(0.001, 1e12).Draw(t, "target"),
			},
		}
		if rapid.Bool().Draw(t, "bounded") {
			want.Bounds.Min = rapid.Int32Range(1, 100).Draw(t, "min")
			want.Bounds.Max = rapid.Int32Min(want.Bounds.Min).Draw(t, "max")
		}
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
	got, err := ParseTrigger("default", map[string]string{
		"scalerAddress": "keda-kaito-scaler-svc.keda.svc:10450", "scalerName": "keda-kaito-scaler",
		"inferenceSetName": "phi-4", "inferenceSetNamespace": "default", "metricName": "vllm:num_requests_waiting",
		"threshold": "10", "metricProtocol": "http", "metricPort": "80", "metricPath": "/metrics", "scrapeTimeout": "3s",
	})
	want := Trigger{Namespace: "default", InferenceSet: "phi-4", Queue: Queue{Metric: "vllm:num_requests_waiting", Target: 10}}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestATriggerIsRefusedInWords(t *testing.T) {
	good := map[string]string{"inferenceSetName": "phi-4", "threshold": "10"}
	for name, tt := range map[string]struct{ key, value, want string }{
		"no InferenceSet":           {"inferenceSetName", "", "inferenceSetName: required"},
		"another namespace":         {"inferenceSetNamespace", "theirs", `inferenceSetNamespace "theirs": must be the ScaledObject's own namespace "default"`},
		"no threshold":              {"threshold", "", "threshold: must be a number"},
		"a path for a metric":       {"metricName", "../../secrets", `metricName "../../secrets": must be the name`},
		"another host":              {"metricPort", "80@169.254.169.254", `metricPort "80@169.254.169.254": this version supports`},
		"another path":              {"metricPath", "//host", `metricPath "//host": this version supports`},
		"another protocol":          {"metricProtocol", "file", `metricProtocol "file": this version supports`},
		"an aggregation to come":    {"aggregation", "windowed-avg", `aggregation "windowed-avg": this version supports`},
		"a threshold of no meaning": {"threshold", "many", `threshold "many": must be a number`},
	} {
		t.Run(name, func(t *testing.T) {
			metadata := maps.Clone(good)
			metadata[tt.key] = tt.value
			_, err := ParseTrigger("default", metadata)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s…", err, tt.want)
			}
		})
	}
}
