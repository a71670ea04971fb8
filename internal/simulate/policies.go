package simulate

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Static keeps n replicas.
func Static(name string, n int32) Policy {
	return Policy{Name: name, New: func(Setting) (Scaler, error) {
		return Scaler{Plan: func(time.Duration) int32 { return n }}, nil
	}}
}

// Annotated is what an InferenceSet's annotations ask for, decided by the code
// that answers KEDA.
func Annotated(name string, annotations map[string]string) Policy {
	return Policy{Name: name, New: func(Setting) (Scaler, error) {
		p, _, err := policy.Parse(policy.Request{Annotations: annotations})
		if err != nil {
			return Scaler{}, err
		}
		trigger := p.Trigger("default", "simulated")
		reading := trigger.Reading()
		_, target := trigger.Published()
		scaler := new(decision.Scaler)
		return Scaler{
			Families: reading.Families, Window: reading.Window, Up: Paced(p.Up), Down: Paced(p.Down),
			WhenAsked: trigger.Learned() == nil,
			Judge: func(fleet sample.Fleet, now time.Time) Call {
				v := scaler.Recommend(trigger, fleet, now)
				return Call{Known: v.Confidence != decision.Unknown, Total: v.Value, Target: target, Reason: v.Reason}
			},
		}, nil
	}}
}

// Automatic is what annotations without a threshold ask for.
func Automatic(name string) Policy { return bounded(name, nil) }

// GuardedQueue is the same with its guard, as it is by default: it releases no
// replica which the load needs.
func GuardedQueue(name string, threshold int) Policy {
	return bounded(name, map[string]string{"threshold": strconv.Itoa(threshold), "downguard": "true"})
}

// QueueTarget is KAITO's annotation for one metric as KAITO documents it: with a
// threshold, and without the guard that this project gives it.
func QueueTarget(name string, threshold int) Policy {
	return bounded(name, map[string]string{"threshold": strconv.Itoa(threshold), "downguard": "false"})
}

// MetricList is KAITO's documented default for a list: one replica more when
// more requests wait on each than up says and the mean of their time in the
// queue is over seconds, one less when both are at 1 at most.
func MetricList(name string, up, seconds float64) Policy {
	const list = `
- {name: "vllm:num_requests_waiting", type: gauge, upthreshold: %g, downthreshold: 1}
- {name: "vllm:request_queue_time_seconds", type: histogram, upthreshold: %g, downthreshold: 1}`
	return bounded(name, map[string]string{"metrics": fmt.Sprintf(list, up, seconds), "combinepolicy": "AND"})
}

// bounded are annotations with the world's bounds.
func bounded(name string, keys map[string]string) Policy {
	return Policy{Name: name, New: func(s Setting) (Scaler, error) {
		annotations := map[string]string{
			policy.Prefix + "auto-provision": "true",
			policy.Prefix + "min-replicas":   strconv.Itoa(int(s.Bounds.Min)),
			policy.Prefix + "max-replicas":   strconv.Itoa(int(s.Bounds.Max)),
		}
		// What needs no threshold, and the guard, go by what is promised.
		if len(keys) == 0 || keys["downguard"] == "true" {
			annotations[policy.Prefix+"ttft-slo"] = seconds(s.SLO.TTFT).String()
			annotations[policy.Prefix+"itl-slo"] = seconds(s.SLO.ITL).String()
		}
		for key, value := range keys {
			annotations[policy.Prefix+key] = value
		}
		return Annotated(name, annotations).New(s)
	}}
}

const (
	metricRunning = "vllm:num_requests_running"
	metricWaiting = "vllm:num_requests_waiting"
	metricKV      = "vllm:kv_cache_usage_perc"
)

// Concurrency is Knative's autoscaler on requests in flight: the mean over a
// stable window of 60 s, and in panic, once that over 6 s asks for twice the
// replicas, the greater of the two without ever going down for 60 s. Target is
// requests in flight for one replica at 100 %; it is aimed at 70 % of it.
func Concurrency(name string, target float64) Policy {
	return Policy{Name: name, New: func(Setting) (Scaler, error) {
		k := &knative{target: .7 * target}
		return Scaler{
			Families: []string{metricRunning, metricWaiting}, Window: 2 * time.Minute,
			Up: Free(), Down: Free(), Judge: k.judge, WhenAsked: true,
		}, nil
	}}
}

type knative struct {
	target float64
	// panicked is when it last asked for twice the replicas, most is the most
	// that it has asked for since.
	panicked time.Time
	most     float64
}

func (k *knative) judge(fleet sample.Fleet, now time.Time) Call {
	serving := 0
	var stable, short float64
	for _, r := range fleet.Replicas {
		if r.Phase != sample.Serving || r.Last == nil {
			continue
		}
		serving++
		for _, metric := range []string{metricRunning, metricWaiting} {
			if l, ok := r.History.Level(metric, sample.Window{Now: now, Length: time.Minute, Interval: scrapeInterval}); ok {
				stable += l.Value
			}
			if l, ok := r.History.Level(metric, sample.Window{Now: now, Length: 6 * time.Second, Interval: scrapeInterval}); ok {
				short += l.Value
			}
		}
	}
	if serving == 0 {
		return Call{}
	}
	if short/k.target >= 2*float64(serving) {
		k.panicked = now
	}
	total := stable / k.target
	if now.Sub(k.panicked) < time.Minute {
		k.most = max(k.most, total, short/k.target, float64(fleet.Desired))
		total = k.most
	} else {
		k.most = 0
	}
	return Call{Known: true, Total: total, Target: 1}
}

// Spare is llm-d's rule: a replica is saturated at a KV usage of kv or with
// queue requests waiting. One replica more when what is left to that, as a mean
// over the others, is under .1 of KV or 3 in the queue; one less when it would
// still be above with the load on one replica less.
func Spare(name string, kv, queue float64) Policy {
	return Policy{Name: name, New: func(Setting) (Scaler, error) {
		return Scaler{
			Families: []string{metricKV, metricWaiting}, Window: time.Minute,
			Up:    Behaviour{Pods: 1, Period: time.Minute},
			Down:  Behaviour{Window: 5 * time.Minute, Pods: 1, Period: 2 * time.Minute},
			Judge: func(fleet sample.Fleet, now time.Time) Call { return spare(fleet, now, kv, queue) },
		}, nil
	}}
}

func spare(fleet sample.Fleet, now time.Time, kv, queue float64) Call {
	serving, open, usedKV, waits := unsaturated(fleet, now, kv, queue)
	if serving == 0 {
		return Call{}
	}
	n, step := float64(serving), float64(fleet.Desired)
	left := func(load float64) bool {
		return open > 0 && kv-usedKV/open*load >= .1 && queue-waits/open*load >= 3
	}
	switch {
	case serving < fleet.Desired: // those on their way are waited for
	case !left(1):
		step++
	case n > 1 && open == n && left(n/(n-1)):
		step--
	}
	return Call{Known: true, Total: step, Target: 1}
}

// unsaturated adds up the replicas that are open to more.
func unsaturated(fleet sample.Fleet, now time.Time, kv, queue float64) (serving int32, open, usedKV, waits float64) {
	w := sample.Window{Now: now, Length: time.Minute, Interval: scrapeInterval}
	for _, r := range fleet.Replicas {
		if r.Phase != sample.Serving {
			continue
		}
		k, ok1 := r.History.Level(metricKV, w)
		q, ok2 := r.History.Level(metricWaiting, w)
		if !ok1 || !ok2 {
			continue
		}
		serving++
		if k.Value < kv && q.Value < queue {
			open++
			usedKV += k.Value
			waits += q.Value
		}
	}
	return serving, open, usedKV, waits
}

// Oracle knows the load: replicas serve exactly while the work of the minutes
// around needs them, each started in time, and are kept over a pause that is
// shorter than a cold start.
type Oracle struct {
	// Aim is the share of the SLO's capacity that it fills them to.
	Aim float64
	// Mean is the time over which work is averaged, Reach how far to both sides
	// the greatest such mean counts. Short ones follow a load closely, long ones
	// break fewer requests by releasing replicas.
	Mean, Reach time.Duration
}

// Policy is the oracle of one load.
func (o Oracle) Policy(name string, load *Load) Policy {
	return Policy{Name: name, New: func(s Setting) (Scaler, error) {
		plan := o.plan(load, s)
		return Scaler{Plan: func(t time.Duration) int32 { return plan[min(int(t/syncPeriod), len(plan)-1)] }}, nil
	}}
}

func (o Oracle) plan(load *Load, s Setting) []int32 {
	slots := int(load.Length/syncPeriod) + 1
	// sums[i] is the work of all slots before i.
	sums := make([]float64, slots+1)
	for _, r := range load.Requests {
		sums[min(int(r.At/syncPeriod.Seconds()), slots-1)+1] += s.Engine.Cost(float64(r.In), float64(r.Out))
	}
	for i := range slots {
		sums[i+1] += sums[i]
	}
	span, reach := max(1, int(o.Mean/syncPeriod)), int(o.Reach/syncPeriod)
	limit := (1 - s.Engine.Idle(s.SLO.ITL)) * float64(max(1, s.EnginesPerPod)) * o.Aim * syncPeriod.Seconds()
	need := make([]int32, slots)
	for i := range need {
		most := 0.0
		for j := max(0, i-reach); j <= min(slots-1, i+reach); j++ {
			lo := max(0, j-span/2)
			hi := min(slots, lo+span)
			most = max(most, (sums[hi]-sums[lo])/float64(hi-lo))
		}
		need[i] = min(max(s.Bounds.Min, int32(most/limit)+1), s.Bounds.Max)
	}
	return bridge(need, int(s.ColdStart/syncPeriod))
}

// bridge keeps each replica over a pause of up to so many slots: starting
// another would cost as much.
func bridge(need []int32, pause int) []int32 {
	kept := slices.Clone(need)
	for level := int32(1); level <= slices.Max(need); level++ {
		last := -1
		for i, n := range need {
			if n < level {
				continue
			}
			if last >= 0 && i-last <= pause {
				for j := last + 1; j < i; j++ {
					kept[j] = max(kept[j], level)
				}
			}
			last = i
		}
	}
	return kept
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
