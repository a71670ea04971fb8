package decision_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/automatic"
	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

var monday = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// boundAlone is the trigger of an InferenceSet with nothing but a bound.
func boundAlone() policy.Trigger {
	return policy.Trigger{
		Saturation: &policy.Saturation{TTFT: 2500 * time.Millisecond, ITL: 75 * time.Millisecond},
		Bounds:     policy.Bounds{Min: 1, Max: 50},
	}
}

// engine is a pod that takes so many requests a second, of a thousand tokens in and a
// hundred out: steps of 10 ms, and 64 ms of its time for a request.
type engine struct {
	sample.Replica
	rps, waiting float64
	// done are requests, spent the time between their tokens.
	done, spent float64
	silent      bool
	lacks       string
}

func engines(rps ...float64) []*engine {
	all := make([]*engine, len(rps))
	for i, r := range rps {
		all[i] = &engine{rps: r, Replica: sample.Replica{
			Pod: fmt.Sprintf("phi-4-%c-0", 'a'+i), Phase: sample.Serving,
			Ordered: monday.Add(-2 * time.Hour), ReadySince: monday.Add(-time.Hour), Expected: monday.Add(-time.Hour),
		}}
	}
	return all
}

func (e *engine) read(now time.Time) {
	const every = 5.0
	between := .01 / max(.02, 1-.064*e.rps)
	e.done, e.spent = e.done+every*e.rps, e.spent+every*e.rps*99*between
	if e.silent {
		return
	}
	histogram := func(name string, n, sum float64) sample.Family {
		late := 0.0
		if between > .075 {
			late = n
		}
		return sample.Family{Name: name, Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{
			Le: []float64{.075, 2.5, math.Inf(1)}, Cumulative: []float64{n - late, n, n}, Sum: sum,
		}}
	}
	gauge := func(name string, x float64) sample.Family {
		return sample.Family{Name: name, Kind: sample.Gauge, Sum: x, Engines: 1}
	}
	counter := func(name string, x float64) sample.Family {
		return sample.Family{Name: name, Kind: sample.Counter, Sum: x, Engines: 1}
	}
	running := 5 + e.rps
	if e.rps == 0 {
		running = 0
	}
	var page []sample.Family
	for _, f := range []sample.Family{
		gauge(policy.FamilyRunning, running), gauge(policy.FamilyWaiting, e.waiting),
		counter(policy.FamilyPrompt, 1000*e.done), counter(policy.FamilyGenerated, 100*e.done),
		histogram(policy.FamilyTTFT, e.done, .02*e.done), histogram(policy.FamilyITL, 99*e.done, e.spent), histogram(policy.FamilyTPOT, e.done, e.spent/99),
	} {
		if f.Name != e.lacks {
			page = append(page, f)
		}
	}
	e.Last = sample.NewSample(now, page, e.Last)
	e.Last.ProcessStart = 1
	e.History.Add(e.Last, 2*time.Minute)
}

// plays lets a fleet be read from a time to another, and returns it as it is then with
// the recommendation.
func plays(s *decision.Scaler, from, until time.Duration, desired int32, all ...*engine) (sample.Fleet, decision.Recommendation) {
	f := sample.Fleet{Desired: desired, Freshness: 15 * time.Second, Interval: 5 * time.Second, Grace: 10 * time.Minute}
	var v decision.Recommendation
	for at := from; at <= until; at += 5 * time.Second {
		f.Replicas = nil
		for _, e := range all {
			e.read(monday.Add(at))
			f.Replicas = append(f.Replicas, e.Replica)
		}
		v = s.Recommend(boundAlone(), f, monday.Add(at))
	}
	return f, v
}

func TestAutomaticModeFollowsItsLoad(t *testing.T) {
	for _, tt := range []struct {
		rps  float64
		says string
	}{{13.5, "1 → 2: the load needs "}, {3, "1 is right: the load needs "}} {
		if _, v := plays(new(decision.Scaler), 0, 10*time.Minute, 1, engines(tt.rps)...); !strings.HasPrefix(v.Reason, tt.says) || v.Value != float64(v.Replicas) || v.Load == nil {
			t.Errorf("%v a second: %v: %s", tt.rps, v.Value, v.Reason)
		}
	}
}

// One step down, in a gap of which nobody knows what was needed, waits for a window.
// It is told until the HPA has taken it: that sees it twice before.
func TestAutomaticModeReleasesWhatItHasSeenFitForAWindow(t *testing.T) {
	s, all := new(decision.Scaler), engines(1, 1, 1, 1)
	const window = 30 * time.Minute // three cold starts of 10 min
	if _, v := plays(s, 0, window-time.Minute, 4, all...); v.Value != 4 || !v.Waiting || !strings.Contains(v.Reason, "a step down is not taken before the fleet was watched for another 60 s") {
		t.Errorf("before the window is over: %v: %s", v.Value, v.Reason)
	}
	if _, v := plays(s, window-time.Minute+5*time.Second, window+2*time.Minute, 4, all...); v.Value != 3 {
		t.Errorf("after it, for as long as the HPA takes: %v: %s", v.Value, v.Reason)
	}
	if _, v := plays(s, 2*time.Hour, 2*time.Hour+window-time.Minute, 4, all...); v.Value != 4 || !v.Waiting {
		t.Errorf("after a gap: %v: %s", v.Value, v.Reason)
	}
}

// Pods that time out right after a loaded reading are evidence of load, for two steps up.
func TestAutomaticModeTakesTimeoutsUnderLoadForLoad(t *testing.T) {
	after := func(accepted bool, rps, waits float64) (*decision.Scaler, sample.Fleet, decision.Recommendation) {
		s, all := new(decision.Scaler), engines(rps, rps)
		plays(s, 0, 5*time.Minute, 2, all...)
		for _, e := range all {
			e.waiting = waits
		}
		plays(s, 5*time.Minute+5*time.Second, 5*time.Minute+15*time.Second, 2, all...)
		for _, e := range all {
			if e.silent, e.Failure = true, "no answer within 2s"; accepted {
				e.TimedOut = monday.Add(10 * time.Minute)
			}
		}
		f, v := plays(s, 5*time.Minute+20*time.Second, 5*time.Minute+50*time.Second, 2, all...)
		return s, f, v
	}
	s, f, v := after(true, 14, 200)
	if v.Replicas != 4 || v.Confidence != decision.Bounded || !strings.Contains(v.Reason, "all 2 replicas time out since they were read under load") {
		t.Errorf("loaded: %s %s", v.Confidence, v.Reason)
	}
	if v = s.Recommend(boundAlone(), f, monday.Add(6*time.Minute+30*time.Second)); v.Replicas != 8 {
		t.Errorf("a minute after that reading: %s %s", v.Confidence, v.Reason)
	}
	f.Desired, f.Raised = 8, monday.Add(6*time.Minute+30*time.Second)
	if v = s.Recommend(boundAlone(), f, monday.Add(10*time.Minute)); v.Replicas != 8 {
		t.Errorf("once the fleet was raised for it: %s %s", v.Confidence, v.Reason)
	}
	if _, _, v = after(false, 14, 200); v.Confidence != decision.Unknown {
		t.Errorf("not reached: %s %s", v.Confidence, v.Reason)
	}
	if _, _, v = after(true, 0, 0); v.Confidence != decision.Unknown {
		t.Errorf("idle: %s %s", v.Confidence, v.Reason)
	}
}

// One dead pod doesn't hold a fleet up for ever.
func TestAutomaticModeGivesAPodUp(t *testing.T) {
	s, all := new(decision.Scaler), engines(1, 2, 1, 1)
	all[3].silent, all[3].Failure = true, "no answer within 2s"
	if _, v := plays(s, 0, 40*time.Minute, 4, all...); v.Value != 3 || v.Confidence != decision.Bounded || len(v.Unreadable) != 1 || !v.Unreadable[0].GivenUp || len(v.Read) != 3 {
		t.Errorf("%v %v: %s, %+v, read %v", v.Confidence, v.Value, v.Reason, v.Unreadable, v.Read)
	}
}

// A reading that is lost turns no move back, orders nothing and releases nothing.
func TestALostReadingNeverReversesAutomaticMode(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		rates := make([]float64, 1+r.IntN(5))
		for i := range rates {
			rates[i] = 14 * r.Float64()
		}
		desired, lost, lacks := 1+r.Int32N(8), r.IntN(len(rates)), r.IntN(2) == 0
		recommended := func(lose bool) decision.Recommendation {
			s, all := new(decision.Scaler), engines(rates...)
			const seen = 35 * time.Minute
			plays(s, 0, seen, desired, all...)
			switch e := all[lost]; {
			case lose && lacks:
				e.lacks = policy.FamilyGenerated
			case lose:
				e.silent, e.Failure = true, "no answer within 2s"
			}
			_, v := plays(s, seen+5*time.Second, seen+time.Minute, desired, all...)
			return v
		}
		whole, lossy := recommended(false), recommended(true)
		if lossy.Confidence != decision.Unknown && (lossy.Replicas < desired || lossy.Replicas > max(desired, whole.Replicas)) {
			t.Errorf("%v on %d, %d lost: %s\nwhole: %s", rates, desired, lost, lossy.Reason, whole.Reason)
		}
	}
}

// Five replicas that join a full one take its load over: they don't multiply it.
func TestWhoJoinsBringsAutomaticModeNoLoad(t *testing.T) {
	s, all := new(decision.Scaler), engines(12, 0, 0, 0, 0, 0)
	plays(s, 0, 5*time.Minute, 6, all[0])
	_, before := plays(s, 5*time.Minute+5*time.Second, 5*time.Minute+10*time.Second, 6, all[0])
	for i, e := range all {
		e.rps = 2
		if i > 0 { // Ready, and not read yet
			e.ReadySince, e.Expected = monday.Add(5*time.Minute+12*time.Second), monday.Add(5*time.Minute+12*time.Second)
		}
	}
	for at := 5*time.Minute + 15*time.Second; at <= 7*time.Minute; at += 5 * time.Second {
		for i, e := range all {
			e.silent = i > 0 && at < 5*time.Minute+20*time.Second
		}
		if _, v := plays(s, at, at, 6, all...); v.Load != nil && v.Load.Demand > 1.5*before.Load.Demand {
			t.Fatalf("%s after they joined: %s\nbefore: %s", at, v.Reason, before.Reason)
		}
	}
}

// What another process learned goes on in the next. State of an earlier version is
// refused in words, so nothing is released before a window was watched.
func TestStateOfAnEarlierVersionIsDiscarded(t *testing.T) {
	const watched = 40 * time.Minute
	for _, tt := range []struct {
		story   string
		version byte
		goesOn  bool
	}{
		{"a restart", automatic.Version, true},
		{"an upgrade", automatic.Version - 1, false},
		{"a downgrade", automatic.Version + 1, false},
	} {
		before, after, all := new(decision.Scaler), new(decision.Scaler), engines(1, 1, 1, 1)
		plays(before, 0, watched, 4, all...)
		state, err := before.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		state[0] = tt.version
		switch known, err := decision.Unmarshal(state, monday.Add(watched)); {
		case err == nil:
			after.Merge(known)
		case tt.goesOn || !strings.Contains(err.Error(), "another version"):
			t.Errorf("%s: %v", tt.story, err)
		}
		_, v := plays(after, watched+5*time.Second, watched+3*time.Minute, 4, all...)
		if goesOn := v.Replicas == 3; goesOn != tt.goesOn {
			t.Errorf("%s: %s", tt.story, v.Reason)
		}
	}
}

// While replicas of the scaler of two versions answer KEDA in turn, one of which knows
// nothing yet, the fleet stays: the HPA takes no step down that it doesn't see twice.
func TestAProcessThatKnowsNothingYetDoesNotPullAFleetToAndFro(t *testing.T) {
	knows, begins := new(decision.Scaler), new(decision.Scaler)
	all := engines(2, 2, 2, 2)
	plays(knows, 0, 40*time.Minute, 4, all...)
	desired, moves, wanted := int32(4), 0, int32(4)
	var last int32 = 4 // what the HPA was told 15 s before
	for at := 40*time.Minute + 15*time.Second; at < 55*time.Minute; at += 15 * time.Second {
		_, a := plays(knows, at, at, desired, all...)
		_, b := plays(begins, at, at, desired, all...)
		known := a.Replicas
		wanted = min(wanted, known)
		if int(at/(15*time.Second))%2 == 0 {
			known = b.Replicas
		}
		if to := max(known, min(last, desired)); to != desired {
			desired, moves = to, moves+1
		}
		last = known
	}
	if desired != 4 || moves > 0 || wanted != 3 {
		t.Errorf("%d moves, to %d, where one of them wants %d", moves, desired, wanted)
	}
}
