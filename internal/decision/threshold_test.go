package decision

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// byHand is a trigger written by hand, ten wanted, over a minute.
func byHand(how policy.Aggregation, use policy.Use) policy.Trigger {
	return policy.Trigger{
		Queue: policy.Queue{Metric: waitingMetric, Target: 10, Aggregation: how, Window: time.Minute}, Use: use,
	}
}

func TestWhatTriggersByHandPublish(t *testing.T) {
	const metric = "vllm:num_requests_waiting is "
	three := fleet(4, waiting(15), waiting(15), waiting(6), in(sample.Starting))
	partly := fleet(4, waiting(15), waiting(15), hung(time.Minute), in(sample.Starting))
	dead := fleet(4, waiting(15), waiting(3), hung(time.Hour), in(sample.Starting))
	young := fleet(2, in(sample.Starting), in(sample.Starting))
	for _, tt := range []struct {
		story   string
		how     policy.Aggregation
		use     policy.Use
		fleet   sample.Fleet
		answer  Confidence
		value   float64
		wanted  int32
		reasons string
	}{
		// 12 on each of three is what the fourth, which starts, is for.
		{"a mean, which the HPA divides", policy.ServiceAvg, policy.AverageValue, three, Measured, 36, 4, "4 is right: " + metric + "12 on average on 3 replicas, 10 wanted"},
		// Of 12 the HPA would make 4 as well, and of 11 a move down: it multiplies by the three that are Ready.
		{"a mean, which it takes as it is", policy.ServiceAvg, policy.Value, three, Measured, 10, 4, "4 is right: " + metric + "12 on average"},
		{"a mean in a formula", policy.ServiceAvg, policy.Formula, three, Measured, 12, 4, "12 for the formula: " + metric + "12 on average"},
		{"a total", policy.Sum, policy.AverageValue, three, Measured, 36, 4, "4 is right: " + metric + "36 in total on 3 replicas, 10 wanted on each"},
		{"a total as a Value", policy.Sum, policy.Value, three, Measured, 36, 11, "4 → 11: " + metric + "36 in total on 3 replicas, 10 wanted altogether"},
		{"a total in a formula", policy.Sum, policy.Formula, three, Measured, 36, 4, "36 for the formula"},

		{"one missing holds a mean", policy.ServiceAvg, policy.AverageValue, partly, Held, 40, 4, "holding at 4: " + metric + "10 on average on 2 replicas, 10 wanted; 1 of 3 can't be read"},
		{"one missing holds a mean as a Value", policy.ServiceAvg, policy.Value, partly, Held, 10, 4, "holding at 4"},
		{"30 are too many altogether", policy.Sum, policy.Value, partly, Bounded, 30, 9, "4 → 9"},
		{"one missing is no number for a formula", policy.ServiceAvg, policy.Formula, partly, Unknown, 0, 4, "cannot tell the load: vllm:num_requests_waiting: 1 of 3 can't be read"},
		{"one dead is as loaded as the most", policy.ServiceAvg, policy.Formula, dead, Bounded, 11, 4, "11 for the formula: "},

		{"all are starting", policy.ServiceAvg, policy.AverageValue, young, Held, 20, 2, "holding at 2: no replica serves yet"},
		{"all are starting, for a Value", policy.Sum, policy.Value, young, Held, 10, 2, "holding at 2"},
		{"all are starting, for a formula", policy.Sum, policy.Formula, young, Unknown, 0, 2, "cannot tell the load: no replica serves yet"},
		{"all are starting, at a gate", policy.Gate, policy.AverageValue, young, Held, 2, 2, "holding at 2"},
		{"nothing can be read", policy.ServiceAvg, policy.Value, fleet(1, hung(time.Minute)), Unknown, 0, 1, "cannot tell the load: the only serving replica's value"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			v := Evaluate(byHand(tt.how, tt.use), tt.fleet, t0)
			if v.Confidence != tt.answer || v.Value != tt.value || v.Replicas != tt.wanted {
				t.Errorf("%s %v, %d replicas; want %s %v, %d", v.Confidence, v.Value, v.Replicas, tt.answer, tt.value, tt.wanted)
			}
			if !strings.HasPrefix(v.Reason, tt.reasons) {
				t.Errorf("reason:\n got %s\nwant %s…", v.Reason, tt.reasons)
			}
		})
	}
}

func TestAWindowSmoothsAMean(t *testing.T) {
	s := tell(t, 2, byHand(policy.WindowedAvg, policy.AverageValue)).pod("a", pending(8)).pod("b", pending(10))
	s.at(30*time.Second).wantHoldAt(20, "holding at 2: vllm:num_requests_waiting is unknown; warming up: readings of 2 of 2 reach back 26 s of 1 min")
	s.at(2*time.Minute).wants(18, Measured, "2 is right: vllm:num_requests_waiting is 9 on average over 1 min on 2 replicas, 10 wanted")
	s.pod("a", pending(38)).at(150*time.Second).wants(33, Measured, "2 → 4: vllm:num_requests_waiting is 16.5 on average")
	s.trigger.Use = policy.Value
	s.wants(16.5, Measured, "2 → 4")

	s = tell(t, 2, byHand(policy.WindowedAvg, policy.Value))
	s.trigger.Queue.Metric, s.trigger.Queue.Target = queueTime, 2
	s.pod("a", running(1), ends(10, 1)).pod("b", running(1), ends(30, 5))
	s.at(2*time.Minute).wants(4, Measured, "2 → 4: vllm:request_queue_time_seconds is 4 on average over 1 min on 2 replicas, 2 wanted")
	s.pod("a", ends(0, 0)).pod("b", ends(0, 0)).at(4*time.Minute).wantHoldAt(2, "holding at 2: vllm:request_queue_time_seconds is unknown: it observed nothing in 1 min although")
	s.pod("a", running(0)).pod("b", running(0)).at(6*time.Minute).wants(0, Measured, "2 → 0: vllm:request_queue_time_seconds is 0 on average")
}

// wantHoldAt is a hold in the unit of a trigger written by hand.
func (s *story) wantHoldAt(value float64, reason string) *story {
	s.Helper()
	return s.wants(value, Held, reason)
}

func TestAGateIsOpenOrNot(t *testing.T) {
	for _, use := range []policy.Use{policy.Formula, policy.Value, policy.AverageValue} {
		s := tell(t, 2, byHand(policy.Gate, use)).pod("a", pending(30)).pod("b", pending(0))
		if v := s.at(20 * time.Second).recommendation(); v.Confidence != Unknown || !strings.HasPrefix(v.Reason, "cannot tell the load: vllm:num_requests_waiting: warming up") {
			t.Errorf("warming up: %s %s", v.Confidence, v.Reason)
		}
		if v := s.at(2 * time.Minute).recommendation(); v.Value != 1 || v.Confidence != Measured || !strings.Contains(v.Reason, "vllm:num_requests_waiting is above 10 over 1 min on 2 replicas") {
			t.Errorf("15 on average: %v %s", v.Value, v.Reason)
		}
		if v := s.pod("b", hangs).at(150 * time.Second).recommendation(); v.Value != 1 || v.Confidence != Bounded {
			t.Errorf("15 at least: %v %s", v.Value, v.Reason)
		}
		if v := s.pod("a", pending(5)).at(4 * time.Minute).recommendation(); v.Confidence != Unknown || v.Value != 0 {
			t.Errorf("2.5 or more: %v %s", v.Value, v.Reason)
		}
		if v := s.at(15 * time.Minute).recommendation(); v.Value != 0 || v.Confidence != Bounded || !strings.Contains(v.Reason, "is not above 10") {
			t.Errorf("5 at most: %v %s", v.Value, v.Reason)
		}
		if v := s.pod("b", answers, pending(15)).at(18 * time.Minute).recommendation(); v.Value != 0 || v.Confidence != Measured {
			t.Errorf("exactly 10: %v %s", v.Value, v.Reason)
		}
	}
}

// Without a tolerance of its own the HPA leaves at 10 % below as it does above,
// and the words say what it will do.
func TestAnHPAOfTenPercentIsKnownToTheReason(t *testing.T) {
	f := fleet(2, waiting(5), waiting(5))
	f.NoTolerance = true
	if v := Evaluate(tenEach, f, t0); v.Value != 10 || v.Replicas != 1 || !strings.HasPrefix(v.Reason, "2 → 1") {
		t.Errorf("%v, %d replicas: %s", v.Value, v.Replicas, v.Reason)
	}
}

func anyQueue(t *rapid.T) policy.Trigger {
	return byHand(rapid.SampledFrom([]policy.Aggregation{policy.Sum, policy.ServiceAvg}).Draw(t, "aggregation"),
		rapid.SampledFrom([]policy.Use{policy.AverageValue, policy.Value, policy.Formula}).Draw(t, "use"))
}
