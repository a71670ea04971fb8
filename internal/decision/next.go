package decision

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/automatic"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// ErrorBudget is the share of requests that may miss the SLO in automatic mode as it is
// going to be.
const ErrorBudget = .01

// next is automatic mode as it is going to be.
type next struct {
	automatic.Scaler
	budget float64
}

// NewNext makes a Scaler whose automatic mode, and the guard of a threshold, is that
// which is going to be, with the share of requests that may miss the SLO.
func NewNext(budget float64) *Scaler { return &Scaler{next: &next{budget: budget}} }

// update is the verdict on a fleet, to be published by Answer.
func (n *next) update(trigger policy.Trigger, slo *policy.Saturation, fleet sample.Fleet, now time.Time) Verdict {
	bounds := bounded(trigger.Bounds)
	p := automatic.Policy{
		Min: bounds.Min, Max: bounds.Max, Budget: n.budget,
		SLO: sample.SLO{FirstToken: slo.TTFT.Seconds(), PerToken: slo.ITL.Seconds()},
	}
	fleet, idle := settleFrozen(fleet, now)
	known, read, lost := told(fleet, now)
	r := n.Recommend(p, known, now)
	v := Verdict{
		Answer: Measured, Desired: fleet.Desired, Replicas: r.Replicas, Reason: r.Reason, Advice: r.Advice,
		Read: read, Unreadable: lost,
	}
	for _, metric := range needed {
		v.Missing = append(v.Missing, missing(metric, fleet, now)...)
	}
	switch {
	case !r.Known:
		v.Answer = Unknown
	case r.Holds:
		v.Answer = Held
	default:
		v.Load = &Load{
			Demand: r.Demand, Need: r.Need, Present: r.Present, Safe: r.Fill, ColdStart: r.ColdStart,
			Learning: r.Learning, Vain: r.Slow,
		}
		if len(lost) > 0 {
			v.Answer = Bounded
		}
		if r.Waits {
			v.Answer, v.Waiting = Held, true
		}
	}
	if why := fruitless(fleet, now); why != "" && v.Replicas > fleet.Desired {
		v.Answer, v.Waiting, v.Replicas = Held, true, fleet.Desired
		v.Reason = fmt.Sprintf("holding at %d: %s; %s", fleet.Desired, facts(v.Reason), why)
	}
	v.setAside(idle, fleet.Grace)
	return v
}

// needed are the families without which it says nothing: a counter that isn't there
// gains nothing, and would read as idleness.
var needed = []string{familyRunning, familyWaiting, familyPrompt, familyGenerated, familyTTFT, familyITL}

// told is the fleet with every page that lacks a needed family as one that can't be
// read, who was read, and who wasn't.
func told(fleet sample.Fleet, now time.Time) (_ sample.Fleet, read []string, lost []Unread) {
	all := slices.Clone(fleet.Replicas)
	for i := range all {
		r := &all[i]
		if r.Phase == sample.Serving && !r.HasLoad(fleet.Freshness, now) {
			r.Phase = sample.Starting // a moment ago, and not read yet
		}
		if r.Phase != sample.Serving {
			continue
		}
		why := ""
		for _, metric := range needed {
			if _, why = family(r, metric, fleet.Freshness, now); why != "" {
				break
			}
		}
		if why == "" {
			read = append(read, r.Pod)
			continue
		}
		unread := silent(r, familyRunning, now)
		lost = append(lost, Unread{Pod: r.Pod, Why: why, Released: unread > fleet.Grace})
		r.Expected, r.Failure = now.Add(-unread), why
		if r.Last != nil && now.Sub(r.Last.At) <= fleet.Freshness {
			r.Last = nil
		}
	}
	for i := range lost { // There is nothing to stand for if nobody was read.
		lost[i].Released = lost[i].Released && len(read) > 0
	}
	fleet.Replicas = all
	return fleet, read, lost
}

// memory is what was learned, nil while that is nothing.
func (n *next) memory() []byte {
	if n.Demand.Last == 0 {
		return nil
	}
	data, err := n.MarshalBinary()
	if err != nil {
		panic(fmt.Sprintf("write into memory: %v", err)) // a buffer takes everything
	}
	return data
}

func recallNext(memory []byte, now time.Time) (*Scaler, error) {
	m := NewNext(ErrorBudget)
	if err := m.next.UnmarshalBinary(memory); err != nil {
		return nil, err
	}
	if m.next.Evaluated.After(now.Add(Interval)) {
		return nil, errors.New("it lies ahead of this clock")
	}
	return m, nil
}

// merge takes nothing from the model that it takes the place of, or gives it.
func (n *next) merge(other *next) {
	if n != nil && other != nil {
		n.Merge(&other.Scaler)
	}
}

// since is when it learned first and last; zero before.
func (n *next) since() (began, at time.Time) {
	if n.Demand.Last == 0 {
		return began, at
	}
	return time.Unix(n.Demand.First*60, 0).UTC(), n.Evaluated
}
