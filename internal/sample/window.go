package sample

import (
	"errors"
	"math"
	"slices"
	"time"
)

// Window is a stretch of time up to Now.
type Window struct {
	Now time.Time
	// Length is from MinWindow to MaxWindow.
	Length time.Duration
	// Interval is how far apart a pod's samples normally are, > 0.
	Interval time.Duration
}

// Coverage says how much of a window a pod's samples speak for.
type Coverage struct {
	// Samples is how many samples were used.
	Samples int
	// Spans is the time from the first to the last of them.
	Spans time.Duration
	// Needs is the least Spans of a window that is full: its length less one
	// interval, because samples stand at the start of what they speak for.
	Needs time.Duration
	// Widest is the longest time between two of them that follow each other:
	// wider than freshness, it is a gap.
	Widest time.Duration
}

// Warm reports whether the samples reach back over the whole window. A pod's
// window is warm no later than its length and one interval after its first
// sample.
func (c Coverage) Warm() bool { return c.Samples > 0 && c.Spans >= c.Needs }

// Share is the filled part of the window, from 0 to 1.
func (c Coverage) Share() float64 {
	switch {
	case c.Samples == 0:
		return 0
	case c.Needs <= 0 || c.Spans >= c.Needs:
		return 1
	}
	return float64(c.Spans) / float64(c.Needs)
}

// Level is what a gauge was over a window.
type Level struct {
	Coverage
	// Value is the pod's value over the window's time, in the mean.
	Value float64
	// Max is the greatest one.
	Max float64
}

// Level is the gauge's mean over w, by time: a sample speaks for half of the time to
// each of its neighbours, and the first and the last for as much to their other side.
// So where a history is thinned, those that are left count for more. At equal
// distances it is avg_over_time. ok is false if no sample in w has the family.
func (h *History) Level(family string, w Window) (level Level, ok bool) {
	start := w.Now.Add(-w.Length)
	level.Max = math.Inf(-1)
	var area, time, step, value float64
	var first, last *Sample
	for _, s := range h.samples {
		f, found := s.Family(family)
		if !found || !s.At.After(start) || s.At.After(w.Now) {
			continue
		}
		before := value
		value = f.Value()
		level.Samples++
		level.Max = max(level.Max, value)
		if last == nil {
			first, last = s, s
			continue
		}
		gap := s.At.Sub(last.At)
		level.Widest = max(level.Widest, gap)
		step = gap.Seconds()
		if level.Samples == 2 {
			area, time = before*step/2, step/2
		}
		area, time = area+(before+value)/2*step, time+step
		last = s
	}
	if level.Samples == 0 {
		return Level{}, false
	}
	level.Value = value
	if time > 0 {
		level.Value = (area + value*step/2) / (time + step/2)
	}
	level.Spans = last.At.Sub(first.At)
	// Samples within the window lie between none and one interval after its
	// start and before its end.
	level.Needs = w.Length - 2*w.Interval
	return level, true
}

// Delta is what a counter or histogram gained over a window, in one pod or,
// merged, in several.
type Delta struct {
	Coverage
	// Value is a counter's gain, ≥ 0.
	Value float64
	// Buckets are a histogram's gain; nil for a counter.
	Buckets *Buckets
	// Resets is how often the counting began anew. What was counted between
	// the last sample before a reset and the first after it is lost, because
	// KAITO's start-up benchmark may be in it.
	Resets int
}

// Rate is a counter's gain per second, NaN if no time passed.
func (d Delta) Rate() float64 {
	if d.Spans <= 0 {
		return math.NaN()
	}
	return d.Value / d.Spans.Seconds()
}

// Delta is what the counter or histogram gained over w: from the newest sample
// at or before the window's start, or the oldest there is, to the newest in it.
// ok is false with fewer than two samples of the family.
func (h *History) Delta(family string, w Window) (d Delta, ok bool) {
	start := w.Now.Add(-w.Length)
	var prev *Sample
	var before Family
	var first time.Time
	for i := h.reach(family, start); i < len(h.samples); i++ {
		s := h.samples[i]
		f, found := s.Family(family)
		if !found || s.At.After(w.Now) {
			continue
		}
		d.Samples++
		if prev == nil {
			first = s.At
		} else {
			d.Widest = max(d.Widest, s.At.Sub(prev.At))
			if prev.sameProcess(s) && Continues(&before, &f) {
				d.gain(&before, &f)
			} else {
				d.Resets++
			}
		}
		prev, before = s, f
	}
	if d.Samples < 2 {
		return Delta{}, false
	}
	if d.Buckets == nil && before.Kind == Histogram {
		// Nothing but resets: no observation that is known of.
		d.Buckets = &Buckets{Le: before.Buckets.Le, Cumulative: make([]float64, len(before.Buckets.Le))}
	}
	d.Spans = prev.At.Sub(first)
	d.Needs = w.Length - w.Interval
	return d, true
}

// reach is the index of the newest sample of the family at or before start, or
// of the oldest sample.
func (h *History) reach(family string, start time.Time) int {
	for i := len(h.samples) - 1; i > 0; i-- {
		if s := h.samples[i]; !s.At.After(start) {
			if _, found := s.Family(family); found {
				return i
			}
		}
	}
	return 0
}

// Continues reports whether b can be a later reading of the same counting as
// a: nothing fell, and a histogram kept its bounds.
func Continues(a, b *Family) bool {
	if a.Kind != b.Kind {
		return false
	}
	if a.Kind != Histogram {
		return b.Sum >= a.Sum
	}
	if !sameBounds(&a.Buckets, &b.Buckets) {
		return false
	}
	for i := range a.Buckets.Cumulative {
		if b.Buckets.Cumulative[i] < a.Buckets.Cumulative[i] {
			return false
		}
	}
	return true
}

func sameBounds(a, b *Buckets) bool {
	if len(a.Le) != len(b.Le) {
		return false
	}
	// Samples of one process share their bounds.
	return len(a.Le) == 0 || &a.Le[0] == &b.Le[0] || slices.Equal(a.Le, b.Le)
}

func (d *Delta) gain(a, b *Family) {
	if b.Kind != Histogram {
		d.Value += b.Sum - a.Sum
		return
	}
	if d.Buckets == nil || !sameBounds(d.Buckets, &b.Buckets) {
		d.Buckets = &Buckets{Le: b.Buckets.Le, Cumulative: make([]float64, len(b.Buckets.Le))}
	}
	for i := range b.Buckets.Cumulative {
		d.Buckets.Cumulative[i] += b.Buckets.Cumulative[i] - a.Buckets.Cumulative[i]
	}
	d.Buckets.Sum += b.Buckets.Sum - a.Buckets.Sum
}

// errBounds is for histograms that can't be added up.
var errBounds = errors.New("histograms have different bucket bounds: replicas of one InferenceSet run different versions")

// Merge adds up the deltas of several pods. It comes after the delta and never
// before: a sum of counters falls when a pod leaves. The coverage is that of
// the least covered.
func Merge(deltas []Delta) (Delta, error) {
	var m Delta
	for i, d := range deltas {
		m.Value += d.Value
		m.Resets += d.Resets
		if i == 0 || d.Share() < m.Share() {
			widest := m.Widest
			m.Coverage = d.Coverage
			m.Widest = max(widest, d.Widest)
		}
		if d.Buckets == nil {
			continue
		}
		if m.Buckets == nil {
			m.Buckets = &Buckets{Le: d.Buckets.Le, Cumulative: make([]float64, len(d.Buckets.Le))}
		}
		if !sameBounds(m.Buckets, d.Buckets) {
			return Delta{}, errBounds
		}
		for j, c := range d.Buckets.Cumulative {
			m.Buckets.Cumulative[j] += c
		}
		m.Buckets.Sum += d.Buckets.Sum
	}
	return m, nil
}

// Mean is the mean of all observations, NaN if there are none.
func (b *Buckets) Mean() float64 { return b.Sum / b.Count() }

// Quantile estimates the q-quantile of all observations, q from 0 to 1, as
// Prometheus's histogram_quantile does: linear within a bucket, from 0 in the
// first if its bound is positive, and the highest finite bound for whatever
// lies beyond it. NaN if there are no observations or no finite bound.
func (b *Buckets) Quantile(q float64) float64 {
	n := len(b.Le)
	total := b.Count()
	if math.IsNaN(q) || total == 0 || n < 2 {
		return math.NaN()
	}
	if q < 0 {
		return math.Inf(-1)
	}
	if q > 1 {
		return math.Inf(1)
	}
	rank := q * total
	i := slices.IndexFunc(b.Cumulative[:n-1], func(c float64) bool { return c >= rank })
	switch {
	case i < 0:
		return b.Le[n-2]
	case i == 0 && b.Le[0] <= 0:
		return b.Le[0]
	}
	lower, below := 0.0, 0.0
	if i > 0 {
		lower, below = b.Le[i-1], b.Cumulative[i-1]
	}
	return lower + (b.Le[i]-lower)*(rank-below)/(b.Cumulative[i]-below)
}
