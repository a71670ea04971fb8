package provision

import (
	"context"
	"fmt"
	"strings"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// maxNote is the longest note of an event that the API server takes.
const maxNote = 1024

// notice is something that the owner of an InferenceSet is told, by an event
// and in the log.
type notice struct {
	// kind is corev1.EventTypeNormal or corev1.EventTypeWarning.
	kind string
	// reason and action are CamelCase, as events have them.
	reason, action string
	// note says it in words.
	note string
	// related is what else it is about, nil for nothing: events that differ in
	// it are never counted as one.
	related runtime.Object
}

func refused(err error) notice {
	return notice{
		kind: corev1.EventTypeWarning, reason: "ScalingRefused", action: "Provision",
		note: "nothing was changed: " + err.Error(),
	}
}

func conflict(rival *kedav1alpha1.ScaledObject) notice {
	return notice{kind: corev1.EventTypeWarning, reason: "AutoscalingConflict", action: "Provision", note: fmt.Sprintf(
		"ScaledObject %q, which keda-kaito-scaler did not make, is in the way: it stays, and the one asked for by "+
			"annotation is not made. Delete it, or set auto-provision to \"false\"", rival.Name), related: rival}
}

func failed(err error) notice {
	return notice{
		kind: corev1.EventTypeWarning, reason: "ProvisioningFailed", action: "Provision",
		note: "the ScaledObject could not be written, trying again: " + err.Error(),
	}
}

func withdrawn() notice {
	return notice{
		kind: corev1.EventTypeNormal, reason: "ScaledObjectRemoved", action: "Provision",
		note: "auto-provision is off: the ScaledObject is gone and replicas stay as they are",
	}
}

func provided(so *kedav1alpha1.ScaledObject, existed bool, notes []string) notice {
	n := notice{kind: corev1.EventTypeNormal, reason: "ScaledObjectCreated", action: "Provision", note: settled(so, notes)}
	if existed {
		n.reason = "ScaledObjectUpdated"
	}
	return n
}

// settled says what is in force.
func settled(so *kedav1alpha1.ScaledObject, notes []string) string {
	metadata := so.Spec.Triggers[0].Metadata
	text := fmt.Sprintf("scaling between %d and %d replicas on %s, %s for each replica",
		*so.Spec.MinReplicaCount, *so.Spec.MaxReplicaCount, metadata["metricName"], metadata["threshold"])
	return strings.Join(append([]string{text}, notes...), "; ")
}

// tell records a notice, unless it is what the owner was told last.
func (c *Controller) tell(ctx context.Context, u *unstructured.Unstructured, n notice) {
	if !c.news(client.ObjectKeyFromObject(u), n.reason+n.note) {
		return
	}
	log.FromContext(ctx).Info("told the owner", "reason", n.reason, "note", n.note)
	c.recorder.Eventf(u, n.related, n.kind, n.reason, n.action, "%s", shorten(n.note))
}

// settle notes without an event that all is as asked, so that a problem that
// comes back later is news again.
func (c *Controller) settle(u *unstructured.Unstructured, so *kedav1alpha1.ScaledObject, notes []string) {
	c.news(client.ObjectKeyFromObject(u), settled(so, notes))
}

func (c *Controller) news(key types.NamespacedName, text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told[key] == text {
		return false
	}
	c.told[key] = text
	return true
}

func (c *Controller) forget(key types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.told, key)
}

func shorten(note string) string {
	if len(note) <= maxNote {
		return note
	}
	// The cut may split a rune, which ToValidUTF8 drops.
	return strings.ToValidUTF8(note[:maxNote-len("…")], "") + "…"
}
