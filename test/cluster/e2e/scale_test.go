package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

// brisk are annotations with windows and cooldowns for a test's pace.
func brisk() map[string]string {
	return map[string]string{
		"auto-provision": "true", "threshold": "10", "max-replicas": "5",
		"evaluationwindow": "0", "scaleupcooldown": "2", "scaledowncooldown": "10",
	}
}

func (s *set) wantDesired(n int64) {
	s.Helper()
	s.eventually(fmt.Sprintf("%d replicas desired", n), func() error {
		if got := s.desired(); got != n {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

func TestAQueueScalesUpAndItsEndDown(t *testing.T) {
	t.Parallel()
	s := apply(t, brisk())
	s.awaitReady(1)
	s.published("0")

	s.queue(25) // on one pod: three replicas are wanted
	s.wantDesired(3)
	s.told("ScalingUp", "1 → 3: vllm:num_requests_waiting is 25 in total on 1 replica, 10 wanted on each")
	s.stays("three replicas are enough for 25", 3, 5*time.Second)

	s.awaitReady(3)
	// 45 on three: five are wanted, not two for the average of 15. The queues are
	// only raised: pods are read one after another, so in between the total is any
	// mixture of old and new.
	s.queue(25, 10, 10)
	s.eventually("five replicas desired", func() error {
		n := s.desired()
		if n < 3 {
			s.Fatalf("%d replicas are desired at 45 waiting", n)
		}
		if n != 5 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})

	s.awaitReady(5)
	s.wantDesired(5)
	// The HPA counts steps up of the same period against the replicas that a
	// step down starts from: right after them it would go down by more than one.
	s.stays("five replicas stay while their queues are full", 5, 11*time.Second)
	s.queue(0)
	steps := s.steps(5, 1)
	for i, gap := range steps {
		// The HPA looks every 2 s, and so may we see a step up to that late.
		if gap < 8*time.Second {
			t.Errorf("step %d down came %s after the one before, within its cooldown of 10s", i+2, gap)
		}
	}
	s.told("ScalingDown", " → 1: vllm:num_requests_waiting is ")
	s.awaitReady(1)
}

// steps watches the desired replicas go from one number to a lower one, each
// step by one, and returns the time between the steps.
func (s *set) steps(from, to int64) []time.Duration {
	s.Helper()
	var gaps []time.Duration
	var last time.Time
	at := from
	s.eventually(fmt.Sprintf("from %d down to %d", from, to), func() error {
		n := s.desired()
		switch n {
		case at:
		case at - 1:
			now := time.Now()
			if !last.IsZero() {
				gaps = append(gaps, now.Sub(last))
			}
			at, last = n, now
		default:
			s.Fatalf("from %d to %d desired replicas in one step", at, n)
		}
		if n != to {
			return fmt.Errorf("%d are desired", n)
		}
		return nil
	})
	return gaps
}

func TestAStartingReplicaIsNoLoadAndNoIdleness(t *testing.T) {
	t.Parallel()
	s := apply(t, brisk())
	s.awaitReady(1)
	s.published("0")
	// From now on starts take long enough to look at each stage.
	shared.KAITO.Adapt(s.namespace, s.name, func(o *kaito.Options) {
		o.Startup = kaito.Stages{Node: time.Second, Download: 6 * time.Second, Engine: time.Second, Benchmark: 8 * time.Second}
	})

	s.queue(16) // two replicas are wanted, and with two starting or not it stays at that
	s.wantDesired(2)
	seen := map[kaito.Stage]bool{}
	s.eventually("the second replica is Ready", func() error {
		total, err := s.total()
		if err != nil {
			return err
		}
		if n := s.desired(); n != 2 {
			s.Fatalf("%d replicas are desired while one starts\n%s", n, s.events())
		}
		if total != "16" {
			s.Fatalf("a total of %s was published while one replica starts, want 16", total)
		}
		ready := 0
		for _, r := range shared.KAITO.Replicas(s.namespace, s.name) {
			if r.Stage == kaito.Ready {
				ready++
				continue
			}
			seen[r.Stage] = true
			if r.Stage == kaito.Benchmarking && r.VLLM != nil && r.VLLM.Stats().Waiting == 0 && r.VLLM.Stats().Running == 0 {
				return errors.New("the benchmark has not begun")
			}
		}
		if ready < 2 {
			return fmt.Errorf("%d are", ready)
		}
		return nil
	})
	for _, stage := range []kaito.Stage{kaito.Downloading, kaito.Benchmarking} {
		if !seen[stage] {
			t.Errorf("the replica was never seen %s: this test shows nothing", stage)
		}
	}
	// Ready now, and with an empty queue: the total is the first one's still.
	s.always("the benchmark's load is gone", 3*time.Second, func() error {
		if total, err := s.total(); err != nil || total != "16" {
			return fmt.Errorf("total %s, %v", total, err) //nolint:errorlint // it may be none
		}
		return nil
	})
}

func TestAHungPodNeverShrinksItsFleet(t *testing.T) {
	t.Parallel()
	s := apply(t, brisk())
	s.awaitReady(1)
	s.queue(25)
	s.wantDesired(3)
	replicas := s.awaitReady(3)
	s.published("25") // all of it on the first, which hangs now
	if err := replicas[0].Fail(kaito.Hung); err != nil {
		t.Fatal(err)
	}
	s.told("PodUnreadable", replicas[0].Pod+": ")
	// Its last reading counts for three intervals. Then it may be anything, and
	// what is published is what three replicas are right for.
	s.published("30")
	s.stays("the fleet is held", 3, 15*time.Second)
	s.queue(0)
	if err := replicas[0].Recover(); err != nil {
		t.Fatal(err)
	}
	s.told("PodReadable", replicas[0].Pod)
	s.told("ScalingDown", "3 → 1: vllm:num_requests_waiting is 0 in total on 3 replicas")
	s.wantDesired(1)
}

func TestWhenNothingCanBeReadTheHPAHolds(t *testing.T) {
	t.Parallel()
	s := apply(t, brisk())
	replicas := s.awaitReady(1)
	s.published("0")
	if err := replicas[0].Fail(kaito.Refused); err != nil {
		t.Fatal(err)
	}
	s.told("LoadUnknown", "the only serving replica's value of vllm:num_requests_waiting can be read ("+replicas[0].Pod)
	s.eventually("the HPA says that it doesn't scale", func() error {
		return s.condition(autoscalingv2.ScalingActive, "False")
	})
	if n := s.desired(); n != 1 {
		t.Errorf("%d replicas desired, want 1", n)
	}
	if err := replicas[0].Recover(); err != nil {
		t.Fatal(err)
	}
	s.published("0")
	s.eventually("the HPA scales again", func() error { return s.condition(autoscalingv2.ScalingActive, "True") })
}

func (s *set) condition(kind autoscalingv2.HorizontalPodAutoscalerConditionType, want string) error {
	hpa, err := s.hpa()
	if err != nil {
		return err
	}
	for _, c := range hpa.Status.Conditions {
		if c.Type == kind {
			if string(c.Status) != want {
				return fmt.Errorf("%s is %s: %s", kind, c.Status, c.Message)
			}
			return nil
		}
	}
	return fmt.Errorf("no condition %s", kind)
}

func TestWorkersOfAReplicaOfSeveralNodesAreNotAsked(t *testing.T) {
	t.Parallel()
	annotations := brisk()
	annotations["max-replicas"] = "8"
	s := apply(t, annotations, nodes(2), nodeCountLimit(6))
	s.awaitReady(1)
	s.told("", "max-replicas 8 but nodeCountLimit 6 allows 3 at 2 nodes per replica")
	s.queue(60)
	s.wantDesired(3)
	s.told("ScalingUp", "is 60 in total on 1 replica")
	s.awaitReady(3)
	s.queue(60, 10, 10)
	s.published("80")
	s.queue(0)
	s.wantDesired(1)
}
