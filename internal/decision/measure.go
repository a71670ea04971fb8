package decision

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// window is the stretch that a metric is measured over. Samples are an interval
// apart, so less than two of them is no window.
func (f Fleet) window(length time.Duration, now time.Time) Window {
	interval := f.Interval
	if interval <= 0 {
		interval = f.Freshness / 3
	}
	return Window{Now: now, Length: max(length, 2*interval), Interval: interval}
}

// measure is what a metric of a list is over the fleet: a mean over the serving
// replicas and over the window, or a quantile of what was observed in it.
func measure(m policy.Metric, fleet Fleet, now time.Time) survey {
	if m.Kind == policy.Histogram {
		return observed(m, fleet, now)
	}
	w := fleet.window(m.Window, now)
	s := look(m.Name, fleet, now, math.Inf(1), func(r Replica) reading { return r.level(m.Name, fleet.Freshness, w) })
	s.window = w.Length
	if ratio(m.Name) {
		// Nothing but a page of percents, or thresholds of them, says that
		// 100 is the whole and not 1.
		whole := 1.0
		if max(m.Up, s.largest) > 1 {
			whole = 100
		}
		s.high = s.low + s.largest*float64(s.released) + whole*float64(s.open())
	}
	s.mean()
	return s
}

// ratio tells by its name that a metric is a share of a whole: the mean over a
// pod's engines counts and not their sum.
func ratio(metric string) bool {
	for _, suffix := range []string{"_perc", "_percent", "_ratio"} {
		if strings.HasSuffix(metric, suffix) {
			return true
		}
	}
	return false
}

// level is a gauge's mean over the window in one replica.
func (r Replica) level(metric string, freshness time.Duration, w Window) reading {
	family, why := r.family(metric, freshness, w.Now)
	switch {
	case why != "":
		return reading{why: why}
	case family.Kind == Histogram:
		return reading{why: metric + " is a histogram, not a gauge"}
	case family.Kind == Counter:
		return reading{why: metric + " is a counter, which only grows, not a gauge"}
	case !r.covers(family.Name, w):
		return reading{warming: true, reached: r.reach(family.Name, w.Now)}
	}
	level, ok := r.History.Level(family.Name, w)
	if !ok {
		// The newest is fresh, but older than a window of a few seconds.
		level = Level{Sum: family.Sum, Mean: family.Sum / float64(family.Engines)}
	}
	if ratio(metric) {
		level.Sum = level.Mean
	}
	if level.Sum < 0 {
		return reading{why: metric + " is negative"}
	}
	return reading{value: level.Sum}
}

// covers tells whether the replica's samples of a family speak for the whole
// window: they reach back to its start, or to when the pod joined. Half an
// interval is for pages that took their time.
func (r Replica) covers(family string, w Window) bool {
	since, found := r.History.since(family)
	start := w.Now.Add(-w.Length)
	if r.ReadySince.After(start) {
		// It was seen Ready and read some intervals after that.
		start = r.ReadySince.Add(2 * w.Interval)
	}
	return found && !since.After(start.Add(w.Interval+w.Interval/2))
}

// reach is how far the samples of a family reach back.
func (r Replica) reach(family string, now time.Time) time.Duration {
	since, found := r.History.since(family)
	if !found {
		return 0
	}
	return now.Sub(since)
}

// observed is the mean or a quantile of what a histogram observed within the
// window, over all serving replicas. There is no interval for it: with a
// reading missing, nothing is known.
func observed(m policy.Metric, fleet Fleet, now time.Time) survey {
	w := fleet.window(m.Window, now)
	s := survey{missing: missing(m.Name, fleet, now), high: math.Inf(1), window: w.Length, observed: true}
	var deltas []Delta
	quiet := still
	for _, r := range fleet.Replicas {
		if !r.speaks(fleet.Freshness, now) {
			continue
		}
		s.serving++
		family, why := r.family(m.Name, fleet.Freshness, now)
		if why == "" && family.Kind != Histogram {
			why = m.Name + " is no histogram"
		}
		switch {
		case why != "":
			s.skip(r, why, r.silent(m.Name, now) > fleet.Grace)
		case !r.covers(family.Name, w):
			s.warm(r.reach(family.Name, now))
		default:
			s.read = append(s.read, r.Pod)
			if d, ok := r.History.Delta(family.Name, w); ok {
				deltas = append(deltas, d)
			} // else it has just joined, and its one sample is the baseline
			quiet = min(quiet, r.activity(w))
		}
	}
	s.retain()
	s.conclude(m, deltas, quiet, w)
	return s
}

// activity is whether a replica had requests throughout a window.
type activity uint8

const (
	// busy had some, and untold has a page that doesn't say.
	busy activity = iota
	untold
	still
)

func (r Replica) activity(w Window) activity {
	least := still
	for _, gauge := range []string{policy.FamilyRunning, policy.FamilyWaiting} {
		level, ok := r.History.Level(gauge, w)
		switch {
		case !ok:
			least = min(least, untold)
		case level.Max > 0:
			return busy
		}
	}
	// What came and went between two readings shows in no gauge.
	if ended, ok := r.History.Delta(policy.FamilyFinished, w); ok && ended.Value > 0 {
		return busy
	}
	return least
}

// conclude turns what was counted in each pod into one number, or into a word
// on why there is none.
func (s *survey) conclude(m policy.Metric, deltas []Delta, quiet activity, w Window) {
	switch {
	case len(s.read) == 0 && s.warming == 0:
		return // nothing could be read
	case s.open() > 0:
		s.unknown = s.gaps()
		return
	}
	all, err := Merge(deltas)
	switch {
	case err != nil:
		s.unknown = err.Error()
	case all.Buckets != nil && all.Buckets.Count() > 0:
		value := all.Buckets.Mean()
		if m.Quantile > 0 {
			value = all.Buckets.Quantile(m.Quantile)
		}
		// A sum that descended, or no finite bound at all.
		if math.IsNaN(value) || math.IsInf(value, 0) || value < 0 {
			s.unknown = fmt.Sprintf("what it observed in %s makes no sense: %v", duration(w.Length), value)
			return
		}
		s.low, s.high = value, value
	case quiet == still:
		s.idle, s.high = true, 0
	case quiet == untold:
		s.unknown = fmt.Sprintf("it observed nothing in %s, and not every page tells whether requests run", duration(w.Length))
	default:
		s.unknown = fmt.Sprintf("it observed nothing in %s although requests run or wait: they take longer, or an engine stands still",
			duration(w.Length))
	}
}
