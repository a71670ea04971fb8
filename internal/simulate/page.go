package simulate

import (
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// page is an engine's metrics page.
type page struct {
	running, waiting, usage float64
	counters                counters
	// families is what a scrape found, from scrape to scrape.
	families []sample.Family
}

// counters are those of vLLM's page, since the process began.
type counters struct {
	prompt, generated, success, rejected, steps float64
	// queries are prompt tokens that were looked up in the prefix cache, cached those
	// that it had, and skipped those of prompts that have their first token.
	queries, cached, skipped, preemptions float64
	// tokenTime is the sum of all inter-token latencies.
	tokenTime float64
	ttft      [len(ttftBounds) + 1]float64
	itl       [len(tokenBounds) + 1]float64
	tpot      [len(tokenBounds) + 1]float64
	queued    [len(secondBounds) + 1]float64
	ttftSum   float64
	tpotSum   float64
	queuedSum float64
}

// The buckets of vLLM's histograms.
var (
	ttftBounds   = policy.TTFTBounds
	tokenBounds  = policy.TPOTBounds
	secondBounds = [...]float64{
		.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
	}
)

func bucket(bounds []float64, x float64) int {
	for i, b := range bounds {
		if x <= b {
			return i
		}
	}
	return len(bounds)
}

// families are what a simulated page says, by the names of vLLM and KAITO.
var families = map[string]func(*page) sample.Family{
	"vllm:num_requests_running":       gauge(func(p *page) float64 { return p.running }),
	"vllm:num_requests_waiting":       gauge(func(p *page) float64 { return p.waiting }),
	"vllm:kv_cache_usage_perc":        gauge(func(p *page) float64 { return p.usage }),
	"vllm:num_preemptions_total":      counter(func(c *counters) float64 { return c.preemptions }),
	"vllm:prefix_cache_queries_total": counter(func(c *counters) float64 { return c.queries }),
	"vllm:prefix_cache_hits_total":    counter(func(c *counters) float64 { return c.cached }),
	"vllm:prompt_tokens_cached_total": counter(func(c *counters) float64 { return c.skipped }),
	"vllm:prompt_tokens_total":        counter(func(c *counters) float64 { return c.prompt }),
	"vllm:generation_tokens_total":    counter(func(c *counters) float64 { return c.generated }),
	"vllm:request_success_total":      counter(func(c *counters) float64 { return c.success }),
	"kaito_ratelimit_rejected_total":  counter(func(c *counters) float64 { return c.rejected }),
	"vllm:time_to_first_token_seconds": histogram(ttftLe, func(c *counters) ([]float64, float64) {
		return c.ttft[:], c.ttftSum
	}),
	"vllm:inter_token_latency_seconds": histogram(tokenLe, func(c *counters) ([]float64, float64) {
		return c.itl[:], c.tokenTime
	}),
	"vllm:request_time_per_output_token_seconds": histogram(tokenLe, func(c *counters) ([]float64, float64) {
		return c.tpot[:], c.tpotSum
	}),
	// Of iterations the number alone is simulated, not their sizes.
	"vllm:iteration_tokens_total": histogram([]float64{math.Inf(1)}, func(c *counters) ([]float64, float64) {
		return []float64{c.steps}, c.prompt + c.generated
	}),
	"vllm:request_queue_time_seconds": histogram(secondLe, func(c *counters) ([]float64, float64) {
		return c.queued[:], c.queuedSum
	}),
}

var (
	ttftLe   = append(ttftBounds[:len(ttftBounds):len(ttftBounds)], math.Inf(1))
	tokenLe  = append(tokenBounds[:len(tokenBounds):len(tokenBounds)], math.Inf(1))
	secondLe = append(secondBounds[:len(secondBounds):len(secondBounds)], math.Inf(1))
)

func gauge(value func(*page) float64) func(*page) sample.Family {
	return func(p *page) sample.Family {
		return sample.Family{Kind: sample.Gauge, Sum: value(p), Engines: 1}
	}
}

func counter(value func(*counters) float64) func(*page) sample.Family {
	return func(p *page) sample.Family {
		return sample.Family{Kind: sample.Counter, Sum: value(&p.counters), Engines: 1}
	}
}

func histogram(le []float64, value func(*counters) ([]float64, float64)) func(*page) sample.Family {
	return func(p *page) sample.Family {
		counts, sum := value(&p.counters)
		cumulative := make([]float64, len(counts))
		total := 0.0
		for i, n := range counts {
			total += n
			cumulative[i] = total
		}
		return sample.Family{
			Kind: sample.Histogram, Engines: 1,
			Buckets: sample.Buckets{Le: le, Cumulative: cumulative, Sum: sum},
		}
	}
}

func (p *page) read(names []string, at time.Time, like *sample.Sample) *sample.Sample {
	p.families = p.families[:0]
	for _, name := range names {
		value, found := families[name]
		if !found {
			continue
		}
		family := value(p)
		family.Name = name
		p.families = append(p.families, family)
	}
	sample := sample.NewSample(at, p.families, like)
	sample.ProcessStart = 1
	return sample
}
