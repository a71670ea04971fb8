package kaito

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
)

// KAITO's name for the container port that serves vLLM's API and its metrics, and
// its numbers for it: behind a routing sidecar, which then has 5000, it is 5001.
const (
	httpPortName       = "http"
	httpPort           = 5000
	httpPortBehindSide = 5001
)

// hasEnded tells whether the pod runs no more and never will again: it was evicted or
// preempted, or its process ended for good. Its address may be another pod's.
func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}

// whyEnded says how a pod has ended.
func whyEnded(pod *corev1.Pod) string {
	why := strings.TrimSpace("pod " + string(pod.Status.Phase) + " " + pod.Status.Reason)
	return withMessage(why, pod.Status.Message)
}

func withMessage(reason, message string) string {
	return strings.TrimSuffix(reason+": "+shorten(message), ": ")
}

// maxMessage bounds what is kept of a message of Kubernetes' or KAITO's. Theirs
// have a line or two; the API allows 32 kB.
const maxMessage = 512

// shorten keeps a message's first maxMessage bytes.
func shorten(message string) string {
	return strings.Clone(kube.Shorten(message, maxMessage)) // lets go of the rest
}

// owned tells whether a pod is the Workspace's by its controller too, and not by
// its labels and name alone, which anybody may choose: KAITO's StatefulSet has the
// Workspace's name.
func owned(pod *corev1.Pod, workspace string) bool {
	controller := metav1.GetControllerOfNoCopy(pod)
	return controller != nil && controller.Name == workspace
}

// engine is the container that the engine runs in: KAITO calls it after its
// Workspace. In a pod of another make it is the one with the port that is named
// http, 5000 before others, or else the first. Nil without containers.
func engine(pod *corev1.Pod) *corev1.Container {
	containers := pod.Spec.Containers
	for _, is := range []func(c corev1.Container) bool{
		func(c corev1.Container) bool { return c.Name == pod.Labels[OfWorkspace] },
		func(c corev1.Container) bool { return portNamedHTTP(&c) == httpPort },
		func(c corev1.Container) bool { return portNamedHTTP(&c) != 0 },
	} {
		if i := slices.IndexFunc(containers, is); i >= 0 {
			return &containers[i]
		}
	}
	if len(containers) == 0 {
		return nil
	}
	return &containers[0]
}

// portNamedHTTP is a container's, 0 if it has none.
func portNamedHTTP(c *corev1.Container) uint16 {
	for _, p := range c.Ports {
		if p.Name == httpPortName && p.ContainerPort > 0 && p.ContainerPort <= 65535 {
			return uint16(p.ContainerPort)
		}
	}
	return 0
}

// portOf is the port that the pod's engine is read at.
func portOf(pod *corev1.Pod) uint16 {
	c := engine(pod)
	if c == nil {
		return httpPort
	}
	declared := func(number int32) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == number })
	}
	switch named := portNamedHTTP(c); {
	case named != 0:
		return named
	case !declared(httpPort) && declared(httpPortBehindSide):
		return httpPortBehindSide
	}
	return httpPort
}

// engineStatus is the engine's container status, nil if there is none. A pod of
// the cache may have that one alone.
func engineStatus(pod *corev1.Pod) *corev1.ContainerStatus {
	statuses := pod.Status.ContainerStatuses
	c := engine(pod)
	for i := range statuses {
		if c == nil || statuses[i].Name == c.Name {
			return &statuses[i]
		}
	}
	return nil
}

// address is where the pod is read; invalid, with the reason in words, where it
// can't or mustn't be. A trigger chooses the port, so an address that isn't the
// pod's alone would let it reach whatever else listens there. onHost allows pods
// on their node's network, and loopback addresses, which such pods have in tests.
func address(pod *corev1.Pod, onHost bool) (at netip.AddrPort, why string) {
	const allow = ": --allow-host-network lets the scaler read it"
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	switch ip = ip.Unmap(); {
	case hasEnded(pod):
		return at, "the pod has ended: its address may be another pod's"
	case err != nil:
		return at, "the pod has no address"
	case ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast(), ip.Zone() != "":
		return at, fmt.Sprintf("the pod's address %s is none that a pod may have", ip)
	case ip.IsLoopback() && !onHost:
		return at, fmt.Sprintf("the pod's address %s is a loopback address, where others listen too%s", ip, allow)
	case hostNetwork(pod) && !onHost:
		return at, "the pod is on its node's network, where others listen too" + allow
	}
	return netip.AddrPortFrom(ip, portOf(pod)), ""
}

// hostNetwork tells whether a pod shares its node's network.
func hostNetwork(pod *corev1.Pod) bool {
	return pod.Spec.HostNetwork || pod.Status.PodIP != "" && (pod.Status.PodIP == pod.Status.HostIP ||
		slices.Contains(pod.Status.HostIPs, corev1.HostIP{IP: pod.Status.PodIP}))
}

func readyCondition(pod *corev1.Pod) *corev1.PodCondition { return condition(pod, corev1.PodReady) }

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// readyHistory is what a pod's conditions tell of it being Ready, now or before.
type readyHistory struct {
	// now is set while it is Ready, since then.
	now   bool
	since time.Time
	// known is set if the pod tells whether it ever was Ready; before is set if
	// it isn't but was, sinceStart if that was since the engine's container
	// started last.
	known, before, sinceStart bool
}

// conditionSlack is how much later than a pod's start its Ready condition may
// begin to be False without ever having been True. The kubelet writes both at
// once, in whole seconds.
const conditionSlack = 2 * time.Second

// readinessOf reads it from when the Ready condition last changed: the kubelet
// makes it False when the pod starts, so that a later change means that it was
// True in between.
func readinessOf(pod *corev1.Pod) readyHistory {
	ready := readyCondition(pod)
	if ready == nil {
		return readyHistory{}
	}
	turned := ready.LastTransitionTime.Time
	if ready.Status == corev1.ConditionTrue {
		return readyHistory{now: true, since: turned, known: true}
	}
	start := pod.Status.StartTime
	if start == nil || turned.IsZero() {
		return readyHistory{}
	}
	r := readyHistory{known: true, before: turned.Sub(start.Time) > conditionSlack}
	if status := engineStatus(pod); r.before && status != nil && status.State.Running != nil {
		r.sinceStart = turned.Sub(status.State.Running.StartedAt.Time) > conditionSlack
	}
	return r
}

// How long an end may take after the time that Kubernetes gives it: a pod's
// deletionTimestamp includes its grace period, and a Workspace waits for its
// nodes to go.
const (
	podEndBudget       = 5 * time.Minute
	workspaceEndBudget = 30 * time.Minute
)

// whyNotGone says why a pod that is being deleted is still there, as far as it
// tells.
func whyNotGone(pod *corev1.Pod) string {
	node := "its node"
	if pod.Spec.NodeName != "" {
		node = "node " + pod.Spec.NodeName
	}
	why := "pod " + pod.Name + " is still terminating: " + node + " may be lost"
	reason := pod.Status.Reason
	if disrupted := condition(pod, corev1.DisruptionTarget); disrupted != nil && disrupted.Status == corev1.ConditionTrue {
		reason = cmp.Or(reason, disrupted.Reason)
	}
	if reason == "" {
		return why
	}
	return why + " (" + withMessage(reason, pod.Status.Message) + ")"
}
