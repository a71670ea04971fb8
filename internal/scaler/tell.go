package scaler

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
)

// Teller tells an InferenceSet's owner when the verdict on it turns: an event
// and a log line for each transition, none for its repetition.
type Teller struct {
	// Lookup finds the InferenceSet for an event to stand on, from memory.
	Lookup   func(key types.NamespacedName) (runtime.Object, bool)
	Recorder events.EventRecorder
	Log      logr.Logger

	// mu guards last.
	mu   sync.Mutex
	last map[Subject]told
}

// told is what was last said of a subject.
type told struct {
	at       time.Time
	reason   string
	replicas int32
	// waiting is of a hold that is nothing to worry about.
	waiting bool
	unread  []decision.Unread
	missing []string
	// stuck and asleep are replicas.
	stuck, asleep []string
	// beyond is set while no policy can do what is asked for.
	beyond bool
}

// unreadable finds what was said of a pod that couldn't be read.
func (t told) unreadable(pod string) (decision.Unread, bool) {
	i := slices.IndexFunc(t.unread, func(u decision.Unread) bool { return u.Pod == pod })
	if i < 0 {
		return decision.Unread{}, false
	}
	return t.unread[i], true
}

// forgetAfter is when a subject that nobody asks about any more is dropped:
// its InferenceSet or its ScaledObject is gone.
const forgetAfter = time.Hour

// Heard implements Audience.
func (t *Teller) Heard(s Subject, v decision.Verdict) {
	key := s.InferenceSet
	before, known, now := t.swap(s, v)
	t.Log.V(1).Info("answered", "inferenceSet", key, "metric", s.Metric, "answer", v.Answer.String(), "value", v.Value, "reason", v.Reason)

	t.pods(key, before, v)
	t.metrics(key, before, now, v)
	t.members(key, before, now, v)
	if now.beyond && !before.beyond {
		t.emit(key, notice{corev1.EventTypeWarning, "ScalingOutOfReach", "Advise", v.Advice, nobody})
	}
	if before.reason == now.reason && before.replicas == now.replicas && before.waiting == now.waiting {
		return
	}
	// A fleet that is as it should be is no news, unless it wasn't before.
	if !known && now.reason == reasonSteady {
		return
	}
	kind := corev1.EventTypeNormal
	if v.Answer == decision.Unknown || (v.Answer == decision.Held && !v.Waiting && (len(v.Unreadable) > 0 || len(v.Missing) > 0)) {
		kind = corev1.EventTypeWarning
	}
	t.emit(key, notice{kind: kind, reason: now.reason, action: action(v), note: v.Reason})
}

// after is what stands once a verdict has been told. What it doesn't tell stays
// as it was: a metric is there again only when somebody has read it, and a
// replica isn't well for failing in another way.
func (t told) after(v decision.Verdict) told {
	now := told{at: time.Now(), reason: reason(v), replicas: v.Replicas, waiting: v.Waiting, unread: v.Unreadable, beyond: v.Advice != ""}
	// A hold judges nothing, and takes nothing back.
	if v.Load == nil {
		now.beyond = now.beyond || t.beyond
	}
	for _, m := range v.Missing {
		now.missing = append(now.missing, m.Metric)
	}
	if len(v.Read) == 0 {
		for _, metric := range t.missing {
			if !slices.Contains(now.missing, metric) {
				now.missing = append(now.missing, metric)
			}
		}
	}
	for _, m := range v.Members {
		if m.Stuck != "" || (m.Phase == decision.Starting && slices.Contains(t.stuck, m.Replica)) {
			now.stuck = append(now.stuck, m.Replica)
		}
		if m.Asleep {
			now.asleep = append(now.asleep, m.Replica)
		}
	}
	return now
}

// metrics tells of names that no page has, or has after all.
func (t *Teller) metrics(key types.NamespacedName, before, now told, v decision.Verdict) {
	for _, m := range v.Missing {
		if slices.Contains(before.missing, m.Metric) {
			continue
		}
		note := "no serving replica's page has " + m.Metric
		if m.Nearest != "" {
			note += ": did you mean " + m.Nearest + "?"
		}
		t.emit(key, notice{corev1.EventTypeWarning, "MetricMissing", about("FindMetric", m.Metric), note, nobody})
	}
	for _, metric := range before.missing {
		if !slices.Contains(now.missing, metric) {
			t.emit(key, notice{corev1.EventTypeNormal, "MetricFound", about("FindMetric", metric), metric + " is on the pages now", nobody})
		}
	}
}

// members tells of replicas that are not coming, or do after all, and of those
// that sleep.
func (t *Teller) members(key types.NamespacedName, before, now told, v decision.Verdict) {
	for _, m := range v.Members {
		of := other{kindWorkspace, m.Replica}
		if m.Stuck != "" && !slices.Contains(before.stuck, m.Replica) {
			t.emit(key, notice{
				corev1.EventTypeWarning, "ReplicaStuck", "AwaitReplica",
				m.Replica + " is not counted on any more: " + m.Stuck, of,
			})
		}
		switch was := slices.Contains(before.asleep, m.Replica); {
		case m.Asleep && !was:
			t.emit(key, notice{
				corev1.EventTypeWarning, "EngineAsleep", "ReadPod",
				m.Replica + ": the engine sleeps, and shows no load until somebody wakes it", of,
			})
		case was && !m.Asleep && m.Phase == decision.Serving:
			t.emit(key, notice{corev1.EventTypeNormal, "EngineAwake", "ReadPod", m.Replica + ": the engine is awake again", of})
		}
	}
	for _, replica := range before.stuck {
		if slices.Contains(now.stuck, replica) {
			continue
		}
		end := " is gone"
		if slices.ContainsFunc(v.Members, func(m decision.Member) bool { return m.Replica == replica && m.Phase == decision.Serving }) {
			end = " serves now"
		}
		t.emit(key, notice{corev1.EventTypeNormal, "ReplicaUnstuck", "AwaitReplica", replica + end, other{kindWorkspace, replica}})
	}
}

// about is an action on something of that name, within the length that the API
// server takes.
func about(verb, name string) string {
	const most = 128
	action := verb + " " + name
	return action[:min(len(action), most)]
}

// pods tells of those that can't be read any more, or can again. One that is
// gone meanwhile is neither.
func (t *Teller) pods(key types.NamespacedName, before told, v decision.Verdict) {
	for _, now := range v.Unreadable {
		was, known := before.unreadable(now.Pod)
		if !known {
			t.emit(key, notice{corev1.EventTypeWarning, "PodUnreadable", "ReadPod", now.Pod + ": " + now.Why, other{kindPod, now.Pod}})
		}
		if now.Released && !was.Released {
			t.emit(key, notice{corev1.EventTypeWarning, "PodGivenUp", "GiveUp", fmt.Sprintf(
				"%s has not been readable for so long that it no longer keeps the fleet from shrinking: %s", now.Pod, v.Reason), other{kindPod, now.Pod}})
		}
	}
	for _, was := range before.unread {
		if slices.Contains(v.Read, was.Pod) {
			t.emit(key, notice{corev1.EventTypeNormal, "PodReadable", "ReadPod", was.Pod + " is readable again", other{kindPod, was.Pod}})
		}
	}
}

// The reasons of events on a verdict.
const (
	reasonUp      = "ScalingUp"
	reasonDown    = "ScalingDown"
	reasonSteady  = "ScalingSteady"
	reasonHeld    = "ScalingHeld"
	reasonUnknown = "LoadUnknown"
)

func reason(v decision.Verdict) string {
	switch {
	case v.Answer == decision.Unknown:
		return reasonUnknown
	case v.Answer == decision.Held:
		return reasonHeld
	case v.Replicas > v.Desired:
		return reasonUp
	case v.Replicas < v.Desired:
		return reasonDown
	}
	return reasonSteady
}

// action tells events of one reason apart by what follows: the recorder counts
// those that differ in nothing but their note as one, and keeps the first note.
func action(v decision.Verdict) string {
	return fmt.Sprintf("ScaleTo%d", v.Replicas)
}

// swap remembers a verdict, and returns what stood before it and what stands
// now.
func (t *Teller) swap(s Subject, v decision.Verdict) (before told, known bool, now told) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = map[Subject]told{}
	}
	before, known = t.last[s]
	now = before.after(v)
	if !known {
		for other, old := range t.last {
			if now.at.Sub(old.at) > forgetAfter {
				delete(t.last, other)
			}
		}
	}
	t.last[s] = now
	return before, known, now
}

// maxNote is the longest note of an event that the API server takes.
const maxNote = 1024

// notice is what is said of an InferenceSet.
type notice struct {
	kind, reason, action, note string
	// other is whom else it is about. The recorder keeps events apart by it.
	other other
}

// other is an object beside the InferenceSet, in its namespace.
type other struct{ kind, name string }

const (
	kindPod       = "Pod"
	kindWorkspace = "Workspace"
)

// nobody else is concerned.
var nobody other

// related is the object as the recorder wants it. A Workspace's API is that of
// its InferenceSet.
func (o other) related(regarding runtime.Object, namespace string) runtime.Object {
	if o == nobody {
		return nil
	}
	object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: o.name}}
	object.Kind, object.APIVersion = o.kind, "v1"
	if o.kind == kindWorkspace {
		object.APIVersion = regarding.GetObjectKind().GroupVersionKind().GroupVersion().String()
	}
	return object
}

func (t *Teller) emit(key types.NamespacedName, n notice) {
	t.Log.Info("verdict turned", "inferenceSet", key, "reason", n.reason, "note", n.note)
	object, found := t.Lookup(key)
	if !found {
		return
	}
	if len(n.note) > maxNote {
		// The cut may split a rune, which ToValidUTF8 drops.
		n.note = strings.ToValidUTF8(n.note[:maxNote-len("…")], "") + "…"
	}
	t.Recorder.Eventf(object, n.other.related(object, key.Namespace), n.kind, n.reason, n.action, "%s", n.note)
}
