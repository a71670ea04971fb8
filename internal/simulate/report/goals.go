package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// economy is a goal on GPU-hours, by cold starts of 2, 5 and 10 minutes.
type economy struct {
	load string
	// to is whom GPU-hours are compared with, most what share of theirs may be
	// used.
	to   string
	most [3]float64
}

var economies = []economy{
	{"days-conversation", NameOracle, [3]float64{1.08, 1.08, 1.10}},
	{"days-conversation", NameStatic, [3]float64{.82, .85, .89}},
	{"days-code", NameStatic, [3]float64{.53, .58, .58}},
	{"azure-conversation", NameStatic, [3]float64{.94, .96, 1}},
	{"azure-code", NameStatic, [3]float64{.90, .95, .97}},
	{"steady", NameStatic, [3]float64{1.03, 1.03, 1.03}},
}

// reference are the cold starts that the goals name.
var reference = [3]Minutes{Minutes(2 * time.Minute), Minutes(5 * time.Minute), Minutes(10 * time.Minute)}

// fastEnough is the goal for the speed of simulations.
const fastEnough = 10_000

// Judge works out which goals are met: of those loads and cold starts that were
// played.
func (r *Report) Judge() {
	r.Goals = nil
	for i := range r.Loads {
		l := &r.Loads[i]
		for j := range l.Worlds {
			w := &l.Worlds[j]
			if w.score(NameSaturation) == nil {
				continue
			}
			if !l.OutOfReach {
				r.Goals = append(r.Goals, w.attained(l.Name))
			}
			r.Goals = append(r.Goals, w.economies(l.Name)...)
			r.Goals = append(r.Goals, w.calm(l)...)
			if len(w.Frontier) == 0 {
				continue
			}
			if l.OutOfReach {
				r.Goals = append(r.Goals, w.leastLoss(l.Name))
			} else {
				r.Goals = append(r.Goals, w.frontier(l.Name))
			}
		}
	}
	for _, s := range r.Speeds {
		if s.Policy == NameSaturation {
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

// attained is the goal that users are served as promised.
func (w *World) attained(load string) Goal {
	found := w.score(NameSaturation).attainment()
	g := Goal{
		Name: w.goal(load, "attainment"), Met: found.mean >= Target,
		Wanted: "at least 99 % attained", Found: found.percent() + " %",
	}
	if g.Met {
		return g
	}
	if oracle := w.score(NameOracle); oracle != nil {
		best := oracle.attainment()
		if best.mean < Target {
			g.Reason = fmt.Sprintf("even the oracle attains %s %%", best.percent())
			return g
		}
		g.Reason = fmt.Sprintf("the oracle attains %s %% with %.0f %% of its GPU-hours: ", best.percent(),
			100*oracle.ratio(w.score(NameSaturation)).mean)
	}
	s := w.score(NameSaturation)
	refused, broken := s.over(func(r *Run) float64 { return share(r.Refused, r) }).mean, s.over(func(r *Run) float64 { return share(r.Broken, r) }).mean
	g.Reason += fmt.Sprintf("of all requests %.2f %% were refused, %.2f %% broken by a replica's removal and %.2f %% answered late: "+
		"demand grew faster than replicas start", 100*refused, 100*broken, 100*max(0, 1-found.mean-refused-broken))
	return g
}

func share(n int, r *Run) float64 { return float64(n) / float64(max(1, r.Requests)) }

// economies are the goals on GPU-hours.
func (w *World) economies(load string) []Goal {
	at := slices.Index(reference[:], w.ColdStart)
	if at < 0 {
		return nil
	}
	var goals []Goal
	for _, e := range economies {
		if e.load != load || w.score(e.to) == nil {
			continue
		}
		mine, other := w.score(NameSaturation), w.score(e.to)
		ratio := mine.ratio(other)
		g := Goal{
			Name: w.goal(load, "gpu-hours-vs-"+e.to), Met: ratio.mean <= e.most[at],
			Wanted: fmt.Sprintf("at most %.2f × the GPU-hours of %s", e.most[at], e.to),
			Found:  ratio.words(1, 3),
		}
		if mine.attainment().mean < Target {
			// Fewer GPU-hours at fewer requests served are no success.
			g.Met = false
			g.Reason = fmt.Sprintf("it attains %s %%, less than 99", mine.attainment().percent())
		}
		if oracle := w.score(NameOracle); !g.Met && oracle != nil {
			best := oracle.ratio(other)
			words := fmt.Sprintf("the oracle, which knows the future, is at %s", best.words(1, 3))
			switch {
			case e.to == NameOracle:
				words = fmt.Sprintf("it keeps room for what the oracle knows, and attains %s %% where that attains %s %%",
					mine.attainment().percent(), oracle.attainment().percent())
			case best.mean > e.most[at]:
				words = "out of reach: " + words
			case g.Reason == "":
				words = fmt.Sprintf("it keeps room for what it can't foretell, and attains %s %%; %s; %s",
					mine.attainment().percent(), words, w.others(other))
			}
			g.Reason = strings.TrimPrefix(g.Reason+"; "+words, "; ")
		}
		goals = append(goals, g)
	}
	return goals
}

// others says how those do that react to the load and aren't saturation.
func (w *World) others(to *Score) string {
	best, words := math.Inf(1), "no other policy that reacts attains 99 %"
	for i := range w.Scores {
		s := &w.Scores[i]
		if s.Policy == NameSaturation || s.Policy == NameOracle || strings.HasPrefix(s.Policy, "static") || s.attainment().mean < Target {
			continue
		}
		if ratio := s.ratio(to); ratio.mean < best {
			best, words = ratio.mean, fmt.Sprintf("of the others that react %s attains 99 %% with the fewest, at %s", s.Policy, ratio.words(1, 3))
		}
	}
	return words
}

// calm are the goals against flapping.
func (w *World) calm(l *Load) []Goal {
	s := w.score(NameSaturation)
	hours := l.ScoredHours
	var goals []Goal
	switch {
	case l.Name == "steady":
		n := s.over(func(r *Run) float64 { return float64(r.Reversals) * 6 / hours })
		goals = append(goals, Goal{
			Name: w.goal(l.Name, "reversals"), Met: n.mean < 1, Wanted: "fewer than 1 reversal in 6 hours", Found: n.words(1, 2),
			Reason: why(n.mean >= 1, "passing peaks order a replica, and it goes again within two cold starts"),
		})
	case strings.HasPrefix(l.Name, "days-"):
		n := s.over(func(r *Run) float64 { return float64(r.Reversals) * 24 / hours })
		goals = append(goals, Goal{
			Name: w.goal(l.Name, "reversals"), Met: n.mean <= 20, Wanted: "at most 20 reversals a day", Found: n.words(1, 1),
			Reason: why(n.mean > 20, "passing peaks order a replica, and it goes again within two cold starts"),
		})
	}
	n := s.over(func(r *Run) float64 { return float64(r.Hasty) })
	return append(goals, Goal{
		Name: w.goal(l.Name, "steps-down-after-a-burst"), Met: n.mean == 0,
		Wanted: "no step down within a cold start, or 10 minutes, of a burst", Found: n.words(1, 1) + " a run",
		Reason: why(n.mean > 0, "the fleet stood above its greatest need of the window when the burst ended"),
	})
}

// worth is the least attainment at which points of frontiers are compared:
// nobody chooses a policy below.
const worth = .95

// slack is what a frontier may lie under another's: the noise of a seed.
const slack = .0005

// frontier is the goal that no other policy's knob serves more users at the
// same GPU-hours.
func (w *World) frontier(load string) Goal {
	mine := points(w.Frontier, NameSaturation)
	var above []string
	for i := range w.Frontier {
		p := &w.Frontier[i]
		if p.Policy == NameSaturation || p.Attainment < worth {
			continue
		}
		if at := attainedWith(mine, p.GPUHours); p.Attainment > at+slack {
			above = append(above, fmt.Sprintf("%s with %s attains %.2f %% with %.0f GPU-hours, saturation %s there",
				p.Policy, p.Knob, 100*p.Attainment, p.GPUHours, percentOrNothing(at)))
		}
	}
	found := "no point of another lies above its frontier"
	if len(above) > 0 {
		found = fmt.Sprintf("%d points of others lie above its frontier", len(above))
	}
	return Goal{
		Name: w.goal(load, "frontier"), Met: len(above) == 0,
		Wanted: "its frontier lies on or above those of all others", Found: found, Reason: strings.Join(above, "; "),
	}
}

func percentOrNothing(x float64) string {
	if x == 0 {
		return "was not played with so few"
	}
	return fmt.Sprintf("attains %.2f %%", 100*x)
}

// leastLoss is the goal for loads that no policy can serve.
func (w *World) leastLoss(load string) Goal {
	mine := w.score(NameSaturation)
	hours, attained := mine.gpuHours().mean, mine.attainment().mean
	policies := map[string]bool{}
	for _, p := range w.Frontier {
		policies[p.Policy] = true
	}
	delete(policies, NameSaturation)
	var better []string
	for policy := range policies {
		if at := attainedWith(points(w.Frontier, policy), hours); at > attained {
			better = append(better, fmt.Sprintf("%s attains %.1f %%", policy, 100*at))
		}
	}
	slices.Sort(better)
	return Goal{
		Name: w.goal(load, "least-loss"), Met: len(better) == 0,
		Wanted: "out of reach; at its GPU-hours no other policy attains more",
		Found:  fmt.Sprintf("%.1f %% with %.1f GPU-hours", 100*attained, hours),
		Reason: why(len(better) > 0, "with as many GPU-hours "+strings.Join(better, ", ")),
	}
}

func points(all []Point, policy string) []Point {
	var some []Point
	for _, p := range all {
		if p.Policy == policy {
			some = append(some, p)
		}
	}
	return some
}

// attainedWith is what a policy attains with at most so many GPU-hours, over its
// knob: linear between the points of its Pareto frontier, 0 below the cheapest.
func attainedWith(some []Point, hours float64) float64 {
	front := pareto(some)
	for i, p := range slices.Backward(front) {
		if p.GPUHours > hours {
			continue
		}
		if i == len(front)-1 {
			return front[i].Attainment
		}
		along := (hours - front[i].GPUHours) / (front[i+1].GPUHours - front[i].GPUHours)
		return front[i].Attainment + along*(front[i+1].Attainment-front[i].Attainment)
	}
	return 0
}

// pareto are the points that no other beats in both, by GPU-hours.
func pareto(some []Point) []Point {
	sorted := slices.Clone(some)
	slices.SortFunc(sorted, func(a, b Point) int {
		if a.GPUHours != b.GPUHours {
			return int(math.Copysign(1, a.GPUHours-b.GPUHours))
		}
		return int(math.Copysign(1, b.Attainment-a.Attainment))
	})
	var front []Point
	for _, p := range sorted {
		if len(front) == 0 || p.Attainment > front[len(front)-1].Attainment {
			front = append(front, p)
		}
	}
	return front
}
