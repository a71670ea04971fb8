package decision

import (
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// vital are the families without which a page says nothing of its pod's load: a
// counter that isn't there gains nothing, and would read as idleness.
var vital = []string{familyRunning, familyWaiting, familySuccess, familyPrompt, familyGenerated}

// readable is the fleet with every page that lacks a vital family as one that
// can't be read, and with each pod that was given up standing for the most loaded
// one that can be: so the greatest load that the fleet could have, as far as that
// is bounded. What can't be read is returned beside it.
func readable(fleet sample.Fleet, now time.Time) (sample.Fleet, []Unread) {
	var lost []Unread
	var most *sample.Replica
	all := slices.Clone(fleet.Replicas)
	for i := range all {
		r := &all[i]
		if !r.HasLoad(fleet.Freshness, now) {
			continue
		}
		if why := mute(r, fleet.Freshness, now); why != "" {
			lost = append(lost, Unread{Pod: r.Pod, Why: why, Released: silent(r, familyRunning, now) > fleet.Grace})
			r.Last, r.Failure = nil, why
			continue
		}
		if most == nil || value(r.Last, familyRunning) > value(most.Last, familyRunning) {
			most = r
		}
	}
	fleet.Replicas = all
	for i := range lost {
		// There is nothing to stand for where nobody was read.
		lost[i].Released = lost[i].Released && most != nil
		if !lost[i].Released {
			continue
		}
		at := slices.IndexFunc(all, func(r sample.Replica) bool { return r.Pod == lost[i].Pod })
		all[at].Last, all[at].History, all[at].Failure = most.Last, most.History, ""
	}
	return fleet, lost
}

// mute says why the replica's newest page doesn't tell its load, "" if it does.
func mute(r *sample.Replica, freshness time.Duration, now time.Time) string {
	for _, metric := range vital {
		if _, why := family(r, metric, freshness, now); why != "" {
			return why
		}
	}
	return ""
}

// unburdened is the fleet as if those pods had no load: the least that it could
// have.
func unburdened(fleet sample.Fleet, lost []Unread) sample.Fleet {
	fleet.Replicas = slices.Clone(fleet.Replicas)
	for i := range fleet.Replicas {
		r := &fleet.Replicas[i]
		if slices.ContainsFunc(lost, func(u Unread) bool { return u.Pod == r.Pod }) {
			r.Phase = sample.Terminating
		}
	}
	return fleet
}
