// Package aggregate adds up a fleet: what one metric is over its replicas, as the
// interval of what it could be while pods can't be read. It is pure.
package aggregate

import (
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// unusable says why a metric can't be used that stands on the page.
func unusable(s *sample.Sample, metric string) (why string, there bool) {
	for _, name := range policy.Names(metric) {
		if why, there = s.Unusable(name); there {
			return why, true
		}
	}
	return "", false
}

// Family is what the replica's newest page says of a metric, or why there is
// nothing, in words.
func Family(r *sample.Replica, metric string, freshness time.Duration, now time.Time) (sample.Family, string) {
	if r.Last == nil || now.Sub(r.Last.At) > freshness {
		if r.Failure != "" {
			return sample.Family{}, r.Failure
		}
		return sample.Family{}, "it has not been read yet"
	}
	family, found := r.Last.Metric(metric)
	if !found {
		if why, there := unusable(r.Last, metric); there {
			return sample.Family{}, why
		}
		return sample.Family{}, "its page has no " + metric
	}
	return family, ""
}

// UnreadFor is for how long nothing has been known of the metric.
func UnreadFor(r *sample.Replica, metric string, now time.Time) time.Duration {
	since := r.Expected
	if r.Last != nil {
		if _, found := r.Last.Metric(metric); found {
			since = r.Last.At
		}
	}
	return now.Sub(since)
}

// UnreadablePod is a serving pod whose reading is missing.
type UnreadablePod struct {
	Pod string
	// Why says in words what is wrong with it.
	Why string
	// GivenUp is set once that has been so for longer than the fleet's grace:
	// the pod stands for the largest readable value at most.
	GivenUp bool
}

// MissingMetric is a metric that no serving replica's page has.
type MissingMetric struct {
	Metric string
	// Nearest is the name on the pages that is most like it, "" if none is.
	Nearest string
}

// FindMissing is the metric if every page that was read lacks it. Before anything
// was read nobody knows.
func FindMissing(metric string, fleet sample.Fleet, now time.Time) []MissingMetric {
	var page *sample.Sample
	for i := range fleet.Replicas {
		r := &fleet.Replicas[i]
		if r.Phase != sample.Serving || r.Last == nil || now.Sub(r.Last.At) > fleet.Freshness {
			continue
		}
		if _, found := r.Last.Metric(metric); found {
			return nil
		}
		if _, there := unusable(r.Last, metric); there {
			return nil
		}
		if page == nil || len(r.Last.Names) > len(page.Names) {
			page = r.Last
		}
	}
	if page == nil {
		return nil
	}
	m := MissingMetric{Metric: metric}
	// The name itself is there if only its value is no number.
	if nearest, found := policy.Nearest(metric, page.Names); found && nearest != metric {
		m.Nearest = nearest
	}
	return []MissingMetric{m}
}
