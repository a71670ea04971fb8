package decision

import (
	"cmp"
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// worker is a pod that takes so many requests a second, of a thousand tokens in
// and a hundred out, and serves them all.
type worker struct {
	sample.Replica
	rps, running, waiting float64
	// base are the requests that it had served after so many seconds, from which
	// on it takes rps.
	base, since float64
	// spent is the time between tokens that they had by then.
	spent float64
	// cached is the share of the prompts' tokens that the prefix cache has, told by the
	// family cachedBy, which is FamilyCached if it is empty.
	cached   float64
	cachedBy string
	// slow is an engine whose every answer is later than within the SLO.
	silent, slow bool
}

func worksAt(rps float64) *worker {
	return &worker{Replica: in(sample.Serving), rps: rps, running: 5 + rps}
}

func (w *worker) page(at time.Time, seconds float64) *sample.Sample {
	done := w.base + w.rps*(seconds-w.since)
	bounds := []float64{.025, .05, .075, 2.5, math.Inf(1)}
	latencies := sample.Buckets{Le: bounds, Cumulative: []float64{done, done, done, done, done}, Sum: .02 * done}
	if w.slow {
		latencies = sample.Buckets{Le: bounds, Cumulative: []float64{0, 0, 0, done, done}, Sum: .08 * done}
	}
	page := sample.NewSample(at, []sample.Family{
		{Name: policy.FamilyRunning, Kind: sample.Gauge, Sum: w.running, Engines: 1},
		{Name: policy.FamilyWaiting, Kind: sample.Gauge, Sum: w.waiting, Engines: 1},
		{Name: policy.FamilyKV, Kind: sample.Gauge, Sum: .3, Engines: 1},
		{Name: policy.FamilyFinished, Kind: sample.Counter, Sum: done, Engines: 1},
		{Name: policy.FamilyPrompt, Kind: sample.Counter, Sum: 1000 * done, Engines: 1},
		{Name: cmp.Or(w.cachedBy, policy.FamilyCached), Kind: sample.Counter, Sum: 1000 * w.cached * done, Engines: 1},
		{Name: policy.FamilyGenerated, Kind: sample.Counter, Sum: 100 * done, Engines: 1},
		{Name: policy.FamilyTPOT, Kind: sample.Histogram, Buckets: latencies, Engines: 1},
		{Name: policy.FamilyTTFT, Kind: sample.Histogram, Buckets: latencies, Engines: 1},
		{Name: policy.FamilyITL, Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{
			Le: []float64{math.Inf(1)}, Cumulative: []float64{99 * done}, Sum: w.spends(seconds),
		}},
	}, w.Last)
	page.ProcessStart = 1
	return page
}

// spends is the time between tokens so far: steps of 10 ms, and 64 ms of the replica's
// time for a request.
func (w *worker) spends(seconds float64) float64 {
	between := .01 / max(.02, 1-.064*w.rps)
	if w.slow {
		between = .08
	}
	return w.spent + 99*between*w.rps*(seconds-w.since)
}
