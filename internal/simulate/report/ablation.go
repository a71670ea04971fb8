package report

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Ablation is what the judged policy comes to without one of its mechanisms, on each of
// some loads.
type Ablation struct {
	// Without names the mechanism.
	Without string        `json:"without"`
	Loads   []AblatedLoad `json:"loads"`
}

// AblatedLoad is what came of one load, over the seeds.
type AblatedLoad struct {
	Load       string  `json:"load"`
	Attainment float64 `json:"attainment"`
	// OfWhole are GPU-hours as a share of those of the whole policy, Points how many
	// more of a hundred requests attain, Turns how many more turns a day there are.
	OfWhole float64 `json:"gpuHoursOfWhole"`
	Points  float64 `json:"points"`
	Turns   float64 `json:"turnsMore"`
}

// What a mechanism is worth at least on one load: so much of the GPU-hours, so many of a
// hundred requests, or so many turns a day.
const (
	worthHours, worthPoints, worthTurns = .01, .1, 2.0
)

// Ablate compares the report of a policy without a mechanism with that of the whole one.
func Ablate(without string, whole, part *Report) Ablation {
	a := Ablation{Without: without}
	for i := range part.Loads {
		l := &part.Loads[i]
		j := slices.IndexFunc(whole.Loads, func(other Load) bool { return other.Name == l.Name })
		if j < 0 {
			continue
		}
		s, all := l.Worlds[0].score(l.Judged), whole.Loads[j].Worlds[0].score(l.Judged)
		if s == nil || all == nil {
			continue
		}
		a.Loads = append(a.Loads, AblatedLoad{
			Load: l.Name, Attainment: s.attainment().mean, OfWhole: s.ratio(all).mean,
			Points: 100 * (s.attainment().mean - all.attainment().mean),
			Turns:  s.turns(l.ScoredHours).mean - all.turns(l.ScoredHours).mean,
		})
	}
	return a
}

// worth is the load on which the mechanism is worth most, nil if that is nothing: what
// is without it costs more, attains less, or turns more often.
func (a *Ablation) worth() *AblatedLoad {
	if len(a.Loads) == 0 {
		return nil
	}
	best := slices.MaxFunc(a.Loads, func(x, y AblatedLoad) int { return cmp.Compare(x.value(), y.value()) })
	if !best.Worse() {
		return nil
	}
	return &best
}

// Worse tells whether the policy is worse without, as the whole counts.
func (l AblatedLoad) Worse() bool { return l.value() >= 1 }

// Short is for a table.
func (l AblatedLoad) Short() string {
	return fmt.Sprintf("%+.2f, %+.1f %%, %+.1f", l.Points, 100*(l.OfWhole-1), notZero(l.Turns))
}

// value is how many times worth the least of worth it is.
func (l AblatedLoad) value() float64 {
	return max((l.OfWhole-1)/worthHours, -l.Points/worthPoints, l.Turns/worthTurns)
}

func (l *AblatedLoad) words() string {
	return fmt.Sprintf("%s: %+.2f points, %+.1f %% GPU-hours, %+.1f turns a day", l.Load, l.Points, 100*(l.OfWhole-1), l.Turns)
}

// judgeAblations makes a goal of each mechanism: what is worth nothing should go.
func (r *Report) judgeAblations() {
	for i := range r.Ablations {
		a := &r.Ablations[i]
		g := Goal{Name: "ablation/" + a.Without, Wanted: "something is worse without it", Found: "nothing is"}
		if best := a.worth(); best != nil {
			g.Met, g.Found = true, best.words()
		} else {
			g.Reason = "on these loads it is worth nothing"
		}
		r.Goals = append(r.Goals, g)
	}
}

// AblationTable writes what each mechanism is worth, for a terminal.
func (r *Report) AblationTable(to io.Writer) error {
	if len(r.Ablations) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "\nwithout\tis worth most on\tattained, points: GPU-hours, % on each load\t") // Flush has the error
	for i := range r.Ablations {
		a := &r.Ablations[i]
		best := "nothing"
		if l := a.worth(); l != nil {
			best = l.words()
		}
		var all []string
		for _, l := range a.Loads {
			all = append(all, fmt.Sprintf("%s %+.2f: %+.1f", l.Load, l.Points, 100*(l.OfWhole-1)))
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t\n", a.Without, best, strings.Join(all, ", "))
	}
	return t.Flush()
}

// figures are of each load.
func (a *Ablation) figures(b *strings.Builder) {
	for _, l := range a.Loads {
		name := "ablation/" + a.Without + "/" + l.Load
		fmt.Fprintf(b, "figure %s/points %.3f\nfigure %s/gpu-hours %.4f\nfigure %s/turns-more %.1f\n", name, l.Points, name, l.OfWhole, name, notZero(l.Turns))
	}
}

// notZero has no minus before a zero.
func notZero(x float64) float64 {
	if math.Abs(x) < .05 {
		return 0
	}
	return x
}
