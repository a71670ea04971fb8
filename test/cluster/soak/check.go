package main

import (
	"fmt"
	"math"
	"time"
)

// second is what the soak knows of a fleet at one moment: what it made the pods
// show, and not what anybody read or decided.
type second struct {
	at time.Time
	// total is the number of waiting requests, least and most what single
	// serving pods show. All are 0 without a serving pod.
	total, least, most float64
	// running is the number of requests in the engines, waiting ones included,
	// of fleets that get real requests.
	running int
	// lost tells that a serving pod has answered nothing for so long that its
	// last reading counts no more, and not yet for so long that it is given up.
	lost bool
	// broken tells that a replica is in a crash loop or has no image.
	broken bool
}

// limits are what holds for a fleet, in the user's words.
type limits struct {
	mode     mode
	min, max int
	// threshold is that of the mode of this name; up and down are a list's.
	threshold, up, down float64
	// seats is how many requests a replica can run at once, of real requests.
	seats int
}

// move is a change of the desired replicas, seen at one look and not at the one
// before.
type move struct {
	from, to   int
	before, at time.Time
}

// What a threshold leaves alone, as documented: up to a tenth above, and down to
// a half.
const (
	tolerateAbove = 1.1
	tolerateBelow = 0.5
)

// How far back what was shown can be the reason of a move: a reading counts for
// 15 s, is 5 s old, and the HPA looks every 15 s; the rest is for busy cores. A
// list looks back over its own window of 30 s too. Automatic mode keeps ready for a
// burst that came within four hours (docs/automatic-mode.md).
const (
	behindThreshold = time.Minute
	behindList      = 110 * time.Second
	behindLearned   = 4 * time.Hour
	// lostFor is how long a reading must have been lost before a move.
	lostFor = 20 * time.Second
)

func (m mode) behind() time.Duration {
	switch m {
	case byThreshold:
		return behindThreshold
	case byList, byLatency:
		return behindList
	default:
		return behindLearned
	}
}

// wrong says why a move should not have been, or "".
//
// It knows nothing of how the scaler decides. It holds a move against what the
// soak did: whether there was, within the time that can matter, any moment whose
// load speaks for this direction.
func (l limits) wrong(m move, history []second) string {
	if m.to < l.min || m.to > l.max {
		return fmt.Sprintf("beyond the bounds of %d and %d", l.min, l.max)
	}
	if l.mode == byLatency {
		return "nothing of its load asks for a move"
	}
	seen := span(history, m.before.Add(-l.mode.behind()), m.at)
	if len(seen) < 10 {
		return "" // it is too young to be judged
	}
	if m.to < m.from {
		return l.wronglyFewer(m, history, seen)
	}
	return l.wronglyMore(m, seen)
}

func (l limits) wronglyFewer(m move, history, seen []second) string {
	lost := span(history, m.before.Add(-lostFor), m.at)
	if len(lost) > 0 && all(lost, func(s second) bool { return s.lost }) {
		return "fewer, with a reading lost"
	}
	switch low := lowest(seen); l.mode {
	case byThreshold:
		if low.total >= tolerateBelow*l.threshold*float64(m.from) {
			return fmt.Sprintf("fewer, with %g waiting at least, %g wanted on each", low.total, l.threshold)
		}
	case byList:
		if low.least >= l.down {
			return fmt.Sprintf("fewer, with %g waiting at least on each, and %g the lower threshold", low.least, l.down)
		}
	default:
		recent := lowest(span(history, m.before.Add(-behindThreshold), m.at))
		if recent.running > m.to*l.seats {
			return fmt.Sprintf("fewer, with %d requests at least, %d on each replica at most", recent.running, l.seats)
		}
	}
	return ""
}

func (l limits) wronglyMore(m move, seen []second) string {
	high := highest(seen)
	switch l.mode {
	case byThreshold:
		// A loaded pod that hangs is evidence of load, too.
		if high.total <= tolerateAbove*l.threshold*float64(m.from) && high.most <= l.threshold {
			return fmt.Sprintf("more, with %g waiting at most, %g wanted on each", high.total, l.threshold)
		}
	case byList:
		if high.most <= l.up {
			return fmt.Sprintf("more, with %g waiting at most on each, and %g the upper threshold", high.most, l.up)
		}
	default:
		if quarter := m.from * l.seats / 4; high.running <= quarter && !high.broken {
			return fmt.Sprintf("more, with %d requests at most, where %d replicas can run %d", high.running, m.from, m.from*l.seats)
		}
	}
	return ""
}

// span are the moments from one time to another.
func span(history []second, from, to time.Time) []second {
	first := 0
	for first < len(history) && history[first].at.Before(from) {
		first++
	}
	last := first
	for last < len(history) && !history[last].at.After(to) {
		last++
	}
	return history[first:last]
}

func all(seconds []second, holds func(second) bool) bool {
	for _, s := range seconds {
		if !holds(s) {
			return false
		}
	}
	return true
}

// lowest has the lowest value of each.
func lowest(seconds []second) second {
	low := second{total: math.Inf(1), least: math.Inf(1), running: math.MaxInt}
	for _, s := range seconds {
		low.total, low.least, low.running = min(low.total, s.total), min(low.least, s.least), min(low.running, s.running)
	}
	return low
}

// highest has the highest value of each, and is broken if it ever was.
func highest(seconds []second) second {
	var high second
	for _, s := range seconds {
		high.total, high.most, high.running = max(high.total, s.total), max(high.most, s.most), max(high.running, s.running)
		high.broken = high.broken || s.broken
	}
	return high
}
