package decision

import (
	"strings"

	"github.com/kaito-project/keda-kaito-scaler/internal/aggregate"
	"github.com/kaito-project/keda-kaito-scaler/internal/automatic"
)

// Confidence is how far a recommendation rests on readings.
type Confidence uint8

const (
	// Unknown has nothing to go by: KEDA is told an error, and the HPA holds.
	Unknown Confidence = iota
	// Measured has every serving replica's reading: the value is their total.
	Measured
	// Bounded misses readings, but the replicas point one way whatever the
	// missing ones are: the value is the end of the interval that says so.
	Bounded
	// Held misses readings that could tip the scale, has no serving replica
	// yet, or waits with a step: the value is the one on which the HPA holds.
	Held
)

func (a Confidence) String() string {
	switch a {
	case Unknown:
		return "unknown"
	case Measured:
		return "measured"
	case Bounded:
		return "bounded"
	case Held:
		return "held"
	}
	return "invalid"
}

// Recommendation is what a fleet's readings amount to.
type Recommendation struct {
	Confidence Confidence
	// Value is what to publish, ≥ 0 and finite: a total in the metric's unit, a
	// number of replicas for a metric list, a mean or a gate for triggers
	// written by hand that ask for that; 0 when the Answer is Unknown.
	Value float64
	// Desired is the InferenceSet's spec.replicas when it was evaluated.
	Desired int32
	// Replicas is what the HPA makes of Value within the bounds, as far as they
	// are known, before its windows and its pace: the Desired ones of the fleet
	// if it holds.
	Replicas int32
	// Waiting is set if it is Held for nothing but a step's cooldown or a
	// replica that is on its way.
	Waiting bool
	// Reason says why, in words with numbers, for the fleet's owner.
	Reason string
	// Read are the serving pods whose readings it rests on, and Unreadable those
	// that it had to do without, both in the fleet's order.
	Read       []string
	Unreadable []aggregate.UnreadablePod
	// ReplicaStates are the fleet's replicas, in its order.
	ReplicaStates []ReplicaState
	// MissingMetrics are the metrics asked for that no serving replica's page has.
	MissingMetrics []aggregate.MissingMetric
	// Load is what was learned that the recommendation rests on, nil if nothing.
	Load *Load
	// Advice says in words what no policy can do that reacts to its load, and
	// what to do instead; "" for nothing.
	Advice string
}

// withoutConclusion are a reason without what follows from them.
func withoutConclusion(reason string) string {
	if _, after, found := strings.Cut(reason, ": "); found {
		return after
	}
	return reason
}

// Load is what was learned of a fleet's load, as a recommendation rests on it.
type Load = automatic.Load
