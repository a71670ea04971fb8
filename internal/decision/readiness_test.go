package decision

import (
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// The readiness gate of 0.6 opens once all desired replicas are Ready, whether or
// not they can be read.
func TestTheReadinessGateOpensOnceAllDesiredReplicasAreReady(t *testing.T) {
	ready := sample.Replica{Pod: "a", Phase: sample.Serving, ReadySince: t0.Add(-time.Hour), Failure: "no answer within 2s"}
	busy := sample.Replica{Pod: "b", Phase: sample.Serving} // too busy for its probe
	leaving := sample.Replica{Pod: "c", Phase: sample.Terminating, ReadySince: t0.Add(-time.Hour)}
	for _, tt := range []struct {
		story  string
		fleet  sample.Fleet
		value  float64
		reason string
	}{
		{"all are Ready", fleet(2, ready, ready), 1, "1 for the formula: 2 Ready of 2 replicas desired"},
		{"one starts", fleet(2, ready, in(sample.Starting)), 0, "0 for the formula: 1 Ready of 2 replicas desired"},
		{"one has no Workspace yet", fleet(2, ready), 0, "0 for the formula: 1 Ready of 2 replicas desired"},
		{"one isn't Ready any more", fleet(2, ready, busy), 0, "0 for the formula: 1 Ready of 2 replicas desired"},
		{"one leaves that nobody wants", fleet(1, ready, leaving), 1, "1 for the formula: 1 Ready of 1 replica desired"},
		{"an upgrade has one more", fleet(1, ready, ready), 1, "1 for the formula: 2 Ready of 1 replica desired"},
		{"none serves yet", fleet(1, in(sample.Starting)), 0, "0 for the formula: 0 Ready of 1 replica desired"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			trigger := policy.Trigger{Queue: policy.Queue{Metric: "readiness_gate", Target: 1, Aggregation: policy.Readiness}, Use: policy.Formula}
			v := Evaluate(trigger, tt.fleet, t0)
			if v.Confidence != Measured || v.Value != tt.value || v.Replicas != tt.fleet.Desired || v.Reason != tt.reason {
				t.Errorf("%s %v, %d replicas: %s", v.Confidence, v.Value, v.Replicas, v.Reason)
			}
			if len(v.MissingMetrics)+len(v.Unreadable) > 0 {
				t.Errorf("accused: %+v %+v", v.MissingMetrics, v.Unreadable)
			}
		})
	}
}

// A quantile of 0.6.0 in a formula is the quantile itself, and an error while it
// isn't known.
func TestAQuantileInAFormula(t *testing.T) {
	s := tell(t, 2, policy.Trigger{Use: policy.Formula, Queue: policy.Queue{
		Metric: queueTime, Target: 1, Aggregation: policy.Quantile, Quantile: .95, Window: time.Minute,
	}})
	s.pod("a", running(9), ends(10, 5)).pod("b", running(9), ends(10, 5))
	s.at(30*time.Second).wants(0, Unknown, "cannot tell the load: "+queueTime+": warming up")
	s.at(90*time.Second).wants(9.55, Measured, "9.55 for the formula: the 0.95 quantile of "+queueTime+" is 9.55 over 1 min on 2 replicas")
	if reason := s.recommendation().Reason; strings.Contains(reason, "wanted") {
		t.Errorf("%s: nobody knows what a formula wants", reason)
	}
	s.pod("a", hangs).at(150*time.Second).wants(0, Unknown, "cannot tell the load: "+queueTime)
}

// A list's gauge without a window is its newest value: nothing to warm up, and
// nothing that a moment ago was.
func TestAGaugeWithoutAWindowIsItsNewestValue(t *testing.T) {
	s := tell(t, 2, listOf(policy.And, policy.Metric{Name: waitingMetric, Up: 10, Down: 1}))
	s.pod("a", pending(30)).pod("b", pending(0))
	s.at(5*time.Second).wants(3, Measured, "2 → 3: vllm:num_requests_waiting 15 > 10")
	s.pod("a", pending(4)).at(10*time.Second).wants(2, Measured, "2 is right: vllm:num_requests_waiting 2 from 1 to 10")
	s.pod("a", pending(1)).at(15*time.Second).wants(1, Measured, "2 → 1: vllm:num_requests_waiting 0.5 < 1")
	s.pod("b", hangs).at(60 * time.Second).wantHold("holding at 2: vllm:num_requests_waiting 0.5 or more (1 of 2 can't be read")
}

// Steps down are a cooldown apart, of which the HPA's window is a part: with a
// window as long as the cooldown a list doesn't wait on top of it.
func TestTheHPAsWindowIsAPartOfTheCooldown(t *testing.T) {
	idle := listOf(policy.And, policy.Metric{Name: waitingMetric, Up: 10, Down: 1})
	idle.List.DownCooldown = 5 * time.Minute
	for _, tt := range []struct{ window, waits time.Duration }{
		{0, 5 * time.Minute}, {time.Minute, 4 * time.Minute}, {5 * time.Minute, 0}, {time.Hour, 0},
	} {
		trigger := idle
		trigger.DownWindow = tt.window
		s := tell(t, 3, trigger).pod("a").pod("b").pod("c")
		s.at(5 * time.Second).scaled(2)
		if tt.waits > 0 {
			s.at(tt.waits).wantHold("2 for now: vllm:num_requests_waiting 0 < 1; next step down in 5 s")
		}
		s.at(tt.waits+5*time.Second).wants(1, Measured, "2 → 1: ")
	}
}
