package provision

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kubejson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/test/earlier"
)

// with is an InferenceSet with more annotations, given without their prefix.
func with(u *unstructured.Unstructured, pairs ...string) *unstructured.Unstructured {
	annotations := u.GetAnnotations()
	maps.Copy(annotations, prefixed(pairs...))
	u.SetAnnotations(annotations)
	return u
}

// What each dialect comes to: the ScaledObject, with the events that the owner
// gets in its head.
func TestTheScaledObjectIsAsInTheGoldenFile(t *testing.T) {
	const either = `[{"name":"vllm:num_requests_waiting","type":"gauge","source":"modelpod","upthreshold":"10","downthreshold":"1"},` +
		`{"name":"vllm:e2e_request_latency_seconds","type":"histogram","upthreshold":30,"downthreshold":5,"metriccachewindow":"2m"}]`
	other := Settings{Version: "v1alpha1", Address: "dns:///scaler.example.com:443", Authentication: "creds"}
	for _, tt := range []struct {
		file     string
		from     *unstructured.Unstructured
		settings Settings
	}{
		{"phi-4.yaml", quickStart(t), settings},
		{"everything.yaml", with(quickStart(t),
			"threshold", "2.5", "metricName", "vllm:num_requests_running", "min-replicas", "2", "max-replicas", "7",
			"evaluationwindow", "0", "scaleupcooldown", "15", "scaledowncooldown", "1800"), other},
		{"capped.yaml", with(quickStart(t), "max-replicas", "30"), settings},
		{"list.yaml", example(t, "metric-list.yaml"), settings},
		{"list-or.yaml", with(inferenceSet("metrics", either, "combinepolicy", "OR", "evaluationwindow", "5m"), "max-replicas", "9"), settings},
		{"mixed.yaml", with(example(t, "metric-list.yaml"), "threshold", "10", "metricName", "vllm:num_requests_running"), settings},
		{"saturation.yaml", example(t, "saturation.yaml"), settings},
		{"saturation-other.yaml", with(example(t, "saturation.yaml"), "ttft-slo", "1500ms", "itl-slo", "100ms",
			"evaluationwindow", "2m", "scaleupcooldown", "60", "scaledowncooldown", "10m"), settings},
		{"guarded-other.yaml", with(quickStart(t), "ttft-slo", "1500ms", "itl-slo", "0.1s"), settings},
		{"earlier-threshold.yaml", earlier.InferenceSet(t, "inferenceset-0.5.yaml"), settings},
		{"earlier-list.yaml", earlier.InferenceSet(t, "inferenceset-0.6.yaml"), settings},
		{"earlier-everything.yaml", earlier.InferenceSet(t, "inferenceset-0.6-everything.yaml"), settings},
		{"modeldeployment-threshold.yaml", earlier.InferenceSet(t, "modeldeployment-threshold.yaml"), settings},
		{"modeldeployment-list.yaml", earlier.InferenceSet(t, "modeldeployment-list.yaml"), settings},
		{"unguarded.yaml", with(quickStart(t), "downguard", "false"), settings},
	} {
		t.Run(tt.file, func(t *testing.T) {
			w := newWorld(t)
			u := tt.from.DeepCopy()
			u.SetGroupVersionKind(kaito.Object("v1beta1", kaito.KindInferenceSet).GroupVersionKind())
			w.create(u)
			if err := w.try(client.ObjectKeyFromObject(u)); err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for _, event := range w.recorder.events {
				fmt.Fprintf(&got, "# %s\n", event)
			}
			yaml := kubejson.NewSerializerWithOptions(kubejson.DefaultMetaFactory, nil, nil, kubejson.SerializerOptions{Yaml: true})
			if err := yaml.Encode(desired(t, tt.from, tt.settings), &got); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", tt.file)
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("ScaledObject (-want +got), go test -update writes it anew:\n%s", diff)
			}
		})
	}
}

// A change from a threshold to saturation is told as what it comes to.
func TestAChangeToSaturationIsToldInWords(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantEvents("Normal ScaledObjectCreated")
	change(w, "phi-4", kaito.Object("v1beta1", kaito.KindInferenceSet), func(u *unstructured.Unstructured) {
		annotations := u.GetAnnotations()
		delete(annotations, policy.Prefix+"threshold")
		u.SetAnnotations(annotations)
	})
	w.reconcile()
	w.wantEvents("Normal ScaledObjectUpdated: metricName removed; threshold removed; saturation added; downguard removed; " +
		"window upwards 60 → 0; window downwards 300 → 30; scaleupcooldown 300 → 5 replicas in 15; scaledowncooldown 600 → 60; " +
		"tolerance upwards 100m → 0; tolerance downwards 500m → 0; now scaling between 1 and 5 replicas in automatic mode: 2.5s to the first token, 75ms between tokens")
}

// Whoever changed the guard off, or comes from a version that had none, is told.
func TestAGuardThatComesOrGoesIsReported(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.annotate("downguard", "false")
	w.reconcile()
	w.wantEvents("Normal ScaledObjectCreated: scaling between 1 and 5 replicas on vllm:num_requests_waiting, 10 for each replica")
	w.annotate("downguard", "true")
	w.reconcile()
	w.wantEvents("Normal ScaledObjectUpdated: downguard added; ttft-slo unset → 2.5s; itl-slo unset → 75ms; now scaling between 1 and 5 replicas on " +
		"vllm:num_requests_waiting, 10 for each replica, guarded on the way down: 2.5s to the first token, 75ms between tokens")
	w.annotate("downguard", "false")
	w.reconcile()
	w.wantEvents("Normal ScaledObjectUpdated: downguard removed; ttft-slo removed; itl-slo removed; now scaling between 1 and 5 replicas on " +
		"vllm:num_requests_waiting, 10 for each replica")
}

// A ScaledObject of a release whose default was 2 s and 60 ms gets the new one, and its
// owner is told; whoever asked for 2 s keeps them, and is told where they are judged.
func TestAnSLOThatChangesIsReported(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.annotate("ttft-slo", "2s", "itl-slo", "60ms")
	w.reconcile()
	const scaling = "scaling between 1 and 5 replicas on vllm:num_requests_waiting, 10 for each replica, guarded on the way down: "
	w.wantEvents("Normal ScaledObjectCreated: " + scaling +
		"2s to the first token, 60ms between tokens (judged at 2.5s and 75ms, the next bounds of vLLM's histograms)")
	w.annotate("ttft-slo", "", "itl-slo", "")
	w.reconcile()
	w.wantEvents("Normal ScaledObjectUpdated: ttft-slo 2s → 2.5s; itl-slo 60ms → 75ms; now " + scaling + "2.5s to the first token, 75ms between tokens")
}

// A change of a metric list is told metric by metric, and a change from one
// dialect to the other as what it comes to.
func TestAChangedListIsReportedByItsMetrics(t *testing.T) {
	list := func(waiting int, more string) string {
		return fmt.Sprintf(`[{"name":"vllm:num_requests_waiting","type":"gauge","upthreshold":%d,"downthreshold":1}%s]`, waiting, more)
	}
	const latency = `,{"name":"vllm:e2e_request_latency_seconds","type":"histogram","quantile":0.95,"upthreshold":30,"downthreshold":5}`
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantEvents("Normal ScaledObjectCreated")
	for _, step := range []struct{ key, value, told string }{
		{"metrics", list(10, ""), "metricName removed; threshold removed; metrics added; combinepolicy added; downguard removed; ttft-slo removed; itl-slo removed; scaledowncooldown 600 → 300; " +
			"tolerance upwards 100m → 0; tolerance downwards 500m → 0; now scaling between 1 and 5 replicas: up while vllm:num_requests_waiting > 10, down while vllm:num_requests_waiting < 1"},
		{"metrics", list(12, ""), "vllm:num_requests_waiting upthreshold 10 → 12; now scaling"},
		{"metrics", list(12, latency), "p95 of vllm:e2e_request_latency_seconds added; now scaling between 1 and 5 replicas: " +
			"up while vllm:num_requests_waiting > 12 and p95 of vllm:e2e_request_latency_seconds > 30, " +
			"down while vllm:num_requests_waiting < 1 and p95 of vllm:e2e_request_latency_seconds < 5"},
		{"combinepolicy", "OR", "combinepolicy AND → OR; now scaling between 1 and 5 replicas: up while vllm:num_requests_waiting > 12 or p95"},
		{"scaleupcooldown", "30", "scaleupcooldown 300 → 30; now scaling"},
		{"metrics", list(12, ""), "p95 of vllm:e2e_request_latency_seconds removed; now scaling"},
	} {
		w.annotate(step.key, step.value)
		w.reconcile()
		events := w.recorder.events
		w.recorder.events = nil
		if len(events) == 0 || len(events[0]) < len(step.told) {
			t.Fatalf("%s %s: events %q", step.key, step.value, events)
		}
		w.recorder.events = events[:1] // notes are another story
		w.wantEvents("Normal ScaledObjectUpdated: " + step.told)
	}
}
