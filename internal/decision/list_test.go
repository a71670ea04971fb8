package decision

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/aggregate"
	"github.com/kaito-project/keda-kaito-scaler/internal/hpa"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

func TestAListGoesUpWhenAllAreAboveAndDownWhenAllAreBelow(t *testing.T) {
	s := tell(t, 2, listOf(policy.And, waitingList, queueList))
	s.pod("a", pending(14), running(256), ends(10, 20)).pod("b", pending(14), running(256), ends(10, 20))
	s.at(15 * time.Second).wantHold("holding at 2: vllm:num_requests_waiting unknown (warming up: readings of 2 of 2 reach back 11 s of 1 min) and " +
		"vllm:request_queue_time_seconds p95 unknown (warming up: readings of 2 of 2 reach back 11 s of 1 min)")
	// 95 % of all observations lie beyond the last bound but one, 10 s.
	s.at(72*time.Second).wants(2, Measured, "2 is right: vllm:num_requests_waiting 14 > 10 and vllm:request_queue_time_seconds p95 10 s from 1 to 30")
	s.trigger.List.Metrics[1].Up = 9
	s.wants(3, Measured, "2 → 3: vllm:num_requests_waiting 14 > 10 and vllm:request_queue_time_seconds p95 10 s > 9; next step up in 5 min")
	s.pod("a", pending(0), ends(100, .05)).pod("b", pending(0), ends(100, .05))
	s.at(92*time.Second).wants(2, Measured, "2 is right: vllm:num_requests_waiting 9.33 from 1 to 10")
	s.at(145*time.Second).wants(1, Measured, "2 → 1: vllm:num_requests_waiting 0 < 1 and vllm:request_queue_time_seconds p95 0.095 s < 1; next step down in 10 min")
}

func TestAnyIsEnoughForOr(t *testing.T) {
	s := tell(t, 2, listOf(policy.Or, waitingList, queueList))
	s.pod("a", pending(0), running(9), ends(10, 5)).pod("b", pending(0), running(9), ends(10, 5))
	s.trigger.List.Metrics[1].Up = 5
	s.at(90*time.Second).wants(3, Measured, "2 → 3: vllm:request_queue_time_seconds p95 9.55 s > 5; next step up in 5 min")
	s.pod("a", misses(waitingMetric)).pod("b", misses(waitingMetric))
	s.at(92*time.Second).wants(3, Measured, "2 → 3")
	// Known in part is enough to go up, and never to go down.
	s.at(110*time.Second).wants(3, Bounded, "2 → 3: vllm:request_queue_time_seconds p95 9.55 s > 5")
	s.pod("a", ends(10, .05)).pod("b", ends(10, .05))
	s.at(200 * time.Second).wantHold("holding at 2: vllm:num_requests_waiting unknown (phi-4-a-0: its page has no vllm:num_requests_waiting; did you mean vllm:num_requests_running?)")
}

// Of two metrics one is unknown: neither up nor down.
func TestAnUnknownMovesNothingAndIsNotIgnored(t *testing.T) {
	for _, load := range []float64{0, 5, 99} {
		s := tell(t, 3, listOf(policy.And, waitingList, queueList))
		for _, name := range []string{"a", "b", "c"} {
			s.pod(name, pending(load), running(load), misses(queueTime))
		}
		s.at(2 * time.Minute)
		if v := s.recommendation(); v.Value != 3 || v.Replicas != 3 {
			t.Errorf("%v wait on each: %s", load, v.Reason)
		}
		if diff := cmp.Diff([]aggregate.MissingMetric{{Metric: queueTime}}, s.recommendation().MissingMetrics); diff != "" {
			t.Errorf("missing (-want +got):\n%s", diff)
		}
	}
}

func TestAMisspelledMetricIsNamedWithItsNeighbour(t *testing.T) {
	typo := waitingList
	typo.Name = "vllm:num_request_waiting"
	s := tell(t, 1, listOf(policy.And, typo, queueList)).pod("a", running(4), ends(1, 3))
	s.at(2*time.Minute).wants(1, Bounded, "1 is right: vllm:num_request_waiting unknown (phi-4-a-0: its page has no vllm:num_request_waiting; "+
		"did you mean vllm:num_requests_waiting?) and vllm:request_queue_time_seconds p95 9.55 s from 1 to 30")
	// Beyond the grace it is no zero either, and nobody is given up for it.
	s.pod("a", ends(1, .05)).at(20 * time.Minute).wantHold("holding at 1")
	if diff := cmp.Diff([]aggregate.UnreadablePod{{Pod: "phi-4-a-0", Why: "its page has no vllm:num_request_waiting"}}, s.recommendation().Unreadable); diff != "" {
		t.Errorf("unreadable (-want +got):\n%s", diff)
	}
	s.trigger.List.Metrics = s.trigger.List.Metrics[:1]
	s.wants(0, Unknown, "cannot tell the load: the only serving replica's value of vllm:num_request_waiting can be read "+
		"(phi-4-a-0: its page has no vllm:num_request_waiting; did you mean vllm:num_requests_waiting?)")
}

func TestAGaugeWithReadingsMissing(t *testing.T) {
	three := func(a, b float64) *story {
		s := tell(t, 3, listOf(policy.And, waitingList)).pod("a", pending(a)).pod("b", pending(b)).pod("c", pending(0))
		return s.at(2*time.Minute).pod("c", hangs).at(3 * time.Minute)
	}
	three(20, 16).wants(4, Bounded, "3 → 4: vllm:num_requests_waiting 12 > 10 (1 of 3 can't be read (phi-4-c-0: no answer within 2s)); next step up in 5 min")
	s := three(0, 0).wantHold("holding at 3: vllm:num_requests_waiting 0 or more (1 of 3 can't be read")
	s.at(14*time.Minute).wants(2, Bounded, "3 → 2: vllm:num_requests_waiting 0 < 1 (1 of 3 can't be read (phi-4-c-0: no answer within 2s), "+
		"1 of them for so long that it stands for 0 at most); next step down in 10 min")
	three(9, 9).wantHold("holding at 3: vllm:num_requests_waiting 6 or more")
	s = three(20, 20).pod("a", hangs).pod("b", hangs).at(200*time.Second).wants(0, Unknown, "cannot tell the load: no serving replica's value (of 3)")
	if got := len(s.recommendation().Unreadable); got != 3 {
		t.Errorf("%d unreadable, want 3", got)
	}
}

// A ratio is the mean over engines, and a pod that can't be read is at most
// full.
func TestARatioEndsAtOne(t *testing.T) {
	usage := policy.Metric{Name: kvUsage, Up: .8, Down: .5, Window: time.Minute}
	at := func(x float64) does {
		return func(_ *story, p *pod) { p.gauges[kvUsage] = x }
	}
	s := tell(t, 4, listOf(policy.And, usage)).pod("a", at(.1)).pod("b", at(.1)).pod("c", at(.2)).pod("d", at(.9))
	s.at(2*time.Minute).pod("d", hangs).at(200*time.Second).wants(3, Bounded, "4 → 3: vllm:kv_cache_usage_perc 35 % < 50 (1 of 4 can't be read")
	s = tell(t, 1, listOf(policy.And, usage)).pod("a", at(.85)).at(2*time.Minute).wants(2, Measured, "1 → 2: vllm:kv_cache_usage_perc 85 % > 80; next")
	s.pod("a", misses(kvUsage), func(_ *story, p *pod) { p.gauges["vllm:gpu_cache_usage_perc"] = .9 })
	s.at(4*time.Minute).wants(2, Measured, "1 → 2: vllm:kv_cache_usage_perc 90 % > 80") // as vLLM called it before 0.10
	// Two engines at 90 % are no 180 %.
	both := diary{now: t0.Add(-2 * time.Minute), keep: time.Hour}
	for range 24 {
		both.add(kv(.9+.3, 2))
	}
	fleet := fleet(1, sample.Replica{Phase: sample.Serving, Expected: t0, History: both.h, Last: both.h.Newest()})
	if v := Evaluate(listOf(policy.And, usage), fleet, t0); !strings.HasPrefix(v.Reason, "1 is right: vllm:kv_cache_usage_perc 60 % from 50 to 80") {
		t.Error(v.Reason)
	}
	usage.Up, usage.Down = 80, 50 // in percent
	usage.Name = "gpu_busy_percent"
	percent := tell(t, 2, listOf(policy.And, usage))
	busy := func(x float64) does { return func(_ *story, p *pod) { p.gauges["gpu_busy_percent"] = x } }
	percent.pod("a", busy(10)).pod("b", busy(95)).at(2*time.Minute).pod("b", hangs).at(150 * time.Second)
	percent.wantHold("holding at 2: gpu_busy_percent 5 % or more") // up to 55 %
}

func TestAnIdleHistogramIsBelowAndAStalledOneUnknown(t *testing.T) {
	zero := queueList
	zero.Down = 0 // nothing is less than 0, but idle is
	s := tell(t, 2, listOf(policy.And, zero)).pod("a", running(3), ends(2, 5)).pod("b", running(3))
	s.at(2*time.Minute).wants(2, Measured, "2 is right: vllm:request_queue_time_seconds p95 9.55 s from 0 to 30")
	s.pod("a", ends(0, 0))
	s.at(4 * time.Minute).wantHold("holding at 2: vllm:request_queue_time_seconds p95 unknown (it observed nothing in 1 min although requests run or wait")
	s.pod("a", running(0)).pod("b", running(0))
	s.at(4*time.Minute + 30*time.Second).wantHold("holding at 2") // something ran within the window
	s.at(6*time.Minute).wants(1, Measured, "2 → 1: vllm:request_queue_time_seconds p95 idle in 1 min; next step down in 10 min")
	s.pod("a", misses(policy.FamilyRunning))
	s.at(8 * time.Minute).wantHold("holding at 2: vllm:request_queue_time_seconds p95 unknown (it observed nothing in 1 min, and not every page tells")
}

// With a pod missing nothing is known of a histogram, until that is given up.
func TestAHistogramWithReadingsMissing(t *testing.T) {
	s := tell(t, 2, listOf(policy.And, queueList)).pod("a", ends(5, .05), running(1)).pod("b", ends(5, 3), running(1))
	s.at(2*time.Minute).pod("b", hangs).at(3 * time.Minute).wantHold("holding at 2: vllm:request_queue_time_seconds p95 unknown " +
		"(1 of 2 can't be read (phi-4-b-0: no answer within 2s))")
	s.at(13*time.Minute).wants(1, Bounded, "2 → 1: vllm:request_queue_time_seconds p95 0.095 s < 1 (1 of 2 can't be read (phi-4-b-0: no answer within 2s), "+
		"1 of them for so long that it is left out); next step down in 10 min")
	// One that is new to this process isn't known for as long as the window.
	s = tell(t, 2, listOf(policy.And, queueList)).pod("a", ends(5, .05)).at(2 * time.Minute)
	s.pod("b", ends(5, 3)).at(150 * time.Second).wantHold("holding at 2: vllm:request_queue_time_seconds p95 unknown (warming up: readings of 1 of 2 reach back 26 s of 1 min)")
}

// A request that came and went between two readings was no idleness, whether it was
// served to its end or its client cancelled it, which counts as no end.
func TestWhatCameAndWentIsNoIdleness(t *testing.T) {
	for what, happens := range map[string]does{
		"a request is served":            func(_ *story, p *pod) { p.finished++ },
		"a request is cancelled halfway": func(_ *story, p *pod) { p.generated += 30 },
	} {
		t.Run(what, func(t *testing.T) {
			s := tell(t, 1, listOf(policy.And, queueList)).pod("a")
			for s.now.Before(t0.Add(2 * time.Minute)) {
				s.pod("a", happens).at(s.now.Sub(t0) + step5)
			}
			s.wantHold("holding at 1: vllm:request_queue_time_seconds p95 unknown (it observed nothing in 1 min although")
			s.at(4*time.Minute).wants(0, Measured, "1 → 0: vllm:request_queue_time_seconds p95 idle")
		})
	}
}

// A page may have the metric and no number for it.
func TestAMetricIsNoNeighbourOfItself(t *testing.T) {
	s := tell(t, 1, listOf(policy.And, waitingList)).pod("a", misses(waitingMetric)).at(2 * time.Minute)
	s.pods[0].Last.Names = append(s.pods[0].Last.Names, waitingMetric)
	if diff := cmp.Diff([]aggregate.MissingMetric{{Metric: waitingMetric}}, s.recommendation().MissingMetrics); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

// What is known of a fleet's minute is known after a minute, and no later than
// 1.2 of it after the start.
func TestAWindowAnswersInTime(t *testing.T) {
	for _, window := range []time.Duration{time.Second, 30 * time.Second, time.Minute, 3 * time.Minute, time.Hour} {
		for _, m := range []policy.Metric{waitingList, queueList} {
			m.Window, m.Up = window, 5
			s := tell(t, 1, listOf(policy.And, m)).pod("a", pending(14), running(9), ends(3, 60))
			limit := max(window*6/5, 15*time.Second) // three readings at least
			s.stays(min(window*3/4, limit).Truncate(step5), "before its window is full")
			if v := s.at(limit).recommendation(); v.Value != 2 {
				t.Errorf("%s over %v: after %v %s", m.Name, window, limit, v.Reason)
			}
		}
	}
}

// Under a steady load between the thresholds no pod that restarts, joins or
// leaves moves the fleet, though KAITO's benchmark leaves 4 000 observations of
// 300 s in each new process's counters.
func TestComingAndGoingUnderLoadMovesNothing(t *testing.T) {
	busy := []does{pending(5), running(100), ends(10, 5)}
	begin := func() *story {
		mean := queueList
		mean.Quantile = 0
		s := tell(t, 3, listOf(policy.Or, waitingList, queueList, mean))
		for _, name := range []string{"a", "b", "c"} {
			s.pod(name, busy...)
		}
		return s.at(2*time.Minute).wants(3, Measured, "3 is right: vllm:num_requests_waiting 5 from 1 to 10, "+
			"vllm:request_queue_time_seconds p95 9.55 s from 1 to 30 and vllm:request_queue_time_seconds mean 5 s from 1 to 30")
	}
	for what, change := range map[string]func(s *story){
		"a container restarts": func(s *story) {
			s.pod("b", hangs).stays(150*time.Second, "away").pod("b", answers, restarts)
		},
		"a pod is replaced": func(s *story) {
			s.without("b").pod("d", starts).stays(6*time.Minute, "the new one starts").pod("d", turnsReady).pod("d", busy...)
		},
		"a pod joins": func(s *story) {
			s.scaled(4).pod("d", starts).stays(6*time.Minute, "it starts").pod("d", turnsReady).pod("d", busy...)
		},
		"a pod leaves": func(s *story) {
			s.scaled(2).pod("b", leaves).stays(150*time.Second, "it ends").without("b")
		},
		"a scrape fails now and then": func(s *story) {
			for s.now.Before(s.began.Add(6 * time.Minute)) {
				s.pod("b", hangs).stays(s.now.Sub(s.began)+2*step5, "away")
				s.pod("b", answers).stays(s.now.Sub(s.began)+2*step5, "back")
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := begin()
			s.T = t
			change(s)
			s.stays(s.now.Sub(s.began)+5*time.Minute, what)
			s.wants(float64(s.fleet.Desired), Measured, fmt.Sprintf("%d is right", s.fleet.Desired))
		})
	}
}

func TestOneStepAtATime(t *testing.T) {
	s := tell(t, 1, listOf(policy.And, waitingList)).pod("a", pending(50))
	s.at(2*time.Minute).wants(2, Measured, "1 → 2: vllm:num_requests_waiting 50 > 10; next step up in 5 min")
	s.scaled(2).wantHold("2 for now: vllm:num_requests_waiting 50 > 10; a replica has been ordered")
	s.pod("b", starts).at(3 * time.Minute).wantHold("2 for now: vllm:num_requests_waiting 50 > 10; phi-4-b is starting (ModelMirrorPending)")
	s.at(20 * time.Minute).wantHold("2 for now") // long after the cooldown
	s.pod("b", turnsReady, pending(20)).wantHold("2 for now: vllm:num_requests_waiting 50 > 10; phi-4-b has just become Ready")
	s.at(20*time.Minute + 55*time.Second).wantHold("2 for now: vllm:num_requests_waiting 35 > 10; phi-4-b has just become Ready")
	s.at(22*time.Minute).wants(3, Measured, "2 → 3: vllm:num_requests_waiting 35 > 10")
	s.scaled(3).pod("c", turnsReady, pending(20)).at(24 * time.Minute).wantHold("3 for now: vllm:num_requests_waiting 30 > 10; next step up in 3 min")
	s.at(27*time.Minute).wants(4, Measured, "3 → 4")

	// Down not within ten minutes of the step up, and then one in ten minutes.
	for _, name := range []string{"a", "b", "c"} {
		s.pod(name, pending(0))
	}
	s.at(29 * time.Minute).wantHold("3 for now: vllm:num_requests_waiting 0 < 1; next step down in 3 min")
	s.at(32*time.Minute).wants(2, Measured, "3 → 2: vllm:num_requests_waiting 0 < 1; next step down in 10 min")
	s.scaled(2).pod("c", leaves).at(33 * time.Minute).wantHold("2 for now: vllm:num_requests_waiting 0 < 1; next step down in 9 min")
	s.pod("a", pending(99)).pod("b", pending(99)).at(35*time.Minute).wants(3, Measured, "2 → 3") // up at once: load waits
	s.pod("a", pending(0)).pod("b", pending(0)).at(42*time.Minute).wants(1, Measured, "2 → 1")
	s.trigger.Bounds = policy.Bounds{Min: 2, Max: 2}
	s.wants(1, Measured, "2 is the minimum: vllm:num_requests_waiting 0 < 1")
	s.pod("a", pending(99)).pod("b", pending(99)).at(44*time.Minute).wants(3, Measured, "2 is the maximum: vllm:num_requests_waiting 99 > 10")
}

// A pod too busy for its probe turns Ready and NotReady by turns: it needs help
// and is none.
func TestABusyPodHoldsUpNoHelp(t *testing.T) {
	s := tell(t, 1, listOf(policy.And, waitingList)).pod("a", pending(50))
	for range 20 {
		s.pod("a", func(s *story, p *pod) { p.ReadySince = s.now }).at(s.now.Sub(t0) + 10*time.Second)
	}
	s.wants(2, Measured, "1 → 2: vllm:num_requests_waiting 50 > 10")
}

// A process that has just started takes the cooldown from the newest replica.
func TestARestartOfTheScalerForgetsNoCooldown(t *testing.T) {
	s := tell(t, 2, listOf(policy.And, waitingList)).pod("a", pending(50)).pod("b", turnsReady, pending(50))
	s.at(90*time.Second).wants(3, Measured, "2 → 3") // b was ordered 5 min before it joined
	s = tell(t, 2, listOf(policy.And, waitingList)).pod("a").pod("b", turnsReady)
	s.at(90 * time.Second).wantHold("2 for now: vllm:num_requests_waiting 0 < 1; next step down in 210 s")
	s.at(5*time.Minute).wants(1, Measured, "2 → 1")
}

func TestADeadReplicaBlocksNeitherDirection(t *testing.T) {
	for what, dead := range map[string]does{"broken": breaks, "starting for ever": starts} {
		s := tell(t, 3, listOf(policy.And, waitingList)).pod("a", pending(50)).pod("b", pending(50)).pod("c", dead)
		s.at(31*time.Minute).wants(4, Measured, "3 → 4")
		want := ReplicaState{Replica: "phi-4-c", Phase: sample.Broken, Stuck: "ImagePullError: no such image"}
		if what != "broken" {
			want = ReplicaState{Replica: "phi-4-c", Phase: sample.Starting, Stuck: "not serving 30 min after it was ordered: ModelMirrorPending"}
		}
		if diff := cmp.Diff(want, s.recommendation().ReplicaStates[2]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		s.pod("a", pending(0)).pod("b", pending(0)).at(33*time.Minute).wants(2, Measured, "3 → 2")
	}
	// Nor does one that starts in an upgrade, to take the place of another.
	upgrade := tell(t, 2, listOf(policy.And, waitingList)).pod("a", pending(50)).pod("b", pending(50)).pod("c", starts)
	upgrade.at(6*time.Minute).wants(3, Measured, "2 → 3")
	// Down is free while one starts: KAITO takes that one first.
	s := tell(t, 3, listOf(policy.And, waitingList)).pod("a").pod("b").pod("c", starts)
	s.at(11*time.Minute).wants(2, Measured, "3 → 2")
}

// A lost node keeps its pod in the API for hours, and holds nothing up.
func TestAReplicaThatDoesNotEndIsReported(t *testing.T) {
	lost := func(s *story, p *pod) {
		p.Phase, p.Overdue, p.Why = sample.Terminating, s.began.Add(10*time.Minute), "pod c-0 is still terminating"
	}
	s := tell(t, 2, listOf(policy.And, waitingList)).pod("a", pending(5)).pod("b", pending(5)).pod("c", lost)
	if stuck := s.at(10 * time.Minute).recommendation().ReplicaStates[2].Stuck; stuck != "" {
		t.Errorf("stuck already: %s", stuck)
	}
	want := "not gone by " + s.began.Add(10*time.Minute).UTC().Format("15:04 MST") + ": pod c-0 is still terminating"
	if stuck := s.at(11 * time.Minute).recommendation().ReplicaStates[2].Stuck; stuck != want {
		t.Errorf("stuck: %q, want %q", stuck, want)
	}
}

func TestWhileNobodyServesAListHolds(t *testing.T) {
	s := tell(t, 2, listOf(policy.And, waitingList)).pod("a", starts).pod("b", starts)
	s.at(time.Minute).wantHold("holding at 2: no replica serves yet, so there is no load to measure")
	s.pod("a", turnsReady).wantHold("holding at 2: no replica serves yet")
	s.at(70*time.Second).wants(2, Held, "2 for now: vllm:num_requests_waiting 0 < 1; next step down in ")
}

// One step is one step at any size, also for an HPA that keeps to 10 %.
func TestAStepIsOneAtEverySize(t *testing.T) {
	for _, fixed := range []bool{false, true} {
		for desired := range int32(200) {
			f := sample.Fleet{Desired: desired + 1, NoTolerance: fixed}
			h := hpa.For(listOf(policy.And, waitingList), f)
			for _, direction := range []int32{-1, 0, 1} {
				got := hpa.Replicas(h.ValueForStep(direction), 1, f.Desired, h.UpTolerance, h.DownTolerance)
				// What goes too far is one step by the HPA's pace.
				if paced := min(max(got, f.Desired-1), f.Desired+1); paced != f.Desired+direction {
					t.Errorf("%d%+d with tolerances %v: %v published, and the HPA makes %d of it", f.Desired, direction, h.UpTolerance, h.ValueForStep(direction), got)
				}
			}
		}
	}
	for current, want := range map[int32][2]float64{9: {8, 10}, 12: {10.799, 14}, 20: {17.999, 23}} {
		h := hpa.For(listOf(policy.And, waitingList), sample.Fleet{Desired: current, NoTolerance: true})
		if h.ValueForStep(-1) != want[0] || h.ValueForStep(1) != want[1] {
			t.Errorf("at %d: %v and %v, want %v", current, h.ValueForStep(-1), h.ValueForStep(1), want)
		}
	}
}

func TestTheMetricsDecideByTheirLogic(t *testing.T) {
	all := []truth{no, maybe, yes}
	for _, a := range all {
		for _, b := range all {
			x, y := comparison{above: a, below: -a}, comparison{above: b, below: -b}
			up, down := combine(policy.And, []comparison{x, y})
			if up != min(a, b) || down != min(-a, -b) {
				t.Errorf("%d and %d: up %d, down %d", a, b, up, down)
			}
			up, down = combine(policy.Or, []comparison{x, y})
			if up != max(a, b) || down != -up {
				t.Errorf("%d or %d: up %d, down %d", a, b, up, down)
			}
		}
	}
}

// says makes the pod's pages say something of its own of the metric.
func says(family sample.Family) does {
	return func(s *story, p *pod) {
		d := diary{now: s.now.Add(-2 * time.Minute), keep: time.Hour}
		for range 24 {
			d.add(family)
		}
		p.History, p.Last = d.h, d.h.Newest()
	}
}

func TestWhatIsNotWhatItIsTakenForIsUnknown(t *testing.T) {
	odd := latencies(1, 2, 3, 4, 5)
	odd.Name = waitingMetric
	for _, tt := range []struct {
		story  string
		metric policy.Metric
		page   sample.Family
		reason string
	}{
		{"a histogram as a gauge", waitingList, odd, "phi-4-a-0: vllm:num_requests_waiting is a histogram, not a gauge"},
		{
			"a counter as a gauge", waitingList,
			sample.Family{Name: waitingMetric, Kind: sample.Counter, Sum: 1e6, Engines: 1},
			"phi-4-a-0: vllm:num_requests_waiting is a counter, which only grows: give aggregation: rate to compare what it gains a second",
		},
		{
			"a gauge as a histogram", queueList,
			sample.Family{Name: queueTime, Kind: sample.Gauge, Sum: 1, Engines: 1},
			"phi-4-a-0: vllm:request_queue_time_seconds is no histogram",
		},
		{
			"less than nothing", waitingList,
			sample.Family{Name: waitingMetric, Kind: sample.Gauge, Sum: -1, Engines: 1},
			"phi-4-a-0: vllm:num_requests_waiting is negative",
		},
	} {
		s := tell(t, 1, listOf(policy.And, tt.metric)).pod("a", says(tt.page))
		want := "cannot tell the load: the only serving replica's value of " + tt.metric.Name + " can be read (" + tt.reason + ")"
		if v := s.recommendation(); v.Confidence != Unknown || v.Reason != want {
			t.Errorf("%s: %s %s", tt.story, v.Confidence, v.Reason)
		}
	}
}

// Replicas of two versions of vLLM have histograms that can't be added up.
func TestHistogramsOfTwoVersionsAreUnknown(t *testing.T) {
	s := tell(t, 2, listOf(policy.And, queueList)).pod("a", ends(5, 3), running(3)).pod("b", ends(5, 3), running(3))
	s.at(2 * time.Minute)
	other := diary{now: s.now.Add(-2 * time.Minute), keep: time.Hour}
	for i := range 24 {
		n := float64(i)
		other.add(sample.Family{Name: queueTime, Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{Le: []float64{5, 50}, Cumulative: []float64{n, n}, Sum: n}})
	}
	s.pod("b", func(_ *story, p *pod) { p.History, p.Last = other.h, other.h.Newest() })
	s.wantHold("holding at 2: vllm:request_queue_time_seconds p95 unknown (histograms have different bucket bounds")
}

func TestAFewSecondsAreAWindowToo(t *testing.T) {
	brief := waitingList
	brief.Window = time.Second
	s := tell(t, 1, listOf(policy.And, brief)).pod("a", pending(14)).at(30 * time.Second)
	// The newest reading counts for three intervals, however short the window.
	s.pod("a", hangs).at(43*time.Second).wants(2, Measured, "1 → 2")
	s.at(50*time.Second).wants(0, Unknown, "cannot tell the load")
}

// A Value is multiplied by the replicas, so that it has to be a share of them.
func TestAListAsAValueMovesAsFar(t *testing.T) {
	s := tell(t, 4, listOf(policy.And, waitingList))
	s.trigger.Use = policy.Value
	for _, name := range []string{"a", "b", "c", "d"} {
		s.pod(name, pending(14))
	}
	s.at(2*time.Minute).wants(1.25, Measured, "4 → 5")
}

// A fleet of 100 replicas with two metrics is evaluated in well under a
// millisecond, since KEDA waits for it.
func BenchmarkEvaluateList(b *testing.B) {
	trigger := listOf(policy.And, waitingList, policy.Metric{Name: kvUsage, Up: .8, Down: .3, Window: time.Minute})
	members := make([]sample.Replica, 100)
	for i := range members {
		members[i] = reads(float64(i), .5)
	}
	f := fleet(100, members...)
	f.Interval = step5
	for b.Loop() {
		Evaluate(trigger, f, t0)
	}
}
