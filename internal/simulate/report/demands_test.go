package report

import (
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// A policy on a scenario of its own engine is judged by all that the scenario demands,
// and a fixed fleet by nothing.
func TestAScenariosDemandsAreJudged(t *testing.T) {
	engine := simulate.Engines[1]
	s := small(t, "automatic", "kaito-queue", "fixed-3", "static")
	s.Scenarios = s.Scenarios[:1]
	sc := &s.Scenarios[0]
	sc.Engine, sc.SLO, sc.Rate = &engine, simulate.SLO{TTFT: 5, ITL: .1}, 3
	sc.ColdStart = 3 * time.Minute
	sc.Judged = "automatic"
	sc.Must = simulate.Must{Attained: .5, OfStatic: 50, PeakOfStatic: 50, Turns: 1000, Words: "the sky is blue"}
	var worlds []simulate.Setting
	sc.Must.Also = func(_ *simulate.Result, w simulate.Setting) string { worlds = append(worlds, w); return "" }
	s.Workers, s.Moves = 1, true
	var goals []Goal
	table := func() (int, string) {
		var b strings.Builder
		r := run(t, s)
		r.Judge()
		goals = r.Goals
		missed, err := r.Demands(&b)
		if err != nil {
			t.Fatal(err)
		}
		return missed, b.String()
	}
	if missed, text := table(); missed != 0 || !strings.Contains(text, "static99") {
		t.Errorf("%d missed in\n%s", missed, text)
	}
	for _, w := range worlds {
		if w.Engine.Name != engine.Name || w.SLO != sc.SLO || w.ColdStart != sc.ColdStart {
			t.Fatalf("it was played in %+v", w)
		}
	}
	if len(goals) != 5 || len(missedBy(goals)) != 0 {
		t.Errorf("the goals are %+v", goals)
	}
	sc.Must = simulate.Must{Attained: 1.1, OfStatic: .1, PeakOfStatic: .1, Turns: .001, Words: "grey skies", Also: func(*simulate.Result, simulate.Setting) string {
		return "the sky is blue"
	}}
	missed, text := table()
	if missed != 2 { // two policies, of which fixed fleets aren't
		t.Errorf("%d missed in\n%s", missed, text)
	}
	for _, words := range []string{"at least 110 %", "0.1 × the GPU-hours of static99", "0.1 × the replicas of static99", "seed 1: the sky is blue"} {
		if strings.Count(text, words) != 2 {
			t.Errorf("%q isn't said twice in\n%s", words, text)
		}
	}
}

// A scenario with a cold start of its own is played at that alone, one about another
// policy by that too, and at other cold starts than the judged one nothing is demanded.
func TestWhatIsPlayedAndWhatIsJudged(t *testing.T) {
	s := small(t, "kaito-list", "static-mean")
	s.JudgedAt, s.Part = 5*time.Minute, "part"
	s.Scenarios[0].ColdStart = 3 * time.Minute
	s.Scenarios[1].Judged = "kaito-queue"
	for i := range s.Scenarios {
		s.Scenarios[i].Must = simulate.Must{Attained: .01}
	}
	s.Scenarios[0].Judged = "kaito-list"
	r := Merged("all", []*Report{run(t, s)}, nil)
	own, other := &r.Loads[0], &r.Loads[1]
	if len(own.Worlds) != 1 || own.Worlds[0].ColdStart.String() != "3m" || own.Worlds[0].Told {
		t.Errorf("of a cold start of its own there are %+v", own.Worlds)
	}
	if len(other.Worlds) != 2 || len(other.Worlds[0].Scores) != 3 || other.Worlds[0].Scores[0].Policy != "kaito-queue" {
		t.Errorf("it was played by %+v", other.Worlds[0].Scores)
	}
	var names []string
	for _, g := range r.Goals {
		names = append(names, g.Name)
	}
	if got, want := strings.Join(names, " "), "steady/3m/attainment spike/5m/attainment"; got != want {
		t.Errorf("the goals are %s, want %s", got, want)
	}
}
