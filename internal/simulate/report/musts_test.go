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
	s := small(t, "saturation", "fixed-3", "static")
	s.Scenarios = s.Scenarios[:1]
	sc := &s.Scenarios[0]
	sc.Engine, sc.SLO, sc.Rate = &engine, simulate.SLO{TTFT: 5, ITL: .1}, 3
	sc.ColdStart = 3 * time.Minute
	sc.Must = simulate.Must{Attained: .5, OfStatic: 50, PeakOfStatic: 50, Turns: 1000}
	var worlds []simulate.Setting
	sc.Must.Also = func(_ *simulate.Result, w simulate.Setting) string { worlds = append(worlds, w); return "" }
	s.Workers, s.Moves = 1, true
	table := func() (int, string) {
		var b strings.Builder
		missed, err := s.Musts(run(t, s), &b)
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
	sc.Must = simulate.Must{Attained: 1.1, OfStatic: .1, PeakOfStatic: .1, Turns: .001, Also: func(*simulate.Result, simulate.Setting) string {
		return "the sky is blue"
	}}
	missed, text := table()
	if missed != 2 { // at either cold start
		t.Errorf("%d missed in\n%s", missed, text)
	}
	for _, words := range []string{"must be 110", "static99: must be 0.1", "static99's: must be 0.1", "seed 2: the sky is blue"} {
		if strings.Count(text, words) != 2 {
			t.Errorf("%q isn't said twice in\n%s", words, text)
		}
	}
}
