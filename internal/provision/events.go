package provision

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// ownerEvent is something to tell the owner of an InferenceSet, as an event and in the
// log.
type ownerEvent struct {
	// kind is corev1.EventTypeNormal or corev1.EventTypeWarning.
	kind string
	// reason is CamelCase, as events have it.
	reason string
	// note says it in words, tail what it comes to: of a long note the middle is
	// left out.
	note, tail string
	// related is what else it is about, nil for nothing: events that differ in
	// it are never counted as one.
	related runtime.Object
}

// action is what we do whenever we tell of it.
const action = "Provision"

func (n ownerEvent) text() string {
	tail := kube.Shorten(n.tail, kube.MaxNote/2)
	return kube.Shorten(n.note, kube.MaxNote-len(tail)) + tail
}

// refusedEvent says of the ScaledObject that is there, nil for none, what of it is in
// force.
func refusedEvent(problem error, there *kedav1alpha1.ScaledObject) ownerEvent {
	n := ownerEvent{kind: corev1.EventTypeWarning, reason: "ScalingRefused", note: "nothing was changed: " + problem.Error()}
	if there == nil {
		return n
	}
	switch how, why := forceOf(there); how {
	case whole:
		n.tail = "; still in force: " + summary(there)
	case onlyUp:
		n.tail = "; still in force, for the way up alone: " + summary(there) + "; " + why
	case none:
		n.tail = "; nothing is in force: " + why
	}
	return n
}

func conflictEvent(conflicts []conflict) ownerEvent {
	list := make([]string, len(conflicts))
	for i, c := range conflicts {
		list[i] = c.String()
	}
	n := ownerEvent{
		kind: corev1.EventTypeWarning, reason: "AutoscalingConflict", related: conflicts[0].object,
		note: strings.Join(list, " and ") + ", which keda-kaito-scaler did not make, is in the way: it stays",
		tail: ", and there is no ScaledObject by annotation. Delete it, or set auto-provision to \"false\"",
	}
	if len(conflicts) > 1 {
		n.note = strings.Join(list, " and ") + ", which keda-kaito-scaler did not make, are in the way: they stay"
		n.tail = ", and there is no ScaledObject by annotation. Delete them, or set auto-provision to \"false\""
	}
	return n
}

func failedEvent(err error) ownerEvent {
	return ownerEvent{
		kind: corev1.EventTypeWarning, reason: "ProvisioningFailed",
		note: "the ScaledObject could not be written, trying again: " + err.Error(),
	}
}

func removedEvent() ownerEvent {
	return ownerEvent{
		kind: corev1.EventTypeNormal, reason: "ScaledObjectRemoved",
		note: "auto-provision is off: the ScaledObject is gone and replicas stay as they are",
	}
}

// writtenEvent tells of a ScaledObject that was written, and what changed in it.
func writtenEvent(so *kedav1alpha1.ScaledObject, did result, changed []string) ownerEvent {
	n := ownerEvent{kind: corev1.EventTypeNormal, reason: "ScaledObjectCreated", note: summary(so)}
	if did == created {
		return n
	}
	n.reason = "ScaledObjectUpdated"
	n.note, n.tail = strings.Join(changed, "; "), "; now "+summary(so)
	if did == adopted {
		n.reason = "ScaledObjectAdopted"
		n.note = "one of an earlier version was converted in place, and replicas stay as they are: " + n.note
	}
	return n
}

// summary says what is in force by a ScaledObject of ours.
func summary(so *kedav1alpha1.ScaledObject) string {
	text := "scaling between " + count(so.Spec.MinReplicaCount) + " and " + count(so.Spec.MaxReplicaCount) + " replicas"
	if len(so.Spec.Triggers) != 1 || so.IsUsingModifiers() {
		return text + measuring(so)
	}
	trigger, err := policy.ParseTrigger(so.Namespace, so.Spec.Triggers[0].Metadata)
	switch {
	case err != nil:
		return text
	case trigger.List != nil:
		return text + ": " + listConditions(trigger.List)
	case trigger.Saturation != nil:
		return text + " in automatic mode: " + slos(trigger.Saturation)
	}
	metric := trigger.Queue.Metric
	if trigger.Queue.Aggregation == policy.Rate {
		metric = "the rate of " + metric
	}
	text += fmt.Sprintf(" on %s, %s for each replica", metric, number(trigger.Queue.Target))
	if trigger.Queue.Guard != nil {
		text += ", guarded on the way down: " + slos(trigger.Queue.Guard)
	}
	return text
}

// slos are those of automatic mode.
func slos(s *policy.Saturation) string {
	text := fmt.Sprintf("%s to the first token, %s between tokens", s.TTFT, s.ITL)
	if at := s.Judged(); at != "" {
		text += " (" + at + ")"
	}
	return text
}

// count is a bound of a ScaledObject; one of an earlier version may have none.
func count(n *int32) string {
	if n == nil {
		return "KEDA's default number of"
	}
	return strconv.Itoa(int(*n))
}

// listConditions says when a metric list scales.
func listConditions(list *policy.List) string {
	up, down := make([]string, len(list.Metrics)), make([]string, len(list.Metrics))
	for i, m := range list.Metrics {
		name := measure(m)
		up[i], down[i] = name+" > "+number(m.Up), name+" < "+number(m.Down)
	}
	combine := " and "
	if list.Combine == policy.Or {
		combine = " or "
	}
	return "up while " + strings.Join(up, combine) + ", down while " + strings.Join(down, " and ")
}

// measure names what is measured, such as "p95 of" a histogram.
func measure(m policy.Metric) string {
	switch {
	case m.Kind == policy.Histogram && m.Quantile > 0:
		return "p" + number(100*m.Quantile) + " of " + m.Name
	case m.Kind == policy.Histogram:
		return "mean of " + m.Name
	case m.Kind == policy.Counter:
		return "rate of " + m.Name
	}
	return m.Name
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', 10, 64) }

// emitOnce records an event, unless it is the last one again.
func (c *Controller) emitOnce(ctx context.Context, u *unstructured.Unstructured, n ownerEvent) {
	if c.reported.isNew(client.ObjectKeyFromObject(u), n.reason+n.note+n.tail) {
		c.record(ctx, u, n)
	}
}

// markSettled notes without an event that all is as asked, so that a problem that
// comes back later is reported again.
func (c *Controller) markSettled(u *unstructured.Unstructured, so *kedav1alpha1.ScaledObject) {
	c.reported.isNew(client.ObjectKeyFromObject(u), summary(so))
}

// emitWarnings records what was understood otherwise than written: bounds that
// spec.nodeCountLimit has lowered, and all the rest. Events on that limit from before
// a Workspace has its number of nodes differ in related from those after: counted as
// one, they would keep the first note.
func (c *Controller) emitWarnings(ctx context.Context, u, sized *unstructured.Unstructured, notes []string, written bool) {
	var capped, other []string
	var related runtime.Object
	if sized != nil {
		related = sized
	}
	for _, note := range notes {
		if strings.Contains(note, "nodeCountLimit") {
			capped = append(capped, note)
		} else {
			other = append(other, note)
		}
	}
	for _, n := range []ownerEvent{
		{kind: corev1.EventTypeWarning, reason: "ScalingCapped", note: strings.Join(capped, "; "), related: related},
		{kind: corev1.EventTypeWarning, reason: "AnnotationNoted", note: strings.Join(other, "; ")},
	} {
		if c.reported.isNewWarning(client.ObjectKeyFromObject(u), n.reason, n.note, written) {
			c.record(ctx, u, n)
		}
	}
}

// emitRefusedTriggers tells that some triggers on an InferenceSet are not answered,
// whoever wrote them. Which limits they exceed is all that is said, so that a
// tenant who writes and deletes thousands causes a few events and no more.
func (c *Controller) emitRefusedTriggers(ctx context.Context, u *unstructured.Unstructured, is kaito.InferenceSet) error {
	admission, err := kaito.Admit(ctx, c.client, is)
	if err != nil {
		return err
	}
	n := ownerEvent{kind: corev1.EventTypeWarning, reason: "TriggersRefused", note: admission.Message()}
	if c.reported.isNewRefusal(is.NamespacedName, n.note) {
		c.record(ctx, u, n)
	}
	return nil
}

func (c *Controller) record(ctx context.Context, u *unstructured.Unstructured, n ownerEvent) {
	text := n.text()
	log.FromContext(ctx).Info("recorded an event", "reason", n.reason, "note", text)
	c.recorder.Eventf(u, n.related, n.kind, n.reason, action, "%s", text)
}
