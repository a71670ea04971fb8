package kaito

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// syncPods does a StatefulSet's and a kubelet's work: it makes the pods that
// are missing, writes their status, and ends the deleted ones.
func (k *KAITO) syncPods(ctx context.Context, w *world) error {
	existing := map[string]*corev1.Pod{}
	for i := range w.pods {
		existing[w.pods[i].Name] = &w.pods[i]
	}
	living := map[string]bool{}
	for i := range w.workspaces {
		ws := &w.workspaces[i]
		if ws.DeletionTimestamp != nil {
			continue
		}
		living[ws.Name] = true
		if err := k.syncReplicaPods(ctx, ws, existing); err != nil {
			return err
		}
	}
	kept := w.pods[:0]
	for i := range w.pods {
		pod := &w.pods[i]
		gone, err := k.syncDeletion(ctx, w, pod, living[pod.Labels[LabelWorkspace]])
		if err != nil {
			return err
		}
		if !gone {
			kept = append(kept, *pod)
		}
	}
	w.pods = kept
	return nil
}

// snapshot is what a replica's pods are written from.
type snapshot struct {
	stage    Stage
	ready    bool
	trouble  *Failure
	restarts int32
	ips      []string // one per node
	podUID   types.UID
}

func (k *KAITO) snapshot(ws types.UID) (snapshot, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.replicas[ws]
	if !ok {
		return snapshot{}, false
	}
	s := snapshot{
		stage: r.stage, ready: r.ready(), trouble: r.trouble, restarts: r.restarts,
		ips: []string{r.first.IP()}, podUID: r.podUID,
	}
	for _, worker := range r.workers {
		s.ips = append(s.ips, worker.IP())
	}
	return s, true
}

func (k *KAITO) syncReplicaPods(ctx context.Context, ws *Workspace, existing map[string]*corev1.Pod) error {
	s, ok := k.snapshot(ws.UID)
	if !ok || s.stage == AwaitingNode {
		return nil
	}
	if first := existing[podName(ws, 0)]; first == nil && s.podUID != "" {
		// Somebody deleted the pod. Its successor begins anew.
		return k.rebirth(ws)
	}
	for i, ip := range s.ips {
		pod := existing[podName(ws, i)]
		if pod == nil {
			pod = k.newPod(ws, i)
			if err := k.client.Create(ctx, pod); err != nil {
				return fmt.Errorf("creating pod %s: %w", pod.Name, err)
			}
		}
		if i == 0 {
			k.note(ws, func(r *replica) { r.podUID = pod.UID })
		}
		if err := k.writePodStatus(ctx, pod, s, ip); err != nil {
			return err
		}
		if i == 0 && s.ready && pod.DeletionTimestamp == nil {
			k.note(ws, func(r *replica) { r.served = r.served || (r.podUID == pod.UID && r.stage == Ready) })
		}
	}
	return nil
}

// note changes what is known of a Workspace's replica, unless that is gone.
func (k *KAITO) note(ws *Workspace, change func(*replica)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r := k.replicas[ws.UID]; r != nil {
		change(r)
	}
}

// rebirth starts a replica's pods again from the download on.
func (k *KAITO) rebirth(ws *Workspace) error {
	k.mu.Lock()
	r := k.replicas[ws.UID]
	r.stage, r.since, r.podUID, r.served = Downloading, time.Now(), "", false
	set := r.set
	r.restarts = 0
	k.mu.Unlock()
	r.first.Restart()
	k.look(set)
	return k.adjust(r)
}

func podName(ws *Workspace, index int) string { return ws.Name + "-" + strconv.Itoa(index) }

func (k *KAITO) newPod(ws *Workspace, index int) *corev1.Pod {
	grace := int64(30)
	probe := &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/health", Port: intstr.FromInt32(vllm.Port)}},
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:      podName(ws, index),
			Namespace: ws.Namespace,
			Labels: map[string]string{
				LabelCreatedBy:                       ws.Labels[LabelCreatedBy],
				LabelWorkspace:                       ws.Name,
				"apps.kubernetes.io/pod-index":       strconv.Itoa(index),
				"statefulset.kubernetes.io/pod-name": podName(ws, index),
			},
		},
		Spec: corev1.PodSpec{
			// No such Node exists. But the API server lets only pods that are
			// bound to one end gracefully.
			NodeName:                      "gpu-" + podName(ws, index),
			Hostname:                      podName(ws, index),
			Subdomain:                     ws.Name + "-headless",
			TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{
				Name:  ws.Name,
				Image: "/kaito-base:0.5.0",
				Ports: []corev1.ContainerPort{
					{Name: "http", ContainerPort: vllm.Port, Protocol: corev1.ProtocolTCP},
					{Name: "kv-events", ContainerPort: 5557, Protocol: corev1.ProtocolTCP},
				},
				LivenessProbe: probe, ReadinessProbe: probe, StartupProbe: probe,
			}},
		},
	}
	// In KAITO a StatefulSet stands between; its controller would want the
	// pods for itself.
	if err := controllerutil.SetControllerReference(ws, pod, k.client.Scheme()); err != nil {
		panic(err) // both are in one namespace, the only way to fail
	}
	return pod
}

// writePodStatus plays the kubelet, as far as something changed.
func (k *KAITO) writePodStatus(ctx context.Context, pod *corev1.Pod, s snapshot, ip string) error {
	if pod.DeletionTimestamp != nil {
		return nil
	}
	before := pod.DeepCopy()
	running := s.trouble == nil || *s.trouble == NotReady
	ready := s.ready
	if pod.Labels["apps.kubernetes.io/pod-index"] != "0" {
		// Workers have no HTTP to be probed by.
		running, ready = true, true
	}
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	status := &pod.Status
	status.Phase = corev1.PodRunning
	status.PodIP, status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	if status.StartTime == nil {
		status.StartTime = &now
	}
	setPodCondition(status, corev1.PodScheduled, true, now)
	setPodCondition(status, corev1.PodInitialized, true, now)
	setPodCondition(status, corev1.ContainersReady, ready, now)
	setPodCondition(status, corev1.PodReady, ready, now)
	container := corev1.ContainerStatus{
		Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image,
		Ready: ready, Started: &ready, RestartCount: s.restarts,
	}
	startedAt := now
	if len(status.ContainerStatuses) == 1 {
		old := status.ContainerStatuses[0]
		container.LastTerminationState = old.LastTerminationState
		if old.State.Running != nil && old.RestartCount == s.restarts {
			startedAt = old.State.Running.StartedAt
		}
	}
	if running {
		container.State.Running = &corev1.ContainerStateRunning{StartedAt: startedAt}
	} else {
		container.State.Waiting = &corev1.ContainerStateWaiting{Reason: waitingReason(*s.trouble)}
	}
	if s.restarts > 0 && s.stage < Ready {
		container.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", FinishedAt: startedAt}
	}
	status.ContainerStatuses = []corev1.ContainerStatus{container}
	if equality.Semantic.DeepEqual(before.Status, *status) {
		return nil
	}
	if err := k.client.Status().Patch(ctx, pod, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("writing the status of pod %s: %w", pod.Name, err)
	}
	return nil
}

func waitingReason(f Failure) string {
	if f == ImagePull {
		return "ImagePullBackOff"
	}
	return "CrashLoopBackOff"
}

func setPodCondition(s *corev1.PodStatus, kind corev1.PodConditionType, yes bool, now metav1.Time) {
	value := corev1.ConditionFalse
	if yes {
		value = corev1.ConditionTrue
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		if c.Type == kind {
			if c.Status != value {
				c.Status, c.LastTransitionTime = value, now
			}
			return
		}
	}
	s.Conditions = append(s.Conditions, corev1.PodCondition{Type: kind, Status: value, LastTransitionTime: now})
}

// syncDeletion deletes a pod whose Workspace goes, and ends one that was
// deleted long enough ago; true when it is gone.
func (k *KAITO) syncDeletion(ctx context.Context, w *world, pod *corev1.Pod, wanted bool) (bool, error) {
	if pod.DeletionTimestamp == nil {
		if wanted {
			return false, nil
		}
		if err := k.client.Delete(ctx, pod); err != nil {
			return false, fmt.Errorf("deleting pod %s: %w", pod.Name, err)
		}
	}
	now := time.Now()
	k.mu.Lock()
	since, ok := k.dying[pod.UID]
	if !ok {
		since = now
		k.dying[pod.UID] = now
	}
	end := since.Add(k.optionsOf(w.name).Termination)
	ended := false // before its time, as real engines can
	for _, r := range k.replicas {
		ended = ended || r.podUID == pod.UID && r.ended()
	}
	k.mu.Unlock()
	if end.After(now) && !ended {
		w.due(end)
		return false, nil
	}
	err := k.client.Delete(ctx, pod, client.GracePeriodSeconds(0), client.Preconditions{UID: &pod.UID})
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("ending pod %s: %w", pod.Name, err)
	}
	k.mu.Lock()
	delete(k.dying, pod.UID)
	k.mu.Unlock()
	return true, nil
}
