// Package vllm simulates vLLM inference pods: an engine with continuous
// batching, the metrics page that a real one serves, and a pod that listens on
// a loopback address of its own.
//
// The engine knows no clock: every call carries the time, and the engine
// catches up to it. So an idle pod costs nothing, a loaded one costs only its
// iterations, and the same requests always give the same page.
package vllm

import "time"

// Model is the speed and the size of one engine.
//
// One iteration takes Base + PerPrefillToken·(prompt tokens in it) +
// PerSequence·(sequences in it): the usual linear model of a decoder, in which
// a batch costs little more than one sequence until it is large.
type Model struct {
	Name            string
	Base            time.Duration
	PerPrefillToken time.Duration
	PerSequence     time.Duration

	// MaxNumSeqs is the largest number of sequences in one iteration.
	MaxNumSeqs int
	// MaxBatchedTokens bounds the tokens of one iteration; longer prompts are
	// prefilled in chunks.
	MaxBatchedTokens int
	// KVBlocks and BlockSize are the KV cache: blocks, and tokens per block.
	KVBlocks, BlockSize int
	// MaxWaiting is where KAITO's guard begins to answer 429: once more than
	// this many requests wait.
	MaxWaiting int
}

// Phi4MiniA100 is phi-4-mini-instruct on one A100 of 80 GB.
//
// With 200 tokens in and 200 out, prefill takes one 200-token prompt per 200
// iterations of each sequence, that is 0.04 ms per sequence and iteration. So
// the inter-token latency is 7.8 + (0.10+0.04)·n ms at n running, and 200 in
// flight make about 27 requests per second, as measured on the real thing.
func Phi4MiniA100() Model {
	return Model{
		Name:             "phi-4-mini-instruct",
		Base:             7800 * time.Microsecond,
		PerPrefillToken:  40 * time.Microsecond,
		PerSequence:      100 * time.Microsecond,
		MaxNumSeqs:       256,
		MaxBatchedTokens: 8192,
		KVBlocks:         31949,
		BlockSize:        16,
		MaxWaiting:       256,
	}
}

// iteration returns how long one iteration takes.
func (m Model) iteration(prefill, sequences int) time.Duration {
	return m.Base + time.Duration(prefill)*m.PerPrefillToken + time.Duration(sequences)*m.PerSequence
}

// PeakTokensPerMinute is the throughput, prompt and output tokens together,
// that a saturated engine reaches on requests of this size. It is the figure
// that KAITO's start-up benchmark reports.
func (m Model) PeakTokensPerMinute(prompt, output int) float64 {
	seqs := min(m.MaxNumSeqs, m.KVBlocks*m.BlockSize/(prompt+output))
	// In the mean each sequence brings 1 output token and prompt/output prompt
	// tokens to each iteration.
	prefill := float64(seqs) * float64(prompt) / float64(output)
	perIteration := m.Base.Seconds() + prefill*m.PerPrefillToken.Seconds() + float64(seqs)*m.PerSequence.Seconds()
	return (float64(seqs) + prefill) / perIteration * 60
}
