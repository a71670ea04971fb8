package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Demands writes a line for each load, cold start and policy with what it came to and
// what it missed of the load's demands, and gives how many lines of those that are
// judged miss any.
func (r *Report) Demands(to io.Writer) (missed int, err error) {
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "scenario\tcold\tpolicy\tattained\tincurable\tGPU-h\t÷static99\tturns/day\tpeak\tmissed\t") // Flush has the error
	for i := range r.Loads {
		l := &r.Loads[i]
		for j := range l.Worlds {
			w := &l.Worlds[j]
			for k := range w.Scores {
				s := &w.Scores[k]
				var faults []string
				if !standing(s.Policy) {
					for _, g := range missedBy(demands(l, w, s)) {
						faults = append(faults, g.fault())
					}
				}
				if len(faults) > 0 && !w.Told {
					missed++
				}
				_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.1f\t%s\t%.1f\t%.0f\t%s\t\n", l.Name, w.ColdStart, s.Policy,
					s.attainment().percent(), s.over(func(r *Run) float64 { return float64(r.Incurable) / float64(max(1, r.Requests)) }).percent(),
					s.gpuHours().mean, s.ratio(w.score(NameStatic)).words(1, 2), s.turns(l.ScoredHours).mean,
					s.over(func(r *Run) float64 { return float64(r.PeakReplicas) }).mean, strings.Join(faults, "; "))
			}
		}
	}
	return missed, t.Flush()
}

// standing policies are nobody's, so nothing is demanded of them.
func standing(policy string) bool {
	return strings.HasPrefix(policy, "static") || strings.HasPrefix(policy, "fixed-") || policy == NameOracle
}

// fault is a missed goal in short.
func (g *Goal) fault() string {
	if g.Name == "also" {
		return g.Reason
	}
	return fmt.Sprintf("%s %s: %s", g.Name, g.Found, g.Wanted)
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
