package kaito

import (
	"context"
	"fmt"
	"slices"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// Indexes of the cache: every lookup is by InferenceSet, so that 2 000 of them
// with 10 000 pods never cost a walk over all pods.
const (
	indexInferenceSet = "inferenceset"
	indexTrigger      = "trigger"
)

// Index lets a cache find Workspaces, pods and ScaledObjects by InferenceSet.
// AddToManager calls it for the manager's.
func Index(ctx context.Context, indexer client.FieldIndexer, version string) error {
	created := func(obj client.Object) []string { return []string{obj.GetLabels()[CreatedBy]} }
	for _, index := range []struct {
		object client.Object
		name   string
		values client.IndexerFunc
	}{
		{Object(version, KindWorkspace), indexInferenceSet, created},
		{&corev1.Pod{}, indexInferenceSet, created},
		{&kedav1alpha1.ScaledObject{}, indexTrigger, namesOf},
	} {
		if err := indexer.IndexField(ctx, index.object, index.name, index.values); err != nil {
			return fmt.Errorf("index %T by %s: %w", index.object, index.name, err)
		}
	}
	return nil
}

// Owner maps a Workspace or a pod to the InferenceSet on its label.
func Owner(_ context.Context, obj client.Object) []reconcile.Request {
	name := obj.GetLabels()[CreatedBy]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: name}}}
}

// Named maps a ScaledObject to the InferenceSets that its triggers name.
func Named(_ context.Context, obj client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, name := range namesOf(obj) {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{
			Namespace: obj.GetNamespace(), Name: name,
		}})
	}
	return requests
}

// namesOf are the InferenceSets that a ScaledObject's triggers name, each once.
func namesOf(obj client.Object) []string {
	names := make([]string, 0, 1)
	for _, t := range triggersOf(obj) {
		if !slices.Contains(names, t.InferenceSet) {
			names = append(names, t.InferenceSet)
		}
	}
	return names
}

// triggersOf are the triggers of a ScaledObject that this scaler can answer.
func triggersOf(obj client.Object) []policy.Trigger {
	so, ok := obj.(*kedav1alpha1.ScaledObject)
	if !ok {
		return nil
	}
	var triggers []policy.Trigger
	for i := range so.Spec.Triggers {
		if trigger, ok := triggerOf(so, i); ok {
			triggers = append(triggers, trigger)
		}
	}
	return triggers
}

// Workspaces lists an InferenceSet's Workspaces from the cache.
func Workspaces(ctx context.Context, c client.Reader, version string, key types.NamespacedName) ([]unstructured.Unstructured, error) {
	list := List(version, KindWorkspace)
	if err := c.List(ctx, list, client.InNamespace(key.Namespace),
		client.MatchingFields{indexInferenceSet: key.Name}); err != nil {
		return nil, fmt.Errorf("list Workspaces of %s: %w", key, err)
	}
	return list.Items, nil
}
