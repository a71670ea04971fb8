package decision

import (
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// One of two was given up, and stands for the 6 of the other at most. So the total
// is from 6, which is for one replica, to 12, which is for two.
func TestAStepDownNeedsTheGreatestTotalToAllowIt(t *testing.T) {
	v := Evaluate(tenEach, fleet(2, waiting(6), hung(11*time.Minute)), t0)
	if v.Confidence != Held || v.Value != 20 || v.Replicas != 2 {
		t.Errorf("%s: %g, %d replicas (%s): want a hold on 20", v.Confidence, v.Value, v.Replicas, v.Reason)
	}
	if v = Evaluate(tenEach, fleet(2, waiting(4), hung(11*time.Minute)), t0); v.Confidence != Bounded || v.Replicas != 1 {
		t.Errorf("%s: %d replicas (%s): want one, for 8 at most", v.Confidence, v.Replicas, v.Reason)
	}
}

// A threshold itself is neither above it nor below it.
func TestAtItsThresholdsAMetricMovesNothing(t *testing.T) {
	for _, each := range []float64{waitingList.Up, waitingList.Down} {
		s := tell(t, 2, listOf(policy.And, waitingList)).pod("a", pending(each)).pod("b", pending(each))
		s.at(2*time.Minute).wants(2, Measured, "2 is right: vllm:num_requests_waiting")
	}
}
