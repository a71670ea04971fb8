package decision

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/hpa"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// guards is a queue's trigger with a guard.
func guards() policy.Trigger {
	return policy.Trigger{
		Queue:  policy.Queue{Metric: policy.FamilyWaiting, Target: 10, Guard: &policy.Saturation{TTFT: 2 * time.Second, ITL: 60 * time.Millisecond}},
		Bounds: policy.Bounds{Min: 1, Max: 10},
	}
}

func TestAFullFleetWithoutAQueueIsGuarded(t *testing.T) {
	for _, tt := range []struct {
		story  string
		rps    float64
		answer Confidence
		want   float64
		reason string
	}{
		{"each is full: the HPA holds", 12, Held, 40, "holding at 4: vllm:num_requests_waiting is 0 in total on 4 replicas, 10 wanted on each, but the load needs "},
		{"each idles: the queue has its way", 1, Measured, 0, "4 → 1: vllm:num_requests_waiting is 0"},
	} {
		var m Scaler
		f := thinks(&m, guards(), 0, 2*time.Minute, 4, worksAt(tt.rps), worksAt(tt.rps), worksAt(tt.rps), worksAt(tt.rps))
		v := m.Current(guards(), f, t0.Add(2*time.Minute))
		if v.Confidence != tt.answer || v.Value != tt.want || !strings.HasPrefix(v.Reason, tt.reason) {
			t.Errorf("%s: %v %v: %s", tt.story, v.Confidence, v.Value, v.Reason)
		}
	}
	v := new(Scaler).Current(guards(), thinks(new(Scaler), guards(), 0, time.Minute, 2, worksAt(1), worksAt(1)), t0.Add(time.Minute))
	if v.Value != 20 || !strings.HasSuffix(v.Reason, "but what the load needs is not known yet") {
		t.Errorf("nothing known yet: %v %s", v.Value, v.Reason)
	}
}

// A guard holds by the tolerance that the HPA has: six on each of four, ten wanted, go
// down by an HPA's own, and stay by that of our ScaledObjects.
func TestAGuardKnowsTheHPAsTolerance(t *testing.T) {
	for _, tt := range []struct {
		story      string
		tolerances *policy.Tolerances
		value      float64
	}{
		{"one of our ScaledObjects", nil, 24},
		{"the HPA's own", &policy.Tolerances{Up: .1, Down: .1}, 40},
		{"one of a half", &policy.Tolerances{Up: .1, Down: .5}, 24},
		{"none at all", &policy.Tolerances{}, 40},
	} {
		var m Scaler
		f := thinks(&m, guards(), 0, 2*time.Minute, 4, worksAt(12), worksAt(12), worksAt(12), worksAt(12))
		for i := range f.Replicas {
			blanked(&f.Replicas[i], policy.FamilyWaiting)
			printed(&f.Replicas[i], policy.FamilyWaiting, 6)
		}
		trigger := guards()
		trigger.Tolerances = tt.tolerances
		v := m.Current(trigger, f, t0.Add(2*time.Minute))
		if h := hpa.For(trigger, f); v.Value != tt.value || h.Replicas(v.Value) != 4 {
			t.Errorf("%s: %v, of which it makes %d: %s", tt.story, v.Value, h.Replicas(v.Value), v.Reason)
		}
	}
}

// blanked takes families off a replica's newest page.
func blanked(r *sample.Replica, families ...string) {
	r.Last = changed(r.Last, func(all []sample.Family) []sample.Family {
		return slices.DeleteFunc(all, func(f sample.Family) bool { return slices.Contains(families, f.Name) })
	})
}

// printed adds a gauge to a replica's newest page.
func printed(r *sample.Replica, gauge string, sum float64) {
	r.Last = changed(r.Last, func(all []sample.Family) []sample.Family {
		return append(all, sample.Family{Name: gauge, Kind: sample.Gauge, Sum: sum, Engines: 1})
	})
}

// Where no page can ever tell what the load needs, the queue has its way as it
// would without a guard; where that is only not known yet, the fleet is kept.
func TestAGuardThatCanNeverKnowStandsAside(t *testing.T) {
	const aside, holds = "; not guarded, because no page tells what the load needs: ", "but what the load needs is not known yet"
	all := slices.Concat(requiredFamilies, []string{policy.FamilyKV, policy.FamilyTPOT})
	for _, tt := range []struct {
		story  string
		metric string
		// lacks are taken off the pages of the first and the second replica.
		lacks [2][]string
		value float64
		says  string
	}{
		{"another engine, or an exporter of its own", "queue_length", [2][]string{all, all}, 0, aside + "phi-4-a-0 has no " + policy.FamilyRunning},
		{"a vLLM that doesn't time its tokens yet", policy.FamilyWaiting, [2][]string{{policy.FamilyITL}, {policy.FamilyITL}}, 0, aside + "phi-4-a-0 has no " + policy.FamilyITL},
		{"each page lacks something else", policy.FamilyWaiting, [2][]string{{policy.FamilyRunning}, {policy.FamilyITL}}, 0, aside + "phi-4-a-0 has no " + policy.FamilyRunning},
		{"one page has it all, and was not looked at for long enough", policy.FamilyWaiting, [2][]string{{policy.FamilyRunning}, nil}, 20, holds},
		{"nobody has judged them yet", policy.FamilyWaiting, [2][]string{}, 20, holds},
	} {
		t.Run(tt.story, func(t *testing.T) {
			f := thinks(new(Scaler), guards(), 0, time.Minute, 2, worksAt(1), worksAt(1))
			trigger := guards()
			trigger.Queue.Metric = tt.metric
			for i := range f.Replicas {
				blanked(&f.Replicas[i], tt.lacks[i]...)
				printed(&f.Replicas[i], "queue_length", 0)
			}
			var m Scaler
			for range 3 { // however often it is evaluated
				v := m.Current(trigger, f, t0.Add(time.Minute))
				if v.Value != tt.value || !strings.Contains(v.Reason, tt.says) {
					t.Fatalf("%v: %s", v.Value, v.Reason)
				}
				if tt.value > 0 {
					break
				}
				m.Update(trigger, f, t0.Add(time.Minute))
			}
		})
	}
}

// What the last minutes needed is no reason once nothing runs anywhere, as long as
// everybody was read.
func TestAGuardLetsGoOfAnIdleFleet(t *testing.T) {
	for _, tt := range []struct {
		story   string
		running [2]float64
		unread  bool
		value   float64
	}{
		{"nothing runs", [2]float64{0, 0}, false, 0},
		{"one still does", [2]float64{0, 1}, false, 20},
		{"one can't be read", [2]float64{0, 0}, true, 20},
	} {
		var m Scaler
		f := thinks(&m, guards(), 0, 5*time.Minute, 2, worksAt(9), worksAt(9))
		for i := range f.Replicas {
			r := &f.Replicas[i]
			blanked(r, policy.FamilyRunning)
			printed(r, policy.FamilyRunning, tt.running[i])
		}
		if tt.unread {
			f.Replicas[1].Last, f.Replicas[1].Failure = nil, "no answer within 2s"
		}
		if v := m.Current(guards(), f, t0.Add(5*time.Minute)); v.Value != tt.value {
			t.Errorf("%s: %v: %s", tt.story, v.Value, v.Reason)
		}
	}
}

// A gap in the judgements is no proof of idleness, and none in the readings.
func TestAGuardHoldsInAGap(t *testing.T) {
	var m Scaler
	f := thinks(&m, guards(), 0, 5*time.Minute, 2, worksAt(1), worksAt(1))
	if v := m.Current(guards(), f, t0.Add(5*time.Minute)); v.Value != 0 {
		t.Fatalf("before: %s", v.Reason)
	}
	m.updated = t0.Add(4 * time.Minute)
	if v := m.Current(guards(), f, t0.Add(5*time.Minute)); v.Value != 20 || v.Confidence != Held {
		t.Errorf("judged a minute ago: %v %s", v.Value, v.Reason)
	}
}

// A page that lacks what the others have counts as one that can't be read: after
// its grace it stands for the most loaded of them.
func TestAGuardGivesUpAPageThatLacksWhatOthersHave(t *testing.T) {
	at := t0.Add(5 * time.Minute)
	for _, tt := range []struct {
		rps   float64
		value float64
	}{{1, 0}, {9, 20}} {
		var m Scaler
		f := thinks(&m, guards(), 0, 5*time.Minute, 2, worksAt(1), worksAt(tt.rps))
		blanked(&f.Replicas[0], policy.FamilyRunning)
		f.Replicas[0].Expected = t0.Add(-time.Hour)
		m.Update(guards(), f, at)
		if v := m.Current(guards(), f, at); v.Value != tt.value {
			t.Errorf("beside one at %v a second: %v %s", tt.rps, v.Value, v.Reason)
		}
	}
}

// A model that is slower than the SLO, however little it has to do, is no
// reason to keep a fleet that the queue would release.
func TestAnSLOThatCantBeKeptGuardsNothing(t *testing.T) {
	slow := func(rps float64) *worker {
		w := worksAt(rps)
		w.slow = true
		return w
	}
	for _, tt := range []struct {
		story string
		of    func(rps float64) *worker
		rps   float64
		value float64
		says  string
	}{
		{"hardly any load", slow, .1, 0, "4 → 1: vllm:num_requests_waiting is 0"},
		{"a third of what each could do", slow, 5, 0, "; not guarded, because most answers are later than the SLO however little a replica has to do"},
		{"more than half on a model that keeps it", worksAt, 9, 40, "but the load needs "},
	} {
		var m Scaler
		f := thinks(&m, guards(), 0, 20*time.Minute, 4, tt.of(tt.rps), tt.of(tt.rps), tt.of(tt.rps), tt.of(tt.rps))
		v := m.Current(guards(), f, t0.Add(20*time.Minute))
		if v.Value != tt.value || !strings.Contains(v.Reason, tt.says) {
			t.Errorf("%s: %v %s (%+v)", tt.story, v.Value, v.Reason, v.Load)
		}
	}
}

// The guard never makes the answer greater than the one on which the HPA holds,
// and never stands in the way of more.
func TestAGuardOnlyEverHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := fleet(rapid.Int32Range(1, 40).Draw(t, "desired"))
		trigger := guards()
		trigger.Queue.Target = rapid.Float64Range(.5, 50).Draw(t, "target")
		queued := Recommendation{
			Confidence: Measured, Desired: f.Desired, Reason: "so",
			Value: rapid.Float64Range(0, 3000).Draw(t, "total"),
		}
		queued.Replicas = trigger.Bounds.Clamp(hpa.Replicas(queued.Value, trigger.Queue.Target, f.Desired, policy.UpTolerance, policy.DownTolerance))
		var load *Load
		if rapid.Bool().Draw(t, "known") {
			load = &Load{Present: rapid.Float64Range(0, 60).Draw(t, "need"), Slow: rapid.Bool().Draw(t, "vain")}
		}
		v := guard(queued, load, trigger, f, t0)
		hold := trigger.Queue.Target * float64(f.Desired)
		switch {
		case queued.Replicas >= f.Desired && (v.Value != queued.Value || v.Confidence != queued.Confidence):
			t.Fatalf("%v became %v", queued, v)
		case queued.Replicas < f.Desired && v.Value != queued.Value && v.Value != hold:
			t.Fatalf("%v is neither the queue's %v nor the %v on which the HPA holds", v.Value, queued.Value, hold)
		case load != nil && (load.Present <= float64(f.Desired-1) || load.Slow) && v.Value != queued.Value:
			t.Fatalf("a need of %v keeps %d replicas", load.Present, f.Desired)
		}
		if got := hpa.Replicas(v.Value, trigger.Queue.Target, f.Desired, policy.UpTolerance, policy.DownTolerance); v.Confidence == Held && got != f.Desired {
			t.Fatalf("the HPA goes to %d on what should hold %d", got, f.Desired)
		}
	})
}

// turns goes over to another load after so long.
func (w *worker) turns(after time.Duration, rps float64) {
	w.spent = w.spends(after.Seconds())
	w.base += w.rps * (after.Seconds() - w.since)
	w.since, w.rps, w.running = after.Seconds(), rps, rps
}

// When a load that has been steady for hours ends, the guard lets go within the
// three minutes that a load is looked at over, whatever was foretold of it: the
// rest is the HPA's own pace.
func TestAGuardLetsGoWhenTheLoadHasEnded(t *testing.T) {
	for _, rps := range []float64{0, 1} {
		var m Scaler
		workers := []*worker{worksAt(9), worksAt(9), worksAt(9), worksAt(9)}
		const end = 3 * time.Hour
		noise := rand.New(rand.NewPCG(1, 2))
		for at := time.Duration(0); at < end; at += time.Minute {
			load := 9 * (.8 + .4*noise.Float64())
			for _, w := range workers {
				w.turns(at, load)
			}
			thinks(&m, guards(), at, at+55*time.Second, 4, workers...)
		}
		f := thinks(&m, guards(), end, end, 4, workers...)
		if v := m.Current(guards(), f, t0.Add(end)); v.Confidence != Held {
			t.Fatalf("under load: %s", v.Reason)
		}
		for _, w := range workers {
			w.turns(end, rps)
		}
		held := time.Duration(0)
		for ; held < time.Hour; held += 15 * time.Second {
			at := end + held
			f = thinks(&m, guards(), at, at+10*time.Second, 2, workers...)
			if v := m.Current(guards(), f, t0.Add(at+10*time.Second)); v.Confidence == Measured && v.Replicas == 1 {
				break
			}
		}
		if held > 3*time.Minute {
			t.Errorf("held for %s after the load fell to %v requests a second", held, rps)
		}
	}
}
