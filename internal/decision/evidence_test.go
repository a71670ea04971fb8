package decision

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// tenWaiting are the ways to scale on ten waiting requests for each replica.
func tenWaiting() map[string]policy.Trigger {
	quick := listOf(policy.And, policy.Metric{Name: waitingMetric, Up: 10, Down: 1, Window: 10 * time.Second},
		policy.Metric{Name: queueTime, Kind: policy.Histogram, Up: 2, Down: 1, Window: 30 * time.Second})
	quick.List.UpCooldown = 10 * time.Second
	return map[string]policy.Trigger{
		"a threshold":      tenEach,
		"a mean":           byHand(policy.ServiceAvg, policy.AverageValue),
		"a mean, a Value":  byHand(policy.ServiceAvg, policy.Value),
		"a mean over time": byHand(policy.WindowedAvg, policy.AverageValue),
		"a list":           quick,
	}
}

// Pods that time out right after a loaded reading are evidence of load: two steps up,
// and no more until they are read again.
func TestASaturatedFleetThatTimesOutGoesUp(t *testing.T) {
	for what, trigger := range tenWaiting() {
		s := tell(t, 2, trigger).pod("a", pending(40), ends(10, 5)).pod("b", pending(40), ends(10, 5))
		s.at(2 * time.Minute)
		s.pod("a", turnsSlow).pod("b", turnsSlow).at(140 * time.Second)
		for _, ordered := range []string{"c", "d"} {
			v := s.recommendation()
			if v.Confidence != Bounded || v.Replicas <= s.fleet.Desired || v.Replicas > 4 ||
				!strings.Contains(v.Reason, "phi-4-a-0 and 1 more time out since a loaded reading ") || !strings.Contains(v.Reason, "two steps up at most") {
				t.Errorf("%s, %s: %s %s", what, ordered, v.Confidence, v.Reason)
			}
			s.scaled(s.fleet.Desired+1).pod(ordered, breaks) // it isn't waited for
			s.at(s.now.Sub(s.began) + 15*time.Second)
		}
		if v := s.recommendation(); v.Replicas != 4 || v.Confidence == Bounded {
			t.Errorf("%s: the third step: %s %s", what, v.Confidence, v.Reason)
		}
	}
	// A new reading brings two more.
	s := tell(t, 2, tenEach).pod("a", pending(90)).at(time.Minute).pod("a", turnsSlow).at(80 * time.Second)
	s.scaled(3).at(85 * time.Second).scaled(4)
	s.at(90*time.Second).wants(0, Unknown, "cannot tell the load")
	s.pod("a", answers).at(95*time.Second).pod("a", turnsSlow)
	s.at(120*time.Second).wants(60, Bounded, "4 → 6: vllm:num_requests_waiting is unknown; 1 of 1 can't be read")
}

// A large fleet goes up by the least that its HPA moves on, and one on a target that
// has no thousandths any more holds.
func TestALargeFleetThatTimesOutGoesUp(t *testing.T) {
	for target, want := range map[float64]int32{10: 34, .7: 34, 1e12: 30} {
		trigger := policy.Trigger{Queue: policy.Queue{Metric: waitingMetric, Target: target}}
		members := make([]sample.Replica, 30)
		for i := range members {
			members[i] = aged(reads(2*target, .5), 20*time.Second)
			members[i].TimedOut = t0
		}
		if v := Evaluate(trigger, fleet(30, members...), t0); v.Replicas != want {
			t.Errorf("%v for each: %s", target, v.Reason)
		}
	}
}

// What is no evidence moves nothing, and what is reverses nothing.
func TestWhatIsNoEvidenceOfLoad(t *testing.T) {
	for what, trigger := range tenWaiting() {
		for how, s := range map[string]*story{
			"it can't be reached":           tell(t, 2, trigger).pod("a", pending(40), ends(9, 5)).at(2*time.Minute).pod("a", hangs).at(140 * time.Second),
			"it was read below the target":  tell(t, 2, trigger).pod("a", pending(9), ends(9, 5)).at(2*time.Minute).pod("a", turnsSlow).at(140 * time.Second),
			"it was read over a minute ago": tell(t, 2, trigger).pod("a", pending(40), ends(9, 5)).at(2*time.Minute).pod("a", turnsSlow).at(182 * time.Second),
			"it is being deleted":           tell(t, 2, trigger).pod("a", pending(40), ends(9, 5)).pod("b").at(2*time.Minute).pod("a", turnsSlow, leaves).at(140 * time.Second),
		} {
			if v := s.recommendation(); v.Replicas > 2 || strings.Contains(v.Reason, "time out since") || strings.Contains(v.Reason, "times out since") {
				t.Errorf("%s, %s: %s %s", what, how, v.Confidence, v.Reason)
			}
		}
	}
}

// timingOut draws a fleet some of which time out since readings of any load.
func timingOut(t *rapid.T) (policy.Trigger, sample.Fleet) {
	all := tenWaiting()
	names := []string{"a threshold", "a mean", "a mean, a Value", "a mean over time", "a gauge's list"}
	all["a gauge's list"] = listOf(policy.Or, waitingList, policy.Metric{Name: kvUsage, Up: .8, Down: .3, Window: time.Minute})
	trigger := all[rapid.SampledFrom(names).Draw(t, "trigger")]
	members := make([]sample.Replica, rapid.IntRange(1, 6).Draw(t, "replicas"))
	for i := range members {
		members[i] = reads(rapid.SampledFrom([]float64{0, 1, 9, 10, 11, 40, 256}).Draw(t, "waiting"), rapid.Float64Range(0, 1).Draw(t, "usage"))
		members[i].ReadySince = t0.Add(-time.Hour)
		if age := rapid.SampledFrom([]int{0, 0, 20, 40, 59, 61, 300}).Draw(t, "age"); age > 0 {
			members[i] = aged(members[i], time.Duration(age)*time.Second)
			if rapid.IntRange(0, 3).Draw(t, "accepted") > 0 {
				members[i].TimedOut = t0
			}
		}
	}
	f := fleet(int32(len(members)), members...)
	f.Interval = step5
	return trigger, f
}

// aged was read last so long ago.
func aged(r sample.Replica, by time.Duration) sample.Replica {
	all := slices.Collect(r.History.Backward())
	var h sample.History
	for _, s := range slices.Backward(all) {
		earlier := *s
		earlier.At = s.At.Add(-by)
		h.Add(&earlier, time.Hour)
	}
	r.History, r.Last, r.Failure = h, h.Newest(), "no answer within 2s"
	return r
}

func TestEvidenceRaisesAndNeverLowers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trigger, f := timingOut(t)
		without := clone(f)
		for i := range without.Replicas {
			without.Replicas[i].TimedOut = time.Time{}
		}
		with, plain := Evaluate(trigger, f, t0), Evaluate(trigger, without, t0)
		if with.Replicas < plain.Replicas || with.Replicas > max(plain.Replicas, f.Desired+sample.EvidenceSteps) || with.Replicas < f.Desired && with.Value != plain.Value {
			t.Fatalf("%d, without evidence %d: %s", with.Replicas, plain.Replicas, with.Reason)
		}
		// Any value that is greater never lowers the answer.
		i := rapid.IntRange(0, len(f.Replicas)-1).Draw(t, "replica")
		more := clone(f)
		r := &more.Replicas[i]
		page := r.Last.Families()
		greater := reads(page[0].Sum+rapid.Float64Range(0, 50).Draw(t, "more"), page[1].Sum)
		if by := t0.Sub(r.Last.At); by > 5*time.Second {
			greater = aged(greater, by-t0.Sub(greater.Last.At))
			r.History, r.Last = greater.History, greater.Last
		} else {
			r.History, r.Last = greater.History, greater.Last
		}
		high := Evaluate(trigger, more, t0)
		if high.Replicas < with.Replicas || with.Confidence != Unknown && high.Value < with.Value {
			t.Fatalf("from %v (%s)\nto %v (%s)", with.Value, with.Reason, high.Value, high.Reason)
		}
	})
}

// However the HPA follows, without a new reading the fleet ends two steps further at
// most.
func TestEvidenceBringsTwoStepsAtMost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trigger, f := timingOut(t)
		for i := range f.Replicas {
			if f.Replicas[i].Failure == "" {
				f.Replicas[i] = aged(f.Replicas[i], 20*time.Second)
			}
		}
		began, rises := f.Desired, 0
		for s := 0; s <= 60; s += 5 {
			now := t0.Add(time.Duration(s) * time.Second)
			v := Evaluate(trigger, f, now)
			if v.Replicas < f.Desired {
				return // what is certain without the lost ones
			}
			if v.Replicas > f.Desired {
				to := v.Replicas
				if rapid.Bool().Draw(t, "paced") {
					to = f.Desired + 1
				}
				f.Rises = append(f.Rises, sample.Rise{At: now, From: f.Desired})
				f.Desired, rises = to, rises+1
			}
		}
		if f.Desired > began+sample.EvidenceSteps || rises > sample.EvidenceSteps {
			t.Fatalf("from %d to %d in %d steps", began, f.Desired, rises)
		}
	})
}
