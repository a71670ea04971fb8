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
