package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// Musts writes a line for each scenario, cold start and policy with what it came to
// and which of the scenario's demands it missed, and gives how many lines miss one.
func (s *Study) Musts(r *Report, to io.Writer) (missed int, err error) {
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "scenario\tcold\tpolicy\tattained\tincurable\tGPU-h\t÷static99\tturns/day\tpeak\tmissed\t") // Flush has the error
	for i := range r.Loads {
		l := &r.Loads[i]
		sc := s.named(l.Name)
		for j := range l.Worlds {
			w := &l.Worlds[j]
			for k := range w.Scores {
				score := &w.Scores[k]
				faults := w.faults(score, &sc.Must, l.ScoredHours)
				if strings.HasPrefix(score.Policy, "static") || strings.HasPrefix(score.Policy, "fixed-") || score.Policy == NameOracle {
					faults = nil // nobody's policy
				}
				if len(faults) > 0 {
					missed++
				}
				_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.1f\t%s\t%.1f\t%.0f\t%s\t\n", l.Name, w.ColdStart, score.Policy,
					score.attainment().percent(), score.over(func(r *Run) float64 { return float64(r.Incurable) / float64(max(1, r.Requests)) }).percent(),
					score.gpuHours().mean, score.ratio(w.score(NameStatic)).words(1, 2), score.turns(l.ScoredHours),
					score.over(func(r *Run) float64 { return float64(r.PeakReplicas) }).mean, strings.Join(faults, "; "))
			}
		}
	}
	return missed, t.Flush()
}

// WriteMoves writes each move of the first seed's runs with its reason.
func (r *Report) WriteMoves(to io.Writer) error {
	var b strings.Builder
	for i := range r.Loads {
		for _, w := range r.Loads[i].Worlds {
			for _, s := range w.Scores {
				if len(s.Runs[0].Moves) > 0 {
					fmt.Fprintf(&b, "\n%s, cold start %s, %s\n", r.Loads[i].Name, w.ColdStart, s.Policy)
				}
				for _, m := range s.Runs[0].Moves {
					fmt.Fprintf(&b, "%9v  %d → %d  %s\n", m.At, m.From, m.To, m.Reason)
				}
			}
		}
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func (s *Study) named(scenario string) *simulate.Scenario {
	for i := range s.Scenarios {
		if s.Scenarios[i].Name == scenario {
			return &s.Scenarios[i]
		}
	}
	return &simulate.Scenario{}
}

// turns are changes of direction a day.
func (s *Score) turns(hours float64) float64 {
	return s.over(func(r *Run) float64 { return float64(r.Turns) }).mean * 24 / hours
}

// faults are the demands that a policy missed, in words.
func (w *World) faults(s *Score, must *simulate.Must, hours float64) []string {
	var faults []string
	static := w.score(NameStatic)
	if got := s.attainment().mean; got < must.Attained {
		faults = append(faults, fmt.Sprintf("attained %.2f %%: must be %.4g", 100*got, 100*must.Attained))
	}
	if static != nil {
		if got := s.ratio(static).mean; got > must.OfStatic && must.OfStatic > 0 {
			faults = append(faults, fmt.Sprintf("%.2f × static99: must be %g", got, must.OfStatic))
		}
		most := func(s *Score) float64 { return s.over(func(r *Run) float64 { return float64(r.PeakReplicas) }).mean }
		if got := most(s) / most(static); got > must.PeakOfStatic && must.PeakOfStatic > 0 {
			faults = append(faults, fmt.Sprintf("at most %.0f replicas, %.2f × static99's: must be %g", most(s), got, must.PeakOfStatic))
		}
	}
	if got := s.turns(hours); got > must.Turns && must.Turns > 0 {
		faults = append(faults, fmt.Sprintf("%.1f turns a day: must be %g", got, must.Turns))
	}
	for i := range s.Runs {
		if fault := s.Runs[i].Fault; fault != "" {
			faults = append(faults, fmt.Sprintf("seed %d: %s", s.Runs[i].Seed, fault))
		}
	}
	return faults
}
