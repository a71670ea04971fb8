package scaler

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/kaito-project/keda-kaito-scaler/internal/aggregate"
	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Notifier tells an InferenceSet's owner when the recommendation on it turns: an event and
// a log line for each transition, none for its repetition. Of several replicas of
// the scaler the one that leads tells; the others keep in mind what it has told by
// now, so that whoever leads next goes on from there.
type Notifier struct {
	// Lookup finds the InferenceSet for an event to stand on, from memory.
	Lookup   func(key types.NamespacedName) (runtime.Object, bool)
	Recorder events.EventRecorder
	Log      logr.Logger
	// Leads tells whether this replica leads now; nil if it always does.
	Leads func() bool
	// LedUntil is until when another replica is known to have led; nil if nobody
	// knows, which is taken for always.
	LedUntil func() time.Time
	// Metrics, if not nil, counts what is put off.
	Metrics *Metrics

	// mu guards what follows. It is held while something is told, which waits for
	// nobody.
	mu      sync.Mutex
	records map[types.NamespacedName]map[string]*setRecord
	// moves and others bound the events on all InferenceSets together, as those of
	// a record do.
	moves, others tokenBucket
}

// setRecord is what has been told of one ScaledObjectRef.
type setRecord struct {
	// triggers are the digests of those in force.
	triggers []uint64
	reported lastReported
	// byLeader is what the leader has told by byLeaderAt, if it led for so long; nil
	// on the leader itself.
	byLeader   *lastReported
	byLeaderAt time.Time
	// moves bounds the events on what is scaled, others those on pods, replicas and
	// metrics: a flood of these keeps none of those back.
	moves, others tokenBucket
	// delayed is set while something is put off.
	delayed bool
}

// lastReported is what was last said.
type lastReported struct {
	scaling    scalingEvent
	unreadable []aggregate.UnreadablePod
	missing    []string
	// stuck and asleep are replicas.
	stuck, sleeping []string
	// outOfReach is set while no policy can do what is asked for.
	outOfReach bool
	// notPolled is set while KEDA doesn't ask.
	notPolled bool
}

// scalingEvent is where a fleet goes; its zero value isn't known.
type scalingEvent struct {
	reason   string
	replicas int32
	// waiting is of a hold that is nothing to worry about.
	waiting bool
}

func (t lastReported) clone() lastReported {
	t.unreadable, t.missing = slices.Clone(t.unreadable), slices.Clone(t.missing)
	t.stuck, t.sleeping = slices.Clone(t.stuck), slices.Clone(t.sleeping)
	return t
}

// setTriggers remembers what was told of an InferenceSet under these ScaledObjects, by
// the digests of their triggers, and forgets what was told under others. Other
// triggers say something new of where a fleet goes, and nothing of the former
// ones' metrics.
func (t *Notifier) setTriggers(key types.NamespacedName, digests map[string][]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	records := t.records[key]
	for name := range records {
		if _, asked := digests[name]; !asked {
			delete(records, name)
		}
	}
	for name, digest := range digests {
		r := records[name]
		switch {
		case r == nil:
			if records == nil {
				records = map[string]*setRecord{}
			}
			records[name] = &setRecord{triggers: digest}
		case !slices.Equal(r.triggers, digest):
			r.triggers = digest
			r.reported.forgetTriggers()
			if r.byLeader != nil {
				r.byLeader.forgetTriggers()
			}
		}
	}
	if t.records == nil {
		t.records = map[types.NamespacedName]map[string]*setRecord{}
	}
	if t.records[key] = records; len(records) == 0 {
		delete(t.records, key)
	}
}

func (t *lastReported) forgetTriggers() {
	t.scaling, t.missing, t.outOfReach = scalingEvent{}, nil, false
}

// leads tells whether this replica is to tell.
func (t *Notifier) leads() bool { return t.Leads == nil || t.Leads() }

// notify tells what is new in a recommendation, on the replica that leads, and remembers it
// on the others. Of one that nobody has asked for nothing is told.
func (t *Notifier) notify(of ScaledObjectRef, v decision.Recommendation, s hpaState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.records[of.InferenceSet][of.ScaledObject]
	if r == nil {
		return
	}
	now := time.Now()
	if r.byLeader != nil && (t.LedUntil == nil || t.LedUntil().After(r.byLeaderAt)) {
		// Whoever led has lived to tell it.
		r.reported = r.byLeader.clone()
	}
	if !t.leads() {
		if r.byLeader == nil {
			r.byLeader = &lastReported{}
			*r.byLeader = r.reported.clone()
		}
		r.byLeader.update(v, s, func(event) bool { return true })
		r.byLeaderAt = now
		return
	}
	r.byLeader = nil
	late := 0
	r.reported.update(v, s, func(n event) bool {
		own, all := &r.others, &t.others
		if n.scaling {
			own, all = &r.moves, &t.moves
		}
		if !own.allows(now, ownBurst, ownEvery) || !all.allows(now, allBurst, allEvery) {
			late++
			return false
		}
		own.spend()
		all.spend()
		t.emit(of.InferenceSet, n)
		return true
	})
	if late > 0 && !r.delayed {
		t.Metrics.countDropped(limitEvents, late)
		t.Log.Info("too many events at once, the rest is told later", "inferenceSet", of.InferenceSet, "putOff", late)
	}
	r.delayed = late > 0
}

// Events are bounded. What is put off is told once there is room, if it is still so
// then: a pod that can be read again meanwhile is no news. The recorder takes a
// goroutine for each event, tries for two minutes while the API server is away, and
// remembers each for twelve: at five a second of either kind that is 1 200 goroutines and 7 200
// events, some 20 MB.
const (
	ownBurst, ownEvery = 20, 30 * time.Second
	allBurst, allEvery = 200, 200 * time.Millisecond
)

// tokenBucket is of so many at once, and one more every so often.
type tokenBucket struct {
	// spent is of the burst, at the time at.
	spent float64
	at    time.Time
}

func (b *tokenBucket) allows(now time.Time, burst int, every time.Duration) bool {
	b.spent = max(0, b.spent-now.Sub(b.at).Seconds()/every.Seconds())
	b.at = now
	return b.spent <= float64(burst-1)
}

func (b *tokenBucket) spend() { b.spent++ }

// update takes in a recommendation. Whatever say returns false for isn't told yet, and stays
// as it was.
func (t *lastReported) update(v decision.Recommendation, s hpaState, say func(event) bool) {
	t.reportPolling(s.poll, say)
	if !s.active {
		return // nobody goes by the recommendation
	}
	t.reportPods(v, say)
	t.reportMetrics(v, say)
	t.reportReplicas(v, say)
	switch {
	case v.Advice != "" && !t.outOfReach:
		t.outOfReach = say(event{kind: corev1.EventTypeWarning, reason: "ScalingOutOfReach", action: "Advise", note: v.Advice})
	case v.Advice == "" && v.Load != nil: // a hold evaluates nothing, and takes nothing back
		t.outOfReach = false
	}
	next := scalingEvent{eventReason(v), v.Replicas, v.Waiting}
	switch {
	case next == t.scaling, !s.follows(v):
	case t.scaling == scalingEvent{} && next.reason == reasonSteady:
		// A fleet that is as it should be is no news, unless it wasn't before.
		t.scaling = next
	default:
		kind := corev1.EventTypeNormal
		if v.Confidence == decision.Unknown || (v.Confidence == decision.Held && !v.Waiting && (len(v.Unreadable) > 0 || len(v.MissingMetrics) > 0)) {
			kind = corev1.EventTypeWarning
		}
		if say(event{kind: kind, reason: next.reason, action: eventAction(v), note: v.Reason, scaling: true}) {
			t.scaling = next
		}
	}
}

// reportPolling tells that KEDA doesn't ask, or does again.
func (t *lastReported) reportPolling(c pollState, say func(event) bool) {
	switch {
	case c.overdueReason != nil && !t.notPolled:
		t.notPolled = say(event{kind: corev1.EventTypeWarning, reason: "NotAskedByKEDA", action: "AwaitKEDA", note: c.overdueReason()})
	case c.polls && t.notPolled:
		t.notPolled = !say(event{
			kind: corev1.EventTypeNormal, reason: "AskedByKEDA", action: "AwaitKEDA", note: "KEDA asks for this InferenceSet again",
		})
	}
}

// reportMetrics tells of names that no page has, or has after all: only when somebody
// has been read.
func (t *lastReported) reportMetrics(v decision.Recommendation, say func(event) bool) {
	for _, m := range v.MissingMetrics {
		if slices.Contains(t.missing, m.Metric) {
			continue
		}
		note := "no serving replica's page has " + m.Metric
		if m.Nearest != "" {
			note += ": did you mean " + m.Nearest + "?"
		}
		if say(event{kind: corev1.EventTypeWarning, reason: "MetricMissing", action: actionOn("FindMetric", m.Metric), note: note}) {
			t.missing = append(t.missing, m.Metric)
		}
	}
	if len(v.Read) == 0 {
		return
	}
	t.missing = slices.DeleteFunc(t.missing, func(metric string) bool {
		return !slices.ContainsFunc(v.MissingMetrics, func(m aggregate.MissingMetric) bool { return m.Metric == metric }) &&
			say(event{kind: corev1.EventTypeNormal, reason: "MetricFound", action: actionOn("FindMetric", metric), note: metric + " is on the pages now"})
	})
}

// reportReplicas tells of replicas that are not coming, or do after all, and of those
// that sleep.
func (t *lastReported) reportReplicas(v decision.Recommendation, say func(event) bool) {
	now := make(map[string]decision.ReplicaState, len(v.ReplicaStates))
	for _, m := range v.ReplicaStates {
		now[m.Replica] = m
		of := relatedObject{kindWorkspace, m.Replica}
		if m.Stuck != "" && !slices.Contains(t.stuck, m.Replica) && say(event{
			kind: corev1.EventTypeWarning, reason: "ReplicaStuck", action: "AwaitReplica",
			note: m.Replica + " is not counted on any more: " + m.Stuck, related: of,
		}) {
			t.stuck = append(t.stuck, m.Replica)
		}
		if m.Sleeping && !slices.Contains(t.sleeping, m.Replica) && say(event{
			kind: corev1.EventTypeWarning, reason: "EngineAsleep", action: "ReadPod",
			note: m.Replica + ": the engine sleeps, and shows no load until somebody wakes it", related: of,
		}) {
			t.sleeping = append(t.sleeping, m.Replica)
		}
	}
	t.sleeping = slices.DeleteFunc(t.sleeping, func(replica string) bool {
		m := now[replica]
		return !m.Sleeping && (m.Phase != sample.Serving || say(event{
			kind: corev1.EventTypeNormal, reason: "EngineAwake", action: "ReadPod",
			note: replica + ": the engine is awake again", related: relatedObject{kindWorkspace, replica},
		}))
	})
	t.stuck = slices.DeleteFunc(t.stuck, func(replica string) bool {
		m, there := now[replica]
		// It isn't well for failing in another way.
		if there && (m.Stuck != "" || m.Phase == sample.Starting) {
			return false
		}
		end := " is gone"
		if there && m.Phase == sample.Serving {
			end = " serves now"
		}
		return say(event{
			kind: corev1.EventTypeNormal, reason: "ReplicaUnstuck", action: "AwaitReplica",
			note: replica + end, related: relatedObject{kindWorkspace, replica},
		})
	})
}

// actionOn is an action on something of that name, within the length that the API
// server takes.
func actionOn(verb, name string) string {
	const most = 128
	action := verb + " " + name
	return action[:min(len(action), most)]
}

// reportPods tells of those that can't be read any more, or can again. One that is
// gone meanwhile is neither.
func (t *lastReported) reportPods(v decision.Recommendation, say func(event) bool) {
	for _, now := range v.Unreadable {
		i := slices.IndexFunc(t.unreadable, func(u aggregate.UnreadablePod) bool { return u.Pod == now.Pod })
		if i < 0 {
			if !say(event{
				kind: corev1.EventTypeWarning, reason: "PodUnreadable", action: "ReadPod",
				note: now.Pod + ": " + now.Why, related: relatedObject{kindPod, now.Pod},
			}) {
				continue
			}
			i = len(t.unreadable)
			t.unreadable = append(t.unreadable, aggregate.UnreadablePod{Pod: now.Pod})
		}
		was := &t.unreadable[i]
		was.GivenUp = now.GivenUp && (was.GivenUp || say(event{
			kind: corev1.EventTypeWarning, reason: "PodGivenUp", action: "GiveUp", note: fmt.Sprintf(
				"%s has not been readable for so long that it no longer keeps the fleet from shrinking: %s", now.Pod, v.Reason),
			related: relatedObject{kindPod, now.Pod},
		}))
	}
	t.unreadable = slices.DeleteFunc(t.unreadable, func(was aggregate.UnreadablePod) bool {
		switch {
		case slices.ContainsFunc(v.Unreadable, func(u aggregate.UnreadablePod) bool { return u.Pod == was.Pod }):
			return false
		case !slices.Contains(v.Read, was.Pod):
			return true
		}
		return say(event{
			kind: corev1.EventTypeNormal, reason: "PodReadable", action: "ReadPod",
			note: was.Pod + " is readable again", related: relatedObject{kindPod, was.Pod},
		})
	})
}

// The reasons of events on a recommendation.
const (
	reasonUp      = "ScalingUp"
	reasonDown    = "ScalingDown"
	reasonSteady  = "ScalingSteady"
	reasonHeld    = "ScalingHeld"
	reasonUnknown = "LoadUnknown"
)

func eventReason(v decision.Recommendation) string {
	switch {
	case v.Confidence == decision.Unknown:
		return reasonUnknown
	case v.Confidence == decision.Held:
		return reasonHeld
	case v.Replicas > v.Desired:
		return reasonUp
	case v.Replicas < v.Desired:
		return reasonDown
	}
	return reasonSteady
}

// eventAction tells events of one reason apart by what follows: the recorder counts
// those that differ in nothing but their note as one, and keeps the first note.
func eventAction(v decision.Recommendation) string {
	return fmt.Sprintf("ScaleTo%d", v.Replicas)
}

// event is what is said of an InferenceSet.
type event struct {
	kind, reason, action, note string
	// related is whom else it is about. The recorder keeps events apart by it.
	related relatedObject
	// scaling is set if it says where the fleet goes.
	scaling bool
}

// relatedObject is an object beside the InferenceSet, in its namespace.
type relatedObject struct{ kind, name string }

const (
	kindPod       = "Pod"
	kindWorkspace = "Workspace"
)

// noObject else is concerned.
var noObject relatedObject

// related is the object as the recorder wants it. A Workspace's API is that of
// its InferenceSet.
func (o relatedObject) related(regarding runtime.Object, namespace string) runtime.Object {
	if o == noObject {
		return nil
	}
	object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: o.name}}
	object.Kind, object.APIVersion = o.kind, "v1"
	if o.kind == kindWorkspace {
		object.APIVersion = regarding.GetObjectKind().GroupVersionKind().GroupVersion().String()
	}
	return object
}

func (t *Notifier) emit(key types.NamespacedName, n event) {
	t.Log.Info("recommendation changed", "inferenceSet", key, "reason", n.reason, "note", n.note)
	object, found := t.Lookup(key)
	if !found {
		return
	}
	t.Recorder.Eventf(object, n.related.related(object, key.Namespace), n.kind, n.reason, n.action, "%s", kube.Shorten(n.note, kube.MaxNote))
}
