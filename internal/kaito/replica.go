package kaito

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
)

// Replica is one Workspace of an InferenceSet with its first pod: the only pod
// of a replica that serves HTTP and metrics, however many nodes it spans.
type Replica struct {
	Workspace string
	// Pod, UID and Restarts are zero while the Workspace has no first pod.
	Pod string
	UID types.UID
	// Restarts counts the restarts of the pod's containers: a new process, so
	// counters that begin anew.
	Restarts int32
	// Address is the pod's IP with its container port "http" (5000), invalid
	// while the pod has no IP.
	Address netip.AddrPort
	Phase   decision.Phase
	// Ordered is when the Workspace was made.
	Ordered time.Time
	// Ready is the pod's Ready condition of this moment; Serving pods may well
	// not be Ready.
	Ready bool
	// Since is when the pod became Ready, as far as its condition tells; zero
	// for one that isn't.
	Since time.Time
	// PeakTokensPerMinute is what KAITO's start-up benchmark measured, input and
	// output together; 0 if it doesn't tell.
	PeakTokensPerMinute float64
	// Why is KAITO's own reason for a Starting or Broken replica, in words.
	Why string
	// Doubt is until when a Starting replica has a fault that isn't believed yet;
	// zero for one that hasn't.
	Doubt time.Time
}

// httpPort is the container port that serves vLLM's API and its metrics, by
// name and by KAITO's number for it.
const (
	httpPortName = "http"
	httpPort     = 5000
)

// Replicas puts an InferenceSet's Workspaces and pods together, in the order of
// the Workspaces' names. A pod is its Workspace's first by its name, "-0": in a
// replica of several nodes the others are Ready too, but have no metrics.
//
// How long something has been so is judged at now.
//
// Whether a NotReady pod was Ready before is taken from its Workspace's state
// here; the Watcher puts that right by what this process has seen itself.
func Replicas(workspaces []unstructured.Unstructured, pods []corev1.Pod, now time.Time) []Replica {
	first := make(map[string]*corev1.Pod, len(workspaces))
	for i := range pods {
		workspace := pods[i].Labels[OfWorkspace]
		if pods[i].Name == workspace+"-0" {
			first[workspace] = &pods[i]
		}
	}
	replicas := make([]Replica, 0, len(workspaces))
	for i := range workspaces {
		replicas = append(replicas, replica(&workspaces[i], first[workspaces[i].GetName()], now))
	}
	slices.SortFunc(replicas, func(a, b Replica) int { return cmp.Compare(a.Workspace, b.Workspace) })
	return replicas
}

func replica(workspace *unstructured.Unstructured, pod *corev1.Pod, now time.Time) Replica {
	r := Replica{
		Workspace: workspace.GetName(), Ordered: workspace.GetCreationTimestamp().Time,
		PeakTokensPerMinute: peak(workspace),
	}
	if pod != nil {
		r.Pod, r.UID = pod.Name, pod.UID
		r.Address = address(pod)
		for _, status := range pod.Status.ContainerStatuses {
			r.Restarts += status.RestartCount
		}
		if ready := readyCondition(pod); ready != nil && ready.Status == corev1.ConditionTrue {
			r.Ready, r.Since = true, ready.LastTransitionTime.Time
		}
	}
	state, _, _ := unstructured.NestedString(workspace.Object, "status", "state")
	switch {
	case workspace.GetDeletionTimestamp() != nil, pod != nil && pod.DeletionTimestamp != nil:
		r.Phase = decision.Terminating
	case pod != nil && (pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded):
		r.Phase, r.Why = decision.Broken, strings.TrimSpace("pod "+string(pod.Status.Phase)+" "+pod.Status.Reason)
	case r.Ready, pod != nil && state == stateNotReady:
		r.Phase = decision.Serving
	default:
		r.Phase, r.Why, r.Doubt = start(workspace, now)
	}
	return r
}

// pathPeak is where a Workspace tells its benchmark's result.
var pathPeak = []string{"status", "performance", "metrics", "peakTokensPerMinute", "value"}

// peak is a Workspace's benchmark in tokens a minute, a number or one in a
// string; 0 for whatever else stands there.
func peak(workspace *unstructured.Unstructured) float64 {
	value, _, err := unstructured.NestedFieldNoCopy(workspace.Object, pathPeak...)
	if err != nil {
		return 0
	}
	tokens := 0.0
	switch value := value.(type) {
	case string:
		if tokens, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
			return 0
		}
	case int64:
		tokens = float64(value)
	case float64:
		tokens = value
	}
	if !(tokens > 0) || tokens > mostTokens {
		return 0
	}
	return tokens
}

// mostTokens a minute are a thousand times those of a large replica.
const mostTokens = 1e9

// stateNotReady is the status.state of a Workspace that was Ready once and
// isn't now; before that it is Pending.
const stateNotReady = "NotReady"

func address(pod *corev1.Pod) netip.AddrPort {
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil {
		return netip.AddrPort{}
	}
	port := uint16(httpPort)
	for _, container := range pod.Spec.Containers {
		for _, p := range container.Ports {
			if p.Name == httpPortName && p.ContainerPort > 0 && p.ContainerPort <= 65535 {
				port = uint16(p.ContainerPort)
			}
		}
	}
	return netip.AddrPortFrom(ip, port)
}

func readyCondition(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodReady {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}
