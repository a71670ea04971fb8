package scaler

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// stage is a cluster with default/phi-4, its ScaledObject and its HPA, and replicas
// of the scaler that watch it.
type stage struct {
	*testing.T

	mu sync.Mutex
	// queue is what waits on each pod, desired the replicas of the InferenceSet.
	queue    []float64
	desired  int32
	hung     map[int]bool
	object   *kedav1alpha1.ScaledObject
	hpa      *autoscalingv2.HorizontalPodAutoscaler
	leader   string
	ledUntil time.Time
	// away is set while the API server is.
	away bool
	// told are the events since they were last asked for, each with who told it,
	// and lines the log's.
	told, lines []string

	scalers map[string]*replica
}

// replica is one of the scaler's.
type replica struct {
	*stage
	name     string
	service  *Service
	observer *Observer
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// triggerOfKEDA is a trigger of default/phi-4's ScaledObject.
func triggerOfKEDA(metadata map[string]string) kedav1alpha1.ScaleTriggers {
	return kedav1alpha1.ScaleTriggers{Type: "external", Metadata: metadata, MetricType: autoscalingv2.AverageValueMetricType}
}

func newStage(t *testing.T, triggers ...kedav1alpha1.ScaleTriggers) *stage {
	t.Helper()
	if len(triggers) == 0 {
		triggers = append(triggers, triggerOfKEDA(trigger().GetScalerMetadata()))
	}
	return &stage{
		T: t, queue: []float64{0}, desired: 1, hung: map[int]bool{}, leader: "a", scalers: map[string]*replica{},
		object: &kedav1alpha1.ScaledObject{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "phi-4"}, Spec: kedav1alpha1.ScaledObjectSpec{Triggers: triggers},
			Status: kedav1alpha1.ScaledObjectStatus{HpaName: "keda-hpa-phi-4"},
		},
		hpa: hpaThat(corev1.ConditionTrue, ""),
	}
}

// hpaThat is an HPA that gets metrics, or doesn't for a reason.
func hpaThat(scales corev1.ConditionStatus, message string) *autoscalingv2.HorizontalPodAutoscaler {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	hpa.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: scales, Message: message}}
	return hpa
}

func (s *stage) Fleet(key types.NamespacedName, _ policy.Page) (sample.Fleet, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := sample.Fleet{Desired: s.desired, Freshness: 15 * time.Second, Grace: 10 * time.Minute}
	for i, n := range s.queue {
		pod := fmt.Sprintf("p-%d", i)
		r := waiting(pod, n)
		if s.hung[i] {
			r = failing(pod, "no answer")
		}
		f.Replicas = append(f.Replicas, r)
	}
	return f, key == phi4
}

func (s *stage) ScaledObject(context.Context, types.NamespacedName) (*kedav1alpha1.ScaledObject, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.object.DeepCopy(), s.object != nil
}

func (s *stage) HPA(_ context.Context, key types.NamespacedName) (*autoscalingv2.HorizontalPodAutoscaler, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hpa.DeepCopy(), s.hpa != nil && key.Name == "keda-hpa-phi-4"
}

// set changes the cluster.
func (s *stage) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// load is so many requests waiting on each pod.
func (s *stage) load(queue ...float64) {
	s.set(func() { s.queue, s.desired = queue, int32(len(queue)) })
}

// scaler starts a replica of the scaler.
func (s *stage) scaler(name string) *replica {
	r := &replica{stage: s, name: name}
	log := funcr.New(func(_, args string) { s.set(func() { s.lines = append(s.lines, name+": "+args) }) }, funcr.Options{})
	loop := NewEvaluationLoop(s, ready, log)
	notifier := &Notifier{
		Lookup: func(types.NamespacedName) (runtime.Object, bool) { return &corev1.Pod{}, true }, Recorder: r, Log: log,
		Leads: func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.leader == name
		},
		LedUntil: func() time.Time {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.leader != "" && s.leader != name {
				return time.Now().Add(time.Nanosecond)
			}
			return s.ledUntil
		},
	}
	r.observer = NewObserver(s, loop, s, notifier, nil, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return !s.away
	})
	r.observer.KEDA = KEDA{Namespace: "keda", Secret: "client-certs", Handshakes: &Handshakes{}}
	r.service = &Service{Fleets: s, Recommender: loop, Observer: r.observer, OnCall: r.observer.OnCall, ScaledObjects: s, Started: ready}
	r.ask()
	var ctx context.Context
	ctx, r.stop = context.WithCancel(s.Context())
	r.running.Go(func() { _ = r.observer.Run(ctx) })
	s.scalers[name] = r
	return r
}

// ask is what the watch tells a replica of the triggers.
func (r *replica) ask() {
	var triggers []policy.Trigger
	for _, t := range r.object.Spec.Triggers {
		if t.Type != "external" {
			continue
		}
		trigger, err := policy.ParseTrigger("default", t.Metadata)
		if err != nil {
			r.Fatal(err)
		}
		trigger.ScaledObject = "phi-4"
		triggers = append(triggers, trigger)
	}
	r.observer.SetTriggers(phi4, append(triggers, policy.Trigger{Namespace: "default", InferenceSet: "phi-4"}))
}

func (r *replica) Eventf(_, _ runtime.Object, _, reason, _, note string, args ...any) {
	r.set(func() { r.stage.told = append(r.stage.told, r.name+": "+reason+": "+fmt.Sprintf(note, args...)) })
}

// dies ends a replica. Whoever led has led until now.
func (r *replica) dies() {
	r.stop()
	r.running.Wait()
	r.set(func() {
		if r.leader == r.name {
			r.leader, r.ledUntil = "", time.Now()
		}
	})
	delete(r.scalers, r.name)
}

func (r *replica) leads() { r.set(func() { r.leader = r.name }) }

// ends ends all replicas.
func (s *stage) ends() {
	for _, r := range s.scalers {
		r.dies()
	}
}

// calls has KEDA call a replica every 15 s for so long.
func (s *stage) calls(r *replica, d time.Duration) {
	s.Helper()
	for range d / (15 * time.Second) {
		for _, t := range s.object.Spec.Triggers {
			_, _ = r.service.GetMetrics(s.Context(), &pb.GetMetricsRequest{MetricName: waitingMetric, ScaledObjectRef: &pb.ScaledObjectRef{
				Name: "phi-4", Namespace: "default", ScalerMetadata: t.Metadata,
			}})
		}
		time.Sleep(15 * time.Second)
	}
}

// wants checks what was told since the last time. There is a log line for each.
func (s *stage) wants(want ...string) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if diff := cmp.Diff(want, s.told); diff != "" {
		s.Errorf("told (-want +got):\n%s", diff)
	}
	if len(s.lines) != len(want) {
		s.Errorf("%d lines for %d events: %q", len(s.lines), len(want), s.lines)
	}
	s.told, s.lines = nil, nil
}

// events is what was told since the last time.
func (s *stage) events() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	s.told, s.lines = nil, nil
	return told
}

const (
	up3    = "ScalingUp: 1 → 3: vllm:num_requests_waiting is 25 in total on 1 replica, 10 wanted on each"
	steady = "ScalingSteady: 3 is right: vllm:num_requests_waiting is 24 in total on 3 replicas, 10 wanted on each"
	down1  = "ScalingDown: 3 → 1: vllm:num_requests_waiting is 0 in total on 3 replicas, 10 wanted on each"
)

// KEDA keeps to one replica of the scaler for minutes, and then asks the other. Each
// turn is told once, by the leader, whoever is asked.
func TestEachChangeIsReportedOnceWhicheverReplicaKEDAPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		a, b := s.scaler("a"), s.scaler("b")
		defer s.ends()
		s.calls(a, time.Minute)
		s.wants()
		s.load(25)
		s.calls(b, time.Minute) // who doesn't lead
		s.wants("a: " + up3)
		s.calls(a, 5*time.Minute) // the connection moves
		s.calls(b, 5*time.Minute)
		s.wants()
		s.load(8, 8, 8)
		s.calls(a, time.Minute)
		s.wants("a: " + steady)
		s.set(func() { s.hung[1] = true })
		s.calls(b, 5*time.Minute)
		s.calls(a, time.Minute)
		s.wants("a: PodUnreadable: p-1: no answer",
			"a: ScalingHeld: holding at 3: vllm:num_requests_waiting is 16 in total on 2 replicas, 10 wanted on each; 1 of 3 can't be read (p-1: no answer)")
	})
}

// The leader dies: what it has told isn't told again, and what turned while nobody
// led is told by the next.
func TestTheNextLeaderReportsWhatComesAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		a, b := s.scaler("a"), s.scaler("b")
		defer s.ends()
		s.load(25)
		s.calls(b, time.Minute)
		s.wants("a: " + up3)
		a.dies()
		s.calls(b, 15*time.Second) // the Lease has to run out
		s.load(8, 8, 8)
		s.calls(b, 15*time.Second)
		s.wants()
		b.leads()
		s.calls(b, time.Minute)
		s.wants("b: " + steady)
		c := s.scaler("c")
		s.calls(c, time.Minute)
		// One that is told to stop gives the Lease away at once.
		b.dies()
		c.leads()
		s.calls(c, time.Minute)
		s.wants()
		s.load(0, 0, 0)
		s.calls(c, time.Minute)
		s.wants("c: " + down1)
	})
}

// What turned just before the leader died, after its last look, isn't lost, and
// what is over by then isn't told late.
func TestNothingIsLostBetweenTwoLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		a, b := s.scaler("a"), s.scaler("b")
		defer s.ends()
		time.Sleep(time.Minute)
		a.dies()
		s.load(25)
		time.Sleep(17 * time.Second)
		b.leads()
		time.Sleep(10 * time.Second)
		s.wants("b: " + up3)
		s.ends()
		// With all of them gone nobody remembers: what isn't as it should be is told
		// anew, once.
		c := s.scaler("c")
		c.leads()
		time.Sleep(time.Minute)
		s.wants("c: " + up3)
	})
}

// With nobody elected each replica leads, as with --leader-elect=false.
func TestWithoutElectionItReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		a := s.scaler("a")
		defer s.ends()
		a.observer.notifier.Leads, a.observer.notifier.LedUntil = nil, nil
		s.load(25)
		time.Sleep(10 * time.Second)
		s.wants("a: " + up3)
	})
}

// Where the HPA doesn't go is told to nobody.
func TestOnlyWhatTheHPAFollowsIsReported(t *testing.T) {
	condition := func(status corev1.ConditionStatus) []autoscalingv2.HorizontalPodAutoscalerCondition {
		return []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: status}}
	}
	disabled := autoscalingv2.DisabledPolicySelect
	annotate := func(key string) func(*stage) {
		return func(s *stage) { s.object.Annotations = map[string]string{key: "true"} }
	}
	for _, tt := range []struct {
		story  string
		change func(*stage)
		// up and down are whether these are told.
		up, down bool
	}{
		{"all is well", func(s *stage) { s.hpa.Status.Conditions = condition(corev1.ConditionTrue) }, true, true},
		{"paused", annotate(kedav1alpha1.PausedAnnotation), false, false},
		{"paused at a number", func(s *stage) { s.object.Annotations = map[string]string{kedav1alpha1.PausedReplicasAnnotation: "2"} }, false, false},
		{"paused upwards", annotate(kedav1alpha1.PausedScaleOutAnnotation), false, true},
		{"paused downwards", annotate(kedav1alpha1.PausedScaleInAnnotation), true, false},
		{"barred downwards", func(s *stage) {
			s.object.Spec.Advanced = &kedav1alpha1.AdvancedConfig{HorizontalPodAutoscalerConfig: &kedav1alpha1.HorizontalPodAutoscalerConfig{
				Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{SelectPolicy: &disabled}},
			}}
		}, true, false},
		{"no HPA yet", func(s *stage) { s.hpa = nil }, false, false},
		{"KEDA is away", func(s *stage) { s.hpa.Status.Conditions = condition(corev1.ConditionFalse) }, false, false},
		{"about to be deleted", func(s *stage) { s.object.DeletionTimestamp = &metav1.Time{Time: time.Now()} }, false, false},
	} {
		t.Run(tt.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.load(1)
				tt.change(s)
				s.scaler("a")
				defer s.ends()
				time.Sleep(10 * time.Second)
				s.load(25)
				time.Sleep(10 * time.Second)
				if tt.up {
					s.wants("a: " + up3)
				} else {
					s.wants()
				}
				s.load(0, 0, 0)
				time.Sleep(10 * time.Second)
				if tt.down {
					s.wants("a: " + down1)
				} else {
					s.wants()
				}
			})
		})
	}
}

// That nothing can be read is told although the HPA is blind: it is why.
func TestWhyTheHPAGetsNoMetricsIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.hung[0] = true
		s.hpa.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: corev1.ConditionFalse}}
		s.scaler("a")
		defer s.ends()
		time.Sleep(10 * time.Second)
		seen := s.events()
		if told := strings.Join(seen, "\n"); len(seen) != 2 || !strings.Contains(told, "a: PodUnreadable: p-0: no answer") || !strings.Contains(told, "a: LoadUnknown: ") {
			t.Errorf("told %s", told)
		}
	})
}

// Triggers on one InferenceSet are told together, as the HPA takes them: the one
// that wants most counts, and none goes down alone.
func TestTwoTriggersAreReportedAsOne(t *testing.T) {
	with := func(threshold string) kedav1alpha1.ScaleTriggers {
		metadata := maps.Clone(trigger().GetScalerMetadata())
		metadata["threshold"] = threshold
		return triggerOfKEDA(metadata)
	}
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, with("10"), with("5"))
		a, b := s.scaler("a"), s.scaler("b")
		defer s.ends()
		s.load(25)
		s.calls(a, time.Minute)
		s.calls(b, time.Minute)
		s.wants("a: ScalingUp: 1 → 5: vllm:num_requests_waiting is 25 in total on 1 replica, 5 wanted on each")
		// Twelve are few for one and right for the other.
		s.load(5, 5, 2)
		s.calls(b, time.Minute)
		s.calls(a, time.Minute)
		s.wants("a: ScalingSteady: 3 is right: vllm:num_requests_waiting is 12 in total on 3 replicas, 5 wanted on each")
		s.set(func() { s.hung[0] = true })
		s.calls(a, time.Minute)
		if told := s.events(); len(told) != 2 { // PodUnreadable and ScalingHeld, each once
			t.Errorf("told %q", told)
		}
	})
}

// What another trigger asks for is news, and says nothing of the former one's
// metrics.
func TestAnotherThresholdIsNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		a := s.scaler("a")
		defer s.ends()
		s.load(25)
		time.Sleep(10 * time.Second)
		s.wants("a: " + up3)
		s.set(func() {
			metadata := maps.Clone(s.object.Spec.Triggers[0].Metadata)
			metadata["metricName"], metadata["threshold"] = "vllm:num_request_waiting", "5"
			s.object.Spec.Triggers[0].Metadata = metadata
		})
		a.ask()
		time.Sleep(10 * time.Second)
		if told := s.events(); len(told) != 3 || !strings.HasPrefix(told[1], "a: MetricMissing") || !strings.HasPrefix(told[2], "a: LoadUnknown") {
			t.Errorf("told %q", told)
		}
		s.set(func() {
			s.object.Spec.Triggers[0].Metadata = trigger().GetScalerMetadata()
		})
		a.ask()
		time.Sleep(10 * time.Second)
		s.wants("a: PodReadable: p-0 is readable again", "a: "+up3)
	})
}

// BenchmarkObserve is a look at one InferenceSet. Each of 2 000 is looked at every
// five seconds: 400 times this is a second's.
func BenchmarkObserve(b *testing.B) {
	fleet := of(3, waiting("a", 8), waiting("b", 8), waiting("c", 8))
	ref := trigger()
	known := holding(ref, autoscalingv2.AverageValueMetricType, "")
	notifier := &Notifier{Lookup: func(types.NamespacedName) (runtime.Object, bool) { return nil, false }}
	o := NewObserver(fleet, NewEvaluationLoop(fleet, ready, notifier.Log), withHPA{known}, notifier, nil, ready)
	t, err := triggerOf(ref)
	if err != nil {
		b.Fatal(err)
	}
	t.ScaledObject = "phi-4"
	o.SetTriggers(phi4, []policy.Trigger{t})
	b.ReportAllocs()
	for b.Loop() {
		o.observe(b.Context(), scaled("phi-4"), []uint64{t.Digest()}, time.Now())
	}
}

// withHPA are ScaledObjects with an HPA each.
type withHPA struct{ scaledObjects }

func (withHPA) HPA(context.Context, types.NamespacedName) (*autoscalingv2.HorizontalPodAutoscaler, bool) {
	return &autoscalingv2.HorizontalPodAutoscaler{}, true
}
