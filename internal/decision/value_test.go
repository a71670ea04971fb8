package decision

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/hpa"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// engines is a replica of so many engines, which say as much together.
func engines(n int, metric string, sum float64) sample.Replica {
	r := waiting(0)
	r.ReadySince = t0.Add(-time.Hour)
	d := diary{now: t0.Add(-2 * time.Minute), keep: time.Hour}
	for range 24 {
		d.add(sample.Family{Name: metric, Kind: sample.Gauge, Sum: sum, Engines: n})
	}
	r.History, r.Last = d.h, d.h.Newest()
	return r
}

// Two engines that are 45 % full make a pod that is 45 % full, however a fleet is
// added up; and as full as a pod can be is one.
func TestARatioIsAMeanOverEnginesEverywhere(t *testing.T) {
	two := func() sample.Fleet { return fleet(2, engines(2, kvUsage, .9), engines(2, kvUsage, .7)) }
	lost := two()
	lose(&lost.Replicas[1], time.Minute)
	idle := func(metric string, sum float64) sample.Fleet {
		f := fleet(4, engines(2, metric, sum), engines(2, metric, sum), engines(2, metric, sum), engines(2, metric, sum))
		lose(&f.Replicas[3], time.Minute)
		return f
	}
	by := func(how policy.Aggregation, metric string, target float64) policy.Trigger {
		trigger := byHand(how, policy.AverageValue)
		trigger.Queue.Metric, trigger.Queue.Target = metric, target
		return trigger
	}
	for _, tt := range []struct {
		story   string
		trigger policy.Trigger
		fleet   sample.Fleet
		value   float64
		reason  string
	}{
		{"a total", by(policy.Sum, kvUsage, .7), two(), .8, "2 is right: vllm:kv_cache_usage_perc is 0.8 in total on 2 replicas, 0.7 wanted on each"},
		{"a mean", by(policy.ServiceAvg, kvUsage, .7), two(), .8, "2 is right: vllm:kv_cache_usage_perc is 0.4 on average"},
		{"a mean over time", by(policy.WindowedAvg, kvUsage, .7), two(), .8, "2 is right: vllm:kv_cache_usage_perc is 0.4 on average over 1 min"},
		{"a gate", by(policy.Gate, kvUsage, .7), two(), 0, "2 → 0: vllm:kv_cache_usage_perc is not above 0.7"},
		{"a list", listOf(policy.And, policy.Metric{Name: kvUsage, Up: .7, Down: .3, Window: time.Minute}), two(), 2, "2 is right: vllm:kv_cache_usage_perc 40 % from 30 to 70"},
		{"one unreadable is full at most, and two are meant for 1.4", by(policy.Sum, kvUsage, .7), lost, 1.4, "holding at 2"},
		{"and four for more", by(policy.Sum, kvUsage, .7), idle(kvUsage, .1), 1.15, "4 → 2"},
		{"a page of percents", by(policy.Sum, "gpu_percent", 70), idle("gpu_percent", 10), 115, "4 → 2"},
	} {
		v := Evaluate(tt.trigger, tt.fleet, t0)
		if math.Abs(v.Value-tt.value) > 1e-9 || !strings.HasPrefix(v.Reason, tt.reason) {
			t.Errorf("%s: %v %s, want %v %s", tt.story, v.Value, v.Reason, tt.value, tt.reason)
		}
	}
}

// tokensAt has gained so many tokens a second for two minutes.
func tokensAt(perSecond float64) sample.Replica {
	r := waiting(0)
	r.ReadySince = t0.Add(-time.Hour)
	d := diary{now: t0.Add(-2 * time.Minute), keep: time.Hour}
	for i := range 25 {
		d.add(sample.Family{Name: promptsT, Kind: sample.Counter, Sum: 1e9 + 5*float64(i)*perSecond, Engines: 1})
	}
	r.History, r.Last = d.h, d.h.Newest()
	return r
}

var (
	tokenRate = policy.Trigger{Queue: policy.Queue{Metric: promptsT, Target: 1000, Aggregation: policy.Rate, Window: time.Minute}}
	rateList  = listOf(policy.And, policy.Metric{Name: promptsT, Kind: policy.Counter, Up: 1000, Down: 200, Window: time.Minute})
)

func TestACounterIsNoLoadButItsRateIs(t *testing.T) {
	two := func() sample.Fleet { return fleet(2, tokensAt(1500), tokensAt(1700)) }
	taken := tokenRate
	taken.Queue.Aggregation = policy.Sum
	const refused = "vllm:prompt_tokens_total is a counter, which only grows: give aggregation: rate to compare what it gains a second"
	for _, how := range []policy.Aggregation{policy.Sum, policy.ServiceAvg, policy.WindowedAvg, policy.Gate} {
		taken.Queue.Aggregation, taken.Queue.Window = how, time.Minute
		if v := Evaluate(taken, two(), t0); v.Confidence != Unknown || !strings.Contains(v.Reason, refused) {
			t.Errorf("taken for a load by %s: %v %s", how, v.Value, v.Reason)
		}
	}
	gauge := listOf(policy.And, policy.Metric{Name: promptsT, Up: 1000, Down: 200, Window: time.Minute})
	if v := Evaluate(gauge, two(), t0); v.Confidence != Unknown || !strings.Contains(v.Reason, refused) {
		t.Errorf("taken for a gauge: %v %s", v.Value, v.Reason)
	}
	if v := Evaluate(tokenRate, two(), t0); v.Value != 3200 || v.Replicas != 4 ||
		v.Reason != "2 → 4: vllm:prompt_tokens_total gained 3200 a second over 1 min in total on 2 replicas, 1000 wanted on each" {
		t.Errorf("its rate: %v %s", v.Value, v.Reason)
	}
	if v := Evaluate(rateList, two(), t0); v.Value != 3 || !strings.HasPrefix(v.Reason, "2 → 3: vllm:prompt_tokens_total rate 1600 > 1000") {
		t.Errorf("its rate in a list: %v %s", v.Value, v.Reason)
	}
	of := tokenRate
	of.Queue.Metric = waitingMetric
	if v := Evaluate(of, fleet(1, waiting(5)), t0); v.Confidence != Unknown || !strings.Contains(v.Reason, waitingMetric+" is no counter, so it has no rate") {
		t.Errorf("a gauge's rate: %s", v.Reason)
	}
}

// A rate is baselined per process, moves from pod to pod without being counted
// twice, and a pod that can't be read could have any.
func TestARateIsNotFooled(t *testing.T) {
	restarted := tokensAt(900)
	newer := sample.NewSample(t0, []sample.Family{{Name: promptsT, Kind: sample.Counter, Sum: 5e6, Engines: 1}}, restarted.Last)
	newer.Restarts = 1
	restarted.History.Add(newer, time.Hour)
	restarted.Last = newer
	joined := sample.Replica{Phase: sample.Serving, ReadySince: t0.Add(-10 * time.Second), Expected: t0.Add(-10 * time.Second)}
	joined.History.Add(sample.NewSample(t0, []sample.Family{tokens(7e6)}, nil), time.Hour)
	joined.Last = joined.History.Newest()
	lost := tokensAt(900)
	lose(&lost, time.Minute)
	for _, tt := range []struct {
		story    string
		replica  sample.Replica
		least    float64
		most     float64
		replicas int32
	}{
		{"a restart with a benchmark in its counter", restarted, 1700, 1800, 2},
		{"a pod that joins with one", joined, 900, 900, 1},
		{"one that can't be read", lost, 2000, 2000, 2},
	} {
		v := Evaluate(tokenRate, fleet(2, tokensAt(900), tt.replica), t0)
		if v.Value < tt.least || v.Value > tt.most || v.Replicas != tt.replicas {
			t.Errorf("%s: %v, %s", tt.story, v.Value, v.Reason)
		}
	}
	// A load that moves to a pod that has joined is the same load.
	for moved := 10; moved <= 60; moved += 10 {
		old, young := sample.Replica{Phase: sample.Serving, ReadySince: t0.Add(-time.Hour), Expected: t0.Add(-time.Hour)}, joined
		young.ReadySince, young.History = t0.Add(-time.Duration(moved)*time.Second), sample.History{}
		count, fresh := 1e6, 0.0
		for s := 120; s >= 0; s -= 5 {
			at := t0.Add(-time.Duration(s) * time.Second)
			old.History.Add(sample.NewSample(at, []sample.Family{tokens(count)}, nil), time.Hour)
			if s <= moved {
				young.History.Add(sample.NewSample(at, []sample.Family{tokens(fresh)}, nil), time.Hour)
				fresh += 5000
			} else {
				count += 5000
			}
		}
		old.Last, young.Last = old.History.Newest(), young.History.Newest()
		if v := Evaluate(tokenRate, fleet(2, old, young), t0); math.Abs(v.Value-1000) > 1 {
			t.Errorf("%d s after it moved, 1000 a second are %v: %s", moved, v.Value, v.Reason)
		}
	}
}

// Replicas that start don't make a mean grow, or each that is ordered would order
// the next: 2 → 3 → 5 → 8 → 12.
func TestAMeanDoesNotRunAwayWhileReplicasStart(t *testing.T) {
	for _, how := range []policy.Aggregation{policy.ServiceAvg, policy.WindowedAvg} {
		for _, use := range []policy.Use{policy.AverageValue, policy.Value} {
			desired := int32(2)
			for range 5 {
				replicas := []sample.Replica{engines(1, waitingMetric, 14), engines(1, waitingMetric, 14)}
				for int32(len(replicas)) < desired {
					replicas = append(replicas, in(sample.Starting))
				}
				v := Evaluate(byHand(how, use), fleet(desired, replicas...), t0)
				h := hpa.For(byHand(how, use), fleet(desired, replicas...))
				desired = h.Replicas(v.Value)
			}
			if desired != 3 {
				t.Errorf("%s as %d: 14 on each of two, 10 wanted, comes to %d, want 3", how, use, desired)
			}
		}
	}
}

// What adding up and dividing leave is no reason to move: a gauge that stood at its
// threshold, read at uneven times, or the same share on each of three pods.
func TestRoundingMovesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		level := rapid.SampledFrom([]float64{.1, .3, .7, 1, 3, 10}).Draw(t, "level")
		replicas := make([]sample.Replica, rapid.IntRange(1, 12).Draw(t, "pods"))
		for i := range replicas {
			replicas[i] = in(sample.Serving)
			at := t0.Add(-2 * time.Minute)
			for at.Before(t0) {
				replicas[i].History.Add(sample.NewSample(at, []sample.Family{{Name: waitingMetric, Kind: sample.Gauge, Sum: level, Engines: 1}}, replicas[i].Last), time.Hour)
				replicas[i].Last = replicas[i].History.Newest()
				at = at.Add(time.Duration(rapid.IntRange(4900, 5100).Draw(t, "ms")) * time.Millisecond)
			}
		}
		m := policy.Metric{Name: waitingMetric, Kind: policy.Gauge, Up: level, Down: level, Window: 30 * time.Second}
		v := Evaluate(listOf(policy.And, m), fleet(int32(len(replicas)), replicas...), t0)
		if int(v.Replicas) != len(replicas) || v.Confidence != Measured {
			t.Fatalf("%d became %d, %s: %s", len(replicas), v.Replicas, v.Confidence, v.Reason)
		}
	})
}
