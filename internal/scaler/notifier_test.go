package scaler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/aggregate"
	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// aboutIt is a recommendation's subject, and about4 that of default/phi-4.
func aboutIt(name string) TriggerID {
	return TriggerID{InferenceSet: types.NamespacedName{Namespace: "default", Name: name}, Metric: waitingMetric, Target: 10}
}

var about4 = aboutIt("phi-4")

// scaled is an InferenceSet as the ScaledObject of its name has it.
func scaled(name string) ScaledObjectRef {
	return ScaledObjectRef{types.NamespacedName{Namespace: "default", Name: name}, name}
}

// recorder keeps events as "Normal ScalingUp ScaleTo3: note", with " (v1 Pod
// default/a)" for one that is related to a pod.
type recorder struct{ events []string }

func (r *recorder) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	text := fmt.Sprintf("%s %s %s: %s", kind, reason, action, fmt.Sprintf(note, args...))
	if on, ok := related.(*metav1.PartialObjectMetadata); ok {
		text += " (" + on.APIVersion + " " + on.Kind + " " + on.Namespace + "/" + on.Name + ")"
	}
	if is, ok := regarding.(metav1.Object); ok && is.GetName() != "phi-4" {
		text = is.GetName() + ": " + text
	}
	r.events = append(r.events, text)
}

// tale is a Notifier and what came of it.
type tale struct {
	*testing.T
	notifier *Notifier
	recorder *recorder
	lines    []string
	// gone InferenceSets aren't in the cache.
	gone bool
}

func newTale(t *testing.T) *tale {
	t.Helper()
	tale := &tale{T: t, recorder: &recorder{}}
	tale.notifier = &Notifier{
		Lookup: func(key types.NamespacedName) (runtime.Object, bool) {
			object := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "kaito.sh/v1beta1", Kind: "InferenceSet"}, ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
			return object, !tale.gone
		},
		Recorder: tale.recorder,
		Log:      funcr.New(func(_, args string) { tale.lines = append(tale.lines, args) }, funcr.Options{}),
	}
	return tale
}

// hears is a recommendation and what is told of it: nothing for "".
func (t *tale) hears(v decision.Recommendation, want ...string) {
	t.Helper()
	t.tell("phi-4", v)
	t.wantEvents(want...)
}

// tell is a recommendation on an InferenceSet that is asked for.
func (t *tale) tell(name string, v decision.Recommendation) {
	t.Helper()
	of := scaled(name)
	t.notifier.setTriggers(of.InferenceSet, map[string][]uint64{name: {1}})
	t.notifier.notify(of, v, hpaState{active: true})
}

func (t *tale) wantEvents(want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, t.recorder.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if len(t.lines) != len(want) {
		t.Errorf("%d lines in the log, want one for each of %d events: %q", len(t.lines), len(want), t.lines)
	}
	t.recorder.events, t.lines = nil, nil
}

func recommendation(answer decision.Confidence, desired, replicas int32, reason string) decision.Recommendation {
	return decision.Recommendation{Confidence: answer, Desired: desired, Replicas: replicas, Reason: reason}
}

func TestEachChangeIsReportedOnce(t *testing.T) {
	s := newTale(t)
	steady := recommendation(decision.Measured, 1, 1, "1 is right")
	up := recommendation(decision.Measured, 1, 3, "1 → 3: 25 in total")

	s.hears(steady) // all is well from the start: no news
	s.hears(steady)
	s.hears(up, "Normal ScalingUp ScaleTo3: 1 → 3: 25 in total")
	for n := range 5 { // while the HPA takes its time
		s.hears(recommendation(decision.Measured, 1, 3, fmt.Sprintf("1 → 3: %d in total", 26+n)))
	}
	s.hears(recommendation(decision.Measured, 2, 3, "2 → 3: 25 in total"))
	s.hears(recommendation(decision.Bounded, 2, 4, "2 → 4: 35 in total"), "Normal ScalingUp ScaleTo4: 2 → 4: 35 in total")
	s.hears(recommendation(decision.Measured, 4, 4, "4 is right"), "Normal ScalingSteady ScaleTo4: 4 is right")
	s.hears(recommendation(decision.Measured, 4, 1, "4 → 1: 0 in total"), "Normal ScalingDown ScaleTo1: 4 → 1: 0 in total")
	s.hears(recommendation(decision.Measured, 3, 1, "3 → 1: 0 in total"))
	s.hears(recommendation(decision.Measured, 1, 1, "1 is the minimum"), "Normal ScalingSteady ScaleTo1: 1 is the minimum")
}

func TestWhatIsWrongIsAWarningAndItsEndIsNews(t *testing.T) {
	s := newTale(t)
	unread := recommendation(decision.Held, 2, 2, "holding at 2: b can't be read")
	unread.Unreadable = []aggregate.UnreadablePod{{Pod: "b", Why: "no answer"}}
	s.hears(recommendation(decision.Held, 1, 1, "holding at 1: no replica serves yet"), "Normal ScalingHeld ScaleTo1: holding at 1: no replica serves yet")
	s.hears(recommendation(decision.Measured, 1, 1, "1 is right"), "Normal ScalingSteady ScaleTo1: 1 is right")
	s.hears(unread, "Warning PodUnreadable ReadPod: b: no answer (v1 Pod default/b)", "Warning ScalingHeld ScaleTo2: holding at 2: b can't be read")
	s.hears(unread)
	s.hears(recommendation(decision.Unknown, 2, 2, "cannot tell the load"), "Warning LoadUnknown ScaleTo2: cannot tell the load")
	s.hears(recommendation(decision.Unknown, 2, 2, "cannot tell the load, in other words"))
	s.hears(recommendation(decision.Measured, 2, 2, "2 is right"), "Normal ScalingSteady ScaleTo2: 2 is right")
}

func TestAPodThatIsGivenUpIsReportedOnce(t *testing.T) {
	const why = " has not been readable for so long that it no longer keeps the fleet from shrinking: 3 → 2"
	s := newTale(t)
	down := recommendation(decision.Bounded, 3, 2, "3 → 2")
	hangs := func(pod string, released bool) aggregate.UnreadablePod {
		return aggregate.UnreadablePod{Pod: pod, Why: "no answer", GivenUp: released}
	}
	down.Unreadable = []aggregate.UnreadablePod{hangs("b", false), hangs("c", false)}
	s.hears(
		down, "Warning PodUnreadable ReadPod: b: no answer (v1 Pod default/b)", "Warning PodUnreadable ReadPod: c: no answer (v1 Pod default/c)",
		"Normal ScalingDown ScaleTo2: 3 → 2",
	)
	down.Unreadable = []aggregate.UnreadablePod{hangs("b", true), hangs("c", false)}
	s.hears(down, "Warning PodGivenUp GiveUp: b"+why+" (v1 Pod default/b)")
	s.hears(down)
	down.Unreadable = []aggregate.UnreadablePod{hangs("b", true), hangs("c", true)}
	s.hears(down, "Warning PodGivenUp GiveUp: c"+why+" (v1 Pod default/c)")
	// One is deleted, and the other answers again.
	down.Unreadable, down.Read = nil, []string{"a", "c"}
	s.hears(down, "Normal PodReadable ReadPod: c is readable again (v1 Pod default/c)")
	s.hears(down)
	// Two at once are two events, which the recorder must not count as one.
	down.Unreadable, down.Read = []aggregate.UnreadablePod{hangs("b", true), hangs("c", true)}, []string{"a"}
	s.hears(
		down, "Warning PodUnreadable ReadPod: b: no answer (v1 Pod default/b)", "Warning PodGivenUp GiveUp: b"+why+" (v1 Pod default/b)",
		"Warning PodUnreadable ReadPod: c: no answer (v1 Pod default/c)", "Warning PodGivenUp GiveUp: c"+why+" (v1 Pod default/c)",
	)
}

func TestAMetricThatNoPageHasIsReportedOnce(t *testing.T) {
	s := newTale(t)
	hold := recommendation(decision.Held, 1, 1, "holding at 1")
	hold.MissingMetrics = []aggregate.MissingMetric{{Metric: "vllm:num_request_waiting", Nearest: waitingMetric}, {Metric: "x"}}
	s.hears(
		hold, "Warning MetricMissing FindMetric vllm:num_request_waiting: no serving replica's page has vllm:num_request_waiting: did you mean vllm:num_requests_waiting?",
		"Warning MetricMissing FindMetric x: no serving replica's page has x", "Warning ScalingHeld ScaleTo1: holding at 1",
	)
	s.hears(hold)
	// While nobody can be read, nobody knows better.
	s.hears(recommendation(decision.Unknown, 1, 1, "cannot tell"), "Warning LoadUnknown ScaleTo1: cannot tell")
	s.hears(hold, "Warning ScalingHeld ScaleTo1: holding at 1")
	right := recommendation(decision.Measured, 1, 1, "1 is right")
	right.Read, right.MissingMetrics = []string{"a-0"}, []aggregate.MissingMetric{{Metric: "x"}}
	s.hears(
		right, "Normal MetricFound FindMetric vllm:num_request_waiting: vllm:num_request_waiting is on the pages now",
		"Normal ScalingSteady ScaleTo1: 1 is right",
	)
	long := recommendation(decision.Measured, 1, 1, "1 is right")
	long.MissingMetrics = []aggregate.MissingMetric{{Metric: strings.Repeat("x", 255)}}
	s.tell("phi-4", long)
	_, action, _ := strings.Cut(s.recorder.events[0], "MetricMissing ")
	if action, _, _ = strings.Cut(action, ":"); len(action) != 128 { // the API server's limit
		t.Errorf("an action of %d bytes", len(action))
	}
}

func TestAReplicaThatDoesNotComeIsReportedOnce(t *testing.T) {
	s := newTale(t)
	steady := func(members ...decision.ReplicaState) decision.Recommendation {
		v := recommendation(decision.Measured, 2, 2, "2 is right")
		v.ReplicaStates = members
		return v
	}
	a := decision.ReplicaState{Replica: "a", Phase: sample.Serving}
	b := decision.ReplicaState{Replica: "b", Phase: sample.Starting}
	stuck := decision.ReplicaState{Replica: "b", Phase: sample.Broken, Stuck: "ErrImagePull: no such image"}
	const on = " (kaito.sh/v1beta1 Workspace default/b)"
	s.hears(steady(a, b))
	s.hears(steady(a, stuck), "Warning ReplicaStuck AwaitReplica: b is not counted on any more: ErrImagePull: no such image"+on)
	s.hears(steady(a, stuck))
	s.hears(steady(a, b)) // tries once more: it has not come for that
	s.hears(steady(a, stuck))
	b.Phase = sample.Serving
	s.hears(steady(a, b), "Normal ReplicaUnstuck AwaitReplica: b serves now"+on)
	s.hears(steady(a, stuck), "Warning ReplicaStuck AwaitReplica: b is not counted on any more: ErrImagePull: no such image"+on)
	s.hears(steady(a), "Normal ReplicaUnstuck AwaitReplica: b is gone"+on)
}

func TestAnEngineThatSleepsIsReported(t *testing.T) {
	s := newTale(t)
	awake := recommendation(decision.Measured, 1, 1, "1 is right")
	awake.ReplicaStates = []decision.ReplicaState{{Replica: "a", Phase: sample.Serving}}
	asleep := awake
	asleep.ReplicaStates = []decision.ReplicaState{{Replica: "a", Phase: sample.Serving, Sleeping: true}}
	const on = " (kaito.sh/v1beta1 Workspace default/a)"
	s.hears(awake)
	s.hears(asleep, "Warning EngineAsleep ReadPod: a: the engine sleeps, and shows no load until somebody wakes it"+on)
	s.hears(asleep)
	s.hears(awake, "Normal EngineAwake ReadPod: a: the engine is awake again"+on)
}

func TestAWaitForACooldownIsNoWarning(t *testing.T) {
	s := newTale(t)
	wait := recommendation(decision.Held, 3, 3, "3 for now: next step up in 5 min")
	wait.Waiting, wait.Unreadable = true, []aggregate.UnreadablePod{{Pod: "b", Why: "no answer"}}
	s.hears(
		wait, "Warning PodUnreadable ReadPod: b: no answer (v1 Pod default/b)",
		"Normal ScalingHeld ScaleTo3: 3 for now: next step up in 5 min",
	)
	s.hears(wait)
	// When something is wrong meanwhile, that is news.
	blind := wait
	blind.Waiting, blind.Reason = false, "holding at 3: 1 of 3 can't be read"
	s.hears(blind, "Warning ScalingHeld ScaleTo3: holding at 3: 1 of 3 can't be read")
	s.hears(blind)
}

func TestTriggersHaveSeriesOfTheirOwn(t *testing.T) {
	s := newTale(t)
	up := recommendation(decision.Measured, 1, 3, "1 → 3")
	s.hears(up, "Normal ScalingUp ScaleTo3: 1 → 3")
	s.tell("llama", up)
	s.wantEvents("llama: Normal ScalingUp ScaleTo3: 1 → 3")
	s.hears(up)
}

func TestAnInferenceSetThatIsGoneHasNoEventsButALogLine(t *testing.T) {
	s := newTale(t)
	s.gone = true
	s.tell("phi-4", recommendation(decision.Measured, 1, 3, "1 → 3"))
	if len(s.recorder.events) > 0 {
		t.Errorf("events %q on an object that isn't there", s.recorder.events)
	}
	if len(s.lines) != 1 || !strings.Contains(s.lines[0], "1 → 3") {
		t.Errorf("log %q, want one line", s.lines)
	}
}

func TestALongReasonFitsAnEvent(t *testing.T) {
	s := newTale(t)
	s.tell("phi-4", recommendation(decision.Measured, 1, 3, strings.Repeat("é→", 600)))
	_, note, _ := strings.Cut(s.recorder.events[0], ": ")
	if len(note) > 1024 || len(note) < 1000 || !strings.HasSuffix(note, "…") {
		t.Errorf("a note of %d bytes: %s", len(note), note)
	}
}

// What is not scaled any more is forgotten: InferenceSets come and go, and memory
// must not grow with them.
func TestWhatIsNotScaledAnyMoreIsForgotten(t *testing.T) {
	s := newTale(t)
	up := recommendation(decision.Measured, 1, 3, "1 → 3")
	for n := range 10 {
		s.tell(fmt.Sprintf("gone-%d", n), up)
	}
	s.recorder.events, s.lines = nil, nil
	for n := range 10 {
		s.notifier.setTriggers(scaled(fmt.Sprintf("gone-%d", n)).InferenceSet, nil)
	}
	if n := len(s.notifier.records); n != 0 {
		t.Errorf("%d are remembered", n)
	}
	s.notifier.notify(scaled("gone-1"), up, hpaState{active: true})
	s.wantEvents()
	s.tell("gone-1", up) // it is made again
	s.wantEvents("gone-1: Normal ScalingUp ScaleTo3: 1 → 3")
}

// A flood is spread over time: nobody's events keep another's back, those on pods
// keep none on scaling back, and what is over by the time is not told at all.
func TestAFloodOfEventsIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		s := newTale(t)
		s.notifier.Metrics = NewMetrics(registry, fleets{})
		dark := recommendation(decision.Unknown, 100, 100, "cannot tell the load")
		for n := range 100 {
			dark.Unreadable = append(dark.Unreadable, aggregate.UnreadablePod{Pod: fmt.Sprintf("p-%d", n), Why: "no answer"})
		}
		count := func() (pods, moves int) {
			for _, event := range s.recorder.events {
				if strings.Contains(event, " ScaleTo100: ") {
					moves++
				} else {
					pods++
				}
			}
			s.recorder.events = nil
			return pods, moves
		}
		s.tell("phi-4", dark)
		if pods, moves := count(); pods != ownBurst || moves != 1 {
			t.Errorf("%d events on pods and %d on scaling at once", pods, moves)
		}
		if got := gather(t, registry); !slices.Equal(got, []string{"over_limit_total{limit=events} 80"}) || !strings.Contains(strings.Join(s.lines, ""), "told later") {
			t.Errorf("counted %q, said %q", got, s.lines)
		}
		for range 12 * 10 { // ten minutes
			time.Sleep(observeEvery)
			s.tell("phi-4", dark)
		}
		if pods, moves := count(); pods != 20 || moves != 0 {
			t.Errorf("%d events on pods and %d on scaling in ten minutes", pods, moves)
		}
		light := recommendation(decision.Measured, 100, 100, "100 are right")
		for n := range 100 {
			light.Read = append(light.Read, fmt.Sprintf("p-%d", n))
		}
		for range 12 * 60 {
			time.Sleep(observeEvery)
			s.tell("phi-4", light)
		}
		if pods, moves := count(); pods != 40 || moves != 1 {
			t.Errorf("%d events on pods that are back, of the 40 that were told, and %d on scaling", pods, moves)
		}

		// A thousand InferenceSets at once: the recorder's queue is of a thousand.
		dark.Unreadable = dark.Unreadable[:5]
		for n := range 1000 {
			s.tell(fmt.Sprintf("is-%d", n), dark)
		}
		if pods, moves := count(); pods != allBurst || moves != allBurst {
			t.Errorf("%d events on pods and %d on scaling at once", pods, moves)
		}
		told := 0
		for range 12 * 3 {
			time.Sleep(observeEvery)
			for n := range 1000 {
				s.tell(fmt.Sprintf("is-%d", n), dark)
			}
			pods, moves := count()
			if told += moves; pods+moves > 60 {
				t.Fatalf("%d events in five seconds", pods+moves)
			}
		}
		if told != 1000-allBurst {
			t.Errorf("%d more owners of 1000 were told within three minutes", told)
		}
	})
}

// What no policy can do is told when that turns out, and not again for a hold in
// between.
func TestWhatIsOutOfReachIsReportedOnce(t *testing.T) {
	tale := newTale(t)
	steady := decision.Recommendation{Confidence: decision.Measured, Desired: 2, Replicas: 2, Reason: "2 is right: demand 1.5 replicas", Load: &decision.Load{}}
	beyond := steady
	beyond.Advice = "the load doubles within a cold start of 6 min: keep min-replicas at 4"
	const told = "Warning ScalingOutOfReach Advise: the load doubles within a cold start of 6 min: keep min-replicas at 4"
	tale.hears(steady)
	tale.hears(beyond, told)
	tale.hears(beyond)
	held := decision.Recommendation{Confidence: decision.Held, Waiting: true, Desired: 2, Replicas: 2, Reason: "holding at 2: no replica serves yet"}
	tale.hears(held, "Normal ScalingHeld ScaleTo2: holding at 2: no replica serves yet")
	tale.hears(beyond, "Normal ScalingSteady ScaleTo2: 2 is right: demand 1.5 replicas")
	tale.hears(steady)
	tale.hears(beyond, told)
}
