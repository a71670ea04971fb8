package decision

import (
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

const (
	step5    = 5 * time.Second
	ttft     = "vllm:time_to_first_token_seconds"
	promptsT = "vllm:prompt_tokens_total"
	kvUsage  = "vllm:kv_cache_usage_perc"
)

// diary is a pod's history in the making, a sample every 5 s.
type diary struct {
	h    sample.History
	now  time.Time
	keep time.Duration
	// start and restarts are the process's.
	start    float64
	restarts int32
}

func (d *diary) add(families ...sample.Family) *diary {
	s := sample.NewSample(d.now, families, d.h.Newest())
	s.ProcessStart, s.Restarts = d.start, d.restarts
	d.h.Add(s, d.keep)
	d.now = d.now.Add(step5)
	return d
}

func tokens(n float64) sample.Family {
	return sample.Family{Name: promptsT, Kind: sample.Counter, Sum: n, Engines: 1}
}

func kv(sum float64, engines int) sample.Family {
	return sample.Family{Name: kvUsage, Kind: sample.Gauge, Sum: sum, Engines: engines}
}

// latencies has that many observations up to 0.1 s, 1 s, 10 s and beyond.
func latencies(a, b, c, d, sum float64) sample.Family {
	return sample.Family{Name: ttft, Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{
		Le: []float64{.1, 1, 10, math.Inf(1)}, Cumulative: []float64{a, a + b, a + b + c, a + b + c + d}, Sum: sum,
	}}
}
