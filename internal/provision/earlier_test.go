package provision

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/earlier"
)

// stored is an InferenceSet of an earlier generation as this version of KAITO's API
// serves it.
func stored(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	u := earlier.InferenceSet(t, name)
	u.SetGroupVersionKind(kaito.Object("v1beta1", kaito.KindInferenceSet).GroupVersionKind())
	return u
}

// found is a ScaledObject of an earlier version in the cluster.
func found(t *testing.T, name string, edit func(*kedav1alpha1.ScaledObject)) *kedav1alpha1.ScaledObject {
	t.Helper()
	so := earlier.ScaledObject(t, name)
	so.UID = "uid-of-former"
	if edit != nil {
		edit(so)
	}
	return so
}

// Each ScaledObject that an earlier version wrote is converted in place to what its
// InferenceSet asks for now.
func TestScaledObjectsOfEarlierVersionsAreConverted(t *testing.T) {
	for file, of := range map[string]string{
		"scaledobject-0.5.yaml": "inferenceset-0.5.yaml", "scaledobject-0.6.0.yaml": "inferenceset-0.6.yaml",
		"scaledobject-0.6.1.yaml": "inferenceset-0.6-everything.yaml", "scaledobject-0.6.2.yaml": "modeldeployment-list.yaml",
	} {
		t.Run(file, func(t *testing.T) {
			w := newWorld(t, stored(t, of), found(t, file, nil))
			w.reconcile()
			events := w.recorder.events
			if len(events) == 0 || !strings.HasPrefix(events[0], "Normal ScaledObjectAdopted: one of an earlier version was converted in place, and replicas stay as they are: ") {
				t.Errorf("events %q", events)
			}
			w.recorder.events = nil
			w.wantState("provisioned")
			got, _ := w.scaledObject("phi-4")
			fresh := newWorld(t, stored(t, of))
			fresh.reconcile()
			want, _ := fresh.scaledObject("phi-4")
			if diff := cmp.Diff(want.Spec, got.Spec, cmpopts.EquateEmpty()); diff != "" || got.UID != "uid-of-former" {
				t.Errorf("%s, spec of the converted one (-made anew +converted):\n%s", got.UID, diff)
			}
		})
	}
}

// A copy goes on without a word of ours.
func TestACopyOfAnEarlierScaledObjectIsLeftAlone(t *testing.T) {
	w := newWorld(t, inferenceSet("auto-provision", ""), found(t, "scaledobject-0.6-copied.yaml", nil))
	w.reconcile()
	w.wantWrites()
	w.wantEvents()
	w.wantState("")
}

// "Still in force" is said of what scales, and of nothing else.
func TestWhatIsInForceWhileAnnotationsAreRefused(t *testing.T) {
	epp := func(so *kedav1alpha1.ScaledObject, i int) { so.Spec.Triggers[i].Metadata["metricSource"] = "epp" }
	const (
		between = "; still in force: scaling between 1 and 5 replicas "
		metrics = "vllm:num_requests_waiting, vllm:request_queue_time_seconds, readiness_gate"
		no      = `; nothing is in force: trigger "vllm_num_requests_waiting" of its ScaledObject is refused: metricSource "epp": is not supported yet: ` +
			"only the replicas' own metrics are read (modelpod)"
	)
	for _, tt := range []struct {
		name, file string
		edit       func(*kedav1alpha1.ScaledObject)
		tail       string
		state      string
	}{
		{"one of 0.5", "scaledobject-0.5.yaml", nil, between + "on vllm:num_requests_waiting, 10 for each replica", "outdated"},
		{"one of 0.6.0", "scaledobject-0.6.0.yaml", nil, between + "by the formula of an earlier version on " + metrics, "outdated"},
		{"one of 0.6.1", "scaledobject-0.6.1.yaml", nil, between + "by the formula of an earlier version on " + metrics, "outdated"},
		{"one of 0.6.2", "scaledobject-0.6.2.yaml", nil, between + "by the formula of an earlier version on " + metrics, "outdated"},
		{"its only trigger is refused", "scaledobject-0.5.yaml", func(so *kedav1alpha1.ScaledObject) { epp(so, 0) }, no, "refused"},
		{"one that a formula needs is refused", "scaledobject-0.6.2.yaml", func(so *kedav1alpha1.ScaledObject) { epp(so, 0) }, no, "refused"},
		{"one of several is refused", "scaledobject-0.6.2.yaml", func(so *kedav1alpha1.ScaledObject) {
			so.Spec.Advanced = nil
			epp(so, 0)
		}, "; still in force, for the way up alone: scaling between 1 and 5 replicas on " + metrics + "; " +
			strings.TrimPrefix(no, "; nothing is in force: "), "outdated"},
		{"it is paused", "scaledobject-0.6.2.yaml", func(so *kedav1alpha1.ScaledObject) {
			so.Annotations["autoscaling.keda.sh/paused"] = "true"
		}, "; nothing is in force: its ScaledObject is paused by annotation", "refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, inferenceSet("threshold", "ten"), found(t, tt.file, tt.edit))
			w.reconcile()
			w.wantWrites()
			const refusal = `Warning ScalingRefused: nothing was changed: scaledobject.kaito.sh/threshold "ten": must be a number of at least 0.001, such as 10`
			if diff := cmp.Diff(refusal+tt.tail, w.recorder.last); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			w.wantState(tt.state)
		})
	}
}
