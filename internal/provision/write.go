package provision

import (
	"context"
	"fmt"
	"slices"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// find reads the ScaledObject of the InferenceSet's name, nil without one.
func (c *Controller) find(ctx context.Context, is kaito.InferenceSet) (*kedav1alpha1.ScaledObject, error) {
	var so kedav1alpha1.ScaledObject
	err := c.client.Get(ctx, is.NamespacedName, &so)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // none is an answer like any other
	case err != nil:
		return nil, fmt.Errorf("read ScaledObject %s: %w", is.NamespacedName, err)
	}
	return &so, nil
}

// write makes the ScaledObject as desired, if that would change anything.
func (c *Controller) write(ctx context.Context, u *unstructured.Unstructured, is kaito.InferenceSet, desired *kedav1alpha1.ScaledObject) (result, error) {
	existing, err := c.find(ctx, is)
	if err != nil {
		return failed, err
	}
	did := created
	var changed []string
	if existing != nil {
		if existing.DeletionTimestamp != nil || !ours(existing, is) && !adoptable(existing, is) {
			return waiting, nil // its end is an event, and then it is made anew
		}
		if ofEarlier(existing) && c.handover() > 0 {
			return waiting, nil
		}
		d, err := compare(existing, desired)
		if err != nil {
			return failed, err
		}
		if d == (difference{}) {
			c.markSettled(u, existing)
			return unchanged, nil
		}
		did, changed = updated, changes(existing, desired)
		if ofEarlier(existing) {
			did = adopted
		}
		if d.surplus {
			err = c.replace(ctx, existing, desired)
		} else {
			err = c.apply(ctx, existing, desired)
		}
		return c.written(ctx, u, desired, did, changed, err)
	}
	return c.written(ctx, u, desired, did, changed, c.apply(ctx, nil, desired))
}

// apply is a server-side apply. A ScaledObject that came by this name since the
// cache was read is never taken over: none is forced upon one that wasn't seen,
// and one that was seen is named by its UID.
func (c *Controller) apply(ctx context.Context, existing, desired *kedav1alpha1.ScaledObject) error {
	object, err := applied(desired)
	if err != nil {
		return err
	}
	options := []client.ApplyOption{kube.FieldOwner}
	if existing != nil {
		object.SetUID(existing.UID)
		options = append(options, client.ForceOwnership)
	}
	return c.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), options...)
}

// replace writes the spec whole, in one write, so that what others put into it
// goes: an apply would leave it, and two writes would show KEDA a mixture. Only
// what is read as existing is replaced, or nothing.
func (c *Controller) replace(ctx context.Context, existing, desired *kedav1alpha1.ScaledObject) error {
	wanted := existing.DeepCopy()
	wanted.Spec = *desired.Spec.DeepCopy()
	metav1.SetMetaDataAnnotation(&wanted.ObjectMeta, policy.ManagedBy, kube.Name)
	owner := desired.OwnerReferences[0]
	wanted.OwnerReferences = append(slices.DeleteFunc(wanted.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.UID == owner.UID
	}), owner)
	patch := client.MergeFromWithOptions(existing, client.MergeFromWithOptimisticLock{})
	return c.client.Patch(ctx, wanted, patch, kube.FieldOwner)
}

// written tells what came of a write.
func (c *Controller) written(ctx context.Context, u *unstructured.Unstructured, so *kedav1alpha1.ScaledObject, did result, changed []string, err error) (result, error) {
	switch {
	case err == nil && did == updated && len(changed) == 0:
		log.FromContext(ctx).Info("wrote the ScaledObject with KEDA's renewed certificate")
		return did, nil
	case err == nil:
		c.emitOnce(ctx, u, writtenEvent(so, did, changed))
		return did, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return waiting, nil
	case ctx.Err() != nil:
		return failed, err // what failed is that we were told to stop
	case apierrors.IsConflict(err):
		log.FromContext(ctx).V(1).Info("the ScaledObject has changed meanwhile, looking again", "error", err.Error())
		return stale, nil
	default:
		c.emitOnce(ctx, u, failedEvent(err))
		return failed, fmt.Errorf("apply ScaledObject %s/%s: %w", so.Namespace, so.Name, err)
	}
}

// refuse leaves everything as it is, and says what that is.
func (c *Controller) refuse(ctx context.Context, u *unstructured.Unstructured, is kaito.InferenceSet, problem error) (result, error) {
	so, err := c.find(ctx, is)
	if err != nil {
		return failed, err
	}
	if so == nil || !ours(so, is) && !adoptable(so, is) {
		c.emitOnce(ctx, u, refusedEvent(problem, nil))
		return refused, nil
	}
	c.emitOnce(ctx, u, refusedEvent(problem, so))
	if how, _ := forceOf(so); how == none {
		return refused, nil
	}
	return outdated, nil
}

// yieldTo leaves the InferenceSet to others.
func (c *Controller) yieldTo(ctx context.Context, u *unstructured.Unstructured, is kaito.InferenceSet, conflicts []conflict) (result, error) {
	c.emitOnce(ctx, u, conflictEvent(conflicts))
	if _, err := c.deleteScaledObject(ctx, is); err != nil {
		return failed, err
	}
	return conflicting, nil
}

// switchOff takes the ScaledObject away because nothing asks for it any more.
func (c *Controller) switchOff(ctx context.Context, u *unstructured.Unstructured, is kaito.InferenceSet) (result, error) {
	outcome, err := c.deleteScaledObject(ctx, is)
	if err != nil {
		return failed, err
	}
	switch {
	case outcome == removed && !is.Deleting:
		c.emitOnce(ctx, u, removedEvent())
	case outcome == ignored:
		// Nothing is asked for and nothing is there: what is refused when
		// scaling is asked for again is news.
		c.reported.clear(is.NamespacedName)
	}
	return outcome, nil
}

// deleteScaledObject deletes the ScaledObject that we made, if there is one.
func (c *Controller) deleteScaledObject(ctx context.Context, is kaito.InferenceSet) (result, error) {
	so, err := c.find(ctx, is)
	switch {
	case err != nil:
		return failed, err
	case so == nil || !ours(so, is):
		return ignored, nil
	case so.DeletionTimestamp != nil:
		return waiting, nil
	}
	err = c.client.Delete(ctx, so, client.Preconditions{UID: &so.UID})
	if client.IgnoreNotFound(err) != nil {
		return failed, fmt.Errorf("delete ScaledObject %s: %w", is.NamespacedName, err)
	}
	log.FromContext(ctx).Info("deleted the ScaledObject")
	return removed, nil
}
