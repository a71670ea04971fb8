package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxRows bounds how many sizes of the fleet Explain goes through.
const maxRows = 8

// Explain says in sentences, one a line, what a policy will do and when. They
// are the HPA's arithmetic and its behaviour on what the scaler publishes.
func Explain(p Policy) []string {
	lines := []string{between(p.Bounds)}
	if p.Bounds.Min == p.Bounds.Max {
		return lines
	}
	switch {
	case p.List != nil:
		return append(lines, p.List.explain(p)...)
	case p.Saturation != nil:
		return append(lines, p.Saturation.explain(p)...)
	}
	lines = append(lines, p.Queue.explain(p)...)
	switch {
	case p.Queue.Guard != nil:
		lines = append(lines, p.Queue.Guard.guarded())
	case p.Bounds.Max > p.Bounds.Min+1:
		lines = append(lines, p.unguarded())
	}
	return lines
}

func between(b Bounds) string {
	if b.Min == b.Max {
		return fmt.Sprintf("Always %s: that is the minimum and the maximum.", replicas(b.Min))
	}
	return fmt.Sprintf("Between %d and %s.", b.Min, replicas(b.Max))
}

func replicas(n int32) string {
	if n == 1 {
		return "1 replica"
	}
	return strconv.Itoa(int(n)) + " replicas"
}

func (q Queue) explain(p Policy) []string {
	lines := []string{
		q.measured(),
		fmt.Sprintf("Up: %s, when the total %s %s for each replica by more than %s%s.",
			p.Up.step(), p.Up.verb("above"), number(q.Target), percent(p.Up.Tolerance), p.Up.seen()),
		fmt.Sprintf("Down: %s, when the total %s %s for each replica by more than %s%s.",
			p.Down.step(), p.Down.verb("below"), number(q.Target), percent(p.Down.Tolerance), p.Down.seen()),
	}
	// The least sizes and the greatest. They are counted from the least one: beyond
	// an int32's greatest there is no next one.
	more := p.Bounds.Max - p.Bounds.Min
	for n := range min(more, maxRows-1) {
		lines = append(lines, q.at(p.Bounds.Min+n, p))
	}
	if more > maxRows-1 {
		lines = append(lines, "…")
	}
	lines = append(lines, q.at(p.Bounds.Max, p))
	return append(lines, "Between these it stays, and also while a replica that can't be read could make the difference.")
}

// unguarded warns of what the HPA makes of a queue alone. Its policies count from the
// replicas at their period's start, so each direction may undo all that the other did
// within that time: on a load of code 24 → 3 → 24 every 10 min.
func (p Policy) unguarded() string {
	return fmt.Sprintf("Not guarded: a queue is empty as soon as replicas keep up, so it goes down while all of them are busy. "+
		"The HPA takes back at once what was added within %s, and adds at once what was removed within %s: a large fleet can shrink to a few and grow back, over and over.",
		span(p.Down.Cooldown), span(p.Up.Cooldown))
}

// measured is what is added up.
func (q Queue) measured() string {
	if q.Aggregation == Rate {
		return fmt.Sprintf("Measured: the rate of %s over %s, in total over the serving replicas, of which each should have %s a second.",
			q.Metric, span(q.Window), number(q.Target))
	}
	return fmt.Sprintf("Measured: the total of %s over the serving replicas, of which each should have %s.", q.Metric, number(q.Target))
}

// at says which totals move a fleet of n replicas. The HPA stays within the
// tolerances around target × n, and else goes to ⌈total ÷ target⌉.
func (q Queue) at(n int32, p Policy) string {
	each := q.Target * float64(n)
	var moves []string
	if n < p.Bounds.Max {
		moves = append(moves, "up above "+rounded(each*(1+p.Up.Tolerance)))
	}
	if n > p.Bounds.Min {
		below := each * (1 - p.Down.Tolerance)
		// The quotient is rounded up, so one replica less must be enough.
		if enough := q.Target * float64(n-1); enough < below {
			moves = append(moves, "down at "+rounded(enough)+" or less")
		} else {
			moves = append(moves, "down below "+rounded(below))
		}
	}
	return fmt.Sprintf("At %s: %s.", replicas(n), strings.Join(moves, ", "))
}

func (l *List) explain(p Policy) []string {
	var lines, above, below []string
	for i, m := range l.Metrics {
		is, over := "is ", ", its mean over the serving replicas"
		switch {
		case m.Kind == Histogram:
			over = ", of all that the serving replicas observed within " + span(m.Window)
		case m.Window > 0:
			over += " and over " + span(m.Window)
		}
		if i > 0 {
			is = ""
		}
		lines = append(lines, "Measured: "+m.stat()+over+".")
		above = append(above, m.stat()+" "+is+"above "+number(m.Up))
		below = append(below, m.stat()+" "+is+"below "+number(m.Down))
	}
	word := " and "
	if l.Combine == Or {
		word = " or "
	}
	return append(lines,
		fmt.Sprintf("Up: %s, when %s%s, and no replica is on its way.", p.Up.step(), strings.Join(above, word), p.Up.seen()),
		fmt.Sprintf("Down: %s, and no sooner after a step up, when %s%s.", p.Down.step(), strings.Join(below, " and "), p.Down.seen()),
		"Between these it stays, and also while a metric is unknown that could make the difference.")
}

// stat is what is compared.
func (m Metric) stat() string {
	switch {
	case m.Kind == Gauge:
		return m.Name
	case m.Kind == Counter:
		return "the rate of " + m.Name + " a second"
	case m.Quantile == 0:
		return "the mean of " + m.Name
	}
	return fmt.Sprintf("the %s quantile of %s", number(m.Quantile), m.Name)
}

func (p Pace) step() string { return stepOf(p.Step) + " at most every " + span(p.Cooldown) }

// seen is for how long the HPA has to see it.
func (p Pace) seen() string {
	if p.Window == 0 {
		return ""
	}
	return " for " + span(p.Window)
}

func (p Pace) verb(where string) string {
	if p.Window == 0 {
		return "is " + where
	}
	return "has been " + where
}

func percent(fraction float64) string { return rounded(fraction*100) + " %" }

// rounded takes off what floating point adds: 10 × 3 × 1.1 is 33.
func rounded(x float64) string {
	if x >= 1e9 {
		return number(x)
	}
	return number(math.Round(x*1e6) / 1e6)
}

// span is a length of time in its largest unit that leaves no rest.
func span(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%g s", d.Seconds())
}
