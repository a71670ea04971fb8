package report

import (
	"fmt"
	"io"
	"strings"
)

// Figures writes a line "figure NAME VALUE" for everything that is compared
// between versions, and one for each goal.
func (r *Report) Figures(to io.Writer) error {
	var b strings.Builder
	if r.Finished < r.Units {
		fmt.Fprintf(&b, "# not complete: of what is finished alone\n")
	}
	fmt.Fprintf(&b, "figure units/finished %d\nfigure units/all %d\n", r.Finished, r.Units)
	for i := range r.Loads {
		for j := range r.Loads[i].Worlds {
			r.Loads[i].Worlds[j].figures(&b, &r.Loads[i])
		}
	}
	for _, s := range r.Speeds {
		fmt.Fprintf(&b, "figure speed/%s/times-real-time %.0f\n", s.Policy, s.Times)
	}
	for i := range r.Ablations {
		r.Ablations[i].figures(&b)
	}
	missed := 0
	for _, g := range r.Goals {
		word := "met"
		if !g.Met {
			word = "missed"
			missed++
			fmt.Fprintf(&b, "# %s: wanted %s, found %s: %s\n", g.Name, g.Wanted, g.Found, g.Reason)
		}
		fmt.Fprintf(&b, "figure goal/%s %s\n", g.Name, word)
	}
	fmt.Fprintf(&b, "figure goals/met %d\nfigure goals/missed %d\n", len(r.Goals)-missed, missed)
	_, err := io.WriteString(to, b.String())
	return err
}

func (w *World) figures(b *strings.Builder, l *Load) {
	for i := range w.Scores {
		s := &w.Scores[i]
		figure := func(what, format string, value float64) {
			fmt.Fprintf(b, "figure %s "+format+"\n", w.goal(l.Name, s.Policy+"/"+what), value)
		}
		attained := s.attainment()
		figure("attainment", "%.4f", attained.mean)
		if attained.n > 1 {
			figure("attainment-interval", "%.4f", attained.half)
		}
		figure("gpu-hours", "%.1f", s.gpuHours().mean)
		for _, to := range []string{NameStatic, NameOracle} {
			if other := w.score(to); other != nil && to != s.Policy {
				figure("gpu-hours-vs-"+to, "%.3f", s.ratio(other).mean)
			}
		}
		if of := recorded.ratio(l, w, s); of.n > 0 && s.Policy == l.Judged {
			figure("gpu-hours-vs-baseline", "%.3f", of.mean)
		}
		figure("turns-per-day", "%.1f", s.turns(l.ScoredHours).mean)
		figure("reversals-per-day", "%.1f", s.over(func(r *Run) float64 { return float64(r.Reversals) }).mean*24/l.ScoredHours)
		figure("ttft-p99", "%.2f", s.over(func(r *Run) float64 { return r.TTFT99 }).mean)
	}
}
