package simulate

import (
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
)

// families are what a simulated page says, by the names of vLLM and KAITO.
var families = map[string]func(*engine) decision.Family{
	"vllm:num_requests_running": gauge(func(e *engine) float64 { return float64(e.admitted) }),
	"vllm:num_requests_waiting": gauge(func(e *engine) float64 { return float64(e.waiting.len()) }),
	"vllm:kv_cache_usage_perc": gauge(func(e *engine) float64 {
		return min(1, float64(e.kv)/float64(e.model.KVTokens))
	}),
	"vllm:prompt_tokens_total":       counter(func(c *counters) float64 { return c.prompt }),
	"vllm:generation_tokens_total":   counter(func(c *counters) float64 { return c.generated }),
	"vllm:request_success_total":     counter(func(c *counters) float64 { return c.success }),
	"kaito_ratelimit_rejected_total": counter(func(c *counters) float64 { return c.rejected }),
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

func gauge(value func(*engine) float64) func(*engine) decision.Family {
	return func(e *engine) decision.Family {
		return decision.Family{Kind: decision.Gauge, Sum: value(e), Engines: 1}
	}
}

func counter(value func(*counters) float64) func(*engine) decision.Family {
	return func(e *engine) decision.Family {
		return decision.Family{Kind: decision.Counter, Sum: value(&e.counters), Engines: 1}
	}
}

func histogram(le []float64, value func(*counters) ([]float64, float64)) func(*engine) decision.Family {
	return func(e *engine) decision.Family {
		counts, sum := value(&e.counters)
		cumulative := make([]float64, len(counts))
		total := 0.0
		for i, n := range counts {
			total += n
			cumulative[i] = total
		}
		return decision.Family{
			Kind: decision.Histogram, Engines: 1,
			Buckets: decision.Buckets{Le: le, Cumulative: cumulative, Sum: sum},
		}
	}
}

// read is what a scrape of the engine's page at that time yields of the
// families asked for. like is an earlier one, or nil.
func (e *engine) read(names []string, at time.Time, like *decision.Sample) *decision.Sample {
	e.page = e.page[:0]
	for _, name := range names {
		value, found := families[name]
		if !found {
			continue
		}
		family := value(e)
		family.Name = name
		e.page = append(e.page, family)
	}
	sample := decision.NewSample(at, e.page, like)
	sample.ProcessStart = 1
	return sample
}
