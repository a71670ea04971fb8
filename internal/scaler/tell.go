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

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Teller tells an InferenceSet's owner when the verdict on it turns: an event and
// a log line for each transition, none for its repetition. Of several replicas of
// the scaler the one that leads tells; the others keep in mind what it has told by
// now, so that whoever leads next goes on from there.
type Teller struct {
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
	records map[types.NamespacedName]map[string]*record
	// moves and others bound the events on all InferenceSets together, as those of
	// a record do.
	moves, others allowance
}

// Scaled is whom a verdict is on: an InferenceSet, as one ScaledObject has it.
type Scaled struct {
	InferenceSet types.NamespacedName
	ScaledObject string
}

// record is what has been told of one Scaled.
type record struct {
	// triggers are the digests of those in force.
	triggers []uint64
	told     told
	// assumed is what the leader has told by assumedAt, if it led for so long; nil
	// on the leader itself.
	assumed   *told
	assumedAt time.Time
	// moves bounds the events on what is scaled, others those on pods, replicas and
	// metrics: a flood of these keeps none of those back.
	moves, others allowance
	// late is set while something is put off.
	late bool
}

// told is what was last said.
type told struct {
	move    move
	unread  []decision.Unread
	missing []string
	// stuck and asleep are replicas.
	stuck, asleep []string
	// beyond is set while no policy can do what is asked for.
	beyond bool
	// silent is set while KEDA doesn't ask.
	silent bool
}

// move is where a fleet goes; its zero value isn't known.
type move struct {
	reason   string
	replicas int32
	// waiting is of a hold that is nothing to worry about.
	waiting bool
}

func (t told) clone() told {
	t.unread, t.missing = slices.Clone(t.unread), slices.Clone(t.missing)
	t.stuck, t.asleep = slices.Clone(t.stuck), slices.Clone(t.asleep)
	return t
}

// keep remembers what was told of an InferenceSet under these ScaledObjects, by
// the digests of their triggers, and forgets what was told under others. Other
// triggers say something new of where a fleet goes, and nothing of the former
// ones' metrics.
func (t *Teller) keep(key types.NamespacedName, digests map[string][]uint64) {
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
				records = map[string]*record{}
			}
			records[name] = &record{triggers: digest}
		case !slices.Equal(r.triggers, digest):
			r.triggers = digest
			r.told.another()
			if r.assumed != nil {
				r.assumed.another()
			}
		}
	}
	if t.records == nil {
		t.records = map[types.NamespacedName]map[string]*record{}
	}
	if t.records[key] = records; len(records) == 0 {
		delete(t.records, key)
	}
}

func (t *told) another() { t.move, t.missing, t.beyond = move{}, nil, false }

// leads tells whether this replica is to tell.
func (t *Teller) leads() bool { return t.Leads == nil || t.Leads() }

// tell tells what is new in a verdict, on the replica that leads, and remembers it
// on the others. Of one that nobody has asked for nothing is told.
func (t *Teller) tell(of Scaled, v decision.Verdict, s hpaState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.records[of.InferenceSet][of.ScaledObject]
	if r == nil {
		return
	}
	now := time.Now()
	if r.assumed != nil && (t.LedUntil == nil || t.LedUntil().After(r.assumedAt)) {
		// Whoever led has lived to tell it.
		r.told = r.assumed.clone()
	}
	if !t.leads() {
		if r.assumed == nil {
			r.assumed = &told{}
			*r.assumed = r.told.clone()
		}
		r.assumed.take(v, s, func(notice) bool { return true })
		r.assumedAt = now
		return
	}
	r.assumed = nil
	late := 0
	r.told.take(v, s, func(n notice) bool {
		own, all := &r.others, &t.others
		if n.moves {
			own, all = &r.moves, &t.moves
		}
		if !own.has(now, ownBurst, ownEvery) || !all.has(now, allBurst, allEvery) {
			late++
			return false
		}
		own.take()
		all.take()
		t.emit(of.InferenceSet, n)
		return true
	})
	if late > 0 && !r.late {
		t.Metrics.over(limitEvents, late)
		t.Log.Info("too many events at once, the rest is told later", "inferenceSet", of.InferenceSet, "putOff", late)
	}
	r.late = late > 0
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

// allowance is of so many at once, and one more every so often.
type allowance struct {
	// spent is of the burst, at the time at.
	spent float64
	at    time.Time
}

func (b *allowance) has(now time.Time, burst int, every time.Duration) bool {
	b.spent = max(0, b.spent-now.Sub(b.at).Seconds()/every.Seconds())
	b.at = now
	return b.spent <= float64(burst-1)
}

func (b *allowance) take() { b.spent++ }

// take takes in a verdict. Whatever say returns false for isn't told yet, and stays
// as it was.
func (t *told) take(v decision.Verdict, s hpaState, say func(notice) bool) {
	t.contact(s.contact, say)
	if !s.asked {
		return // nobody goes by the verdict
	}
	t.pods(v, say)
	t.metrics(v, say)
	t.members(v, say)
	switch {
	case v.Advice != "" && !t.beyond:
		t.beyond = say(notice{kind: corev1.EventTypeWarning, reason: "ScalingOutOfReach", action: "Advise", note: v.Advice})
	case v.Advice == "" && v.Load != nil: // a hold judges nothing, and takes nothing back
		t.beyond = false
	}
	next := move{reason(v), v.Replicas, v.Waiting}
	switch {
	case next == t.move, !s.follows(v):
	case t.move == move{} && next.reason == reasonSteady:
		// A fleet that is as it should be is no news, unless it wasn't before.
		t.move = next
	default:
		kind := corev1.EventTypeNormal
		if v.Answer == decision.Unknown || (v.Answer == decision.Held && !v.Waiting && (len(v.Unreadable) > 0 || len(v.Missing) > 0)) {
			kind = corev1.EventTypeWarning
		}
		if say(notice{kind: kind, reason: next.reason, action: action(v), note: v.Reason, moves: true}) {
			t.move = next
		}
	}
}

// contact tells that KEDA doesn't ask, or does again.
func (t *told) contact(c contact, say func(notice) bool) {
	switch {
	case c.silence != nil && !t.silent:
		t.silent = say(notice{kind: corev1.EventTypeWarning, reason: "NotAskedByKEDA", action: "AwaitKEDA", note: c.silence()})
	case c.asks && t.silent:
		t.silent = !say(notice{
			kind: corev1.EventTypeNormal, reason: "AskedByKEDA", action: "AwaitKEDA", note: "KEDA asks for this InferenceSet again",
		})
	}
}

// metrics tells of names that no page has, or has after all: only when somebody
// has been read.
func (t *told) metrics(v decision.Verdict, say func(notice) bool) {
	for _, m := range v.Missing {
		if slices.Contains(t.missing, m.Metric) {
			continue
		}
		note := "no serving replica's page has " + m.Metric
		if m.Nearest != "" {
			note += ": did you mean " + m.Nearest + "?"
		}
		if say(notice{kind: corev1.EventTypeWarning, reason: "MetricMissing", action: about("FindMetric", m.Metric), note: note}) {
			t.missing = append(t.missing, m.Metric)
		}
	}
	if len(v.Read) == 0 {
		return
	}
	t.missing = slices.DeleteFunc(t.missing, func(metric string) bool {
		return !slices.ContainsFunc(v.Missing, func(m decision.Missing) bool { return m.Metric == metric }) &&
			say(notice{kind: corev1.EventTypeNormal, reason: "MetricFound", action: about("FindMetric", metric), note: metric + " is on the pages now"})
	})
}

// members tells of replicas that are not coming, or do after all, and of those
// that sleep.
func (t *told) members(v decision.Verdict, say func(notice) bool) {
	now := make(map[string]decision.Member, len(v.Members))
	for _, m := range v.Members {
		now[m.Replica] = m
		of := other{kindWorkspace, m.Replica}
		if m.Stuck != "" && !slices.Contains(t.stuck, m.Replica) && say(notice{
			kind: corev1.EventTypeWarning, reason: "ReplicaStuck", action: "AwaitReplica",
			note: m.Replica + " is not counted on any more: " + m.Stuck, other: of,
		}) {
			t.stuck = append(t.stuck, m.Replica)
		}
		if m.Asleep && !slices.Contains(t.asleep, m.Replica) && say(notice{
			kind: corev1.EventTypeWarning, reason: "EngineAsleep", action: "ReadPod",
			note: m.Replica + ": the engine sleeps, and shows no load until somebody wakes it", other: of,
		}) {
			t.asleep = append(t.asleep, m.Replica)
		}
	}
	t.asleep = slices.DeleteFunc(t.asleep, func(replica string) bool {
		m := now[replica]
		return !m.Asleep && (m.Phase != sample.Serving || say(notice{
			kind: corev1.EventTypeNormal, reason: "EngineAwake", action: "ReadPod",
			note: replica + ": the engine is awake again", other: other{kindWorkspace, replica},
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
		return say(notice{
			kind: corev1.EventTypeNormal, reason: "ReplicaUnstuck", action: "AwaitReplica",
			note: replica + end, other: other{kindWorkspace, replica},
		})
	})
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
func (t *told) pods(v decision.Verdict, say func(notice) bool) {
	for _, now := range v.Unreadable {
		i := slices.IndexFunc(t.unread, func(u decision.Unread) bool { return u.Pod == now.Pod })
		if i < 0 {
			if !say(notice{
				kind: corev1.EventTypeWarning, reason: "PodUnreadable", action: "ReadPod",
				note: now.Pod + ": " + now.Why, other: other{kindPod, now.Pod},
			}) {
				continue
			}
			i = len(t.unread)
			t.unread = append(t.unread, decision.Unread{Pod: now.Pod})
		}
		was := &t.unread[i]
		was.Released = now.Released && (was.Released || say(notice{
			kind: corev1.EventTypeWarning, reason: "PodGivenUp", action: "GiveUp", note: fmt.Sprintf(
				"%s has not been readable for so long that it no longer keeps the fleet from shrinking: %s", now.Pod, v.Reason),
			other: other{kindPod, now.Pod},
		}))
	}
	t.unread = slices.DeleteFunc(t.unread, func(was decision.Unread) bool {
		switch {
		case slices.ContainsFunc(v.Unreadable, func(u decision.Unread) bool { return u.Pod == was.Pod }):
			return false
		case !slices.Contains(v.Read, was.Pod):
			return true
		}
		return say(notice{
			kind: corev1.EventTypeNormal, reason: "PodReadable", action: "ReadPod",
			note: was.Pod + " is readable again", other: other{kindPod, was.Pod},
		})
	})
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

// notice is what is said of an InferenceSet.
type notice struct {
	kind, reason, action, note string
	// other is whom else it is about. The recorder keeps events apart by it.
	other other
	// moves is set if it says where the fleet goes.
	moves bool
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
	t.Recorder.Eventf(object, n.other.related(object, key.Namespace), n.kind, n.reason, n.action, "%s", kube.Shorten(n.note, kube.MaxNote))
}
