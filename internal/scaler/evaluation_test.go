package scaler

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// loaded is a fleet of desired replicas, of which so many serve, each of them so
// many requests a second since the beginning.
type loaded struct {
	mu      sync.Mutex
	began   time.Time
	desired int32
	pods    []string
	rps     float64
	// asked are the times at which the fleet was looked at.
	asked []time.Time
}

func (l *loaded) Fleet(key types.NamespacedName, _ policy.Page) (sample.Fleet, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.asked = append(l.asked, now)
	fleet := sample.Fleet{Desired: l.desired, Freshness: 15 * time.Second, Interval: 5 * time.Second, Grace: 10 * time.Minute}
	for _, pod := range l.pods {
		r := sample.Replica{Pod: pod, Phase: sample.Serving, Expected: l.began}
		for at := now.Add(-100 * time.Second); !at.After(now); at = at.Add(5 * time.Second) {
			if !at.Before(l.began) {
				r.History.Add(l.page(at), 2*time.Minute)
			}
		}
		r.Last = r.History.Newest()
		fleet.Replicas = append(fleet.Replicas, r)
	}
	return fleet, key == phi4
}

func (l *loaded) page(at time.Time) *sample.Sample {
	done := l.rps * at.Sub(l.began).Seconds()
	var families []sample.Family
	for name, value := range map[string]float64{
		policy.FamilyRunning: 5, policy.FamilyWaiting: 0, policy.FamilyKV: .2,
		policy.FamilyFinished: done, policy.FamilyPrompt: 1000 * done, policy.FamilyGenerated: 100 * done,
	} {
		families = append(families, sample.Family{Name: name, Sum: value, Engines: 1})
	}
	for name, each := range map[string]float64{policy.FamilyTTFT: 1, policy.FamilyITL: 99} {
		n := each * done
		families = append(families, sample.Family{Name: name, Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{
			Le: []float64{.01, 2.5, math.Inf(1)}, Cumulative: []float64{n, n, n}, Sum: n * .01 / (1 - .064*l.rps),
		}})
	}
	s := sample.NewSample(at, families, nil)
	s.ProcessStart = 1
	return s
}

// saturating is default/phi-4's trigger with nothing but a bound.
var saturating = policy.Trigger{
	Namespace: "default", InferenceSet: "phi-4", Bounds: policy.Bounds{Min: 1, Max: 8},
	Saturation: &policy.Saturation{TTFT: policy.DefaultTTFT, ITL: policy.DefaultITL},
}

func ready() bool { return true }

// learnsSince is when the scaler on the one fleet learned first.
func learnsSince(j *EvaluationLoop) time.Time {
	c, _ := fleetKeyOf(saturating)
	m := j.all()[c]
	m.mu.Lock()
	defer m.mu.Unlock()
	began, _ := m.Learned()
	return began
}

// at evaluates run for so long on a fleet.
func at(t *testing.T, j *EvaluationLoop, d time.Duration) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := j.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(d)
	stop()
	running.Wait()
}

func TestFleetsAreEvaluatedInTheirTurnWhoeverAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &loaded{began: time.Now().Add(-time.Hour), desired: 1, pods: []string{"a-0", "b-0"}, rps: 11}
		j := NewEvaluationLoop(l, ready, logr.Discard())
		j.SetTriggers(phi4, []policy.Trigger{saturating})
		time.Sleep(4 * time.Second) // not on the quarter
		at(t, j, 2*time.Minute)
		if len(l.asked) != 8 {
			t.Errorf("judged %d times in two minutes", len(l.asked))
		}
		for _, when := range l.asked {
			if since := when.Sub(l.asked[0]); since%decision.Interval != 0 {
				t.Errorf("judged %v after the first time", since)
			}
		}
		// Asked by KEDA a hundred times, it answers the same.
		fleet, _ := l.Fleet(phi4, policy.Page{})
		first := j.Recommend(saturating, fleet, time.Now())
		if first.Confidence != decision.Measured || first.Replicas < 2 || !strings.Contains(first.Reason, ": the load needs ") {
			t.Errorf("%v %d: %s", first.Confidence, first.Replicas, first.Reason)
		}
		for range 100 {
			if v := j.Recommend(saturating, fleet, time.Now()); v.Value != first.Value || v.Reason != first.Reason {
				t.Fatalf("%s, then %s", first.Reason, v.Reason)
			}
		}
	})
}

// Fleets are spread over the pace, and each has the same turn on every replica
// of the scaler, whenever that was started and whatever happens between.
func TestEachFleetHasOneTurn(t *testing.T) {
	const first = int64(29_000_000_000)
	counts := map[int64]int{}
	for i := range 600 {
		c := fleetKey{inferenceSet: types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("phi-%d", i)}}
		var its []int64
		for turn := first; turn < first+2*turns; turn++ {
			if inTurn(turnOf(c.inferenceSet), turns, turn-1, turn) {
				its = append(its, turn)
			}
		}
		if len(its) != 2 || its[1]-its[0] != turns {
			t.Fatalf("%v has the turns %v", c.inferenceSet, its)
		}
		counts[its[0]]++
		for _, tt := range []struct {
			story      string
			last, this int64
			want       bool
		}{
			{"just before and after", its[0] - 1, its[0], true},
			{"not again", its[0], its[0] + turns - 1, false},
			{"late, after a stop of a minute", its[0] - turns, its[0] + 3*turns, true},
			{"a clock that went back", its[0] + 5*turns, its[0], false},
		} {
			if got := inTurn(turnOf(c.inferenceSet), turns, tt.last, tt.this); got != tt.want {
				t.Errorf("%v: %s: %v", c.inferenceSet, tt.story, got)
			}
		}
	}
	if most := slices.Max(slices.Collect(maps.Values(counts))); len(counts) < turns-2 || most > 30 {
		t.Errorf("600 fleets have %d turns, of which one has %d", len(counts), most)
	}
}

func TestNoFleetIsEvaluatedBeforeItWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &loaded{began: time.Now(), desired: 1, pods: []string{"a-0"}}
		j := NewEvaluationLoop(l, func() bool { return false }, logr.Discard())
		j.SetTriggers(phi4, []policy.Trigger{saturating})
		at(t, j, time.Minute)
		if len(l.asked) > 0 {
			t.Errorf("judged %d times", len(l.asked))
		}
	})
}

// A loop that hangs is noticed, and so is one that goes on.
func TestALateLoopIsNotOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{})
		var hung atomic.Bool
		j := NewEvaluationLoop(&loaded{}, func() bool {
			if hung.Load() {
				<-hangs
			}
			return true
		}, logr.Discard())
		time.Sleep(time.Hour) // while the program waits for its APIs
		if !j.OnTime() {
			t.Error("late before it began")
		}
		var running sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		running.Go(func() { _ = j.Run(ctx) })
		time.Sleep(time.Hour)
		if !j.OnTime() {
			t.Error("late while it runs")
		}
		hung.Store(true)
		time.Sleep(40 * time.Second)
		if !j.OnTime() {
			t.Error("late while its verdicts are still answered with")
		}
		time.Sleep(10 * time.Second)
		if j.OnTime() {
			t.Error("on time after hanging for 50 s")
		}
		hung.Store(false)
		close(hangs)
		time.Sleep(time.Second)
		if !j.OnTime() {
			t.Error("late after going on")
		}
		stop()
		running.Wait()
	})
}

func TestStateOfFormerTriggersIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &loaded{began: time.Now().Add(-time.Hour), desired: 1, pods: []string{"a-0"}, rps: 3}
		j := NewEvaluationLoop(l, ready, logr.Discard())
		hasty := saturating
		hasty.Saturation = &policy.Saturation{TTFT: time.Second, ITL: 60 * time.Millisecond}
		queue := policy.Trigger{Namespace: "default", InferenceSet: "phi-4", Queue: policy.Queue{Metric: waitingMetric, Target: 10}}
		for _, tt := range []struct {
			story    string
			triggers []policy.Trigger
			want     int
		}{
			{"one", []policy.Trigger{saturating}, 1},
			{"its ScaledObject and its annotations", []policy.Trigger{saturating, saturating}, 1},
			{"another promise beside it", []policy.Trigger{saturating, hasty}, 2},
			{"another promise", []policy.Trigger{hasty}, 1},
			{"a threshold", []policy.Trigger{queue}, 0},
			{"nothing", nil, 0},
		} {
			j.SetTriggers(phi4, tt.triggers)
			if len(j.scalers) != tt.want {
				t.Errorf("%s: %d are judged, want %d", tt.story, len(j.scalers), tt.want)
			}
		}
		fleet, _ := l.Fleet(phi4, policy.Page{})
		if v := j.Recommend(saturating, fleet, time.Now()); v.Confidence != decision.Held || v.Value != 1 {
			t.Errorf("of one that is forgotten: %v %s", v.Confidence, v.Reason)
		}
	})
}

func TestKEDAIsAnsweredByTheEvaluationLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &loaded{began: time.Now().Add(-time.Hour), desired: 2, pods: []string{"a-0", "b-0"}, rps: 5}
		j := NewEvaluationLoop(l, ready, logr.Discard())
		j.SetTriggers(phi4, []policy.Trigger{saturating})
		s, seen := service(l)
		s.Recommender = j
		ref := trigger("threshold", "", "saturation", "true", "maxReplicas", "8", "minReplicas", "1")
		if _, err := ask(t, s, ref); err != nil || seen.last.Confidence != decision.Held || seen.last.Value != 2 {
			t.Errorf("before anything was judged: %v, %+v", err, seen.last)
		}
		at(t, j, 3*time.Minute)
		if _, err := ask(t, s, ref); err != nil || seen.last.Load == nil || !strings.HasPrefix(seen.last.Reason, "2 is right: the load needs ") {
			t.Errorf("%v, %+v", err, seen.last)
		}
		if _, err := ask(t, s, trigger("threshold", "", "saturation", "yes")); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a key that isn't understood: %v", err)
		}
	})
}

// A queue that is empty because its fleet is just full is answered with what the
// HPA holds on, at first because nobody knows, and then because somebody does.
func TestADownGuardIsAnsweredByTheEvaluationLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guarded := saturating
		guarded.Saturation, guarded.Queue = nil, policy.Queue{Metric: policy.FamilyWaiting, Target: 10, Guard: saturating.Saturation}
		for _, tt := range []struct {
			rps   float64
			value float64
		}{{11, 20}, {1, 0}} {
			l := &loaded{began: time.Now().Add(-time.Hour), desired: 2, pods: []string{"a-0", "b-0"}, rps: tt.rps}
			j := NewEvaluationLoop(l, ready, logr.Discard())
			j.SetTriggers(phi4, []policy.Trigger{guarded})
			s, seen := service(l)
			s.Recommender = j
			ref := trigger("threshold", "10", "downGuard", "true", "maxReplicas", "8", "minReplicas", "1")
			if _, err := ask(t, s, ref); err != nil || seen.last.Value != 20 || !strings.Contains(seen.last.Reason, "not known yet") {
				t.Errorf("before anything was judged: %v, %+v", err, seen.last)
			}
			at(t, j, 3*time.Minute)
			if _, err := ask(t, s, ref); err != nil || seen.last.Value != tt.value || seen.last.Load == nil {
				t.Errorf("%v requests a second: %v, %+v", tt.rps, err, seen.last)
			}
		}
	})
}

// An InferenceSet whose owner asks for ever more SLOs is learned for four of them,
// and that is said and counted once.
func TestEstimatorsAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	var said []string
	j := NewEvaluationLoop(&loaded{}, ready, funcr.New(func(_, args string) { said = append(said, args) }, funcr.Options{}))
	j.Metrics = NewMetrics(registry, fleets{})
	var triggers []policy.Trigger
	for n := range 300 {
		trigger := saturating
		trigger.Saturation = &policy.Saturation{TTFT: time.Duration(n+100) * time.Millisecond, ITL: 60 * time.Millisecond}
		triggers = append(triggers, trigger)
	}
	for range 3 {
		j.SetTriggers(phi4, triggers)
	}
	if len(j.scalers) != maxFleetScalers {
		t.Errorf("%d estimators for one InferenceSet, want %d", len(j.scalers), maxFleetScalers)
	}
	if _, first := j.scalers[must(fleetKeyOf(triggers[0]))]; !first {
		t.Error("the first isn't among them")
	}
	if got := gather(t, registry); !slices.Equal(got, []string{"over_limit_total{limit=fleet_scalers} 296"}) || len(said) != 1 {
		t.Errorf("counted %q, said %q", got, said)
	}
	j.SetTriggers(phi4, triggers[:1])
	j.SetTriggers(phi4, triggers[:5])
	if len(j.scalers) != maxFleetScalers || len(said) != 2 {
		t.Errorf("after a while with one, %d estimators, said %q", len(j.scalers), said)
	}
}

func must(c fleetKey, _ bool) fleetKey { return c }
