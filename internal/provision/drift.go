package provision

import (
	"fmt"
	"reflect"
	"slices"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// difference is what sets a ScaledObject apart from the desired one. The spec
// is ours as a whole. Of the metadata only our mark and our owner reference are:
// labels, other annotations (such as those that pause), other owners and KEDA's
// finalizer are others'.
type difference struct {
	// any is whether there is one at all.
	any bool
	// surplus is whether the spec has a field that the desired one lacks, which
	// an apply would leave if it is somebody else's. A list is applied whole.
	surplus bool
}

func compare(existing, desired *kedav1alpha1.ScaledObject) (difference, error) {
	before, err := specOf(existing)
	if err != nil {
		return difference{}, err
	}
	after, err := specOf(desired)
	if err != nil {
		return difference{}, err
	}
	d := difference{surplus: !covers(after, before)}
	d.any = d.surplus || !reflect.DeepEqual(before, after) || !marked(existing) || !owned(existing, desired.OwnerReferences[0])
	return d, nil
}

func marked(so *kedav1alpha1.ScaledObject) bool { return so.Annotations[policy.ManagedBy] == kube.Name }

func owned(so *kedav1alpha1.ScaledObject, by metav1.OwnerReference) bool {
	return slices.ContainsFunc(so.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.UID == by.UID && o.APIVersion == by.APIVersion && o.Kind == by.Kind && o.Name == by.Name &&
			same(o.Controller, by.Controller)
	})
}

// ofEarlier tells whether a ScaledObject was written by an earlier version, whose
// triggers have other names.
func ofEarlier(so *kedav1alpha1.ScaledObject) bool {
	return !slices.ContainsFunc(so.Spec.Triggers, func(t kedav1alpha1.ScaleTriggers) bool { return t.Name == policy.TriggerName })
}

// specOf is a spec in the words of JSON, without objects that are empty, such as
// KEDA's type always writes.
func specOf(so *kedav1alpha1.ScaledObject) (map[string]any, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&so.Spec)
	if err != nil {
		return nil, fmt.Errorf("convert ScaledObject %s/%s: %w", so.Namespace, so.Name, err)
	}
	prune(object)
	return object, nil
}

func prune(value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, child := range value {
			prune(child)
			if object, ok := child.(map[string]any); ok && len(object) == 0 {
				delete(value, key)
			}
		}
	case []any:
		for _, child := range value {
			prune(child)
		}
	}
}

// covers tells whether whole has every field of part, whatever its value.
func covers(whole, part map[string]any) bool {
	for key, value := range part {
		there, found := whole[key]
		if !found {
			return false
		}
		object, ok1 := there.(map[string]any)
		inner, ok2 := value.(map[string]any)
		if ok1 && ok2 && !covers(object, inner) {
			return false
		}
	}
	return true
}
