package decision

import (
	"fmt"
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/aggregate"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/text"
)

// treatFrozenAsIdle is the fleet with its frozen engines as idle ones, and who they are.
// After a mass abort vLLM's gauges may stay as they were for ever: five GPUs for
// nobody. It does so for all of them together, once the newest has been frozen for
// longer than the fleet's grace, and only while nothing waits anywhere and nothing
// was refused: an engine that hangs under load has demand that its gauges don't show.
func treatFrozenAsIdle(fleet sample.Fleet, now time.Time) (sample.Fleet, []aggregate.UnreadablePod) {
	var frozen []int
	for i := range fleet.Replicas {
		r := &fleet.Replicas[i]
		switch {
		case !r.HasLoad(fleet.Freshness, now):
		case r.Frozen && !r.FrozenDemand && r.Last != nil && now.Sub(r.Last.At) > fleet.Grace:
			frozen = append(frozen, i)
		case r.Frozen, !queueIsEmpty(r, fleet.Freshness, now):
			return fleet, nil
		}
	}
	if len(frozen) == 0 {
		return fleet, nil
	}
	fleet.Replicas = slices.Clone(fleet.Replicas)
	idle := make([]aggregate.UnreadablePod, len(frozen))
	for n, i := range frozen {
		r := &fleet.Replicas[i]
		idle[n] = aggregate.UnreadablePod{Pod: r.Pod, Why: r.Failure, GivenUp: true}
		if r.Failure == "" {
			idle[n].Why = "its engine is frozen"
		}
		setIdle(r, fleet, now)
	}
	return fleet, idle
}

// queueIsEmpty tells of a replica that was read and has no queue.
func queueIsEmpty(r *sample.Replica, freshness time.Duration, now time.Time) bool {
	family, why := aggregate.Family(r, policy.FamilyWaiting, freshness, now)
	return why == "" && family.Value() == 0
}

// setIdle gives the replica the readings of one that has been idle throughout every
// window: its gauges are 0, and its counters stand where they stood.
func setIdle(r *sample.Replica, fleet sample.Fleet, now time.Time) {
	families := r.Last.Families()
	for i := range families {
		if f := &families[i]; f.Kind == sample.Gauge || f.Kind == sample.Untyped && !policy.Counts(f.Name) {
			f.Sum = 0
		}
	}
	var before *sample.Sample
	r.History = sample.History{}
	for _, at := range []time.Time{now.Add(-sample.MaxWindow - 2*fleet.Interval), now} {
		s := sample.NewSample(at, families, before)
		s.ProcessStart, s.Restarts, s.Names = r.Last.ProcessStart, r.Last.Restarts, r.Last.Names
		r.History.Add(s, 2*sample.MaxWindow)
		before = s
	}
	r.Last, r.Failure = before, ""
}

// reportFrozen puts right that the idle ones weren't read, and tells why they count so.
func (v *Recommendation) reportFrozen(idle []aggregate.UnreadablePod, grace time.Duration) {
	if len(idle) == 0 {
		return
	}
	isIdle := func(pod string) bool {
		return slices.ContainsFunc(idle, func(u aggregate.UnreadablePod) bool { return u.Pod == pod })
	}
	v.Read = slices.DeleteFunc(v.Read, isIdle)
	v.Unreadable = slices.DeleteFunc(slices.Clone(v.Unreadable), func(u aggregate.UnreadablePod) bool { return isIdle(u.Pod) })
	v.Unreadable = append(v.Unreadable, idle...)
	if v.Confidence == Measured {
		v.Confidence = Bounded
	}
	who := idle[0].Pod
	if len(idle) > 1 {
		who = fmt.Sprintf("%s and %d more", who, len(idle)-1)
	}
	v.Reason += fmt.Sprintf("; %s counted as idle: frozen for over %s while nothing waits", who, text.Duration(grace))
}
