package decision

import "math"

// curve is the share of answers that are later than promised, by a replica's
// load as a share of the limit: at the middles of the bins. It never descends.
type curve struct {
	late [bins]float64
	// ceiling is the load beyond which a replica can't be filled, at most 1.
	ceiling float64
}

// lateness is the curve as it is known: what was seen, beside a prior that
// weighs as much as some hundred answers. Bins are pooled with their neighbours
// until none is below the one before it (pool adjacent violators).
func (l *Learned) lateness(s Saturation) curve {
	const prior = 200
	type pool struct {
		late, all float64
		bins      int
	}
	var pools []pool
	guess := guess{.7, .002}
	for bin := range bins {
		p := pool{l.Late[bin] + prior*guess.at(middle(bin)), l.Answered[bin] + prior, 1}
		guess = guess.after(middle(bin), p.late/p.all, l.Answered[bin])
		for len(pools) > 0 {
			last := pools[len(pools)-1]
			if last.late*p.all <= p.late*last.all {
				break
			}
			p = pool{last.late + p.late, last.all + p.all, last.bins + p.bins}
			pools = pools[:len(pools)-1]
		}
		pools = append(pools, p)
	}
	c := curve{ceiling: l.ceiling(s)}
	bin := 0
	for _, p := range pools {
		for range p.bins {
			c.late[bin] = p.late / p.all
			bin++
		}
	}
	return c
}

func middle(bin int) float64 { return (float64(bin) + .5) * binWidth }

// guess is the share of late answers at loads that none was seen at: from a
// share at a load geometrically to all at the limit.
type guess struct{ load, share float64 }

func (g guess) at(load float64) float64 {
	switch {
	case load <= g.load:
		return g.share
	case load >= 1:
		return 1
	}
	return math.Pow(g.share, 1-(load-g.load)/(1-g.load))
}

// after starts anew from a load that enough answers were seen at, unless it is
// so low that it tells less than was known.
func (g guess) after(load, share, answered float64) guess {
	const enough = 1000
	fresh := guess{load, max(share, .0005)}
	if answered < enough || load >= .95 || share < g.at(load) && fresh.at(.9) > g.at(.9) {
		return g
	}
	return fresh
}

// at is the share at a load, linear between the middles of the bins. What comes
// beyond the limit, or the ceiling, is a backlog: it makes as many late after it.
func (c *curve) at(load float64) float64 {
	x := load/binWidth - .5
	switch {
	case load >= c.ceiling:
		return load / c.ceiling
	case x <= 0:
		return c.late[0]
	case x >= bins-1:
		return 1
	}
	i := int(x)
	return c.late[i] + (c.late[i+1]-c.late[i])*(x-float64(i))
}

// under is the greatest load at which no more than a share is late.
func (c *curve) under(share float64) float64 {
	low, high := .1, 1.0
	for range 20 {
		if m := (low + high) / 2; c.at(m) <= share {
			low = m
		} else {
			high = m
		}
	}
	return low
}

// vain tells of a model that is slower than what is promised: an empty iteration
// takes longer than the time between tokens, or most answers are late at the
// least load that enough of them were seen at, if that is under half.
func (l *Learned) vain(s Saturation) bool {
	const enough = 200
	if l.speed(s)[0] >= s.ITL.Seconds() {
		return true
	}
	for bin := range bins {
		switch {
		case middle(bin) > .5:
			return false
		case l.Answered[bin] >= enough:
			return l.Late[bin] > l.Answered[bin]/2
		}
	}
	return false
}

// lately is the share of requests that were late or refused, half of them
// forgotten in two hours. Until some are known it is taken for twice what is
// bearable.
func (l *Learned) lately(s Saturation) float64 {
	const few = 2000
	return (l.Missed + 2*s.Tuning.Misses*few) / (l.Seen + few)
}

// worst is the share that may miss where rounding up adds nothing: less, the
// more did lately, since a steady load may stay there for ever.
func (l *Learned) worst(s Saturation) float64 {
	much := s.Tuning.Misses / max(l.lately(s), s.Tuning.Misses)
	return max(s.Tuning.Misses, s.Tuning.Worst*much*much)
}
