package decision

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// lists draws a fleet with readings of two gauges over two minutes, some lost.
func lists(t *rapid.T) (policy.Trigger, sample.Fleet) {
	trigger := listOf(rapid.SampledFrom([]policy.Combine{policy.And, policy.Or}).Draw(t, "combine"),
		waitingList, policy.Metric{Name: kvUsage, Up: .8, Down: .3, Window: time.Minute})
	count := rapid.IntRange(1, 8).Draw(t, "replicas")
	members := make([]sample.Replica, count)
	for i := range members {
		wait := rapid.SampledFrom([]float64{0, .5, 1, 5, 10, 11, 40, 256}).Draw(t, "waiting")
		use := rapid.Float64Range(0, 1).Draw(t, "usage")
		members[i] = reads(wait, use)
		members[i].Phase = rapid.SampledFrom([]sample.Phase{sample.Serving, sample.Serving, sample.Serving, sample.Starting, sample.Terminating, sample.Broken}).Draw(t, "phase")
	}
	f := fleet(int32(count), members...)
	f.Interval = step5
	f.NoTolerance = rapid.Bool().Draw(t, "no tolerance")
	return trigger, f
}

// reads has been read for two minutes, and always the same.
func reads(wait, use float64) sample.Replica {
	d := diary{now: t0.Add(-2 * time.Minute), keep: time.Hour}
	for range 24 {
		d.add(sample.Family{Name: waitingMetric, Kind: sample.Gauge, Sum: wait, Engines: 1}, kv(use, 1))
	}
	return sample.Replica{Phase: sample.Serving, Expected: t0.Add(-time.Hour), History: d.h, Last: d.h.Newest()}
}

// lose makes the replica unreadable for so long.
func lose(r *sample.Replica, d time.Duration) {
	last := *r.Last
	last.At = t0.Add(-d)
	r.Last, r.Failure = &last, "no answer within 2s"
}

func TestAGreaterReadingNeverLowersAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trigger, before := lists(t)
		for i := range before.Replicas {
			if rapid.IntRange(0, 3).Draw(t, "lost") == 0 {
				lose(&before.Replicas[i], time.Duration(rapid.SampledFrom([]int{20, 700}).Draw(t, "seconds"))*time.Second)
			}
		}
		after := clone(before)
		i := rapid.IntRange(0, len(after.Replicas)-1).Draw(t, "replica")
		r := &after.Replicas[i]
		if r.Failure != "" {
			return
		}
		phase, pod := r.Phase, r.Pod
		page := r.Last.Families()
		*r = reads(page[0].Sum+rapid.Float64Range(0, 50).Draw(t, "more"), min(1, page[1].Sum+rapid.Float64Range(0, 1).Draw(t, "fuller")))
		r.Phase, r.Pod = phase, pod
		low, high := Evaluate(trigger, before, t0), Evaluate(trigger, after, t0)
		if high.Value < low.Value || high.Replicas < low.Replicas {
			t.Fatalf("from %v (%s)\nto %v (%s)", low.Value, low.Reason, high.Value, high.Reason)
		}
	})
}

func TestALostReadingNeverReversesAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trigger, whole := lists(t)
		partly := clone(whole)
		for i := range partly.Replicas {
			if rapid.Bool().Draw(t, "lost") {
				lose(&partly.Replicas[i], time.Minute)
			}
		}
		known, guess := Evaluate(trigger, whole, t0), Evaluate(trigger, partly, t0)
		if guess.Confidence != Unknown && move(known)*move(guess) < 0 {
			t.Fatalf("known %s, with readings lost %s", known.Reason, guess.Reason)
		}
		// What was held may not turn into a step for being known less.
		if move(known) == 0 && move(guess) != 0 {
			t.Fatalf("known %s, with readings lost %s", known.Reason, guess.Reason)
		}
	})
}

func TestEveryRecommendationOfAListIsWithinOneStep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trigger, f := lists(t)
		v := Evaluate(trigger, f, t0)
		switch {
		case v.Reason == "":
			t.Fatal("no reason")
		case v.Confidence == Unknown && v.Value != 0, v.Confidence == Held && v.Value != float64(f.Desired):
			t.Fatalf("%s publishes %v of %d", v.Confidence, v.Value, f.Desired)
		case v.Replicas < f.Desired-1 || v.Replicas > f.Desired+1:
			t.Fatalf("%d → %d", f.Desired, v.Replicas)
		case len(v.ReplicaStates) != len(f.Replicas):
			t.Fatalf("%d members of %d", len(v.ReplicaStates), len(f.Replicas))
		}
	})
}
