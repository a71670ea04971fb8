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
	if v.Answer != Held || v.Value != 20 || v.Replicas != 2 {
		t.Errorf("%s: %g, %d replicas (%s): want a hold on 20", v.Answer, v.Value, v.Replicas, v.Reason)
	}
	if v = Evaluate(tenEach, fleet(2, waiting(4), hung(11*time.Minute)), t0); v.Answer != Bounded || v.Replicas != 1 {
		t.Errorf("%s: %d replicas (%s): want one, for 8 at most", v.Answer, v.Replicas, v.Reason)
	}
}

// A threshold itself is neither above it nor below it.
func TestAtItsThresholdsAMetricMovesNothing(t *testing.T) {
	for _, each := range []float64{waitingList.Up, waitingList.Down} {
		s := tell(t, 2, listOf(policy.And, waitingList)).pod("a", pending(each)).pod("b", pending(each))
		s.at(2*time.Minute).wants(2, Measured, "2 is right: vllm:num_requests_waiting")
	}
}

// KAITO's benchmark leaves a new process with more than the old one ever counted:
// nothing falls, and nothing was gained.
func TestARestartIsSeenThoughNothingFell(t *testing.T) {
	d := newDiary(time.Hour).add(tokens(10), latencies(1, 0, 0, 0, .05)).add(tokens(20), latencies(2, 0, 0, 0, .1))
	d.start++
	d.add(tokens(9000), latencies(50, 40, 0, 0, 25)).add(tokens(9003), latencies(51, 40, 0, 0, 25.05))
	delta, _ := d.h.Delta(promptsT, d.window(time.Minute))
	if delta.Value != 13 || delta.Resets != 1 {
		t.Errorf("gained %g over %d restarts, want 10 before it and 3 after", delta.Value, delta.Resets)
	}
	delta, _ = d.h.Delta(ttft, d.window(time.Minute))
	if n := delta.Buckets.Count(); n != 2 {
		t.Errorf("%g observations, want one before the restart and one after", n)
	}
}
