package provision

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

const (
	// indexAffected finds ScaledObjects by the InferenceSets that they concern.
	indexAffected = "affected"
	// indexScaled finds HorizontalPodAutoscalers by the InferenceSet they scale.
	indexScaled = "scaled"

	// maxMessage is how much is kept of what an HPA says is wrong.
	maxMessage = 512

	kindScaledObject = "ScaledObject"
	kindAutoscaler   = "HorizontalPodAutoscaler"
)

func index(ctx context.Context, indexer client.FieldIndexer) error {
	if err := indexer.IndexField(ctx, &kedav1alpha1.ScaledObject{}, indexAffected, names); err != nil {
		return fmt.Errorf("index ScaledObjects by %s: %w", indexAffected, err)
	}
	if err := indexer.IndexField(ctx, &autoscalingv2.HorizontalPodAutoscaler{}, indexScaled, scaledByAutoscaler); err != nil {
		return fmt.Errorf("index HorizontalPodAutoscalers by %s: %w", indexScaled, err)
	}
	return nil
}

// CacheObjects says what the manager's cache keeps of HorizontalPodAutoscalers,
// which are the whole cluster's: what each scales, and who made it; and what of
// ScaledObjects, which anybody may write.
func CacheObjects() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&autoscalingv2.HorizontalPodAutoscaler{}: {Transform: stripAutoscaler},
		&kedav1alpha1.ScaledObject{}:             {Transform: kaito.StripScaledObject},
	}
}

func stripAutoscaler(obj any) (any, error) {
	hpa, ok := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("strip a HorizontalPodAutoscaler: got %T", obj)
	}
	kept := &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta: hpa.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Namespace: hpa.Namespace, Name: hpa.Name, UID: hpa.UID, ResourceVersion: hpa.ResourceVersion,
			DeletionTimestamp: hpa.DeletionTimestamp, OwnerReferences: hpa.OwnerReferences,
		},
	}
	kept.Spec.ScaleTargetRef = hpa.Spec.ScaleTargetRef
	// Whether it gets metrics: scaler.Observer tells only what it follows, and why
	// KEDA may not ask.
	for _, c := range hpa.Status.Conditions {
		if c.Type != autoscalingv2.ScalingActive {
			continue
		}
		condition := autoscalingv2.HorizontalPodAutoscalerCondition{Type: c.Type, Status: c.Status}
		if c.Status != corev1.ConditionTrue {
			condition.Reason, condition.Message = c.Reason, strings.Clone(kube.Shorten(c.Message, maxMessage))
		}
		kept.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{condition}
	}
	return kept, nil
}

// names are the InferenceSets that a ScaledObject may be of, or in the way of:
// the one of its name and the one it scales.
func names(obj client.Object) []string {
	out := []string{obj.GetName()}
	if so, ok := obj.(*kedav1alpha1.ScaledObject); ok {
		if target, ok := scales(so); ok && target != so.Name {
			out = append(out, target)
		}
	}
	return out
}

func affected(_ context.Context, obj client.Object) []reconcile.Request {
	return requests(obj.GetNamespace(), names(obj))
}

func requests(namespace string, names []string) []reconcile.Request {
	var out []reconcile.Request
	for _, name := range names {
		out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
	}
	return out
}

// scales is the InferenceSet that a ScaledObject scales, in whatever version of
// the API it names it.
func scales(so *kedav1alpha1.ScaledObject) (string, bool) {
	ref := so.Spec.ScaleTargetRef
	if ref == nil || !isInferenceSet(ref.APIVersion, ref.Kind) {
		return "", false
	}
	return ref.Name, true
}

func isInferenceSet(apiVersion, kind string) bool {
	gv, err := schema.ParseGroupVersion(apiVersion)
	return err == nil && gv.Group == kaito.Group && kind == kaito.KindInferenceSet
}

// scaledByAutoscaler is the InferenceSet that a HorizontalPodAutoscaler scales. None
// is for one that KEDA made: the ScaledObject behind it is what counts.
func scaledByAutoscaler(obj client.Object) []string {
	hpa, ok := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok || !isInferenceSet(hpa.Spec.ScaleTargetRef.APIVersion, hpa.Spec.ScaleTargetRef.Kind) {
		return nil
	}
	if owner := metav1.GetControllerOf(hpa); owner != nil && owner.Kind == kindScaledObject {
		if gv, err := schema.ParseGroupVersion(owner.APIVersion); err == nil && gv.Group == kedav1alpha1.SchemeGroupVersion.Group {
			return nil
		}
	}
	return []string{hpa.Spec.ScaleTargetRef.Name}
}

func affectedByAutoscaler(_ context.Context, obj client.Object) []reconcile.Request {
	return requests(obj.GetNamespace(), scaledByAutoscaler(obj))
}

// autoscalerChanged keeps out the status, which the HPA's controller writes
// every few seconds.
var autoscalerChanged = predicate.Or(ownersChanged, predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok1 := e.ObjectOld.(*autoscalingv2.HorizontalPodAutoscaler)
	after, ok2 := e.ObjectNew.(*autoscalingv2.HorizontalPodAutoscaler)
	return !ok1 || !ok2 || before.Spec.ScaleTargetRef != after.Spec.ScaleTargetRef
}})

// conflict is somebody else's object that scales an InferenceSet, or has the name
// that our ScaledObject would have.
type conflict struct {
	kind   string
	object client.Object
}

func (c conflict) String() string { return fmt.Sprintf("%s %q", c.kind, c.object.GetName()) }

// conflicts are the objects that an InferenceSet conflicts with, ScaledObjects first, by name: a cache
// lists them in any order, and another order is no news. They stay.
func (c *Controller) conflicts(ctx context.Context, is kaito.InferenceSet) ([]conflict, error) {
	var found []conflict
	var scaledObjects kedav1alpha1.ScaledObjectList
	if err := c.client.List(ctx, &scaledObjects, client.InNamespace(is.Namespace),
		client.MatchingFields{indexAffected: is.Name}); err != nil {
		return nil, fmt.Errorf("list ScaledObjects that concern %s: %w", is.NamespacedName, err)
	}
	for i := range scaledObjects.Items {
		so := &scaledObjects.Items[i]
		if !ours(so, is) && !adoptable(so, is) && !leftOver(so, is) {
			found = append(found, conflict{kindScaledObject, so})
		}
	}
	var autoscalers autoscalingv2.HorizontalPodAutoscalerList
	if err := c.client.List(ctx, &autoscalers, client.InNamespace(is.Namespace),
		client.MatchingFields{indexScaled: is.Name}); err != nil {
		return nil, fmt.Errorf("list HorizontalPodAutoscalers on %s: %w", is.NamespacedName, err)
	}
	for i := range autoscalers.Items {
		found = append(found, conflict{kindAutoscaler, &autoscalers.Items[i]})
	}
	slices.SortFunc(found, func(a, b conflict) int {
		return cmp.Or(-cmp.Compare(a.kind, b.kind), cmp.Compare(a.object.GetName(), b.object.GetName()))
	})
	return found, nil
}

// ours tells whether a ScaledObject is this InferenceSet's own: one that it
// controls, which this version or an earlier one has made.
func ours(so *kedav1alpha1.ScaledObject, is kaito.InferenceSet) bool {
	controller := metav1.GetControllerOf(so)
	return controller != nil && controller.UID == is.UID && so.Name == is.Name
}

// adoptable tells whether a ScaledObject that nobody controls was made by an
// earlier version for this InferenceSet: it has our mark, and scales it.
func adoptable(so *kedav1alpha1.ScaledObject, is kaito.InferenceSet) bool {
	target, ok := scales(so)
	return metav1.GetControllerOf(so) == nil && so.Annotations[policy.ManagedBy] == kube.Name &&
		so.Name == is.Name && ok && target == is.Name
}

// leftOver tells whether a ScaledObject is of an InferenceSet of the same name
// that is gone: the garbage collector is on its way to it.
func leftOver(so *kedav1alpha1.ScaledObject, is kaito.InferenceSet) bool {
	controller := metav1.GetControllerOf(so)
	return controller != nil && isInferenceSet(controller.APIVersion, controller.Kind) &&
		controller.Name == is.Name && controller.UID != is.UID && so.Name == is.Name
}
