package load

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Flow sends requests with exponential gaps at a rate that can be changed.
type Flow struct {
	client         Client
	prompt, output int
	rate           atomic.Uint64 // math.Float64bits, requests a second
	cancel         context.CancelFunc
	done           sync.WaitGroup

	mu      sync.Mutex
	results []Result // guarded by mu; of the requests that have ended
}

// flowTick is how often arrivals are sent: fine beside a first token's time.
const flowTick = 20 * time.Millisecond

// Flow begins with rate 0. Token counts are exponential with those means, as
// Poisson's. Whoever starts it stops it.
func (c Client) Flow(prompt, output int) *Flow {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Flow{client: c, prompt: prompt, output: output, cancel: cancel}
	f.done.Go(func() { f.run(ctx) })
	return f
}

// SetRate sets the mean number of requests a second, ≥ 0.
func (f *Flow) SetRate(rate float64) { f.rate.Store(math.Float64bits(max(rate, 0))) }

// Rate is the rate last set.
func (f *Flow) Rate() float64 { return math.Float64frombits(f.rate.Load()) }

// Results are those of the requests that have ended, in the order of their ends.
func (f *Flow) Results() []Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.results)
}

// Stop ends the load. Requests in flight are cancelled.
func (f *Flow) Stop() {
	f.cancel()
	f.done.Wait()
}

func (f *Flow) run(ctx context.Context) {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	var clients sync.WaitGroup
	defer clients.Wait()
	random := rand.New(rand.NewPCG(f.client.Seed, 0x666c6f77))
	ticker := time.NewTicker(flowTick)
	defer ticker.Stop()
	begin := time.Now()
	last, number := begin, 0
	// due is the number of mean gaps until the next arrival: counted so, a change of
	// rate takes effect at once.
	due := random.ExpFloat64()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		due -= now.Sub(last).Seconds() * f.Rate()
		last = now
		for ; due <= 0; due += random.ExpFloat64() {
			r := Request{At: now.Sub(begin), Prompt: draw(random, f.prompt), Output: draw(random, f.output)}
			n := number
			number++
			clients.Go(func() { f.send(ctx, transport, begin, r, n) })
		}
	}
}

func (f *Flow) send(ctx context.Context, transport http.RoundTripper, begin time.Time, r Request, number int) {
	result := Result{Request: r}
	s := sender{Client: f.client, http: transport, number: number, result: &result}
	s.send(ctx, begin)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.results = append(f.results, result)
}
