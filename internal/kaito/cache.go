package kaito

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// CacheObjects says what the manager's cache keeps of KAITO's objects and of
// their pods: only pods of InferenceSets, and of each object only the fields
// that this package reads. A pod shrinks to about a tenth.
func CacheObjects(version string) map[client.Object]cache.ByObject {
	ours, err := labels.NewRequirement(CreatedBy, selection.Exists, nil)
	if err != nil {
		panic(err) // a constant label that isn't one
	}
	selector := labels.NewSelector().Add(*ours)
	return map[client.Object]cache.ByObject{
		&corev1.Pod{}:                     {Label: selector, Transform: stripPod},
		Object(version, KindWorkspace):    {Label: selector, Transform: stripWorkspace},
		Object(version, KindInferenceSet): {Transform: stripInferenceSet},
	}
}

func stripPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("strip a pod: got %T", obj)
	}
	kept := &corev1.Pod{
		TypeMeta:   pod.TypeMeta,
		ObjectMeta: stripMeta(pod.ObjectMeta),
		Spec:       corev1.PodSpec{NodeName: pod.Spec.NodeName, HostNetwork: hostNetwork(pod)},
		Status: corev1.PodStatus{
			Phase:   pod.Status.Phase,
			Reason:  shorten(pod.Status.Reason),
			Message: shorten(pod.Status.Message),
			PodIP:   pod.Status.PodIP,
		},
	}
	if controller := metav1.GetControllerOfNoCopy(pod); controller != nil {
		kept.OwnerReferences = []metav1.OwnerReference{{Name: controller.Name, Controller: controller.Controller}}
	}
	// An engine at the usual port needs no container, which is half a kilobyte.
	if port := portOf(pod); port != httpPort {
		kept.Spec.Containers = []corev1.Container{{
			Name:  engine(pod).Name,
			Ports: []corev1.ContainerPort{{Name: httpPortName, ContainerPort: int32(port)}},
		}}
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.DisruptionTarget} {
		if c := condition(pod, kind); c != nil {
			kept.Status.Conditions = append(kept.Status.Conditions, corev1.PodCondition{
				Type: c.Type, Status: c.Status, Reason: shorten(c.Reason), LastTransitionTime: c.LastTransitionTime,
			})
		}
	}
	keepRun(pod, kept)
	return kept, nil
}

// keepRun takes over the engine's restarts, and when it started if the pod isn't
// Ready: nothing else is asked of one that is.
func keepRun(pod, kept *corev1.Pod) {
	status := engineStatus(pod)
	var running *corev1.ContainerStateRunning
	if ready := readyCondition(pod); ready == nil || ready.Status != corev1.ConditionTrue {
		kept.Status.StartTime = pod.Status.StartTime
		if status != nil && status.State.Running != nil {
			running = &corev1.ContainerStateRunning{StartedAt: status.State.Running.StartedAt}
		}
	}
	if running == nil && (status == nil || status.RestartCount == 0) {
		return
	}
	kept.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: status.Name, RestartCount: status.RestartCount, State: corev1.ContainerState{Running: running},
	}}
}

func stripMeta(meta metav1.ObjectMeta) metav1.ObjectMeta {
	kept := metav1.ObjectMeta{
		Namespace: meta.Namespace, Name: meta.Name, UID: meta.UID,
		ResourceVersion: meta.ResourceVersion, DeletionTimestamp: meta.DeletionTimestamp,
		Labels: map[string]string{},
	}
	for _, key := range []string{CreatedBy, OfWorkspace} {
		if value, found := meta.Labels[key]; found {
			kept.Labels[key] = value
		}
	}
	return kept
}

func stripWorkspace(obj any) (any, error) {
	return strip(obj, func(from, to *unstructured.Unstructured) {
		if value, found := from.GetLabels()[CreatedBy]; found {
			to.SetLabels(map[string]string{CreatedBy: value})
		}
		to.SetCreationTimestamp(from.GetCreationTimestamp())
		keep(from, to, "status", "state")
		keep(from, to, "status", "targetNodeCount")
		keep(from, to, pathPeak...)
		keepFaults(from, to)
	})
}

// maxFaults is more than KAITO has conditions.
const maxFaults = 32

// keepFaults takes over the conditions that are False, the only ones that are
// read: a replica in order has none.
func keepFaults(from, to *unstructured.Unstructured) {
	all, _, _ := unstructured.NestedFieldNoCopy(from.Object, "status", "conditions")
	list, _ := all.([]any)
	var faults []any
	for _, item := range list {
		if fields, ok := item.(map[string]any); ok && fields["status"] == "False" && len(faults) < maxFaults {
			faults = append(faults, map[string]any{
				"type": fields["type"], "status": fields["status"], "reason": fields["reason"], "message": shortened(fields["message"]),
				"lastTransitionTime": fields["lastTransitionTime"],
			})
		}
	}
	if len(faults) > 0 {
		// The parent is an object: it held the list.
		_ = unstructured.SetNestedSlice(to.Object, faults, "status", "conditions")
	}
}

// shortened is a message of a condition, whatever stands there.
func shortened(message any) any {
	if text, ok := message.(string); ok {
		return shorten(text)
	}
	return message
}

func stripInferenceSet(obj any) (any, error) {
	return strip(obj, func(from, to *unstructured.Unstructured) {
		to.SetAnnotations(policy.Bounded(from.GetAnnotations()))
		keep(from, to, "spec", "replicas")
		keep(from, to, "spec", "nodeCountLimit")
	})
}

// strip makes an object anew with its identity and what pick takes over.
func strip(obj any, pick func(from, to *unstructured.Unstructured)) (any, error) {
	from, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("strip an object of KAITO's: got %T", obj)
	}
	to := &unstructured.Unstructured{}
	to.SetGroupVersionKind(from.GroupVersionKind())
	to.SetNamespace(from.GetNamespace())
	to.SetName(from.GetName())
	to.SetUID(from.GetUID())
	to.SetResourceVersion(from.GetResourceVersion())
	to.SetDeletionTimestamp(from.GetDeletionTimestamp())
	pick(from, to)
	return to, nil
}

func keep(from, to *unstructured.Unstructured, path ...string) {
	value, found, err := unstructured.NestedFieldNoCopy(from.Object, path...)
	if !found || err != nil {
		return
	}
	if err := unstructured.SetNestedField(to.Object, value, path...); err != nil {
		return // a parent that isn't an object: there is nothing to keep
	}
}
