package decision

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// freezes stops the engine with what its gauges say.
func freezes(s *story, p *pod) {
	hangs(s, p)
	p.Frozen, p.Failure = true, "the engine is frozen: 10 requests run, but no step was finished for 1m0s"
}

// Five GPUs whose gauges stayed after a mass abort are let go after the grace; where
// anybody waits, or was refused, or may be, they are kept.
func TestAFrozenFleetIsLetGo(t *testing.T) {
	const counted = "; phi-4-a-0 and 1 more counted as idle: frozen for over 10 min while nothing waits"
	refused := func(_ *story, p *pod) { p.FrozenDemand = true }
	for _, trigger := range []policy.Trigger{
		{Queue: policy.Queue{Metric: policy.FamilyRunning, Target: 10}},
		{Queue: policy.Queue{Metric: policy.FamilyRunning, Target: 10, Aggregation: policy.WindowedAvg, Window: time.Minute}},
		listOf(policy.And, policy.Metric{Name: policy.FamilyRunning, Up: 20, Down: 5, Window: time.Minute}, queueList),
	} {
		fleet := func(changes ...does) *story {
			s := tell(t, 2, trigger).pod("a", running(10), ends(10, 5)).pod("b", running(10), ends(10, 5))
			s.at(15 * time.Minute)
			return s.pod("a", freezes).pod("b", append([]does{freezes}, changes...)...)
		}
		s := fleet().at(24 * time.Minute)
		if v := s.recommendation(); v.Replicas != 2 || v.Confidence == Measured {
			t.Errorf("within the grace: %s", v.Reason)
		}
		v := s.at(26 * time.Minute).recommendation()
		if v.Replicas >= 2 || v.Confidence != Bounded || !strings.HasSuffix(v.Reason, counted) {
			t.Errorf("after it: %s %s", v.Confidence, v.Reason)
		}
		if len(v.Read) != 0 || len(v.Unreadable) != 2 || !v.Unreadable[0].GivenUp || !strings.Contains(v.Unreadable[0].Why, "frozen") {
			t.Errorf("told of the pods: %v, %+v", v.Read, v.Unreadable)
		}
		// It wakes up.
		s.pod("a", answers, func(_ *story, p *pod) { p.Frozen = false }).pod("b", answers, func(_ *story, p *pod) { p.Frozen = false })
		if v := s.at(28 * time.Minute).recommendation(); strings.Contains(v.Reason, "idle") || len(v.Read) != 2 {
			t.Errorf("awake again: %s", v.Reason)
		}
		for what, s := range map[string]*story{
			"a request waits there or was refused": fleet(refused),
			"one waits elsewhere":                  fleet().pod("c", pending(1), running(10)),
			"another can't be read":                fleet().pod("c", hangs),
			"one has frozen just now":              fleet(answers, func(_ *story, p *pod) { p.Frozen = false }),
		} {
			s.at(26 * time.Minute)
			if strings.HasPrefix(what, "one has") {
				s.pod("b", freezes)
				s.at(27 * time.Minute)
			}
			if v := s.recommendation(); v.Replicas < 2 {
				t.Errorf("%s: %s", what, v.Reason)
			}
		}
	}
}

// Automatic mode lets a frozen fleet go too, and a guard doesn't hold it.
func TestAFrozenFleetIsLetGoInAutomaticMode(t *testing.T) {
	frozen := func(trigger policy.Trigger, demand bool) Recommendation {
		var m Scaler
		workers := []*worker{worksAt(5), worksAt(5), worksAt(5)}
		thinks(&m, trigger, 0, 30*time.Minute, 3, workers...)
		for _, w := range workers {
			w.silent, w.Frozen, w.FrozenDemand, w.Failure = true, true, demand, "the engine is frozen"
		}
		end := 90 * time.Minute
		f := thinks(&m, trigger, 30*time.Minute+5*time.Second, end, 3, workers...)
		return m.Current(trigger, f, t0.Add(end))
	}
	for _, trigger := range []policy.Trigger{saturates(), guards()} {
		if v := frozen(trigger, false); v.Replicas >= 3 || !strings.HasSuffix(v.Reason, "counted as idle: frozen for over 10 min while nothing waits") {
			t.Errorf("nothing waits: %s", v.Reason)
		}
		if v := frozen(trigger, true); v.Replicas != 3 {
			t.Errorf("something does: %s", v.Reason)
		}
	}
}

// Where there is no quota, a replica that is broken is stood in for once.
func TestABrokenReplicaIsStoodInForOnce(t *testing.T) {
	for what, trigger := range map[string]policy.Trigger{
		"a list":      listOf(policy.And, waitingList),
		"a threshold": {Queue: policy.Queue{Metric: waitingMetric, Target: 2}},
	} {
		for how, dead := range map[string]does{"broken": breaks, "overdue": starts} {
			s := tell(t, 1, trigger).pod("a", pending(50))
			s.at(2 * time.Minute)
			for s.now.Sub(s.began) < 8*time.Hour {
				if v := s.recommendation(); v.Replicas > s.fleet.Desired {
					s.scaled(s.fleet.Desired + 1) // the HPA's pace
					s.pod(fmt.Sprintf("x%d", s.fleet.Desired), dead)
				}
				s.at(s.now.Sub(s.began) + 5*time.Minute)
			}
			v := s.recommendation()
			// A threshold orders without waiting for who starts.
			if most := map[string]int32{"a list": 3, "a threshold": 9}[what]; s.fleet.Desired > most || how == "broken" && s.fleet.Desired != 3 {
				t.Errorf("%s, %s: %d replicas after a working day: %s", what, how, s.fleet.Desired, v.Reason)
			}
			if !strings.Contains(v.Reason, "no more is ordered, because phi-4-x3, which was to stand in for another one, is stuck too: ") {
				if what == "a list" {
					t.Errorf("%s, %s: %s", what, how, v.Reason)
				}
			}
			// One comes after all: there is hope for others.
			s.pod("x3", turnsReady, pending(50), func(s *story, p *pod) { p.Ordered = s.now })
			s.at(s.now.Sub(s.began) + 10*time.Minute)
			if v := s.recommendation(); v.Replicas <= s.fleet.Desired {
				t.Errorf("%s, %s: once one serves: %s", what, how, v.Reason)
			}
		}
	}
}

// Replicas of one order that fail are one step that does, and one that serves since
// tells that others can.
func TestWhatIsOrderedInVain(t *testing.T) {
	at := func(phase sample.Phase, minutes int) sample.Replica {
		r := in(phase)
		r.Ordered, r.Why = t0.Add(-time.Duration(minutes)*time.Minute), "no quota"
		return r
	}
	gone := func(minutes int) sample.Replica {
		r := at(sample.Broken, minutes)
		r.Ended = true
		return r
	}
	for _, tt := range []struct {
		story    string
		replicas []sample.Replica
		vain     bool
	}{
		{"eight of one order", slices.Repeat([]sample.Replica{at(sample.Broken, 60)}, 8), false},
		{"two, one after the other", []sample.Replica{at(sample.Serving, 90), at(sample.Broken, 60), at(sample.Broken, 50)}, true},
		{"one that serves between", []sample.Replica{at(sample.Serving, 55), at(sample.Broken, 60), at(sample.Broken, 50)}, false},
		{"one that serves after", []sample.Replica{at(sample.Serving, 10), at(sample.Broken, 60), at(sample.Broken, 50)}, false},
		{"evicted ones, which served before", []sample.Replica{at(sample.Serving, 90), gone(60), gone(50)}, false},
		{"overdue ones", []sample.Replica{at(sample.Serving, 90), at(sample.Starting, 60), at(sample.Starting, 50)}, true},
		{"one that still starts", []sample.Replica{at(sample.Serving, 90), at(sample.Starting, 60), at(sample.Starting, 20)}, false},
	} {
		if why := futileScaleUp(fleet(3, tt.replicas...), t0); (why != "") != tt.vain {
			t.Errorf("%s: %q", tt.story, why)
		}
	}
}

func TestAutomaticModeStandsInOnceToo(t *testing.T) {
	var m Scaler
	roomy := saturates()
	roomy.Bounds.Max = 20
	workers := []*worker{worksAt(15), worksAt(15), worksAt(15), worksAt(15), worksAt(15)}
	thinks(&m, roomy, 0, 3*time.Minute, 5, workers...)
	for _, minutes := range []int{-20, -10} {
		workers = append(workers, &worker{Replica: sample.Replica{Phase: sample.Broken, Ordered: t0.Add(time.Duration(minutes) * time.Minute), Why: "no quota"}})
	}
	f := thinks(&m, roomy, 3*time.Minute, 5*time.Minute, 7, workers...)
	v := m.Current(roomy, f, t0.Add(5*time.Minute))
	if v.Replicas != 7 || v.Confidence != Held || !strings.Contains(v.Reason, "is stuck too: no quota") {
		t.Errorf("%s", v.Reason)
	}
	if diff := cmp.Diff([]string{"no quota", "no quota"}, []string{v.ReplicaStates[5].Stuck, v.ReplicaStates[6].Stuck}); diff != "" {
		t.Error(diff)
	}
}
