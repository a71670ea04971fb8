package report

import (
	"fmt"
	"slices"
)

// fastEnough is the goal for the speed of simulations.
const fastEnough = 10_000

// Judge works out which goals are met: of those loads and cold starts that were played.
func (r *Report) Judge() {
	r.Goals = nil
	for i := range r.Loads {
		l := &r.Loads[i]
		for j := range l.Worlds {
			w := &l.Worlds[j]
			s := w.score(l.Judged)
			if s == nil || w.Told {
				continue
			}
			for _, g := range demands(l, w, s) {
				g.Name = w.goal(l.Name, g.Name)
				r.Goals = append(r.Goals, g)
			}
		}
	}
	r.judgeAblations()
	for _, s := range r.Speeds {
		if s.Policy == NameAutomatic {
			r.Goals = append(r.Goals, Goal{
				Name: "speed", Met: s.Times >= fastEnough,
				Wanted: fmt.Sprintf("a policy is played %d times faster than life on one core", fastEnough),
				Found:  fmt.Sprintf("%.0f times, the median of its runs", s.Times),
				Reason: why(s.Times < fastEnough, "the machine is busy with something else, or slow"),
			})
		}
	}
}

func why(missed bool, reason string) string {
	if missed {
		return reason
	}
	return ""
}

func (w *World) goal(load, what string) string { return load + "/" + w.ColdStart.String() + "/" + what }

// demands are what a load demands, each as a goal that a policy met or missed.
func demands(l *Load, w *World, s *Score) []Goal {
	var goals []Goal
	must := &l.Must
	// most adds a goal that something is at most so much; 0 isn't demanded.
	most := func(name, words string, found estimate, limit float64, reason string) {
		if limit > 0 && found.n > 0 {
			missed := found.mean > limit
			goals = append(goals, Goal{
				Name: name, Met: !missed, Wanted: fmt.Sprintf(words, limit), Found: found.words(1, 3), Reason: why(missed, reason),
			})
		}
	}
	if must.Attained > 0 {
		found := s.attainment()
		missed := found.mean < must.Attained
		goals = append(goals, Goal{
			Name: "attainment", Met: !missed, Wanted: fmt.Sprintf("at least %.4g %% attained", 100*must.Attained),
			Found: found.percent() + " %", Reason: why(missed, w.lost(s)),
		})
	}
	static := w.score(NameStatic)
	most("gpu-hours-vs-static99", "at most %.4g × the GPU-hours of "+NameStatic, s.ratio(static), must.OfStatic, w.dear(s, static))
	most("gpu-hours-vs-baseline", "at most %.4g × the GPU-hours of "+recorded.Policy, recorded.ratio(l, w, s), must.OfBaseline, w.dear(s, static))
	most("peak-vs-static99", "at most %.4g × the replicas of "+NameStatic, s.peakRatio(static), must.PeakOfStatic, "it orders more than the load needs")
	most("turns", "at most %.4g turns a day", s.turns(l.ScoredHours), must.Turns, "it orders what it releases soon after")
	if must.Words != "" {
		var faults []string
		for i := range s.Runs {
			if fault := s.Runs[i].Fault; fault != "" {
				faults = append(faults, fmt.Sprintf("seed %d: %s", s.Runs[i].Seed, fault))
			}
		}
		g := Goal{Name: "also", Met: len(faults) == 0, Wanted: must.Words, Found: fmt.Sprintf("%d of %d seeds miss it", len(faults), len(s.Runs))}
		if !g.Met {
			g.Reason = faults[0]
		}
		goals = append(goals, g)
	}
	return goals
}

// lost says which requests missed the SLO, and whether any could have been served.
func (w *World) lost(s *Score) string {
	part := func(n func(*Run) int) float64 {
		return 100 * s.over(func(r *Run) float64 { return float64(n(r)) / float64(max(1, r.Requests)) }).mean
	}
	refused, broken := part(func(r *Run) int { return r.Refused }), part(func(r *Run) int { return r.Broken })
	words := fmt.Sprintf("of all requests %.2f %% were refused, %.2f %% broken by a replica's removal and %.2f %% answered late",
		refused, broken, max(0, 100*(1-s.attainment().mean)-refused-broken))
	if oracle := w.score(NameOracle); oracle != nil {
		words += fmt.Sprintf("; the oracle attains %s %% with %s × its GPU-hours", oracle.attainment().percent(), oracle.ratio(s).words(1, 2))
	}
	return words
}

// dear says what those come to that know more.
func (w *World) dear(s, static *Score) string {
	words := fmt.Sprintf("it attains %s %%", s.attainment().percent())
	if oracle := w.score(NameOracle); oracle != nil && static != nil {
		words += fmt.Sprintf("; the oracle, which knows the future, is at %s × %s", oracle.ratio(static).words(1, 3), NameStatic)
	}
	return words
}

// turns are changes of direction a day.
func (s *Score) turns(hours float64) estimate {
	return s.over(func(r *Run) float64 { return float64(r.Turns) * 24 / hours })
}

// peakRatio is of the most replicas to another's, seed by seed.
func (s *Score) peakRatio(to *Score) estimate {
	return s.against(to, func(r *Run) float64 { return float64(r.PeakReplicas) })
}

// missedBy are the goals among some that were missed.
func missedBy(goals []Goal) []Goal {
	return slices.DeleteFunc(slices.Clone(goals), func(g Goal) bool { return g.Met })
}
