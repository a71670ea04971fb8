package kaito

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// noon is when everything in these tests happened.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// workspace is one of InferenceSet phi-4's, just made.
func workspace(name string, also ...func(*unstructured.Unstructured)) *unstructured.Unstructured {
	w := Object("v1beta1", KindWorkspace)
	w.SetNamespace("default")
	w.SetName(name)
	w.SetUID(types.UID("uid-of-" + name))
	w.SetLabels(map[string]string{CreatedBy: "phi-4"})
	for _, f := range also {
		f(w)
	}
	return w
}

func set(value any, path ...string) func(*unstructured.Unstructured) {
	return func(u *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(u.Object, value, path...); err != nil {
			panic(err)
		}
	}
}

func state(state string) func(*unstructured.Unstructured) { return set(state, "status", "state") }

func nodes(n int64) func(*unstructured.Unstructured) { return set(n, "status", "targetNodeCount") }

// says adds a condition such as InferenceReady=False/ImagePullError.
func says(kind, status, reason, message string) func(*unstructured.Unstructured) {
	return func(u *unstructured.Unstructured) {
		list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		set(append(list, map[string]any{
			"type": kind, "status": status, "reason": reason, "message": message,
			"lastTransitionTime": noon.Format(time.RFC3339), "observedGeneration": int64(1),
		}), "status", "conditions")(u)
	}
}

// deleted marks an object of any kind as being deleted.
func deleted[T metav1.Object](obj T) {
	obj.SetDeletionTimestamp(&metav1.Time{Time: noon})
	obj.SetFinalizers([]string{"test/finalizer"})
}

// pod is the n-th of a Workspace's, running on an address of its own, not
// Ready.
func pod(workspace string, n int, also ...func(*corev1.Pod)) *corev1.Pod {
	name := fmt.Sprintf("%s-%d", workspace, n)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID("uid-of-" + name),
			Labels:          map[string]string{CreatedBy: "phi-4", OfWorkspace: workspace},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: workspace, UID: "uid", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name:  workspace,
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 5000}, {Name: "kv-events", ContainerPort: 5557}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.244.0.17"},
	}
	for _, f := range also {
		f(p)
	}
	return p
}

func ready(p *corev1.Pod)    { readiness(p, corev1.ConditionTrue) }
func notReady(p *corev1.Pod) { readiness(p, corev1.ConditionFalse) }

func readiness(p *corev1.Pod, status corev1.ConditionStatus) {
	p.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.ContainersReady, Status: status, LastTransitionTime: metav1.NewTime(noon)},
		{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(noon)},
	}
}

// controlledBy is another controller than KAITO's StatefulSet, "" for none.
func controlledBy(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences[0].Name, p.OwnerReferences[0].Controller = name, new(name != "")
	}
}

func at(ip string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.PodIP = ip } }

func port(name string, number int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: name, ContainerPort: number}}
	}
}

func ended(phase corev1.PodPhase, reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = phase, reason }
}

// restarts are those of the engine's container, then of others.
func restarts(counts ...int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = nil
		for i, n := range counts {
			name := p.Labels[OfWorkspace]
			if i > 0 {
				name = fmt.Sprintf("sidecar-%d", i)
			}
			p.Status.ContainerStatuses = append([]corev1.ContainerStatus{{Name: name, RestartCount: n}}, p.Status.ContainerStatuses...)
		}
	}
}

// started is when the pod started, before noon; at noon its Ready condition
// changed last.
func started(before time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.StartTime = new(metav1.NewTime(noon.Add(-before))) }
}

// runs is since when the engine's container runs, after noon or before.
func runs(after time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: p.Labels[OfWorkspace], State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(noon.Add(after))}},
		})
	}
}

// sidecar adds a container with that port before the others.
func sidecar(name string, number int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers = append([]corev1.Container{{
			Name: "sidecar", Ports: []corev1.ContainerPort{{Name: name, ContainerPort: number}},
		}}, p.Spec.Containers...)
	}
}

// inferenceSet is default/phi-4 with these annotations, without their prefix.
func inferenceSet(annotations map[string]string, also ...func(*unstructured.Unstructured)) *unstructured.Unstructured {
	u := Object("v1beta1", KindInferenceSet)
	u.SetNamespace("default")
	u.SetName("phi-4")
	u.SetUID("uid-of-phi-4")
	full := map[string]string{}
	for key, value := range annotations {
		full["scaledobject.kaito.sh/"+key] = value
	}
	u.SetAnnotations(full)
	for _, f := range also {
		f(u)
	}
	return u
}
