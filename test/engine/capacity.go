package engine

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// sweptSLO is the one that engines were swept with. It lies within buckets of vLLM's
// histograms, and is judged at 2.5 s and 75 ms: no page tells what is between two bounds.
var sweptSLO = policy.Saturation{TTFT: 2 * time.Second, ITL: 60 * time.Millisecond}

// Misses is the share of requests that miss the swept SLO.
func Misses(results []load.Result) float64 {
	return load.Missed(results, sweptSLO.TTFT, sweptSLO.ITL)
}

// JudgedMisses is the share that misses it as far as pages tell.
func JudgedMisses(results []load.Result) float64 {
	at := sweptSLO.AtBounds()
	return load.Missed(results, at.TTFT, at.ITL)
}

// tolerated is how much greater than at little load the share of misses may be at a
// capacity.
const tolerated = 0.01

// Capacity is the rate at which one point more of the requests miss the SLO than at the
// first rate, between those that were played; NaN if it is beyond.
func Capacity(rates, missed []float64) float64 {
	limit := missed[0] + tolerated
	for i := 1; i < len(rates); i++ {
		if missed[i] >= limit {
			below, above := missed[i-1], missed[i]
			return rates[i-1] + (rates[i]-rates[i-1])*(limit-below)/(above-below)
		}
	}
	return math.NaN()
}

// SweptRates are in requests a second: little load, and those between which one point more
// of the slow GPU's requests misses the SLO. JudgedRates are those for the SLO as it is
// judged.
var (
	SweptRates  = []float64{0.25, 1.25, 1.5}
	JudgedRates = []float64{0.25, 2, 2.5}
)

// SimulatedCapacities are those of a simulated engine, with so many requests at each rate:
// by the SLO, and by the SLO as it is judged.
func SimulatedCapacities(ctx context.Context, physics simulate.Engine, requests float64) (bySLO, judged float64, err error) {
	of := func(rates []float64, misses func([]load.Result) float64) float64 {
		var shares []float64
		for _, rate := range rates {
			results, failed := Simulated(ctx, physics, load.Poisson(rate, duration(requests/rate), 200, 60, 11))
			err = errors.Join(err, failed)
			shares = append(shares, misses(results))
		}
		return Capacity(rates, shares)
	}
	return of(SweptRates, Misses), of(JudgedRates, JudgedMisses), err
}

// ScrapeInterval is how often the scaler reads a page by default.
const ScrapeInterval = 5 * time.Second

// EvaluationInterval is how often the HPA asks.
const EvaluationInterval = 15 * time.Second

// OrdinaryRate is a load that a replica meets, in requests a second.
const OrdinaryRate = 0.8

// OrdinaryLoad are requests at that rate, the same ones each time.
func OrdinaryLoad(length time.Duration) []load.Request {
	return load.Poisson(OrdinaryRate, length, 200, 60, 7)
}
