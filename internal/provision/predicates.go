package provision

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
)

// asksChanged lets an InferenceSet through when it asks for something else.
// KAITO writes its status, and the HPA its replicas, much more often.
var asksChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	old, ok1 := e.ObjectOld.(*unstructured.Unstructured)
	fresh, ok2 := e.ObjectNew.(*unstructured.Unstructured)
	if !ok1 || !ok2 {
		return true
	}
	before, after := kaito.ReadInferenceSet(old), kaito.ReadInferenceSet(fresh)
	return before.UID != after.UID || before.Deleting != after.Deleting ||
		!maps.Equal(before.Annotations, after.Annotations) || !same(before.NodeCountLimit, after.NodeCountLimit)
}}

func same[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// scaledObjectChanged keeps out KEDA's writes to the status.
var scaledObjectChanged = predicate.Or(predicate.GenerationChangedPredicate{},
	predicate.AnnotationChangedPredicate{}, ownersChanged, endBegins)

// ownersChanged lets a change of owner references through, which changes
// neither the generation nor the annotations.
var ownersChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return e.ObjectOld.GetUID() != e.ObjectNew.GetUID() ||
		!sameOwners(e.ObjectOld.GetOwnerReferences(), e.ObjectNew.GetOwnerReferences())
}}

// endBegins lets an object through that is about to be deleted.
var endBegins = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return (e.ObjectOld.GetDeletionTimestamp() == nil) != (e.ObjectNew.GetDeletionTimestamp() == nil)
}}

func sameOwners(a, b []metav1.OwnerReference) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].UID != b[i].UID || a[i].APIVersion != b[i].APIVersion || !same(a[i].Controller, b[i].Controller) {
			return false
		}
	}
	return true
}

// nodesChanged lets a Workspace through when it tells another number of nodes.
var nodesChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok1 := e.ObjectOld.(*unstructured.Unstructured)
	after, ok2 := e.ObjectNew.(*unstructured.Unstructured)
	return !ok1 || !ok2 || kaito.NodesPerReplica([]unstructured.Unstructured{*before}) !=
		kaito.NodesPerReplica([]unstructured.Unstructured{*after})
}}
