package simulate

import (
	"math"
	"testing"
	"time"
)

// Nobody who reads a histogram can tell 52 ms from 74 ms: a model of 65 ms a token
// keeps an SLO of 60 ms, which is judged at 75, and one of 80 ms doesn't.
func TestAnSLOIsJudgedAtABucketsBound(t *testing.T) {
	if got, want := (SLO{TTFT: 2, ITL: .06}).AtBounds(), (SLO{TTFT: 2.5, ITL: .075}); got != want {
		t.Errorf("2 s and 60 ms are judged at %+v, want %+v", got, want)
	}
	for _, same := range []SLO{{TTFT: 2.5, ITL: .075}, {TTFT: 5000, ITL: 100}} {
		if got := same.AtBounds(); got != same {
			t.Errorf("%+v is judged at %+v", same, got)
		}
	}
	attained := func(alpha float64, exact bool) float64 {
		s := world()
		s.SLO = SLO{TTFT: 2, ITL: .06}
		s.Engine.Alpha, s.Engine.Gamma, s.Exact = alpha, .0001, exact
		load := &Load{Name: "few", Length: 10 * time.Minute}
		for i := range 50 {
			load.Requests = append(load.Requests, Request{At: float64(i), In: 10, Out: 100})
		}
		r := play(t, s, load, Static("1", 1))
		return float64(r.Attained) / float64(r.Requests)
	}
	if got := attained(.065, false); got != 1 {
		t.Errorf("%v attained at 65 ms a token", got)
	}
	if got := attained(.065, true); got != 0 {
		t.Errorf("%v attained at 65 ms a token, judged at 60 ms itself", got)
	}
	if got := attained(.08, false); got != 0 {
		t.Errorf("%v attained at 80 ms a token", got)
	}
}

// A prompt so long that an idle replica is late with it is nobody's fault; one that
// waits behind it is.
func TestWhatNoReplicaCuresCountsAsAttained(t *testing.T) {
	s := world()
	s.SLO.Flat = true
	load := &Load{Name: "long", Length: 10 * time.Minute, Requests: []Request{
		{At: 0, In: 100_000, Out: 10}, {At: .1, In: 100, Out: 10}, {At: 60, In: 100, Out: 10}, {At: 120, In: 100_000, Out: 10},
	}}
	for _, steps := range []bool{false, true} {
		s.Steps = steps
		r := play(t, s, load, Static("1", 1))
		if r.Attained != 1 || r.Incurable != 2 || r.Requests != 4 || r.Attainment() != .75 {
			t.Errorf("in steps %t: %d of %d attained, %d incurable, in all %v", steps, r.Attained, r.Requests, r.Incurable, r.Attainment())
		}
		if missed := r.Minutes[0].Missed + r.Minutes[2].Missed; missed != 1 {
			t.Errorf("in steps %t: %d missed", steps, missed)
		}
	}
}

// Beyond the knee a request more costs more, and beyond the full batch there is none.
func TestCapacityEndsAtTheKneeAndAtTheFullBatch(t *testing.T) {
	const in, out, itl = 200, 200, .06
	for name, tt := range map[string]struct {
		change  func(*Engine)
		running float64 // at the capacity
		slower  float64 // seconds that a step takes beyond its usual length
	}{
		"as it is":           {func(*Engine) {}, (itl - .0078) / .00014, 0},
		"a full batch":       {func(e *Engine) { e.MaxSeqs = 100 }, 100, 0},
		"a full cache":       {func(e *Engine) { e.KVTokens = 30_000 }, 100, 0},
		"a steep knee":       {func(e *Engine) { e.Knee, e.GammaKnee = 48, 1 }, 48, 0},
		"a flat knee":        {func(e *Engine) { e.Knee, e.GammaKnee = 48, .00012 }, 48 + (itl-.0078-48*.00014)/.00015, .00001 * 303.2},
		"no time for a step": {func(e *Engine) { e.Alpha, e.MaxSeqs = .08, 100 }, 100, 0},
	} {
		e := Engines[0]
		e.MaxSeqs = 1000
		tt.change(&e)
		want := tt.running / out / (e.Alpha + .00014*tt.running + tt.slower)
		if got := e.Capacity(in, out, itl); math.Abs(got/want-1) > .001 {
			t.Errorf("%s: %v requests a second, want %v", name, got, want)
		}
	}
}

// Each scenario can be played, and none of it is of another length or fleet than it
// says: a quarter of an hour of each, on a fleet that is large enough.
func TestEveryAdverseScenarioIsPlayed(t *testing.T) {
	names := map[string]bool{}
	for _, sc := range Adverse() {
		if names[sc.Name] {
			t.Errorf("there are two of %s", sc.Name)
		}
		names[sc.Name] = true
		if sc.Must.Also != nil && sc.Must.Words == "" {
			t.Errorf("%s demands what it doesn't say", sc.Name)
		}
		engine, slo := sc.On(&Engines[0], DefaultSLO)
		sc.Length = 15 * time.Minute
		world := sc.Setting(engine, slo, 5*time.Minute, 1)
		world.WarmUp, world.Initial = 5*time.Minute, 3*world.Initial
		load := sc.Load(engine, slo, 1)
		r := play(t, world, load, Static("static", world.Initial))
		if r.Requests < 50 || r.Attainment() < .95 {
			t.Errorf("%s: %.3f of %d attained", sc.Name, r.Attainment(), r.Requests)
		}
	}
}

// Long prompts are as many and as long as they are said to be.
func TestLongPrompts(t *testing.T) {
	load := LongPrompts{Share: .25, From: 36_000, To: 100_000}.into(hour(2, 1), 1)
	long := 0
	for _, r := range load.Requests {
		if r.In >= 36_000 && r.In <= 100_000 {
			long++
		}
	}
	if share := float64(long) / float64(len(load.Requests)); share < .24 || share > .26 {
		t.Errorf("%.3f of the prompts are long", share)
	}
}

// Answers are longer from a time on.
func TestAnswersGrow(t *testing.T) {
	load := Growth{From: time.Minute, Times: 3}.into(evenly(1, 2*time.Minute, Request{In: 5, Out: 7}))
	if first, last := load.Requests[59], load.Requests[60]; first.Out != 7 || last.Out != 21 || last.In != 5 {
		t.Errorf("%+v before, %+v after", first, last)
	}
}

// So many clients go away, after so long.
func TestClientsGoAway(t *testing.T) {
	load := Cancels{Share: .25, After: 3 * time.Second}.into(hour(2, 1), 1)
	gone := 0
	for _, after := range load.Cancels {
		if after == 3 {
			gone++
		} else if !math.IsInf(after, 1) {
			t.Fatalf("one goes away after %v s", after)
		}
	}
	if share := float64(gone) / float64(len(load.Requests)); share < .24 || share > .26 {
		t.Errorf("%.3f go away", share)
	}
}
