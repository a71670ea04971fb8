package aggregate

import (
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// statistic is what is taken of a pod's metric.
type statistic uint8

const (
	// newest is the newest reading.
	newest statistic = iota
	// mean is the mean over a window.
	mean
	// rate is what a counter gained a second over a window.
	rate
)

// podValue is one replica's value of a metric, or why there is none.
type podValue struct {
	value float64
	// why says in words why there is no value, "" if there is one.
	why string
	// warming is set when its samples don't cover the window yet; they reach
	// back for so long.
	warming       bool
	historyLength time.Duration
}

// measurement says what is read of each pod, and how.
type measurement struct {
	metric string
	statistic
	// window is that of mean and rate.
	window sample.Window
	// threshold is what the value of one replica is compared with.
	threshold float64
}

// maximum is the most that a pod's value can be. Nothing but a page of percents,
// or a threshold of them, says that 100 is the whole of a ratio and not 1.
func (m measurement) maximum(largest float64) float64 {
	switch {
	case !sample.IsRatio(m.metric) || m.statistic == rate:
		return math.Inf(1)
	case max(m.threshold, largest) > 1:
		return 100
	}
	return 1
}

// mismatch says why nothing can be told of a family that is measured so, "" if it can.
func (m measurement) mismatch(f *sample.Family) string {
	switch counts := f.Kind == sample.Counter || f.Kind == sample.Untyped && policy.Counts(f.Name); {
	case f.Kind == sample.Histogram && m.statistic == newest:
		return m.metric + " is a histogram, which has no total to compare with a threshold"
	case f.Kind == sample.Histogram && m.statistic == mean:
		return m.metric + " is a histogram, not a gauge"
	case m.statistic == rate && !counts:
		return m.metric + " is no counter, so it has no rate: leave out aggregation: rate"
	case m.statistic != rate && counts:
		return m.metric + " is a counter, which only grows: give aggregation: rate to compare what it gains a second"
	}
	return ""
}

// valueOf is a pod's value of the metric. Every way to add up a fleet goes by it.
func (m measurement) valueOf(r *sample.Replica, freshness time.Duration, now time.Time) podValue {
	family, why := Family(r, m.metric, freshness, now)
	if why == "" {
		why = m.mismatch(&family)
	}
	if why != "" {
		return podValue{why: why}
	}
	value := family.Value()
	if m.statistic != newest {
		if !coversWindow(r, family.Name, m.window) {
			return podValue{warming: true, historyLength: historyLength(r, family.Name, now)}
		}
		value = m.overWindow(r, &family)
	}
	if value < 0 {
		return podValue{why: m.metric + " is negative"}
	}
	return podValue{value: value}
}

// overWindow is a pod's mean or rate over the window.
func (m measurement) overWindow(r *sample.Replica, newest *sample.Family) float64 {
	if m.statistic == rate {
		// A pod that has just joined has one sample: its baseline.
		gained, _ := r.History.Delta(newest.Name, m.window)
		return gained.Value / max(gained.Spans, m.window.Length).Seconds()
	}
	level, ok := r.History.Level(newest.Name, m.window)
	if !ok { // The newest is fresh, but older than a window of a few seconds.
		return newest.Value()
	}
	return level.Value
}

// coversWindow tells whether the replica's samples of a family speak for the whole
// window: they reach back to its start, or to when the pod joined. Half an
// interval is for pages that took their time.
func coversWindow(r *sample.Replica, family string, w sample.Window) bool {
	since, found := r.History.Since(family)
	start := w.Now.Add(-w.Length)
	if r.ReadySince.After(start) {
		// It was seen Ready and read some intervals after that.
		start = r.ReadySince.Add(2 * w.Interval)
	}
	return found && !since.After(start.Add(w.Interval+w.Interval/2))
}

// historyLength is how far the samples of a family reach back.
func historyLength(r *sample.Replica, family string, now time.Time) time.Duration {
	since, found := r.History.Since(family)
	if !found {
		return 0
	}
	return now.Sub(since)
}

// window is the stretch that a metric is measured over. Samples are an interval
// apart, so less than two of them is no window.
func window(f sample.Fleet, length time.Duration, now time.Time) sample.Window {
	interval := f.Interval
	if interval <= 0 {
		interval = f.Freshness / 3
	}
	return sample.Window{Now: now, Length: max(length, 2*interval), Interval: interval}
}

// Exceeds tells whether a is greater than b, and not only by what adding up and
// dividing leave: .1 on each of three pods is .10000000000000002 in the mean.
func Exceeds(a, b float64) bool {
	const rounding = 1e-9
	return a-b > rounding*math.Abs(b)
}
