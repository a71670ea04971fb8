package decision

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/aggregate"
	"github.com/kaito-project/keda-kaito-scaler/internal/hpa"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// saturates is the trigger of an InferenceSet with nothing but a bound.
func saturates() policy.Trigger {
	return policy.Trigger{
		Saturation: &policy.Saturation{TTFT: 2 * time.Second, ITL: 60 * time.Millisecond},
		Bounds:     policy.Bounds{Min: 1, Max: 50},
	}
}

// thinks lets a scaler watch a fleet of workers for so long, and returns it with
// the fleet as it is at the end.
func thinks(m *Scaler, trigger policy.Trigger, from, until time.Duration, desired int32, workers ...*worker) sample.Fleet {
	var f sample.Fleet
	for at := from; at <= until; at += 5 * time.Second {
		now := t0.Add(at)
		for _, w := range workers {
			if w.Phase == sample.Serving && !w.silent {
				w.Expected = t0.Add(-time.Hour)
				w.History.Add(w.page(now, at.Seconds()), 2*time.Minute)
				w.Last = w.History.Newest()
			}
		}
		all := make([]sample.Replica, len(workers))
		for i, w := range workers {
			all[i] = w.Replica
		}
		f = fleet(desired, all...)
		m.Recommend(trigger, f, now)
	}
	return f
}

func TestAnAnswerBetweenTwoUpdates(t *testing.T) {
	var m Scaler
	f := thinks(&m, saturates(), 0, 3*time.Minute, 1, worksAt(15), worksAt(15))
	judged := t0.Add(3 * time.Minute)
	to := m.newest.Replicas
	if to < 3 || to > 5 {
		t.Fatalf("three replicas' worth on one: %s", m.newest.Reason)
	}
	for _, tt := range []struct {
		story   string
		desired int32
		later   time.Duration
		answer  Confidence
		want    int32
		reason  string
	}{
		{"a moment later", 1, 4 * time.Second, Measured, to, fmt.Sprintf("1 → %d: the load needs ", to)},
		{"the HPA is on its way", 2, 5 * time.Second, Measured, to, fmt.Sprintf("2 → %d: the load needs ", to)},
		{"the HPA has got there", to, 6 * time.Second, Measured, to, fmt.Sprintf("%d is right, as evaluated at 1: the load needs ", to)},
		{"somebody asked for more", 7, 7 * time.Second, Measured, 7, "7 until it is evaluated again, last at 1: the load needs "},
		{"the process was asleep", 1, time.Minute, Held, 1, "holding at 1: the fleet was evaluated last 1 min ago"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			f.Desired = tt.desired
			v := m.Current(saturates(), f, judged.Add(tt.later))
			if v.Confidence != tt.answer || v.Value != float64(tt.want) || v.Desired != tt.desired || !strings.HasPrefix(v.Reason, tt.reason) {
				t.Errorf("%v %v of %d: %s\nwant %v %v: %s…", v.Confidence, v.Value, v.Desired, v.Reason, tt.answer, tt.want, tt.reason)
			}
			if len(v.ReplicaStates) != 2 {
				t.Errorf("%d members", len(v.ReplicaStates))
			}
		})
	}
}

func TestAScalerWithoutAnUpdateHolds(t *testing.T) {
	v := new(Scaler).Current(saturates(), fleet(4), t0)
	if v.Confidence != Held || v.Value != 4 || v.Replicas != 4 || v.Reason != "holding at 4: the fleet has not been evaluated yet" {
		t.Errorf("%+v", v)
	}
}

func state(t *testing.T, m *Scaler) []byte {
	t.Helper()
	state, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// What several calls of KEDA's cost in between teaches nothing.
func TestAScalerUpdatesAtItsIntervalHoweverOftenKEDAPolls(t *testing.T) {
	var often, seldom Scaler
	thinks(&often, saturates(), 0, 5*time.Minute, 1, worksAt(8))
	w := worksAt(8)
	for at := time.Duration(0); at <= 5*time.Minute; at += Interval {
		for read := max(0, at-Interval+5*time.Second); read <= at; read += 5 * time.Second {
			w.Expected = t0.Add(-time.Hour)
			w.History.Add(w.page(t0.Add(read), read.Seconds()), 2*time.Minute)
		}
		w.Last = w.History.Newest()
		seldom.Recommend(saturates(), fleet(1, w.Replica), t0.Add(at))
	}
	if diff := cmp.Diff(state(t, &often), state(t, &seldom)); diff != "" {
		t.Errorf("asked every 5 s it learned otherwise than asked every 15 s: %s", diff)
	}
}

// A scaler that remembers a day, and hasn't seen the last hour of it, releases
// nothing before it has seen a whole window.
func TestAGapIsNoIdleness(t *testing.T) {
	var m Scaler
	workers := []*worker{worksAt(1), worksAt(1), worksAt(1), worksAt(1)}
	f := thinks(&m, saturates(), 0, 40*time.Minute, 4, workers...)
	if v := m.Current(saturates(), f, t0.Add(40*time.Minute)); v.Value != 3 {
		t.Fatalf("before the gap: %s", v.Reason)
	}
	m.automatic.Watched = time.Time{}
	for _, w := range workers {
		w.History = sample.History{}
	}
	const window = 30 * time.Minute // three cold starts of 10 min
	before, end := time.Hour+window-time.Minute, time.Hour+window
	f = thinks(&m, saturates(), time.Hour, before, 4, workers...)
	v := m.Current(saturates(), f, t0.Add(before))
	if v.Value != 4 || v.Confidence != Held || !v.Waiting || !strings.Contains(v.Reason, "a step down is not taken before the fleet was watched for another 60 s") {
		t.Errorf("a minute before the window has been watched: %v %s", v.Value, v.Reason)
	}
	f = thinks(&m, saturates(), before, end, 4, workers...)
	if v := m.Current(saturates(), f, t0.Add(end)); v.Value != 3 {
		t.Errorf("when it has been watched: %s", v.Reason)
	}
}

// Kubernetes before 1.35 stays within a tenth, so what is published goes past
// that.
func TestAFixedToleranceIsGonePast(t *testing.T) {
	for _, tt := range []struct {
		desired, wanted int32
		value           float64
		replicas        int32
		hpa             int32
	}{
		{2, 3, 3, 3, 3},
		{10, 11, 12, 12, 12},
		{20, 21, 23, 23, 23},
		{20, 30, 30, 30, 30},
		{12, 12, 12, 12, 12},
		{5, 4, 4, 4, 4},
		{12, 11, 10.799, 11, 11},
		{40, 39, 40, 40, 40},
		{40, 36, 35.999, 36, 36},
	} {
		f := fleet(tt.desired)
		f.NoTolerance = true
		v := Recommendation{Confidence: Measured, Replicas: tt.wanted, Reason: "x"}
		v.publish(saturates(), f)
		if v.Value != tt.value || v.Replicas != tt.replicas {
			t.Errorf("%d → %d: published %v, said %d, want %v, %d", tt.desired, tt.wanted, v.Value, v.Replicas, tt.value, tt.replicas)
		}
		if got := hpa.Replicas(v.Value, 1, tt.desired, hpa.FixedTolerance, hpa.FixedTolerance); got != tt.hpa {
			t.Errorf("%d → %d: the HPA goes to %d, want %d", tt.desired, tt.wanted, got, tt.hpa)
		}
		if known := strings.Contains(v.Reason, "is published"); known != (tt.replicas > max(tt.wanted, tt.desired)) {
			t.Errorf("%d → %d: %s", tt.desired, tt.wanted, v.Reason)
		}
	}
}

func TestAValueIsDividedForTheHPAThatMultiplies(t *testing.T) {
	trigger := saturates()
	trigger.Use = policy.Value
	v := Recommendation{Confidence: Measured, Replicas: 6}
	v.publish(trigger, fleet(4))
	if v.Value != 1.5 {
		t.Errorf("%v published", v.Value)
	}
}

// Nothing can be said of a page that lacks what saturation goes by, and its
// owner is told what is missing.
func TestMissingFamiliesAreReported(t *testing.T) {
	var m Scaler
	f := thinks(&m, saturates(), 0, time.Minute, 2, worksAt(5))
	r := &f.Replicas[0]
	r.Last = changed(r.Last, func(all []sample.Family) []sample.Family { return all[:5] })
	r.Last.Names = []string{"vllm:generation_tokens"}
	m.Update(saturates(), f, t0.Add(time.Minute))
	v := m.Current(saturates(), f, t0.Add(time.Minute))
	if len(v.MissingMetrics) == 0 || v.MissingMetrics[0] != (aggregate.MissingMetric{Metric: policy.FamilyGenerated, Nearest: "vllm:generation_tokens"}) {
		t.Errorf("missing: %+v", v.MissingMetrics)
	}
}

// What a scaler answers is a whole number of replicas within the bounds, or, where
// nothing is known, none.
func TestAScalerRecommendsWithinTheBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trigger := saturates()
		trigger.Bounds.Max = rapid.Int32Range(1, 12).Draw(t, "max")
		var m Scaler
		var workers []*worker
		for range rapid.IntRange(1, 4).Draw(t, "pods") {
			w := worksAt(rapid.Float64Range(0, 14).Draw(t, "rps"))
			w.waiting = float64(rapid.IntRange(0, 300).Draw(t, "waiting"))
			w.silent = rapid.IntRange(0, 5).Draw(t, "silent") == 0
			workers = append(workers, w)
		}
		desired := rapid.Int32Range(1, trigger.Bounds.Max).Draw(t, "desired")
		f := thinks(&m, trigger, 0, 90*time.Second, desired, workers...)
		v := m.Current(trigger, f, t0.Add(90*time.Second))
		if v.Confidence == Unknown {
			return
		}
		if v.Value != math.Trunc(v.Value) || v.Value < 1 || v.Value > float64(trigger.Bounds.Max) || v.Value != float64(v.Replicas) {
			t.Fatalf("%v published, %d said: %s", v.Value, v.Replicas, v.Reason)
		}
		if len(v.Unreadable) > 0 && v.Replicas < desired {
			t.Fatalf("released with pods unreadable: %s", v.Reason)
		}
	})
}

// A reading that is lost never turns a move back, and a longer queue never asks
// for fewer replicas. (Of a greater throughput the scaler also learns, so there is
// no such rule for that.)
func TestALostReadingNeverReversesAScaler(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "pods")
		rates := make([]float64, n)
		for i := range rates {
			rates[i] = rapid.Float64Range(0, 14).Draw(t, "rps")
		}
		desired := rapid.Int32Range(1, 8).Draw(t, "desired")
		silent := rapid.IntRange(0, n-1).Draw(t, "silent")
		lacks := rapid.Bool().Draw(t, "lacks a family")
		judged := func(waiting float64, lose bool) Recommendation {
			workers := make([]*worker, n)
			for i, rps := range rates {
				workers[i] = worksAt(rps)
				workers[i].Pod = fmt.Sprintf("pod-%d", i)
			}
			var m Scaler
			const seen = 90 * time.Second
			f := thinks(&m, saturates(), 0, seen, desired, workers...)
			r := &f.Replicas[silent]
			longer := workers[silent].page(t0.Add(seen+Interval), (seen + Interval).Seconds())
			longer = changed(longer, func(all []sample.Family) []sample.Family {
				all[1].Sum = waiting
				return all
			})
			r.History.Add(longer, 2*time.Minute)
			r.Last = longer
			if lose {
				if lacks {
					blanked(r, policy.FamilyGenerated)
				} else {
					r.Last, r.Failure, r.Expected = nil, "no answer within 2s", t0
				}
			}
			m.automatic.Watched = t0.Add(-time.Hour)
			at := t0.Add(seen + Interval)
			f.Freshness = time.Minute
			m.Update(saturates(), f, at)
			return m.Current(saturates(), f, at)
		}
		whole, lost := judged(0, false), judged(0, true)
		if lost.Confidence != Unknown && (whole.Replicas-desired)*(lost.Replicas-desired) < 0 {
			t.Fatalf("whole: %s\nlost: %s", whole.Reason, lost.Reason)
		}
		if lost.Confidence != Unknown && lost.Replicas < desired {
			t.Fatalf("released on what can't be read: %s", lost.Reason)
		}
		if lost.Confidence != Unknown && lost.Replicas > max(desired, whole.Replicas) {
			t.Fatalf("ordered for what can't be read: whole: %s\nlost: %s", whole.Reason, lost.Reason)
		}
		more := rapid.Float64Range(0, 300).Draw(t, "more")
		if longer := judged(more, false); longer.Replicas < whole.Replicas {
			t.Fatalf("%s\nwith %v waiting: %s", whole.Reason, more, longer.Reason)
		}
	})
}

// One dead pod doesn't hold a fleet up for ever.
func TestAPodThatWasGivenUpStandsForTheMostLoaded(t *testing.T) {
	dead := worksAt(1)
	dead.silent, dead.Failure = true, "no answer within 2s"
	var m Scaler
	workers := []*worker{worksAt(1), worksAt(2), worksAt(1), dead}
	for i, w := range workers {
		w.Pod = fmt.Sprintf("pod-%d", i)
	}
	f := thinks(&m, saturates(), 0, 40*time.Minute, 4, workers...)
	f.Replicas[3].Expected = t0
	m.Update(saturates(), f, t0.Add(40*time.Minute))
	v := m.Current(saturates(), f, t0.Add(40*time.Minute))
	if v.Value != 3 || v.Confidence != Bounded || len(v.Unreadable) != 1 || !v.Unreadable[0].GivenUp || len(v.Read) != 3 {
		t.Errorf("%v %v: %s, %+v, read %v", v.Confidence, v.Value, v.Reason, v.Unreadable, v.Read)
	}
}

// Six replicas that join a full one take over its load: they don't multiply it,
// neither before they were seen for long enough nor when they have been.
func TestWhoJoinsBringsNoLoad(t *testing.T) {
	var m Scaler
	old := worksAt(14)
	const before = 5 * time.Minute
	thinks(&m, saturates(), 0, before, 7, old)
	was := m.newest.Load.Demand
	workers := []*worker{old}
	for range 6 {
		w := worksAt(2)
		w.ReadySince = t0.Add(before + time.Second)
		workers = append(workers, w)
	}
	old.rps = 2
	done := 14 * before.Seconds()
	for at := before + 5*time.Second; at <= before+45*time.Second; at += 5 * time.Second {
		now := t0.Add(at)
		f := fleet(7)
		for i, w := range workers {
			w.Expected = t0.Add(-time.Hour)
			page := w.page(now, (at - before).Seconds())
			if i == 0 { // its counters go on
				page = changed(page, func(all []sample.Family) []sample.Family {
					for j := range all {
						switch all[j].Name {
						case policy.FamilyFinished:
							all[j].Sum += done
						case policy.FamilyPrompt:
							all[j].Sum += 1000 * done
						case policy.FamilyGenerated:
							all[j].Sum += 100 * done
						}
					}
					return all
				})
			}
			w.running = 7
			w.History.Add(page, 2*time.Minute)
			w.Last = w.History.Newest()
			f.Replicas = append(f.Replicas, w.Replica)
		}
		m.Recommend(saturates(), f, now)
		if is := m.newest.Load.Demand; is > 1.5*was {
			t.Errorf("%v after they joined the demand is %.1f, and was %.1f before", at-before, is, was)
		}
	}
}
