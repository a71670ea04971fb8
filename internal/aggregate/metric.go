package aggregate

import (
	"fmt"
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/text"
)

// Metric is what a metric of a list is over the fleet: a mean over the serving
// replicas, and over the window if there is one, of its values or its rate, or a
// quantile of what was observed in it.
func Metric(m policy.Metric, fleet sample.Fleet, now time.Time) Total {
	if m.Kind == policy.Histogram {
		return histogramOf(m, fleet, now)
	}
	how := measurement{metric: m.Name, threshold: m.Up}
	if m.Window > 0 {
		how.statistic, how.window = mean, window(fleet, m.Window, now)
	}
	if m.Kind == policy.Counter {
		how.statistic = rate
	}
	s := totalOf(how, fleet, now)
	s.Window = how.window.Length
	s.divide()
	return s
}

// histogramOf is the mean or a quantile of what a histogram observed within the
// window, over all serving replicas. There is no interval for it: with a
// reading missing, nothing is known.
func histogramOf(m policy.Metric, fleet sample.Fleet, now time.Time) Total {
	w := window(fleet, m.Window, now)
	s := Total{MissingMetrics: FindMissing(m.Name, fleet, now), High: math.Inf(1), Window: w.Length, fromHistogram: true}
	var deltas, loaded []sample.Delta
	quiet := idleThroughout
	for i := range fleet.Replicas {
		r := &fleet.Replicas[i]
		if !r.HasLoad(fleet.Freshness, now) {
			continue
		}
		s.Serving++
		family, why := Family(r, m.Name, fleet.Freshness, now)
		if why == "" && family.Kind != sample.Histogram {
			why = m.Name + " is no histogram"
		}
		switch {
		case why != "":
			d, evident := lastDelta(m, r, w, fleet, now)
			if evident = evident && s.add(r, fleet, now); evident {
				loaded = append(loaded, d)
			}
			s.addUnreadable(r, why, !evident && UnreadFor(r, m.Name, now) > fleet.Grace)
		case !coversWindow(r, family.Name, w):
			s.addWarming(historyLength(r, family.Name, now))
		default:
			s.Read = append(s.Read, r.Pod)
			if d, ok := r.History.Delta(family.Name, w); ok {
				deltas = append(deltas, d)
			} // else it has just joined, and its one sample is the baseline
			quiet = min(quiet, requestStateOf(r, w))
		}
	}
	s.giveUpNobodyIfNoneRead()
	if len(loaded) > 0 && len(loaded) == s.UnknownReplicas() {
		if all, err := sample.Merge(append(loaded, deltas...)); err == nil {
			s.WithTimeouts = statisticOf(m, all)
		}
	}
	s.setFromHistograms(m, deltas, quiet, w)
	return s
}

// lastDelta is what a replica that times out observed in the window up to its
// last reading, if that is above the upper threshold.
func lastDelta(m policy.Metric, r *sample.Replica, w sample.Window, fleet sample.Fleet, now time.Time) (d sample.Delta, loaded bool) {
	if !r.TimesOut(fleet.Freshness, now) {
		return sample.Delta{}, false
	}
	family, found := r.Last.Metric(m.Name)
	if !found || family.Kind != sample.Histogram {
		return sample.Delta{}, false
	}
	w.Now = r.Last.At
	d, ok := r.History.Delta(family.Name, w)
	return d, ok && Exceeds(statisticOf(m, d), m.Up)
}

// statisticOf is the mean or the quantile that is compared, NaN of no observations.
func statisticOf(m policy.Metric, d sample.Delta) float64 {
	switch {
	case d.Buckets == nil || d.Buckets.Count() == 0:
		return math.NaN()
	case m.Quantile > 0:
		return d.Buckets.Quantile(m.Quantile)
	}
	return d.Buckets.Mean()
}

// requestState is whether a replica had requests throughout a window.
type requestState uint8

const (
	// busy had some, and untold has a page that doesn't say.
	busy requestState = iota
	notReported
	idleThroughout
)

func requestStateOf(r *sample.Replica, w sample.Window) requestState {
	least := idleThroughout
	for _, gauge := range []string{policy.FamilyRunning, policy.FamilyWaiting} {
		level, ok := r.History.Level(gauge, w)
		switch {
		case !ok:
			least = min(least, notReported)
		case level.Max > 0:
			return busy
		}
	}
	// What came and went between two readings shows in no gauge. If its client
	// cancelled it, it never counts as finished, but it was given tokens; a pooling
	// model's requests finish without tokens.
	for _, counter := range []string{policy.FamilyFinished, policy.FamilyGenerated} {
		if gained, ok := r.History.Delta(counter, w); ok && gained.Value > 0 {
			return busy
		}
	}
	return least
}

// setFromHistograms turns what was counted in each pod into one number, or into a word
// on why there is none.
func (s *Total) setFromHistograms(m policy.Metric, deltas []sample.Delta, quiet requestState, w sample.Window) {
	switch {
	case len(s.Read) == 0 && s.Warming == 0:
		return // nothing could be read
	case s.UnknownReplicas() > 0:
		s.UnknownReason = s.DescribeMissing()
		return
	}
	all, err := sample.Merge(deltas)
	switch {
	case err != nil:
		s.UnknownReason = err.Error()
	case all.Buckets != nil && all.Buckets.Count() > 0:
		value := statisticOf(m, all)
		// A sum that descended, or no finite bound at all.
		if math.IsNaN(value) || math.IsInf(value, 0) || value < 0 {
			s.UnknownReason = fmt.Sprintf("what it observed in %s makes no sense: %v", text.Duration(w.Length), value)
			return
		}
		s.Low, s.High = value, value
	case quiet == idleThroughout:
		s.Idle, s.High = true, 0
	case quiet == notReported:
		s.UnknownReason = fmt.Sprintf("it observed nothing in %s, and not every page tells whether requests run", text.Duration(w.Length))
	default:
		s.UnknownReason = fmt.Sprintf("it observed nothing in %s although requests run or wait: they take longer, or an engine stands still",
			text.Duration(w.Length))
	}
}

// Threshold reads the fleet the way that the aggregation wants it: low and high are
// of the total, or of the mean.
func Threshold(q policy.Queue, fleet sample.Fleet, now time.Time) Total {
	switch q.Aggregation {
	case policy.WindowedAvg, policy.Gate:
		return Metric(policy.Metric{
			Name: q.Metric, Kind: kind(q.Metric, fleet), Up: q.Target, Down: q.Target, Window: q.Window,
		}, fleet, now)
	case policy.Quantile:
		return Metric(policy.Metric{
			Name: q.Metric, Kind: policy.Histogram, Up: q.Target, Down: q.Target, Window: q.Window, Quantile: q.Quantile,
		}, fleet, now)
	case policy.Sum, policy.ServiceAvg, policy.Rate, policy.Readiness:
	}
	how := measurement{metric: q.Metric, threshold: q.Target}
	if q.Aggregation == policy.Rate {
		how.statistic, how.window = rate, window(fleet, q.Window, now)
	}
	s := totalOf(how, fleet, now)
	s.Window = how.window.Length
	if q.Aggregation == policy.ServiceAvg {
		s.divide()
	}
	return s
}

// kind is what the pages say that the metric is: a trigger written by hand
// doesn't.
func kind(metric string, fleet sample.Fleet) policy.Kind {
	for _, r := range fleet.Replicas {
		if r.Phase != sample.Serving || r.Last == nil {
			continue
		}
		if family, found := r.Last.Metric(metric); found && family.Kind == sample.Histogram {
			return policy.Histogram
		}
	}
	return policy.Gauge
}
