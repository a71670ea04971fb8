package simulate

import (
	"math"
	"testing"
	"time"
)

// What KAITO's benchmark measures is what the engine gives when more than it can take
// comes, whether requests or the KV cache limit what runs.
func TestThePeakIsWhatTheBenchmarkWouldMeasure(t *testing.T) {
	few := slowEngine()
	few.Name, few.KVTokens = "a cache for 5 of 16", 12_288
	for _, e := range append([]Engine{slowEngine(), few}, Engines...) {
		const length = 4 * time.Minute
		want := e.PeakTokensPerMinute()
		var requests []Request
		for at := 0.; at < length.Seconds(); at += 40 * 2304 / want { // half as many again as it can take
			requests = append(requests, Request{At: at, In: 2048, Out: 256})
		}
		s := serve(t, e, requests...)
		work := func() float64 {
			prompt, _ := s.family("vllm:prompt_tokens_total")
			generated, _ := s.family("vllm:generation_tokens_total")
			return prompt + generated
		}
		s.to(length.Seconds() / 2)
		before := work()
		s.to(length.Seconds())
		got := (work() - before) * 60 / (length.Seconds() / 2)
		if math.Abs(got/want-1) > .1 {
			t.Errorf("%s: %.0f tokens a minute by formula, %.0f when saturated", e.Name, want, got)
		}
	}
}
