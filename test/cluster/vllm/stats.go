package vllm

import "time"

// stats is what the metrics page shows of an engine.
type stats struct {
	// running, waiting and used KV blocks are as when the latest iteration ended: vLLM
	// tells of them once a step. A request that arrives during a step and gets a seat
	// in the next never shows as waiting, and an idle engine's first not until its
	// first step has ended.
	running, waiting, used int

	promptTokens, generationTokens        uint64
	finished, rejected                    uint64
	preemptions                           uint64
	promptLength, outputLength, maxOutput *histogram
	paramN, paramMaxTokens, prefillTokens *histogram
	iterationTokens                       *histogram
	ttft, itl, perToken                   *histogram
	e2e, queue, inference                 *histogram
	prefill, decode                       *histogram
	httpFine, httpCoarse                  *histogram
}

func newStats() stats {
	return stats{
		promptLength:    newHistogram(tokenBuckets),
		outputLength:    newHistogram(tokenBuckets),
		maxOutput:       newHistogram(tokenBuckets),
		paramN:          newHistogram(paramNBuckets),
		paramMaxTokens:  newHistogram(tokenBuckets),
		prefillTokens:   newHistogram(tokenBuckets),
		iterationTokens: newHistogram(iterationBuckets),
		ttft:            newHistogram(ttftBuckets),
		itl:             newHistogram(itlBuckets),
		perToken:        newHistogram(itlBuckets),
		e2e:             newHistogram(latencyBuckets),
		queue:           newHistogram(latencyBuckets),
		inference:       newHistogram(latencyBuckets),
		prefill:         newHistogram(latencyBuckets),
		decode:          newHistogram(latencyBuckets),
		httpFine:        newHistogram(httpFineBuckets),
		httpCoarse:      newHistogram(httpCoarseBuckets),
	}
}

func (s *stats) firstToken(r *Request) {
	s.promptTokens += uint64(r.Prompt)
	s.ttft.observe(r.first.Sub(r.arrival).Seconds(), 1)
}

// finish books a completed request. vLLM records all of these at the end, the
// queue time too: they are blind while an overload builds up.
func (s *stats) finish(r *Request, now time.Time) {
	s.finished++
	e2e := now.Sub(r.arrival).Seconds()
	decode := r.last.Sub(r.first).Seconds()
	s.promptLength.observe(float64(r.Prompt), 1)
	s.outputLength.observe(float64(r.Output), 1)
	s.maxOutput.observe(float64(r.Output), 1)
	s.paramN.observe(1, 1)
	s.paramMaxTokens.observe(float64(r.Output), 1)
	s.prefillTokens.observe(float64(r.Prompt), 1)
	s.e2e.observe(e2e, 1)
	s.queue.observe(r.scheduled.Sub(r.arrival).Seconds(), 1)
	s.inference.observe(r.last.Sub(r.scheduled).Seconds(), 1)
	s.prefill.observe(r.first.Sub(r.scheduled).Seconds(), 1)
	s.decode.observe(decode, 1)
	s.httpFine.observe(e2e, 1)
	s.httpCoarse.observe(e2e, 1)
	if r.Output > 1 {
		s.perToken.observe(decode/float64(r.Output-1), 1)
	}
}
