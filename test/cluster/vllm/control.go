package vllm

import (
	"slices"
	"time"
)

// SetBenchmark keeps inFlight synthetic requests in the engine from now on, as
// KAITO's start-up benchmark does. inFlight 0 ends it: what is under way is
// aborted, and the counters keep what was done.
func (e *Engine) SetBenchmark(now time.Time, inFlight, prompt, output int) {
	e.Advance(now)
	if inFlight == 0 {
		e.benchmark = nil
		e.Abort(now)
		return
	}
	e.benchmark = &benchmark{inFlight: inFlight, prompt: prompt, output: output}
	e.Advance(now)
}

// topUp feeds the benchmark's closed loop.
func (e *Engine) topUp() {
	if e.benchmark == nil {
		return
	}
	for len(e.waiting)+len(e.running) < e.benchmark.inFlight {
		e.enqueue(e.benchmark.prompt, e.benchmark.output)
	}
}

// Abort drops all requests, as when their clients went away. vLLM counts none of them
// as finished.
func (e *Engine) Abort(now time.Time) {
	e.Advance(now)
	for _, r := range e.running {
		r.finished = true
	}
	for _, r := range e.waiting {
		r.finished = true
	}
	e.running, e.waiting, e.used, e.end, e.blocked = nil, nil, 0, time.Time{}, false
	e.stats.running, e.stats.waiting, e.stats.used = 0, 0, 0
}

// Cancel drops a request whose client went away. Others of the iteration under way get
// their tokens at its end.
func (e *Engine) Cancel(now time.Time, r *Request) {
	e.Advance(now)
	if r.finished {
		return
	}
	r.finished = true
	is := func(other *Request) bool { return other == r }
	e.running, e.waiting = slices.DeleteFunc(e.running, is), slices.DeleteFunc(e.waiting, is)
	e.used -= r.blocks
	e.left = min(e.left, len(e.waiting))
}

// has tells whether the request is in the engine.
func (e *Engine) has(r *Request) bool {
	return slices.Contains(e.running, r) || slices.Contains(e.waiting, r)
}

// Freeze stops the engine, or lets it go on, at now. A frozen engine takes
// requests and its page keeps its gauges, but no iteration ends.
func (e *Engine) Freeze(now time.Time, frozen bool) {
	e.Advance(now)
	e.frozen = frozen
}

// advancePinned lets an engine with pinned gauges step on as one with so many
// sequences would, so that it doesn't look hung. Its real requests rest.
func (e *Engine) advancePinned(now time.Time) {
	before := e.clock
	if n := e.Running(); n == 0 {
		e.clock = later(e.clock, now)
	} else if now.After(e.clock) {
		step := e.model.iteration(0, n)
		steps := uint64(now.Sub(e.clock) / step)
		e.stats.generationTokens += steps * uint64(n)
		e.stats.itl.observe(step.Seconds(), steps*uint64(n))
		e.stats.iterationTokens.observe(float64(n), steps)
		e.clock = e.clock.Add(time.Duration(steps) * step)
	}
	if !e.end.IsZero() {
		e.end = e.end.Add(e.clock.Sub(before))
	}
}

// Running is the gauge of requests in the batch.
func (e *Engine) Running() int {
	switch {
	case e.pinned.running != nil:
		return *e.pinned.running
	case e.pinned.waiting != nil && *e.pinned.waiting > 0:
		// A queue stands only behind a full batch.
		return e.model.MaxNumSeqs
	case e.pinned.waiting != nil:
		return 0
	}
	return e.stats.running
}

// Waiting is the gauge of requests in the queue.
func (e *Engine) Waiting() int {
	switch {
	case e.pinned.waiting != nil:
		return *e.pinned.waiting
	case e.pinned.running != nil:
		return 0
	}
	return e.stats.waiting
}

// KVUsage is the used part of the KV cache, 0 to 1.
func (e *Engine) KVUsage() float64 {
	if e.pinned.kvUsage != nil {
		return *e.pinned.kvUsage
	}
	return float64(e.stats.used) / float64(e.model.KVBlocks)
}

// inFlight counts the requests in the engine, for balancers.
func (e *Engine) inFlight() int { return len(e.running) + len(e.waiting) }
