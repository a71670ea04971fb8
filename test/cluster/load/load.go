// Package load sends requests to an InferenceSet's replicas, as its clients
// would through a Service.
package load

import (
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Target takes requests: a simulated vLLM pod.
type Target interface {
	// Submit hands over a request of so many tokens; an error means that it
	// was refused.
	Submit(prompt, output int) error
	// Load is the number of requests in the target.
	Load() int
}

// Balancing is how requests are spread.
type Balancing int

const (
	// RoundRobin takes the targets in turn, as kube-proxy does on average.
	RoundRobin Balancing = iota
	// LeastLoaded takes the target with the fewest requests, as an inference
	// gateway would.
	LeastLoaded
)

// Tokens is a lognormal distribution of token counts.
type Tokens struct {
	// Mean is in tokens, ≥ 1.
	Mean float64
	// Sigma is the standard deviation of the logarithm; 0 makes every request
	// the same size. Chat traffic has about 0.8.
	Sigma float64
}

func (t Tokens) draw(r *rand.Rand) int {
	// exp(μ + σ²/2) is the mean of a lognormal.
	mu := math.Log(max(t.Mean, 1)) - t.Sigma*t.Sigma/2
	return max(int(math.Round(math.Exp(mu+t.Sigma*r.NormFloat64()))), 1)
}

// Options of a generator.
type Options struct {
	// Prompt and Output default to 200 tokens, sigma 0.
	Prompt, Output Tokens
	Balancing      Balancing
	// Seed makes a generator's requests repeatable.
	Seed uint64
}

// tick is how often arrivals are handed over: coarse enough to cost nothing,
// fine enough for queues that are looked at every second.
const tick = 50 * time.Millisecond

// Generator sends requests at a settable rate, with exponential gaps.
type Generator struct {
	options Options
	rate    atomic.Uint64 // math.Float64bits, requests per second

	sent, refused, unserved atomic.Uint64

	stop chan struct{}
	done sync.WaitGroup
	once sync.Once
}

// Start begins with rate 0. serving is asked for the targets before each batch
// of requests, so that the load follows the replicas.
func Start[T Target](serving func() []T, o Options) *Generator {
	if o.Prompt.Mean == 0 {
		o.Prompt.Mean = 200
	}
	if o.Output.Mean == 0 {
		o.Output.Mean = 200
	}
	g := &Generator{options: o, stop: make(chan struct{})}
	g.done.Go(func() {
		run(g, serving)
	})
	return g
}

// SetRate sets the mean number of requests per second, ≥ 0.
func (g *Generator) SetRate(rps float64) { g.rate.Store(math.Float64bits(max(rps, 0))) }

// Rate is the rate last set.
func (g *Generator) Rate() float64 { return math.Float64frombits(g.rate.Load()) }

// Stats counts requests since Start.
type Stats struct {
	// Sent were taken by a replica, Refused answered with 429 or not at all,
	// Unserved found no replica to go to.
	Sent, Refused, Unserved uint64
	// Cut are answers that a replica's end cut off, Lost those that went wrong
	// otherwise. Simulated pods have neither.
	Cut, Lost uint64
}

// Stats returns the counts so far.
func (g *Generator) Stats() Stats {
	return Stats{Sent: g.sent.Load(), Refused: g.refused.Load(), Unserved: g.unserved.Load()}
}

// Stop ends the load and joins; requests already sent are worked off.
func (g *Generator) Stop() {
	g.once.Do(func() { close(g.stop) })
	g.done.Wait()
}

func run[T Target](g *Generator, serving func() []T) {
	random := rand.New(rand.NewPCG(g.options.Seed, 0x6c6f6164))
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last := time.Now()
	// due is the number of mean gaps until the next arrival. Counting in gaps,
	// not in seconds, a change of rate takes effect at once.
	due := random.ExpFloat64()
	turn := 0
	for {
		select {
		case <-g.stop:
			return
		case <-ticker.C:
		}
		now := time.Now()
		due -= now.Sub(last).Seconds() * g.Rate()
		last = now
		if due > 0 {
			continue
		}
		targets := serving()
		for due <= 0 {
			due += random.ExpFloat64()
			g.send(pick(targets, g.options.Balancing, turn),
				g.options.Prompt.draw(random), g.options.Output.draw(random))
			turn++
		}
	}
}

var errNoTarget = errors.New("load: no replica serves")

// pick returns the next target's Submit.
func pick[T Target](targets []T, by Balancing, turn int) func(prompt, output int) error {
	if len(targets) == 0 {
		return func(int, int) error { return errNoTarget }
	}
	chosen := targets[turn%len(targets)]
	if by == LeastLoaded {
		for i := range targets {
			// Starting at turn, so that ties don't all go to the first.
			if t := targets[(turn+i)%len(targets)]; t.Load() < chosen.Load() {
				chosen = t
			}
		}
	}
	return chosen.Submit
}

func (g *Generator) send(submit func(prompt, output int) error, prompt, output int) {
	switch err := submit(prompt, output); {
	case errors.Is(err, errNoTarget):
		g.unserved.Add(1)
	case err != nil:
		g.refused.Add(1)
	default:
		g.sent.Add(1)
	}
}
