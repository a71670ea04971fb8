package decision

import (
	"fmt"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/hpa"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// guard is a queue's recommendation that doesn't make a fleet smaller than what the
// load needs: requests that are worked on wait in no queue. Load is nil while
// nothing is known of it. An answer upwards stays as it is, and one downwards
// becomes the one on which the HPA holds. Where nothing runs any more, the need
// can't be known however long one waits, or the SLO can't be kept, the queue
// has its way.
func guard(v Recommendation, load *Load, trigger policy.Trigger, fleet sample.Fleet, now time.Time) Recommendation {
	if v.Confidence == Unknown || v.Replicas >= fleet.Desired {
		return v
	}
	less := fleet.Desired - 1
	var why string
	switch lacks := missingFromAllPages(fleet, now); {
	case idle(fleet, now):
		return v
	case lacks != "":
		v.Reason += "; not guarded, because no page tells what the load needs: " + lacks
		return v
	case load == nil:
		why = "what the load needs is not known yet"
	case load.Slow:
		v.Reason += "; not guarded, because most answers are later than the SLO however little a replica has to do"
		return v
	// What is forecast would keep a fleet whose load has ended for some 10 min more.
	case load.Present > float64(less):
		why = fmt.Sprintf("the load needs %.1f replicas, more than %d can serve within the SLO", load.Present, less)
	default:
		return v
	}
	v.Reason = fmt.Sprintf("holding at %d: %s, but %s", fleet.Desired, withoutConclusion(v.Reason), why)
	v.Confidence, v.Waiting = Held, true
	v.Replicas = fleet.Desired
	v.Value = hpa.For(trigger, fleet).Hold()
	return v
}

// idle tells that every replica was read, and that nothing runs or waits on any:
// the load of the last minutes is over.
func idle(fleet sample.Fleet, now time.Time) bool {
	read := false
	for i := range fleet.Replicas {
		r := &fleet.Replicas[i]
		if !r.HasLoad(fleet.Freshness, now) {
			continue
		}
		if unreadableReason(r, fleet.Freshness, now) != "" || gauge(r, policy.FamilyRunning)+gauge(r, policy.FamilyWaiting) > 0 {
			return false
		}
		read = true
	}
	return read
}
