package decision

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/automatic"
	"github.com/kaito-project/keda-kaito-scaler/internal/hpa"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/text"
)

// Interval is how far apart the updates of a Scaler are. What is learned depends on
// it, so it is kept whenever and however often KEDA asks.
const Interval = 15 * time.Second

// maxAge is how old an update may be that is still answered with.
const maxAge = 3 * Interval

// ErrorBudget is the share of requests that may miss the SLO.
const ErrorBudget = .01

// Scaler scales one fleet by one trigger, and remembers what it learned in doing so. A
// trigger that learns nothing is evaluated as Evaluate does. Its zero value knows nothing.
// It isn't safe for use by several at once.
type Scaler struct {
	// automatic is what outlives a process.
	automatic automatic.Scaler
	// updated is when recommendation was given, of a fleet of desired replicas.
	updated time.Time
	newest  Recommendation
}

// Evaluate evaluates a fleet by what a trigger asks for, at the time now, with
// nothing learned of it before: a Scaler remembers.
//
// For a queue, with every serving replica readable, it publishes their total,
// and the HPA does the rest. Otherwise, with L and U the least and the greatest
// total that the fleet could have: L if that alone asks for more replicas, U if
// even that asks for fewer, and else the value on which the HPA holds. For a
// metric list it publishes the replicas that are wanted: one more, one less, or
// as many as there are. Either way a missing reading never reverses a move, and
// a greater reading never lowers the answer.
func Evaluate(trigger policy.Trigger, fleet sample.Fleet, now time.Time) Recommendation {
	return new(Scaler).Recommend(trigger, fleet, now)
}

// Recommend updates the Scaler if that is due, and answers. It is what simulations
// call, in the place of Update at its Interval and Answer when KEDA asks.
func (m *Scaler) Recommend(trigger policy.Trigger, fleet sample.Fleet, now time.Time) Recommendation {
	if now.Sub(m.updated) >= Interval {
		m.Update(trigger, fleet, now)
	}
	return m.Current(trigger, fleet, now)
}

// Update takes the fleet in. It is to be called every Interval.
func (m *Scaler) Update(trigger policy.Trigger, fleet sample.Fleet, now time.Time) {
	slo := trigger.Learned()
	if slo == nil {
		return
	}
	bounds := usableBounds(trigger.Bounds)
	p := automatic.Policy{
		Min: bounds.Min, Max: bounds.Max, Budget: ErrorBudget,
		SLO: sample.SLO{FirstToken: slo.TTFT.Seconds(), PerToken: slo.ITL.Seconds()},
	}
	fleet, idle := treatFrozenAsIdle(fleet, now)
	known, read, lost := withoutUnusablePages(fleet, now)
	r := m.automatic.Recommend(p, known, now)
	v := Recommendation{
		Confidence: Measured, Desired: fleet.Desired, Replicas: r.Replicas, Reason: r.Reason, Advice: r.Advice,
		Read: read, Unreadable: lost, MissingMetrics: missingFamilies(fleet, now),
	}
	switch {
	case !r.Known:
		v.Confidence = Unknown
	case r.Holds:
		v.Confidence = Held
	default:
		v.Load = &r.Load
		if len(lost) > 0 {
			v.Confidence = Bounded
		}
		if r.Waits {
			v.Confidence, v.Waiting = Held, true
		}
	}
	if why := futileScaleUp(fleet, now); why != "" && v.Replicas > fleet.Desired {
		v.Confidence, v.Waiting, v.Replicas = Held, true, fleet.Desired
		v.Reason = fmt.Sprintf("holding at %d: %s; %s", fleet.Desired, withoutConclusion(v.Reason), why)
	}
	v.reportFrozen(idle, fleet.Grace)
	m.updated, m.newest = now, v
}

// usableBounds are the bounds of a trigger that may not tell them. Nobody is woken
// from zero replicas, so that isn't gone to.
func usableBounds(b policy.Bounds) policy.Bounds {
	if b == (policy.Bounds{}) {
		b.Max = math.MaxInt16
	}
	b.Min = max(1, b.Min)
	return b
}

// Current is the recommendation for KEDA, at any time: the newest update of the fleet as it
// stands now, or a queue's own, which the update may guard.
func (m *Scaler) Current(trigger policy.Trigger, fleet sample.Fleet, now time.Time) Recommendation {
	if trigger.Saturation == nil {
		settled, idle := treatFrozenAsIdle(fleet, now)
		v := evaluate(trigger, settled, now)
		if trigger.List == nil && trigger.Queue.Guard != nil {
			v.Load = m.loadAt(now)
			v = guard(v, v.Load, trigger, settled, now)
		}
		v.reportFrozen(idle, fleet.Grace)
		return v
	}
	v := m.newest
	v.ReplicaStates = replicaStates(fleet, now)
	v = forDesired(v, fleet)
	switch age := now.Sub(m.updated); {
	case m.updated.IsZero():
		v = Recommendation{Confidence: Held, Waiting: true, ReplicaStates: v.ReplicaStates}
		v.Reason = fmt.Sprintf("holding at %d: the fleet has not been evaluated yet", fleet.Desired)
	case age > maxAge:
		v.Confidence, v.Waiting, v.Load = Held, false, nil
		v.Reason = fmt.Sprintf("holding at %d: the fleet was evaluated last %s ago", fleet.Desired, text.Duration(age))
	}
	if v.Confidence == Held {
		v.Replicas = fleet.Desired
	}
	v.Desired = fleet.Desired
	v.publish(trigger, fleet)
	return v
}

// loadAt is the newest load, nil if none is known any more.
func (m *Scaler) loadAt(now time.Time) *Load {
	if m.updated.IsZero() || now.Sub(m.updated) > maxAge {
		return nil
	}
	return m.newest.Load
}

// forDesired is the recommendation on a fleet that may have moved since it was evaluated. More
// replicas are still needed; a step down was one from where it stood then.
func forDesired(v Recommendation, fleet sample.Fleet) Recommendation {
	if v.Desired == fleet.Desired || v.Confidence == Unknown || v.Confidence == Held {
		return v
	}
	was := withoutConclusion(v.Reason)
	switch {
	case v.Replicas > fleet.Desired:
		v.Reason = fmt.Sprintf("%d → %d: %s", fleet.Desired, v.Replicas, was)
	case v.Replicas == fleet.Desired:
		v.Reason = fmt.Sprintf("%d is right, as evaluated at %d: %s", fleet.Desired, v.Desired, was)
	default:
		v.Reason = fmt.Sprintf("%d until it is evaluated again, last at %d: %s", fleet.Desired, v.Desired, was)
		v.Replicas = fleet.Desired
	}
	return v
}

// publish sets the value that makes the HPA go to the recommendation's replicas.
func (v *Recommendation) publish(trigger policy.Trigger, fleet sample.Fleet) {
	if v.Confidence == Unknown {
		v.Value = 0
		return
	}
	h, wanted := hpa.For(trigger, fleet), v.Replicas
	v.Value, v.Replicas = h.ValueToward(wanted)
	switch {
	case v.Replicas == wanted:
	case wanted < fleet.Desired:
		v.Confidence, v.Waiting = Held, true
		v.Reason = fmt.Sprintf("holding at %d: %s; %d would do, but so few less this cluster's HPA doesn't take: it stays within %s %%",
			fleet.Desired, withoutConclusion(v.Reason), wanted, text.Number(100*h.DownTolerance))
	default:
		v.Reason += fmt.Sprintf("; %d is published, because this cluster's HPA stays within %s %%", v.Replicas, text.Number(100*h.UpTolerance))
		v.Replicas = trigger.Bounds.Clamp(v.Replicas)
	}
}

// MarshalBinary is what was learned; nil while that is nothing.
func (m *Scaler) MarshalBinary() ([]byte, error) {
	if m.automatic.Demand.Last == 0 {
		return nil, nil
	}
	return m.automatic.MarshalBinary()
}

// Unmarshal is a Scaler that learned what MarshalBinary told, at the time now. The error
// says in words why it can't be.
func Unmarshal(state []byte, now time.Time) (*Scaler, error) {
	m := &Scaler{}
	if err := m.automatic.UnmarshalBinary(state); err != nil {
		return nil, err
	}
	if m.automatic.Evaluated.After(now.Add(Interval)) {
		return nil, errors.New("it lies ahead of this clock")
	}
	return m, nil
}

// Merge takes over what another Scaler learned of the same fleet, unless this one has
// known it for longer. What this one has seen since then stays.
func (m *Scaler) Merge(other *Scaler) { m.automatic.Merge(&other.automatic) }

// Learned is when the Scaler learned first and last; zero before.
func (m *Scaler) Learned() (began, at time.Time) {
	if m.automatic.Demand.Last == 0 {
		return began, at
	}
	return time.Unix(m.automatic.Demand.First*60, 0).UTC(), m.automatic.Evaluated
}
