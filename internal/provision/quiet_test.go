package provision

import (
	"fmt"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
)

func TestWhichChangesAreLookedAt(t *testing.T) {
	edit := func(edit func(*unstructured.Unstructured)) client.Object {
		u := inferenceSet()
		edit(u)
		return u
	}
	workspace := func(n int64, state string) client.Object {
		w := kaito.Object("v1beta1", kaito.KindWorkspace)
		w.Object["status"] = map[string]any{"targetNodeCount": n, "state": state}
		return w
	}
	ours := func(edit func(*kedav1alpha1.ScaledObject)) client.Object {
		so := foreign("phi-4", "kaito.sh/v1beta1", "InferenceSet", "phi-4")
		so.Generation = 1
		so.OwnerReferences = []metav1.OwnerReference{{Name: "phi-4", UID: "uid", APIVersion: "kaito.sh/v1alpha1"}}
		edit(so)
		return so
	}
	hpa := func(edit func(*autoscalingv2.HorizontalPodAutoscaler)) client.Object {
		h := autoscaler("x", "kaito.sh/v1beta1", "InferenceSet", "phi-4", "")
		edit(h)
		return h
	}
	set, so, by := inferenceSet(), ours(func(*kedav1alpha1.ScaledObject) {}), hpa(func(*autoscalingv2.HorizontalPodAutoscaler) {})
	for _, tt := range []struct {
		name       string
		by         predicate.Predicate
		from       client.Object
		to         client.Object
		reconciles bool
	}{
		{"an annotation", asksChanged, set, inferenceSet("max-replicas", "7"), true},
		{"another node limit", asksChanged, set, edit(func(u *unstructured.Unstructured) { u.Object["spec"] = map[string]any{"nodeCountLimit": int64(9)} }), true},
		{"no node limit", asksChanged, set, edit(func(u *unstructured.Unstructured) { u.Object["spec"] = map[string]any{} }), true},
		{"the end", asksChanged, set, edit(func(u *unstructured.Unstructured) { u.SetDeletionTimestamp(new(metav1.Now())) }), true},
		{"another of the name", asksChanged, set, edit(func(u *unstructured.Unstructured) { u.SetUID("another") }), true},
		{"the HPA scales", asksChanged, set, edit(func(u *unstructured.Unstructured) {
			u.Object["spec"] = map[string]any{"replicas": int64(3), "nodeCountLimit": int64(10)}
		}), false},
		{"KAITO's status", asksChanged, set, edit(func(u *unstructured.Unstructured) { u.Object["status"] = map[string]any{"replicas": int64(3)} }), false},

		{"KEDA's status", scaledObjectChanged, so, ours(func(so *kedav1alpha1.ScaledObject) {
			so.ResourceVersion, so.Status.HpaName, so.Finalizers = "2", "keda-hpa-phi-4", []string{"finalizer.keda.sh"}
			so.Labels = map[string]string{"scaledobject.keda.sh/name": "phi-4"}
		}), false},
		{"the spec", scaledObjectChanged, so, ours(func(so *kedav1alpha1.ScaledObject) { so.Generation = 2 }), true},
		{"the mark taken off", scaledObjectChanged, so, ours(func(so *kedav1alpha1.ScaledObject) { so.Annotations = map[string]string{"a": "b"} }), true},
		{"the owner taken off", scaledObjectChanged, so, ours(func(so *kedav1alpha1.ScaledObject) { so.OwnerReferences = nil }), true},
		{"another owner in its place", scaledObjectChanged, so, ours(func(so *kedav1alpha1.ScaledObject) { so.OwnerReferences[0].UID = "x" }), true},
		{"the owner no controller", scaledObjectChanged, so, ours(func(so *kedav1alpha1.ScaledObject) { so.OwnerReferences[0].Controller = new(false) }), true},
		{"the end of it", scaledObjectChanged, so, ours(func(so *kedav1alpha1.ScaledObject) { so.DeletionTimestamp = new(metav1.Now()) }), true},

		{"an HPA's status", autoscalerChanged, by, hpa(func(h *autoscalingv2.HorizontalPodAutoscaler) { h.Status.DesiredReplicas = 3 }), false},
		{"an HPA's target", autoscalerChanged, by, hpa(func(h *autoscalingv2.HorizontalPodAutoscaler) { h.Spec.ScaleTargetRef.Name = "x" }), true},
		{"an HPA that KEDA takes over", autoscalerChanged, by, autoscaler("x", "kaito.sh/v1beta1", "InferenceSet", "phi-4", "phi-4"), true},

		{"KAITO has worked out the nodes", nodesChanged, workspace(0, "Pending"), workspace(2, "Pending"), true},
		{"a Workspace turned Ready", nodesChanged, workspace(2, "Pending"), workspace(2, "Ready"), false},
	} {
		if got := tt.by.Update(event.UpdateEvent{ObjectOld: tt.from, ObjectNew: tt.to}); got != tt.reconciles {
			t.Errorf("%s: looked at %t, want %t", tt.name, got, tt.reconciles)
		}
		if !tt.by.Create(event.CreateEvent{Object: tt.to}) || !tt.by.Delete(event.DeleteEvent{Object: tt.to}) {
			t.Errorf("%s: a new one or the last of one is passed over", tt.name)
		}
	}
}

// A thousand of them are looked at on a control plane.
func TestInferenceSetsAtRestCauseNoWrites(t *testing.T) {
	const n = 30
	var objects []client.Object
	for i := range n {
		u := inferenceSet()
		u.SetName(fmt.Sprintf("set-%d", i))
		objects = append(objects, u)
	}
	w := newWorld(t, objects...)
	all := func() int {
		before := len(w.writes)
		for _, u := range objects {
			if err := w.try(client.ObjectKeyFromObject(u)); err != nil {
				t.Fatal(err)
			}
		}
		return len(w.writes) - before
	}
	if got := all(); got != n {
		t.Fatalf("%d writes for %d new InferenceSets", got, n)
	}
	events := len(w.recorder.events)
	for _, story := range []struct {
		name string
		do   func()
	}{
		{"a second look", func() {}},
		{"another leader", func() { w.restart(settings) }},
	} {
		story.do()
		if got := all(); got != 0 {
			t.Errorf("%s: %d writes, want none", story.name, got)
		}
		if got := len(w.recorder.events) - events; got != 0 {
			t.Errorf("%s: %d events, want none", story.name, got)
		}
	}
}
