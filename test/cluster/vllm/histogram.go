package vllm

import "sort"

// histogram counts observations in buckets, as prometheus_client does.
type histogram struct {
	// bounds are upper bounds, ascending, without +Inf.
	bounds []float64
	// counts has one entry more than bounds, the last being +Inf. Not
	// cumulative: the page adds them up.
	counts []uint64
	sum    float64
}

func newHistogram(bounds []float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

// observe counts v n times.
func (h *histogram) observe(v float64, n uint64) {
	h.counts[sort.SearchFloat64s(h.bounds, v)] += n
	h.sum += v * float64(n)
}

func (h *histogram) count() uint64 {
	var n uint64
	for _, c := range h.counts {
		n += c
	}
	return n
}

// mean returns the mean of all observations, 0 without any.
func (h *histogram) mean() float64 {
	n := h.count()
	if n == 0 {
		return 0
	}
	return h.sum / float64(n)
}

// The buckets of vLLM's histograms.
var (
	tokenBuckets = []float64{
		1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000,
	}
	iterationBuckets = []float64{
		1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384,
	}
	paramNBuckets = []float64{1, 2, 5, 10, 20}
	ttftBuckets   = []float64{
		0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
		1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
	}
	itlBuckets = []float64{
		0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
		1, 2.5, 5, 7.5, 10, 20, 40, 80,
	}
	latencyBuckets = []float64{
		0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60,
		120, 240, 480, 960, 1920, 7680,
	}
	httpFineBuckets = []float64{
		0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5,
		3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60,
	}
	httpCoarseBuckets = []float64{0.1, 0.5, 1}
)

// add merges another histogram of the same buckets.
func (h *histogram) add(other *histogram) {
	for i, c := range other.counts {
		h.counts[i] += c
	}
	h.sum += other.sum
}
