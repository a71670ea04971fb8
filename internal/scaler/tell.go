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
	last map[subject]told
}

// subject is what a verdict is on.
type subject struct {
	key    types.NamespacedName
	metric string
}

// told is what was last said of a subject.
type told struct {
	at       time.Time
	reason   string
	replicas int32
	unread   []decision.Unread
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
func (t *Teller) Heard(key types.NamespacedName, metric string, v decision.Verdict) {
	s := subject{key, metric}
	now := told{at: time.Now(), reason: reason(v), replicas: v.Replicas, unread: v.Unreadable}
	before, known := t.swap(s, now)
	t.Log.V(1).Info("answered", "inferenceSet", key, "metric", metric, "answer", v.Answer.String(), "value", v.Value, "reason", v.Reason)

	t.pods(key, before, v)
	if before.reason == now.reason && before.replicas == now.replicas {
		return
	}
	// A fleet that is as it should be is no news, unless it wasn't before.
	if !known && now.reason == reasonSteady {
		return
	}
	kind := corev1.EventTypeNormal
	if v.Answer == decision.Unknown || (v.Answer == decision.Held && len(v.Unreadable) > 0) {
		kind = corev1.EventTypeWarning
	}
	t.emit(key, notice{kind: kind, reason: now.reason, action: action(v), note: v.Reason})
}

// pods tells of those that can't be read any more, or can again. One that is
// gone meanwhile is neither.
func (t *Teller) pods(key types.NamespacedName, before told, v decision.Verdict) {
	for _, now := range v.Unreadable {
		was, known := before.unreadable(now.Pod)
		if !known {
			t.emit(key, notice{corev1.EventTypeWarning, "PodUnreadable", "ReadPod", now.Pod + ": " + now.Why, now.Pod})
		}
		if now.Released && !was.Released {
			t.emit(key, notice{corev1.EventTypeWarning, "PodGivenUp", "GiveUp", fmt.Sprintf(
				"%s has not been readable for so long that it no longer keeps the fleet from shrinking: %s", now.Pod, v.Reason), now.Pod})
		}
	}
	for _, was := range before.unread {
		if slices.Contains(v.Read, was.Pod) {
			t.emit(key, notice{corev1.EventTypeNormal, "PodReadable", "ReadPod", was.Pod + " is readable again", was.Pod})
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

func (t *Teller) swap(s subject, now told) (told, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = map[subject]told{}
	}
	before, known := t.last[s]
	if !known {
		for other, old := range t.last {
			if now.at.Sub(old.at) > forgetAfter {
				delete(t.last, other)
			}
		}
	}
	t.last[s] = now
	return before, known
}

// maxNote is the longest note of an event that the API server takes.
const maxNote = 1024

// notice is what is said of an InferenceSet.
type notice struct {
	kind, reason, action, note string
	// pod is whom else it is about, "" for nobody. The recorder keeps events
	// apart by it.
	pod string
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
	var related runtime.Object
	if n.pod != "" {
		related = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: n.pod}}
	}
	t.Recorder.Eventf(object, related, n.kind, n.reason, n.action, "%s", n.note)
}
