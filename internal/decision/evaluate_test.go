package decision

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

const waitingMetric = policy.DefaultMetric

var (
	t0 = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	// tenEach is a trigger without bounds, as written by hand.
	tenEach = policy.Trigger{Queue: policy.Queue{Metric: waitingMetric, Target: 10}}
)

// fleet is a fleet of so many desired replicas, as it stands at t0.
func fleet(desired int32, replicas ...sample.Replica) sample.Fleet {
	for i := range replicas {
		replicas[i].Pod = fmt.Sprintf("phi-4-%c-0", 'a'+i)
	}
	return sample.Fleet{Desired: desired, Replicas: replicas, Freshness: 15 * time.Second, Grace: 10 * time.Minute}
}

func waiting(n float64) sample.Replica {
	families := []sample.Family{{Name: waitingMetric, Kind: sample.Gauge, Sum: n, Engines: 1}}
	return sample.Replica{Phase: sample.Serving, Expected: t0.Add(-time.Hour), Last: sample.NewSample(t0.Add(-2*time.Second), families, nil)}
}

// changed is the sample with other families.
func changed(s *sample.Sample, change func([]sample.Family) []sample.Family) *sample.Sample {
	other := sample.NewSample(s.At, change(s.Families()), s)
	other.ProcessStart, other.Restarts, other.Names = s.ProcessStart, s.Restarts, s.Names
	return other
}

// hung has not answered for so long.
func hung(d time.Duration) sample.Replica {
	r := waiting(3)
	r.Last.At = t0.Add(-d)
	r.Failure = "no answer within 2s"
	return r
}

// without says much on its page, but nothing of the metric.
func without() sample.Replica {
	r := waiting(0)
	r.Last = changed(r.Last, func(all []sample.Family) []sample.Family {
		all[0].Name = "vllm:num_requests_running"
		return all
	})
	return r
}

func in(phase sample.Phase) sample.Replica { return sample.Replica{Phase: phase} }

func TestRecommendations(t *testing.T) {
	for _, tt := range []struct {
		story    string
		fleet    sample.Fleet
		answer   Confidence
		value    float64
		replicas int32
		reason   string
	}{
		{
			"25 wait on one replica: three are wanted", fleet(1, waiting(25)),
			Measured, 25, 3, "1 → 3: vllm:num_requests_waiting is 25 in total on 1 replica, 10 wanted on each",
		},
		{
			"three with 15 each: five, never fewer for being an average", fleet(3, waiting(15), waiting(15), waiting(15)),
			Measured, 45, 5, "3 → 5: vllm:num_requests_waiting is 45 in total on 3 replicas, 10 wanted on each",
		},
		{
			"empty queues: none is wanted, and the bounds see to one", fleet(3, waiting(0), waiting(0), waiting(0)),
			Measured, 0, 0, "3 → 0: vllm:num_requests_waiting is 0 in total",
		},
		{
			"11 on one replica is within a tenth", fleet(1, waiting(11)),
			Measured, 11, 1, "1 is right: vllm:num_requests_waiting is 11 in total",
		},
		{
			"a queue at half of the target keeps its replicas", fleet(2, waiting(5), waiting(5)),
			Measured, 10, 2, "2 is right",
		},
		{
			"replicas that start count as desired and have no load", fleet(3, waiting(25), in(sample.Starting), in(sample.Broken)),
			Measured, 25, 3, "3 is right: vllm:num_requests_waiting is 25 in total on 1 replica",
		},
		{
			"a terminating replica's queue moves to the others", fleet(1, waiting(8), sample.Replica{Phase: sample.Terminating, Last: waiting(40).Last}),
			Measured, 8, 1, "1 is right",
		},
		{
			"all are starting: hold", fleet(2, in(sample.Starting), in(sample.Starting)),
			Held, 20, 2, "holding at 2: no replica serves yet",
		},
		{
			"nobody at all: hold", fleet(2),
			Held, 20, 2, "holding at 2: no replica serves yet",
		},
		{
			"two of four hung, the others fully loaded: hold, never below 4",
			fleet(4, waiting(10), waiting(10), hung(time.Minute), hung(time.Minute)),
			Held, 40, 4, "holding at 4: vllm:num_requests_waiting is 20 in total on 2 replicas, 10 wanted on each; " +
				"2 of 4 can't be read (phi-4-c-0: no answer within 2s)",
		},
		{
			"two of four hung, the others alone need five", fleet(4, waiting(23), waiting(22), hung(time.Minute), hung(time.Minute)),
			Bounded, 45, 5, "4 → 5: vllm:num_requests_waiting is 45 in total on 2 replicas",
		},
		{
			"four idle and one hung: hold", fleet(5, waiting(0), waiting(0), waiting(0), waiting(0), hung(time.Minute)),
			Held, 50, 5, "holding at 5",
		},
		{
			"four idle and one hung past the grace: down", fleet(5, waiting(0), waiting(0), waiting(0), waiting(0), hung(11*time.Minute)),
			Bounded, 0, 0, "5 → 0: vllm:num_requests_waiting is 0 in total on 4 replicas, 10 wanted on each; " +
				"1 of 5 can't be read (phi-4-e-0: no answer within 2s), 1 of them for so long that it stands for 0 at most",
		},
		{
			"past the grace a hung one is as loaded as the most loaded", fleet(3, waiting(4), waiting(0), hung(time.Hour)),
			Bounded, 8, 1, "3 → 1",
		},
		{
			"the last reading counts while it is fresh", fleet(2, waiting(18), hung(14*time.Second)),
			Measured, 21, 2, "2 is right: vllm:num_requests_waiting is 21 in total on 2 replicas",
		},
		{
			"nothing can be read: unknown, not zero", fleet(2, hung(time.Minute), hung(time.Minute)),
			Unknown, 0, 2, "cannot tell the load: no serving replica's value (of 2) of vllm:num_requests_waiting can be read (phi-4-a-0: no answer within 2s)",
		},
		{
			"nothing can be read for hours: still unknown", fleet(1, hung(5*time.Hour)),
			Unknown, 0, 1, "cannot tell the load: the only serving replica's value",
		},
		{
			"a page without the metric is not a zero", fleet(1, without()),
			Unknown, 0, 1, "cannot tell the load: the only serving replica's value of vllm:num_requests_waiting can be read " +
				"(phi-4-a-0: its page has no vllm:num_requests_waiting)",
		},
		{
			"never read yet", fleet(1, sample.Replica{Phase: sample.Serving, Expected: t0}),
			Unknown, 0, 1, "cannot tell the load: the only serving replica's value of vllm:num_requests_waiting can be read (phi-4-a-0: it has not been read yet)",
		},
		{
			"no replica is desired, and none is there", fleet(0),
			Held, 0, 0, "holding at 0",
		},
	} {
		t.Run(tt.story, func(t *testing.T) {
			v := Evaluate(tenEach, tt.fleet, t0)
			if v.Confidence != tt.answer || v.Value != tt.value {
				t.Errorf("answer %s %v, want %s %v", v.Confidence, v.Value, tt.answer, tt.value)
			}
			if tt.replicas != v.Replicas {
				t.Errorf("replicas %d, want %d", v.Replicas, tt.replicas)
			}
			if !strings.HasPrefix(v.Reason, tt.reason) {
				t.Errorf("reason:\n got %s\nwant %s…", v.Reason, tt.reason)
			}
		})
	}
}

func TestBoundsAreKnownToTheReason(t *testing.T) {
	bounded := tenEach
	bounded.Bounds = policy.Bounds{Min: 2, Max: 4}
	for _, tt := range []struct {
		fleet    sample.Fleet
		replicas int32
		reason   string
	}{
		{fleet(2, waiting(0), waiting(0)), 2, "2 is the minimum: vllm:num_requests_waiting is 0 in total on 2 replicas, 10 wanted on each"},
		{fleet(3, waiting(0), waiting(0), waiting(0)), 2, "3 → 2: vllm:num_requests_waiting is 0 in total"},
		{fleet(3, waiting(99)), 4, "3 → 4, the maximum: vllm:num_requests_waiting is 99 in total on 1 replica, 10 wanted on each, which would be 10"},
		{fleet(4, waiting(99)), 4, "4 is the maximum: vllm:num_requests_waiting is 99 in total on 1 replica, 10 wanted on each, which would be 10"},
	} {
		v := Evaluate(bounded, tt.fleet, t0)
		if v.Replicas != tt.replicas || !strings.HasPrefix(v.Reason, tt.reason) {
			t.Errorf("%d replicas, want %d\n got %s\nwant %s…", v.Replicas, tt.replicas, v.Reason, tt.reason)
		}
	}
}

func TestAReplicaThatHasJustJoinedIsNoUnknown(t *testing.T) {
	joined := func(ready, expected time.Duration) sample.Replica {
		return sample.Replica{Phase: sample.Serving, ReadySince: t0.Add(-ready), Expected: t0.Add(-expected)}
	}
	for _, tt := range []struct {
		story  string
		fleet  sample.Fleet
		answer Confidence
	}{
		{"the first replica turned Ready: hold, don't complain", fleet(1, joined(time.Second, time.Second)), Held},
		{"another joins: the first one's queue is the total", fleet(2, waiting(16), joined(time.Second, time.Second)), Measured},
		{"Ready for a while and never read", fleet(1, joined(time.Minute, time.Minute)), Unknown},
		{"new to this process, but Ready long since", fleet(1, joined(time.Hour, time.Second)), Unknown},
		{"Ready again, but known to this process long since", fleet(1, joined(time.Second, time.Hour)), Unknown},
	} {
		if v := Evaluate(tenEach, tt.fleet, t0); v.Confidence != tt.answer {
			t.Errorf("%s: %s, want %s (%s)", tt.story, v.Confidence, tt.answer, v.Reason)
		}
	}
}

func TestTheAnswerNeverFallsAsTheLoadRises(t *testing.T) {
	last := 0.0
	for load := range 41 {
		v := Evaluate(tenEach, fleet(4, waiting(float64(load)), waiting(float64(load)), hung(time.Minute), hung(time.Minute)), t0)
		if v.Value < last {
			t.Fatalf("%d waiting on each of two: %v published, less than %v before", load, v.Value, last)
		}
		last = v.Value
		if v.Replicas < 4 {
			t.Fatalf("%d waiting on each of two, two hung: %d replicas, fewer than 4", load, v.Replicas)
		}
	}
	if last != 80 {
		t.Errorf("40 on each of two publishes %v, want their total of 80", last)
	}
}

// fleets draws a fleet in any state, small loads and large ones.
func fleets() *rapid.Generator[sample.Fleet] {
	replicas := rapid.Custom(func(t *rapid.T) sample.Replica {
		r := waiting(rapid.OneOf(rapid.Float64Range(0, 40), rapid.SampledFrom([]float64{0, 5, 10, 11, 256})).Draw(t, "waiting"))
		r.Phase = rapid.SampledFrom([]sample.Phase{sample.Serving, sample.Serving, sample.Serving, sample.Serving, sample.Starting, sample.Terminating, sample.Broken}).Draw(t, "phase")
		r.Last.At = t0.Add(-time.Duration(rapid.SampledFrom([]int{1, 14, 16, 60, 599, 601, 7200}).Draw(t, "age")) * time.Second)
		if rapid.IntRange(0, 9).Draw(t, "never read") == 0 {
			r.Last = nil
			r.Expected = t0.Add(-time.Duration(rapid.IntRange(0, 1200).Draw(t, "expected")) * time.Second)
		}
		return r
	})
	return rapid.Custom(func(t *rapid.T) sample.Fleet {
		list := rapid.SliceOfN(replicas, 0, 12).Draw(t, "replicas")
		return fleet(rapid.Int32Range(0, 14).Draw(t, "desired"), list...)
	})
}

// clone copies a fleet so deep that its samples can be changed.
func clone(f sample.Fleet) sample.Fleet {
	replicas := make([]sample.Replica, len(f.Replicas))
	for i, r := range f.Replicas {
		if r.Last != nil {
			r.Last = new(*r.Last)
		}
		replicas[i] = r
	}
	f.Replicas = replicas
	return f
}

func TestAGreaterReadingNeverLowersTheAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := fleets().Draw(t, "fleet")
		if len(before.Replicas) == 0 {
			return
		}
		after := clone(before)
		r := &after.Replicas[rapid.IntRange(0, len(after.Replicas)-1).Draw(t, "replica")]
		if r.Last == nil {
			return
		}
		more := rapid.Float64Range(0, 100).Draw(t, "more")
		r.Last = changed(r.Last, func(all []sample.Family) []sample.Family {
			all[0].Sum += more
			return all
		})
		trigger := anyQueue(t)
		low, high := Evaluate(trigger, before, t0), Evaluate(trigger, after, t0)
		if high.Value < low.Value || high.Replicas < low.Replicas {
			t.Fatalf("from %v (%d replicas) to %v (%d replicas)", low.Value, low.Replicas, high.Value, high.Replicas)
		}
	})
}

func TestALostReadingNeverReversesAMove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := fleets().Draw(t, "fleet")
		for i := range whole.Replicas { // everybody has just been read
			if whole.Replicas[i].Last != nil {
				whole.Replicas[i].Last.At = t0
			}
		}
		partly := clone(whole)
		for i := range partly.Replicas {
			if partly.Replicas[i].Last != nil && rapid.Bool().Draw(t, "lost") {
				// Unreadable, but not beyond the grace: past that a lost one
				// stands for no more than the most loaded, which is a guess.
				partly.Replicas[i].Last.At = t0.Add(-time.Minute)
			}
		}
		trigger := anyQueue(t)
		known, guess := Evaluate(trigger, whole, t0), Evaluate(trigger, partly, t0)
		if known.Confidence == Unknown || guess.Confidence == Unknown {
			return
		}
		if move(known)*move(guess) < 0 {
			t.Fatalf("known %s, with readings lost %s", known.Reason, guess.Reason)
		}
	})
}

func move(v Recommendation) int {
	switch {
	case v.Replicas > v.Desired:
		return 1
	case v.Replicas < v.Desired:
		return -1
	}
	return 0
}

func TestTheHPACanTakeEveryRecommendation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := fleets().Draw(t, "fleet")
		v := Evaluate(anyQueue(t), f, t0)
		switch {
		case v.Reason == "":
			t.Fatal("no reason")
		case v.Value < 0 || math.IsNaN(v.Value) || math.IsInf(v.Value, 0):
			t.Fatalf("value %v", v.Value)
		case v.Confidence == Unknown && (v.Value != 0 || v.Replicas != f.Desired):
			t.Fatalf("unknown with value %v and %d replicas", v.Value, v.Replicas)
		case v.Confidence == Held && v.Replicas != f.Desired:
			t.Fatalf("held at %d of %d", v.Replicas, f.Desired)
		case v.Confidence == Measured && len(v.Unreadable) > 0:
			t.Fatalf("measured without %v", v.Unreadable)
		}
	})
}

func TestWithNothingMissingTheTotalIsPublished(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		loads := rapid.SliceOfN(rapid.Float64Range(0, 300), 1, 20).Draw(t, "loads")
		replicas, total := make([]sample.Replica, len(loads)), 0.0
		for i, load := range loads {
			replicas[i], total = waiting(load), total+load
		}
		v := Evaluate(tenEach, fleet(int32(len(loads)), replicas...), t0)
		if v.Confidence != Measured || v.Value != total {
			t.Fatalf("%s %v, want the total of %v", v.Confidence, v.Value, total)
		}
	})
}
