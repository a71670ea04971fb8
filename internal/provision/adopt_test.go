package provision

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// former is the ScaledObject of phi-4 as an earlier version wrote it: several
// triggers under a formula, on v1alpha1.
func former(edit func(*kedav1alpha1.ScaledObject)) *kedav1alpha1.ScaledObject {
	so := foreign("phi-4", "kaito.sh/v1alpha1", "InferenceSet", "phi-4")
	so.UID = "uid-of-former"
	so.Annotations = map[string]string{
		"scaledobject.kaito.sh/managed-by": "keda-kaito-scaler", "autoscaling.keda.sh/paused-scale-in": "true",
	}
	so.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "kaito.sh/v1alpha1", Kind: "InferenceSet", Name: "phi-4", UID: "uid-of-phi-4",
		Controller: new(true), BlockOwnerDeletion: new(true),
	}}
	trigger := func(name, metric string) kedav1alpha1.ScaleTriggers {
		return kedav1alpha1.ScaleTriggers{Type: "external", Name: name, MetricType: autoscalingv2.ValueMetricType, Metadata: map[string]string{
			"scalerAddress": "keda-kaito-scaler-svc.keda.svc:10450", "inferenceSetName": "phi-4", "inferenceSetNamespace": "default",
			"metricName": metric, "threshold": "10", "scalerName": "keda-kaito-scaler",
		}}
	}
	so.Spec.MaxReplicaCount = new(int32(5))
	so.Spec.Fallback = &kedav1alpha1.Fallback{FailureThreshold: 3, Replicas: 1}
	so.Spec.Triggers = []kedav1alpha1.ScaleTriggers{trigger("up", "vllm:num_requests_waiting"), trigger("down", "vllm:num_requests_running")}
	so.Spec.Advanced = &kedav1alpha1.AdvancedConfig{ScalingModifiers: kedav1alpha1.ScalingModifiers{Formula: "up > 10 ? 2 : 1", Target: "1"}}
	edit(so)
	return so
}

func TestAScaledObjectOfAnEarlierVersionIsConvertedInPlace(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*kedav1alpha1.ScaledObject)
		// write is how: an apply where nothing is left over.
		write string
	}{
		{"of this InferenceSet", func(*kedav1alpha1.ScaledObject) {}, "patch phi-4"},
		{"without our mark", func(so *kedav1alpha1.ScaledObject) {
			delete(so.Annotations, "scaledobject.kaito.sh/managed-by")
		}, "patch phi-4"},
		{"without an owner", func(so *kedav1alpha1.ScaledObject) { so.OwnerReferences = nil }, "patch phi-4"},
		{"with an owner that doesn't control it", func(so *kedav1alpha1.ScaledObject) {
			so.OwnerReferences = []metav1.OwnerReference{{Name: "app", UID: "uid-of-app"}}
		}, "patch phi-4"},
		{"of one trigger", func(so *kedav1alpha1.ScaledObject) {
			so.Spec.Triggers, so.Spec.Advanced, so.Spec.Fallback = so.Spec.Triggers[:1], nil, nil
		}, "apply phi-4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, inferenceSet(), former(tt.edit))
			w.reconcile()
			w.wantWrites(tt.write)
			w.wantEvents("Normal ScaledObjectAdopted: one of an earlier version was converted in place, and replicas stay as they are: min-replicas unset → 1; ")
			w.wantState("provisioned")
			got, _ := w.scaledObject("phi-4")

			fresh := newWorld(t, inferenceSet())
			fresh.reconcile()
			want, _ := fresh.scaledObject("phi-4")
			if diff := cmp.Diff(want.Spec, got.Spec, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("spec of the converted one (-made anew +converted):\n%s", diff)
			}
			if got.UID != "uid-of-former" || got.Annotations["autoscaling.keda.sh/paused-scale-in"] != "true" ||
				!marked(got) || !owned(got, want.OwnerReferences[0]) || got.Labels["team"] != "a" {
				t.Errorf("metadata of the converted one: %+v", got.ObjectMeta)
			}
		})
	}
}

// In a rolling upgrade the old scaler answers KEDA until it ends, and it doesn't
// know our triggers.
func TestAnEarlierVersionsScaledObjectStaysWhileItsScalerMayAnswer(t *testing.T) {
	w := newWorld(t, inferenceSet(), former(func(*kedav1alpha1.ScaledObject) {}))
	left := 20 * time.Second
	w.controller.settings.Handover = func() time.Duration { return left }
	result, err := w.controller.Reconcile(t.Context(), reconcile.Request{NamespacedName: phi4})
	if err != nil || result.RequeueAfter != left {
		t.Errorf("got %+v, %v, want to look again in %s", result, err, left)
	}
	w.wantWrites()
	w.wantEvents()
	left = -time.Second
	w.reconcile()
	w.wantWrites("patch phi-4")
}

func TestWhatSomebodyElseControlsIsNotAdopted(t *testing.T) {
	for name, edit := range map[string]func(*kedav1alpha1.ScaledObject){
		"another controller": func(so *kedav1alpha1.ScaledObject) {
			so.OwnerReferences = []metav1.OwnerReference{{APIVersion: "example.com/v1", Kind: "App", Name: "app", UID: "uid-of-app", Controller: new(true)}}
		},
		"our mark on another target": func(so *kedav1alpha1.ScaledObject) {
			so.OwnerReferences, so.Spec.ScaleTargetRef.Name = nil, "llama"
		},
		"another name": func(so *kedav1alpha1.ScaledObject) { so.Name, so.OwnerReferences = "copy", nil },
		"no mark and no owner": func(so *kedav1alpha1.ScaledObject) {
			so.OwnerReferences, so.Annotations = nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			theirs := former(edit)
			w := newWorld(t, inferenceSet(), theirs)
			w.reconcile()
			w.wantWrites()
			w.wantEvents(`Warning AutoscalingConflict: ScaledObject "` + theirs.Name + `"`)
		})
	}
}

// A user's copy with our mark isn't deleted because nothing asks for it.
func TestWhatHasOnlyOurMarkIsNotDeleted(t *testing.T) {
	w := newWorld(t, inferenceSet("auto-provision", "false"), former(func(so *kedav1alpha1.ScaledObject) { so.OwnerReferences = nil }))
	w.reconcile()
	w.wantWrites()
}

func TestAWriteThatTheCacheIsBehindOfIsTriedAgainQuietly(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.refusal = apierrors.NewConflict(schema.GroupResource{Group: "keda.sh", Resource: "scaledobjects"}, "phi-4", errors.New("changed"))
	result, err := w.controller.Reconcile(t.Context(), reconcile.Request{NamespacedName: phi4})
	if err != nil || result.RequeueAfter != staleInterval {
		t.Errorf("got %+v, %v, want to look again in %s", result, err, staleInterval)
	}
	w.wantEvents()
}

// KAITO was upgraded: the ScaledObject follows to the new version and stays the
// same object.
func TestAnotherVersionOfKAITOsAPIConvertsInPlace(t *testing.T) {
	w := newWorld(t, inferenceSet())
	older := settings
	older.Version = "v1alpha1"
	so := live(t, desired(t, inferenceSet(), older))
	so.UID, so.ResourceVersion = "uid-of-it", ""
	w.create(so)
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectUpdated: KAITO's API kaito.sh/v1alpha1 → kaito.sh/v1beta1; now scaling between 1 and 5 replicas")
	got, _ := w.scaledObject("phi-4")
	if got.UID != "uid-of-it" || got.Spec.ScaleTargetRef.APIVersion != "kaito.sh/v1beta1" || got.OwnerReferences[0].APIVersion != "kaito.sh/v1beta1" {
		t.Errorf("ScaledObject: %+v", got)
	}
}
