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

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Replica is one Workspace of an InferenceSet with its first pod: the only pod
// of a replica that serves HTTP and metrics, however many nodes it spans.
type Replica struct {
	Workspace string
	// Pod, UID and Restarts are zero while the Workspace has no first pod.
	Pod string
	UID types.UID
	// Restarts counts the restarts of the engine's container: a new process, so
	// counters that begin anew.
	Restarts int32
	// Address is the pod's IP with the port of its engine, invalid while the pod
	// can't or mustn't be read. NoAddress then says why.
	Address   netip.AddrPort
	NoAddress string
	Phase     sample.Phase
	// Ordered is when the Workspace was made.
	Ordered time.Time
	// Ready is the pod's Ready condition of this moment; Serving pods may well
	// not be Ready.
	Ready bool
	// Since is when the pod became Ready, as far as its condition tells; zero
	// for one that isn't.
	Since time.Time
	// WasReady is set if the pod isn't Ready but tells that it was, and
	// ReadySinceStart if that was since the engine's container started last.
	WasReady, ReadySinceStart bool
	// PeakTokensPerMinute is what KAITO's start-up benchmark measured, input and
	// output together; 0 if it doesn't tell.
	PeakTokensPerMinute float64
	// Why is KAITO's or Kubernetes' own reason for a replica that is Starting,
	// Broken or Terminating, in words.
	Why string
	// BelievedAt is when a fault of a Starting replica is to be believed;
	// zero for one that hasn't.
	BelievedAt time.Time
	// Ended is set if the pod runs no more, and won't again.
	Ended bool
	// Overdue is when a Terminating replica should have been gone.
	Overdue time.Time
}

// Replicas puts an InferenceSet's Workspaces and pods together, in the order of
// the Workspaces' names. A pod is its Workspace's first by its name, "-0", and by
// its controller: in a replica of several nodes the others are Ready too, but have
// no metrics.
//
// How long something has been so is judged at now. onHost allows pods on their
// node's network.
//
// Whether a NotReady pod was Ready before is taken from the pod here, or else from
// its Workspace's state; the Watcher puts the latter right by what this process
// has seen itself.
func Replicas(workspaces []unstructured.Unstructured, pods []corev1.Pod, now time.Time, onHost bool) []Replica {
	first := make(map[string]*corev1.Pod, len(workspaces))
	for i := range pods {
		workspace := pods[i].Labels[OfWorkspace]
		if pods[i].Name == workspace+"-0" {
			first[workspace] = &pods[i]
		}
	}
	replicas := make([]Replica, 0, len(workspaces))
	for i := range workspaces {
		replicas = append(replicas, replica(&workspaces[i], first[workspaces[i].GetName()], now, onHost))
	}
	slices.SortFunc(replicas, func(a, b Replica) int { return cmp.Compare(a.Workspace, b.Workspace) })
	return replicas
}

func replica(workspace *unstructured.Unstructured, pod *corev1.Pod, now time.Time, onHost bool) Replica {
	r := Replica{
		Workspace: workspace.GetName(), Ordered: workspace.GetCreationTimestamp().Time,
		PeakTokensPerMinute: peak(workspace),
	}
	stranger := pod != nil && !owned(pod, r.Workspace)
	if stranger {
		pod = nil
	}
	var was readyHistory
	if pod != nil {
		was = r.take(pod, onHost)
	}
	state, _, _ := unstructured.NestedString(workspace.Object, "status", "state")
	switch {
	case workspace.GetDeletionTimestamp() != nil, pod != nil && pod.DeletionTimestamp != nil:
		r.Phase = sample.Terminating
		r.Overdue, r.Why = overdue(workspace, pod)
	case r.Ended:
		r.Phase, r.Why = sample.Broken, whyEnded(pod)
	case r.Ready, r.WasReady, pod != nil && !was.known && state == stateNotReady:
		r.Phase = sample.Serving
	default:
		r.Phase, r.Why, r.BelievedAt = start(workspace, now)
		if stranger && r.Phase == sample.Starting {
			r.Why = "pod " + r.Workspace + "-0 has this replica's labels, but KAITO's StatefulSet doesn't control it"
		}
	}
	return r
}

// take reads what a pod tells of itself.
func (r *Replica) take(pod *corev1.Pod, onHost bool) readyHistory {
	r.Pod, r.UID = pod.Name, pod.UID
	r.Address, r.NoAddress = address(pod, onHost)
	r.Ended = hasEnded(pod)
	if status := engineStatus(pod); status != nil {
		r.Restarts = status.RestartCount
	}
	was := readinessOf(pod)
	r.Ready, r.Since = was.now, was.since
	r.WasReady, r.ReadySinceStart = was.before, was.sinceStart
	return was
}

// overdue is when a replica that ends should have been gone, and why it isn't.
func overdue(workspace *unstructured.Unstructured, pod *corev1.Pod) (time.Time, string) {
	if pod != nil && pod.DeletionTimestamp != nil {
		return pod.DeletionTimestamp.Add(podEndBudget), whyNotGone(pod)
	}
	return workspace.GetDeletionTimestamp().Add(workspaceEndBudget), "KAITO has not taken the Workspace down"
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
