// Package decision turns what is known of a fleet into what KEDA is told, and
// says why. It is pure: time is an argument, and the same code answers KEDA and
// explains itself.
//
// It rests on one rule: unknown is never zero. A pod that can't be read stands
// for the interval of what it could have said, and the fleet moves only where
// the whole interval points.
package decision

import (
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

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

// evaluate evaluates by a queue or a metric list.
func evaluate(trigger policy.Trigger, fleet sample.Fleet, now time.Time) Recommendation {
	var recommendation Recommendation
	if trigger.List != nil {
		recommendation = evaluateList(trigger, fleet, now)
	} else {
		recommendation = evaluateThreshold(trigger, fleet, now)
	}
	recommendation.Desired = fleet.Desired
	recommendation.ReplicaStates = replicaStates(fleet, now)
	return recommendation
}
