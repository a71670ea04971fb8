//go:build engines

package scrape

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// capacityVar is how many minutes each rate is played. The test takes a few more, and is
// played by hand.
const capacityVar = "CAPACITY_MINUTES"

// sweptRates are in requests a second, from little load on. ordinaryRate is a load that
// automatic mode meets on a replica.
var sweptRates = []float64{0.25, 1, 1.25, 1.5, 2}

const ordinaryRate = 0.8

// One engine's capacity is the rate at which one point more of the requests miss the SLO
// than at little load. Real engines and simulated ones get the same requests, and
// automatic mode reads one with an ordinary load beside them.
func TestCapacityByHandOfALiveEngine(t *testing.T) {
	minutes, err := strconv.Atoi(os.Getenv(capacityVar))
	if err != nil {
		t.Skip("played by hand: " + capacityVar + " isn't set")
	}
	physics, length := engine.SlowGPU(), time.Duration(minutes)*time.Minute
	engines := engine.SeveralForTest(t, slices.Repeat([]engine.Options{{Physics: physics}}, len(sweptRates)+1)...)
	swept := make([][]load.Result, len(sweptRates))
	requests := make([][]load.Request, len(sweptRates))
	ordinary := load.Poisson(ordinaryRate, length, 200, 60, 7)
	learns := newLearner(t)
	engine.Measured(t, func() {
		var all sync.WaitGroup
		for i, rate := range sweptRates {
			requests[i] = load.Poisson(rate, length, 200, 60, uint64(100*rate))
			all.Go(func() {
				client := load.Client{Model: engine.ModelName, Pick: engines[i].URL, Seed: uint64(i)}
				swept[i] = client.Run(t.Context(), requests[i])
			})
		}
		l := &live{Engine: engines[len(sweptRates)], t: t}
		all.Go(func() { learns.watch(l, length) })
		l.send(1, ordinary)()
		all.Wait()
	})
	var actual, also []float64
	for i, rate := range sweptRates {
		simulated, err := engine.Simulated(t.Context(), physics, requests[i])
		if err != nil {
			t.Fatal(err)
		}
		actual, also = append(actual, missed(swept[i])), append(also, missed(simulated))
		t.Logf("%v/s: %d requests, real ones missed %.2f %%, simulated ones %.2f %%", rate, len(simulated), 100*actual[i], 100*also[i])
	}
	t.Logf("on these requests the capacity is %.2f/s by the real engines, %.2f/s by the simulated ones", capacity(sweptRates, actual), capacity(sweptRates, also))
	long := longSweep(t)
	t.Logf("by 100 000 simulated requests a rate it is %.2f/s", long)
	simulatedLearner := newLearner(t)
	simulatedLearner.play(t, ordinary)
	for name, l := range map[string]*learner{"real": learns, "simulated": simulatedLearner} {
		t.Logf("of the %s engine automatic mode has learned %.2f/s with KAITO's benchmark, %.2f/s without", name, l.capacity(ordinary, 0), l.capacity(ordinary, 1))
	}
	fmt.Printf("figure engine_capacity_error %.3f\n", math.Abs(learns.capacity(ordinary, 0)/long-1))
}

func missed(results []load.Result) float64 {
	return load.Missed(results, policy.DefaultTTFT, policy.DefaultITL)
}

// capacity is the rate at which the share of missed requests is a point over that at the
// first rate, between those that were played; NaN if it is beyond.
func capacity(rates, missed []float64) float64 {
	limit := missed[0] + 0.01
	for i := 1; i < len(rates); i++ {
		if missed[i] >= limit {
			below, above := missed[i-1], missed[i]
			return rates[i-1] + (rates[i]-rates[i-1])*(limit-below)/(above-below)
		}
	}
	return math.NaN()
}

// longSweep is the capacity without the luck of few requests.
func longSweep(t *testing.T) float64 {
	t.Helper()
	rates := []float64{0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2}
	shares := make([]float64, len(rates))
	for i, rate := range rates {
		const requests = 100_000
		simulated, err := engine.Simulated(t.Context(), engine.SlowGPU(),
			load.Poisson(rate, time.Duration(requests/rate*float64(time.Second)), 200, 60, 11))
		if err != nil {
			t.Fatal(err)
		}
		shares[i] = missed(simulated)
	}
	return capacity(rates, shares)
}

// learner is automatic mode at a replica, with the peak that KAITO's benchmark found, and
// without.
type learner struct {
	trigger policy.Trigger
	minds   [2]decision.Mind
	// demand is in replicas, every judged seconds.
	demand [2][]float64
}

// judged is how often the HPA asks, scraped how often a page is read.
const judged, scraped = 15 * time.Second, 5 * time.Second

func newLearner(t *testing.T) *learner {
	t.Helper()
	p, _, err := policy.Parse(policy.Request{Annotations: map[string]string{
		policy.Prefix + "auto-provision": "true", policy.Prefix + "max-replicas": "10",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return &learner{trigger: p.Trigger("default", "engine")}
}

func (l *learner) judge(fleet sample.Fleet, now time.Time) {
	for i := range l.minds {
		if i == 1 {
			fleet.PeakTokensPerMinute = 0
		}
		v := l.minds[i].Evaluate(l.trigger, fleet, now)
		demand := math.NaN()
		if v.Load != nil {
			demand = v.Load.Demand
		}
		l.demand[i] = append(l.demand[i], demand)
	}
}

// watch reads a real engine's page for a time.
func (l *learner) watch(e *live, length time.Duration) {
	reading := l.trigger.Reading()
	var history sample.History
	began := time.Now()
	ticks := time.NewTicker(scraped)
	defer ticks.Stop()
	for n := 1; time.Duration(n)*scraped <= length; n++ {
		<-ticks.C
		text, err := e.page(e.t.Context())
		if err != nil {
			e.t.Error(err)
			continue
		}
		now := time.Now()
		d := &decoder{}
		d.reset(newSelector(reading.Families, reading.Limits))
		if f := d.readLines(strings.NewReader(text), make([]byte, smallChunk), newChunks(1), 8<<20); f != nil {
			e.t.Error(f)
			return
		}
		page, failure := d.decode(now, history.Newest())
		if failure != nil {
			e.t.Error(failure)
			return
		}
		history.Add(page.sample, reading.Window)
		if time.Duration(n)*scraped%judged != 0 {
			continue
		}
		physics := engine.SlowGPU()
		l.judge(sample.Fleet{
			Desired: 1, Freshness: 3 * scraped, Interval: scraped, Grace: 10 * time.Minute,
			PeakTokensPerMinute: physics.PeakTokensPerMinute(),
			Replicas: []sample.Replica{{
				Pod: "engine-0", Phase: sample.Serving, Ordered: began, Expected: began, ReadySince: began,
				History: history, Last: history.Newest(),
			}},
		}, now)
	}
}

// play reads a simulated engine's page while it gets these requests.
func (l *learner) play(t *testing.T, requests []load.Request) {
	t.Helper()
	reading := l.trigger.Reading()
	if err := engine.Watched(t.Context(), engine.SlowGPU(), requests, reading.Families, reading.Window, l.judge); err != nil {
		t.Fatal(err)
	}
}

// capacity is what a replica is taken to serve, by the last five minutes of the load.
func (l *learner) capacity(requests []load.Request, mind int) float64 {
	end := requests[len(requests)-1].At
	from := end - 5*time.Minute
	came, demand, n := 0.0, 0.0, 0.0
	for _, r := range requests {
		if r.At > from {
			came++
		}
	}
	for i, d := range l.demand[mind] {
		if at := time.Duration(i+1) * judged; at > from && at <= end && !math.IsNaN(d) {
			demand += d
			n++
		}
	}
	return came / (5 * 60) / (demand / n)
}
