package report

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// quick is a small study with all kinds of contenders.
func quick(t *testing.T) *Study {
	t.Helper()
	s := small(t, "kaito-list", "static-mean", "oracle")
	for i := range s.Scenarios {
		s.Scenarios[i].Length = 15 * time.Minute
	}
	s.World = func(s *simulate.Setting) { s.WarmUp = 5 * time.Minute }
	s.Version = "one"
	return s
}

// A study that was interrupted after any unit comes to what one comes to that
// wasn't, to the last digit.
func TestAnInterruptedStudyGoesOn(t *testing.T) {
	want := run(t, quick(t))
	if want.Finished != 4 || want.Units != 4 {
		t.Fatalf("%d of %d units were finished", want.Finished, want.Units)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var journal bytes.Buffer
	s := quick(t)
	s.Workers, s.Journal = 1, &journal
	s.Finished = func(r *Report) error {
		if r.Finished == 3 {
			cancel()
		}
		return nil
	}
	part, err := s.Run(ctx)
	if !errors.Is(err, context.Canceled) || part.Finished != 3 || len(part.Loads) != 2 {
		t.Fatalf("got %v, %d units on %d loads", err, part.Finished, len(part.Loads))
	}
	// Seed by seed: of each load the first.
	for _, l := range part.Loads {
		if l.Worlds[0].Scores[0].Runs[0].Seed != 1 {
			t.Errorf("%s has not been played on the first seed", l.Name)
		}
	}
	for units := 0; units <= 3; units += 3 {
		lines := strings.SplitAfter(journal.String(), "\n")
		s := quick(t)
		// With more workers than loads those of the second seed wait for the first.
		s.Workers = 4
		// The next one was cut off.
		known, foreign, err := s.Recall(strings.NewReader(strings.Join(lines[:units], "") + lines[units][:len(lines[units])/2]))
		if known != units || foreign != 0 || err != nil {
			t.Fatalf("%d of %d are known, %d foreign, %v", known, units, foreign, err)
		}
		var done, total float64
		s.Progress = func(p Progress) {
			if done == 0 && (p.Done < .2*p.Total) != (units == 0) {
				t.Errorf("with %d units known it begins at %.0f of %.0f", units, p.Done, p.Total)
			}
			done, total = p.Done, p.Total
		}
		if diff := cmp.Diff(want, run(t, s)); diff != "" {
			t.Errorf("after %d units (-want +got):\n%s", units, diff)
		}
		if done < total*(1-1e-9) || done > total*(1+1e-9) {
			t.Errorf("progress ends at %v of %v", done, total)
		}
		var again bytes.Buffer
		if err := s.Recalled(&again); err != nil || again.String() != strings.Join(lines[:units], "") {
			t.Errorf("%d units are written as %d B, %v", units, again.Len(), err)
		}
	}
}

// What another program or another study played doesn't count; more seeds and
// other loads make no other study.
func TestForeignUnitsDontCount(t *testing.T) {
	var journal bytes.Buffer
	s := small(t, "static-mean")
	s.Version, s.Journal = "one", &journal
	run(t, s)
	trace := &simulate.Load{Name: "t", Length: time.Hour, Requests: []simulate.Request{{At: 1, In: 10, Out: 10}}}
	for name, tt := range map[string]struct {
		change         func(*Study)
		known, foreign int
	}{
		"the same":             {func(*Study) {}, 4, 0},
		"more seeds":           {func(s *Study) { s.Seeds = []uint64{1, 2, 3} }, 4, 0},
		"one load more":        {func(s *Study) { s.Scenarios = append(s.Scenarios, simulate.Generated()[0]) }, 4, 0},
		"one load less":        {func(s *Study) { s.Scenarios = s.Scenarios[:1] }, 2, 2},
		"another program":      {func(s *Study) { s.Version = "two" }, 0, 4},
		"another promise":      {func(s *Study) { s.SLO.TTFT = 3 }, 0, 4},
		"another engine":       {func(s *Study) { s.Engine = simulate.Engines[1] }, 0, 4},
		"another world":        {func(s *Study) { s.World = nil }, 0, 4},
		"another cold start":   {func(s *Study) { s.ColdStarts[1] *= 2 }, 0, 4},
		"another first seed":   {func(s *Study) { s.Seeds = []uint64{2, 1} }, 0, 4},
		"other policies":       {func(s *Study) { s.Contenders = Contenders()[:1] }, 0, 4},
		"a load of that name":  {func(s *Study) { s.Scenarios[0].Replicas = .9 }, 2, 2},
		"a trace of that name": {func(s *Study) { s.Scenarios[0].Trace = trace }, 2, 2},
	} {
		s := small(t, "static-mean")
		s.Version = "one"
		tt.change(s)
		if known, foreign, err := s.Recall(bytes.NewReader(journal.Bytes())); known != tt.known || foreign != tt.foreign || err != nil {
			t.Errorf("%s: %d known and %d foreign, %v, want %d and %d", name, known, foreign, err, tt.known, tt.foreign)
		}
	}
}

// A fixed fleet that was played is not played again.
func TestWhatIsKnownIsNotPlayedAgain(t *testing.T) {
	s := quick(t)
	load := s.Scenarios[0].Load(&s.Engine, s.SLO, 1)
	setting := s.setting(0, s.ColdStarts[1], 1)
	// At another cold start a fixed fleet comes to the same.
	known := &Known{}
	one, err1 := known.fleet(t.Context(), s.setting(0, s.ColdStarts[0], 1), load, 2)
	two, err2 := (&Known{}).fleet(t.Context(), setting, load, 2)
	if diff := cmp.Diff(one, two); diff != "" || err1 != nil || err2 != nil {
		t.Errorf("%v, %v, %s", err1, err2, diff)
	}
	if again, err := known.fleet(t.Context(), setting, load, 2); again != one || err != nil {
		t.Errorf("it was played again: %v", err)
	}
}

// An oracle keeps to the smoothing of the first seed, unless none of its aims
// attains the target there.
func TestTheOracleGoesByTheFirstSeed(t *testing.T) {
	sc := simulate.Scenario{Name: "x", Kind: &simulate.Conversation, Shape: simulate.Spikes(.05, 10*time.Minute, 90*time.Second), Length: 20 * time.Minute, Replicas: 5}
	e := simulate.Engines[0]
	load, s := sc.Load(&e, simulate.DefaultSLO, 2), sc.Setting(&e, simulate.DefaultSLO, time.Minute, 2)
	s.WarmUp = 0
	for _, tt := range []struct {
		known *simulate.Oracle
		has   string
		want  bool
	}{
		{&simulate.Oracle{Aim: .6, Mean: 2 * time.Minute, Reach: 4 * time.Minute}, "mean of 2m0s within 4m0s", true},
		// One mean over all of it: no aim down to a fifth serves its spikes.
		{&simulate.Oracle{Aim: .9, Mean: 10 * time.Hour}, "10h0m0s", false},
		{nil, "none attains", false},
	} {
		known := &Known{Oracle: tt.known}
		outcome, err := (&foresight{known: known}).play(t.Context(), s, load)
		if err != nil || outcome.Result.Attainment() < Target {
			t.Fatalf("with %+v it attains %.4f, %v", tt.known, outcome.Result.Attainment(), err)
		}
		if has := strings.Contains(outcome.Knob, tt.has); has != tt.want {
			t.Errorf("with %+v it is %s", tt.known, outcome.Knob)
		}
		if known.Oracle == nil || tt.known != nil && known.Oracle != tt.known {
			t.Errorf("with %+v the first seed's is %+v", tt.known, known.Oracle)
		}
	}
}
