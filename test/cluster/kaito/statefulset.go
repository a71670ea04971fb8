package kaito

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// errNoSimulation is of what can't be asked of a pod that really runs.
var errNoSimulation = errors.New("the replica's pods run on a node, not in the stand-in")

// real says whether there is a node: pods are then the StatefulSet controller's
// and the kubelet's, and the stand-in only reads them.
func (k *KAITO) real() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.options.Image != ""
}

// syncStatefulSets makes the StatefulSet of each Workspace and learns from its
// pods how the replica does. The garbage collector ends those of deleted ones.
func (k *KAITO) syncStatefulSets(ctx context.Context, w *world) error {
	first := map[string]*corev1.Pod{}
	for i := range w.pods {
		first[w.pods[i].Name] = &w.pods[i]
	}
	for i := range w.workspaces {
		ws := &w.workspaces[i]
		if ws.DeletionTimestamp == nil {
			if err := k.client.Create(ctx, k.newStatefulSet(ws)); err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("creating the StatefulSet of Workspace %s: %w", ws.Name, err)
			}
		}
		k.observe(w, ws, first[podName(ws, 0)])
	}
	return nil
}

// observe is what KAITO does of a replica's first pod.
func (k *KAITO) observe(w *world, ws *Workspace, pod *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.replicas[ws.UID]
	if r == nil {
		r = &replica{set: w.name, uid: ws.UID, workspace: ws.Name, created: time.Now(), nodes: max(ws.Resource.Count, 1)}
		k.replicas[ws.UID] = r
	}
	r.dying = r.dying || ws.DeletionTimestamp != nil
	switch {
	case pod == nil || pod.Spec.NodeName == "":
		r.stage = AwaitingNode
	case ready(pod):
		r.stage, r.trouble, r.wasReady, r.served = Ready, nil, true, true
	case r.wasReady:
		trouble := NotReady
		r.stage, r.trouble = Ready, &trouble
	default:
		r.stage = StartingEngine
	}
}

func ready(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// newStatefulSet is KAITO's but for the image, and for the probes: KAITO's look
// every 10 s and begin after 30 s, because a real engine takes minutes.
func (k *KAITO) newStatefulSet(ws *Workspace) *appsv1.StatefulSet {
	labels := map[string]string{LabelCreatedBy: ws.Labels[LabelCreatedBy], LabelWorkspace: ws.Name}
	health := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/health", Port: intstr.FromInt32(vllm.Port)}}
	probe := func(failures int32) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: health, PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: failures}
	}
	replicas, grace := int32(max(ws.Resource.Count, 1)), int64(30)
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: ws.Name, Namespace: ws.Namespace},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, ServiceName: ws.Name + "-headless",
			PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector:            &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: &grace,
					Containers: []corev1.Container{{
						Name: ws.Name, Image: k.options.Image, ImagePullPolicy: corev1.PullIfNotPresent,
						Ports: []corev1.ContainerPort{
							{Name: "http", ContainerPort: vllm.Port},
							{Name: "kv-events", ContainerPort: 5557},
						},
						LivenessProbe: probe(10), ReadinessProbe: probe(3), StartupProbe: probe(180),
					}},
				},
			},
		},
	}
	if err := controllerutil.SetControllerReference(ws, set, k.client.Scheme()); err != nil {
		panic(err) // both are in one namespace, the only way to fail
	}
	return set
}
