package earlier

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

const (
	waiting   = "vllm:num_requests_waiting"
	queueTime = "vllm:request_queue_time_seconds"

	scrapeEvery = 5 * time.Second
	syncEvery   = 15 * time.Second
	most        = 5
)

var noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// load is what each replica has at a time: requests that wait, and how long those
// had been queued that ended since the last scrape; NaN if none ended.
type load func(at time.Duration) (waiting, queued float64)

// page is what a pod shows: one request ends between two scrapes, if any does.
type page struct{ counts, sum float64 }

// oracle is what an earlier version asked the HPA for: its value, as an AverageValue
// against the target. It is told what waits on each of n replicas now, and how long
// requests were queued in the mean, or the quantile, over its window.
type oracle struct {
	window   time.Duration
	quantile float64
	target   float64
	up, down simulate.Behaviour
	value    func(waiting, queued float64, n int32) float64
}

// formula is the one of 0.6: twice the replicas, half of them, or as many. All are
// Ready here, so that its gate is open.
func formula(waiting, queued float64, n int32) float64 {
	switch {
	case waiting > 10 && queued > 30:
		return 2 * float64(n)
	case waiting < 1 && queued < 1:
		return .5 * float64(n)
	}
	return float64(n)
}

func total(waiting, _ float64, n int32) float64 { return waiting * float64(n) }

// listOf06 are the defaults of 0.6, with a cooldown of the way down.
func listOf06(cooldown, window time.Duration, quantile float64) oracle {
	return oracle{
		window: window, quantile: quantile, target: 1, value: formula,
		up:   simulate.Behaviour{Window: time.Minute, Pods: 1, Period: 5 * time.Minute, Tolerance: .1},
		down: simulate.Behaviour{Window: cooldown, Pods: 1, Period: cooldown, Tolerance: .1},
	}
}

// thresholdOf05 is what KAITO documents of 0.3 to 0.5.
var thresholdOf05 = oracle{
	window: time.Minute, target: 10, value: total,
	up:   simulate.Behaviour{Window: time.Minute, Pods: 1, Period: 5 * time.Minute, Tolerance: .1},
	down: simulate.Behaviour{Window: 5 * time.Minute, Pods: 1, Period: 10 * time.Minute, Tolerance: .5},
}

var oracles = map[string]oracle{
	"inferenceset-0.5.yaml":            thresholdOf05,
	"modeldeployment-threshold.yaml":   thresholdOf05,
	"inferenceset-0.6.yaml":            listOf06(5*time.Minute, 5*time.Minute, 0),
	"inferenceset-0.6-everything.yaml": listOf06(10*time.Minute, 2*time.Minute, .5),
	"modeldeployment-list.yaml":        listOf06(5*time.Minute, 5*time.Minute, 0),
}

// fleet is read as both versions read it, and scaled by the HPA of one of them.
type fleet struct {
	desired  int32
	hpa      simulate.HPA
	lowered  time.Time
	replicas []sample.Replica
}

// sync is one of the HPA.
func (f *fleet) sync(value, target float64, now time.Time) {
	next := f.hpa.Sync(value, target, f.desired, now)
	if next < f.desired {
		f.lowered = now
	}
	f.desired = next
}

// reads adds a page to the histories of all replicas.
func (f *fleet) reads(p page, waits float64, now time.Time) {
	for i := range f.replicas {
		r := &f.replicas[i]
		r.Last = sample.NewSample(now, []sample.Family{
			{Name: waiting, Kind: sample.Gauge, Sum: waits, Engines: 1},
			{Name: policy.FamilyRunning, Kind: sample.Gauge, Engines: 1},
			{Name: policy.FamilyFinished, Kind: sample.Counter, Engines: 1},
			{Name: queueTime, Kind: sample.Histogram, Buckets: p.buckets(), Engines: 1},
		}, r.Last)
		r.History.Add(r.Last, time.Hour)
	}
}

func (p page) buckets() sample.Buckets {
	return sample.Buckets{Le: []float64{1e9, math.Inf(1)}, Cumulative: []float64{p.counts, p.counts}, Sum: p.sum}
}

func upgraded(desired int32, bounds policy.Bounds, p policy.Policy) *fleet {
	f := &fleet{desired: desired, hpa: simulate.HPA{Up: simulate.Paced(p.Up), Down: simulate.Paced(p.Down), Bounds: bounds}}
	for i := range most {
		f.replicas = append(f.replicas, sample.Replica{
			Pod: fmt.Sprintf("phi-4-%d-0", i), Phase: sample.Serving, Ordered: noon.Add(-2 * time.Hour),
			ReadySince: noon.Add(-2 * time.Hour), Expected: noon.Add(-time.Hour),
		})
	}
	return f
}

// snapshot is the fleet as it is judged.
func (f *fleet) snapshot() sample.Fleet {
	return sample.Fleet{
		Desired: f.desired, Replicas: f.replicas[:f.desired], Freshness: 3 * scrapeEvery, Interval: scrapeEvery,
		Lowered: f.lowered, Grace: 10 * time.Minute,
	}
}

// overWindow is how long those had been queued that ended within the window, NaN if
// none did. A quantile of equals is one of them.
func overWindow(all []float64, length time.Duration) float64 {
	sum, n := 0.0, 0.0
	for _, queued := range all[max(0, len(all)-int(length/scrapeEvery)):] {
		if !math.IsNaN(queued) {
			sum, n = sum+queued, n+1
		}
	}
	return sum / n
}

// play has both versions scale a fleet of five under a load for 45 minutes, and calls
// see with the replicas of each at every sync.
func play(t *testing.T, file string, under load, see func(at time.Duration, before, after int32)) {
	t.Helper()
	is := kaito.ReadInferenceSet(InferenceSet(t, file))
	p, _, err := policy.Parse(policy.Request{Name: is.Name, Annotations: is.Annotations})
	if err != nil {
		t.Fatal(err)
	}
	was := oracles[file]
	before := &fleet{desired: most, hpa: simulate.HPA{Up: was.up, Down: was.down, Bounds: p.Bounds}}
	after := upgraded(most, p.Bounds, p)
	trigger, scaler := p.Trigger(is.Namespace, is.Name), new(decision.Scaler)
	var queued []float64
	var now page
	for at := time.Duration(0); at <= 45*time.Minute; at += scrapeEvery {
		waits, seconds := under(at)
		if queued = append(queued, seconds); !math.IsNaN(seconds) {
			now.counts, now.sum = now.counts+1, now.sum+seconds
		}
		after.reads(now, waits, noon.Add(at))
		if at%syncEvery != 0 || at < 10*time.Minute {
			continue
		}
		moment := noon.Add(at)
		past := overWindow(queued, was.window)
		if math.IsNaN(past) {
			past = 0 // the sooner of what it may have taken idleness for
		}
		before.sync(was.value(waits, past, before.desired), was.target, moment)
		v := scaler.Recommend(trigger, after.snapshot(), moment)
		_, target := trigger.Published()
		if v.Confidence == decision.Unknown {
			t.Fatalf("%s: %s", at, v.Reason)
		}
		after.sync(v.Value, target, moment)
		see(at, before.desired, after.desired)
	}
}

// idle is from a time on, after one of load.
func idle(from time.Duration, waiting, queued float64) load {
	return func(at time.Duration) (float64, float64) {
		if at < from {
			return 12, 35
		}
		return waiting, queued
	}
}

// spikes are so high for so long in each period, on a low level.
func spikes(level, high float64, long, period time.Duration, queued float64) load {
	return func(at time.Duration) (float64, float64) {
		if at%period < long {
			return high, queued
		}
		return level, queued
	}
}

// loads are a grid of them, by name. Each falls below where both versions ask for
// more, so that replicas only ever go.
func loads() map[string]load {
	grid := map[string]load{}
	for _, waits := range []float64{0, .5, .99, 1, 2, 4.9, 5} {
		for _, queued := range []float64{math.NaN(), .5, .99, 1, 20} {
			for _, from := range []time.Duration{0, 13*time.Minute + 5*time.Second} {
				grid[fmt.Sprintf("%v waiting for %v s from %s on", waits, queued, from)] = idle(from, waits, queued)
			}
		}
	}
	for _, long := range []time.Duration{15 * time.Second, 45 * time.Second} {
		for _, period := range []time.Duration{time.Minute, 4 * time.Minute, 9 * time.Minute} {
			for _, high := range []float64{1, 3, 8} {
				grid[fmt.Sprintf("%v waiting for %s every %s", high, long, period)] = spikes(0, high, long, period, .5)
			}
		}
	}
	return grid
}

// Whatever the load does, an upgraded fleet has no replica less at any time than it
// would have had.
func TestAnUpgradedFleetShrinksNoSooner(t *testing.T) {
	for _, file := range InferenceSets(t) {
		t.Run(file, func(t *testing.T) {
			if _, there := oracles[file]; !there {
				t.Fatal("nobody knows what the earlier version did with it")
			}
			shrank := 0
			for name, under := range loads() {
				last := int32(most)
				play(t, file, under, func(at time.Duration, before, after int32) {
					if after < before {
						t.Fatalf("%s: %d replicas after %s, where the earlier version has %d", name, after, at, before)
					}
					last = before
				})
				if last < most {
					shrank++
				}
			}
			if shrank < 10 {
				t.Errorf("the earlier version shrinks under %d loads: this shows nothing", shrank)
			}
		})
	}
}

// Nor does it keep replicas for long that it would have let go: an idle fleet goes
// at the same pace.
func TestAnUpgradedFleetShrinksAtTheSamePace(t *testing.T) {
	for _, file := range InferenceSets(t) {
		t.Run(file, func(t *testing.T) {
			var went [2][most + 1]time.Duration
			play(t, file, idle(12*time.Minute, 0, math.NaN()), func(at time.Duration, before, after int32) {
				for i, n := range []int32{before, after} {
					if went[i][n] == 0 {
						went[i][n] = at
					}
				}
			})
			for n := range most {
				before, after := went[0][n], went[1][n]
				if (before == 0) != (after == 0) || after-before > 30*time.Second {
					t.Errorf("%d replicas after %s, where the earlier version has them after %s", n, after, before)
				}
			}
		})
	}
}
