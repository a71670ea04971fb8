package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Table writes the scores for a terminal.
func (r *Report) Table(to io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Replicas of %s (%.0f tokens a minute). First token within %g s up to 4096 tokens and 1 s for each 4096 more,\n"+
		"%g ms between tokens. Attained is the share of requests that met both%s.\n",
		r.Engine, r.Rate, r.TTFT, 1000*r.ITL, r.interval())
	for i := range r.Loads {
		for j := range r.Loads[i].Worlds {
			fmt.Fprintf(&b, "\n%s, a replica starts in %s, %.3g h scored\n", r.Loads[i].Words, r.Loads[i].Worlds[j].ColdStart,
				r.Loads[i].ScoredHours)
			r.Loads[i].Worlds[j].table(&b, r.Loads[i].ScoredHours)
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func (r *Report) interval() string {
	if len(r.Seeds) < 2 {
		return ", of one seed, so without an interval"
	}
	return fmt.Sprintf(", ± the 95 %% confidence interval over %d seeds", len(r.Seeds))
}

func (w *World) table(to io.Writer, hours float64) {
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "\tattained, %\tTTFT p50\tTTFT p99\tGPU-hours\twasted\tturns/day\trefused\tbroken\tpeak\t")
	for i := range w.Scores {
		s := &w.Scores[i]
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.1f\t%.1f\t%.0f\t%.0f\t%.0f\t\n", s.Policy, s.attainment().percent(),
			span(s.over(func(r *Run) float64 { return r.TTFT50 }).mean), span(s.over(func(r *Run) float64 { return r.TTFT99 }).mean),
			s.gpuHours().words(1, 1), s.over(func(r *Run) float64 { return r.WastedHours }).mean,
			s.turns(hours).mean,
			s.over(func(r *Run) float64 { return float64(r.Refused) }).mean,
			s.over(func(r *Run) float64 { return float64(r.Broken) }).mean,
			s.over(func(r *Run) float64 { return float64(r.PeakReplicas) }).mean)
	}
	_ = t.Flush() // of a strings.Builder
	for i := range w.Scores {
		if s := &w.Scores[i]; s.Runs[0].Knob != "" {
			_, _ = fmt.Fprintf(to, "  %s: %s\n", s.Policy, knobs(s))
		}
	}
}

// knobs are what was found on each seed.
func knobs(s *Score) string {
	var words []string
	for i := range s.Runs {
		if n := len(words); n == 0 || words[n-1] != s.Runs[i].Knob {
			words = append(words, s.Runs[i].Knob)
		}
	}
	return strings.Join(words, ", then ")
}

// span is a time in seconds for people.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}
