package decision

import (
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/aggregate"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// requiredFamilies are the families without which nothing can be said: a counter that isn't
// there gains nothing, and would read as idleness.
var requiredFamilies = []string{
	policy.FamilyRunning, policy.FamilyWaiting, policy.FamilyPrompt, policy.FamilyGenerated, policy.FamilyTTFT, policy.FamilyITL,
}

// missingFamilies are those of them that no page has.
func missingFamilies(fleet sample.Fleet, now time.Time) []aggregate.MissingMetric {
	var all []aggregate.MissingMetric
	for _, metric := range requiredFamilies {
		all = append(all, aggregate.FindMissing(metric, fleet, now)...)
	}
	return all
}

// unreadableReason says why the replica's newest page doesn't tell its load, "" if it does.
func unreadableReason(r *sample.Replica, freshness time.Duration, now time.Time) string {
	for _, metric := range requiredFamilies {
		if _, why := aggregate.Family(r, metric, freshness, now); why != "" {
			return why
		}
	}
	return ""
}

// missingFromAllPages says what the first page lacks of the essential families, if every page
// that was read lacks one: an old vLLM, another engine. It is "" before any was
// read.
func missingFromAllPages(fleet sample.Fleet, now time.Time) string {
	first := ""
	for i := range fleet.Replicas {
		r := &fleet.Replicas[i]
		if r.Phase != sample.Serving || r.Last == nil || now.Sub(r.Last.At) > fleet.Freshness {
			continue
		}
		lacks := slices.IndexFunc(requiredFamilies, func(metric string) bool {
			_, found := r.Last.Metric(metric)
			return !found
		})
		if lacks < 0 {
			return ""
		}
		if first == "" {
			first = r.Pod + " has no " + requiredFamilies[lacks]
		}
	}
	return first
}

// gauge is a gauge of the replica's newest page, 0 if it isn't on it.
func gauge(r *sample.Replica, metric string) float64 {
	f, _ := r.Last.Metric(metric)
	return f.Value()
}

// withoutUnusablePages is the fleet with every page that lacks an essential family as one that
// can't be read, who was read, and who wasn't.
func withoutUnusablePages(fleet sample.Fleet, now time.Time) (_ sample.Fleet, read []string, lost []aggregate.UnreadablePod) {
	all := slices.Clone(fleet.Replicas)
	for i := range all {
		r := &all[i]
		if r.Phase == sample.Serving && !r.HasLoad(fleet.Freshness, now) {
			r.Phase = sample.Starting // a moment ago, and not read yet
		}
		if r.Phase != sample.Serving {
			continue
		}
		why := unreadableReason(r, fleet.Freshness, now)
		if why == "" {
			read = append(read, r.Pod)
			continue
		}
		unread := aggregate.UnreadFor(r, policy.FamilyRunning, now)
		lost = append(lost, aggregate.UnreadablePod{Pod: r.Pod, Why: why, GivenUp: unread > fleet.Grace})
		r.Expected, r.Failure = now.Add(-unread), why
		if r.Last != nil && now.Sub(r.Last.At) <= fleet.Freshness {
			r.Last = nil
		}
	}
	for i := range lost { // There is nothing to stand for if nobody was read.
		lost[i].GivenUp = lost[i].GivenUp && len(read) > 0
	}
	fleet.Replicas = all
	return fleet, read, lost
}
