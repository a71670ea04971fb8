package vllm

import "time"

// Request is one completion on its way through an engine.
type Request struct {
	// Prompt and Output are token counts, both ≥ 1.
	Prompt, Output int

	arrival   time.Time
	scheduled time.Time // first time in a batch; zero before
	first     time.Time // first output token; zero before
	last      time.Time // latest output token
	finished  bool

	// computed counts the tokens whose KV entries are in the cache. A
	// preempted request starts over at 0.
	computed  int
	generated int
	blocks    int
	// chunk is what the iteration under way computes for this request.
	chunk int
	// preempted counts how often it was preempted since its newest token.
	preempted uint64
}

// goal is the number of tokens to be in the cache before the next output
// token can be sampled: the prompt and, after a preemption, what was
// generated already. The newest token's own entry is computed with the next.
func (r *Request) goal() int { return r.Prompt + r.generated }

// Engine is one vLLM engine core: a queue, a batch, a KV cache and the
// statistics that they leave. It is not safe for concurrent use.
type Engine struct {
	model Model
	stats stats

	clock   time.Time // all before it has been simulated
	end     time.Time // end of the iteration under way; zero when idle
	waiting []*Request
	running []*Request
	used    int // KV blocks
	// blocked says that the last iteration left requests waiting, for want
	// of a seat, of KV blocks or of token budget.
	blocked bool
	// left is how many the iteration under way left waiting.
	left int

	frozen bool
	pinned pin
	// benchmark, when not nil, is a closed loop of synthetic requests.
	benchmark *benchmark
}

// pin holds gauges fixed by a test; nil pointers are free.
type pin struct {
	waiting, running *int
	kvUsage          *float64
}

func (p pin) active() bool { return p.waiting != nil || p.running != nil || p.kvUsage != nil }

// benchmark is KAITO's start-up load: so many requests always in flight.
type benchmark struct {
	inFlight       int
	prompt, output int
}

// NewEngine returns an idle engine that starts at now.
func NewEngine(m Model, now time.Time) *Engine {
	return &Engine{model: m, stats: newStats(), clock: now}
}

// Submit hands a request to the engine at now. It returns nil if KAITO's guard
// refuses it, which a client sees as status 429.
func (e *Engine) Submit(now time.Time, prompt, output int) *Request {
	e.Advance(now)
	if e.excess() > e.model.MaxWaiting {
		e.stats.rejected++
		return nil
	}
	r := e.enqueue(max(prompt, 1), max(output, 1))
	e.Advance(now)
	return r
}

// excess counts the requests that will still wait after the next iteration
// began: what the guard looks at is a queue, not a batch being filled.
func (e *Engine) excess() int {
	if e.blocked {
		return len(e.waiting)
	}
	return len(e.waiting) - (e.model.MaxNumSeqs - len(e.running))
}

func (e *Engine) enqueue(prompt, output int) *Request {
	// A request that could never fit is cut, as vLLM cuts at max_model_len.
	room := e.model.KVBlocks*e.model.BlockSize - 1
	prompt = min(prompt, room-1)
	output = min(output, room-prompt)
	r := &Request{Prompt: prompt, Output: output, arrival: e.clock}
	e.waiting = append(e.waiting, r)
	return r
}

// Advance simulates until now. A time before the last one does nothing.
func (e *Engine) Advance(now time.Time) {
	switch {
	case !now.After(e.clock) && !e.startable():
		return
	case e.frozen:
		// The iteration under way ends that much later.
		if !e.end.IsZero() {
			e.end = e.end.Add(now.Sub(e.clock))
		}
		e.clock = now
		return
	case e.pinned.active():
		e.advancePinned(now)
		return
	}
	for {
		if e.end.IsZero() {
			if !e.schedule() {
				e.clock = later(e.clock, now)
				return
			}
		}
		if e.end.After(now) {
			e.clock = later(e.clock, now)
			return
		}
		e.clock = e.end
		e.finishIteration()
	}
}

// startable says whether an idle engine has got something to do.
func (e *Engine) startable() bool {
	return e.end.IsZero() && (len(e.waiting) > 0 || e.benchmark != nil)
}

// schedule fills the next batch and sets its end; false when there is nothing
// to do. The order is vLLM's: running requests first, then the queue.
func (e *Engine) schedule() bool {
	e.topUp()
	budget := e.model.MaxBatchedTokens
	prefill := 0
	preempted := false
	for i := 0; i < len(e.running); i++ { //nolint:intrange // preemption shortens running
		r := e.running[i]
		chunk := min(r.goal()-r.computed, budget)
		for !e.reserve(r, r.computed+chunk) {
			preempted = true
			if e.preemptLast() == r {
				chunk = 0
				break
			}
		}
		if chunk == 0 {
			// Preempted itself, or no token budget left in this iteration.
			r.chunk = 0
			continue
		}
		r.chunk = chunk
		budget -= chunk
		if chunk > 1 {
			prefill += chunk
		}
	}
	// vLLM admits nobody in an iteration that had to preempt.
	if !preempted {
		prefill += e.admit(&budget)
	}
	e.blocked = len(e.waiting) > 0
	if len(e.running) == 0 {
		return false
	}
	e.left = len(e.waiting)
	e.end = e.clock.Add(e.model.iteration(prefill, len(e.running)))
	return true
}

// admit moves requests from the queue into the batch while seats, blocks and
// budget last, and returns the prompt tokens it added.
func (e *Engine) admit(budget *int) int {
	prefill := 0
	for len(e.waiting) > 0 && len(e.running) < e.model.MaxNumSeqs && *budget > 0 {
		r := e.waiting[0]
		chunk := min(r.goal(), *budget)
		if !e.reserve(r, chunk) {
			break
		}
		e.waiting = e.waiting[1:]
		e.running = append(e.running, r)
		if r.scheduled.IsZero() {
			r.scheduled = e.clock
		}
		r.chunk = chunk
		*budget -= chunk
		prefill += chunk
	}
	return prefill
}

// reserve gives r the blocks for so many tokens; false if there are too few.
func (e *Engine) reserve(r *Request, tokens int) bool {
	need := (tokens+e.model.BlockSize-1)/e.model.BlockSize - r.blocks
	if need <= 0 {
		return true
	}
	if e.used+need > e.model.KVBlocks {
		return false
	}
	r.blocks += need
	e.used += need
	return true
}

// preemptLast throws the youngest request out of the batch, back to the head
// of the queue, and returns it.
func (e *Engine) preemptLast() *Request {
	r := e.running[len(e.running)-1]
	e.running = e.running[:len(e.running)-1]
	e.used -= r.blocks
	r.blocks, r.computed, r.chunk = 0, 0, 0
	r.preempted++
	e.waiting = append([]*Request{r}, e.waiting...)
	return r
}

// finishIteration books what the iteration that ends at e.clock produced.
func (e *Engine) finishIteration() {
	var tokens uint64
	kept := e.running[:0]
	for _, r := range e.running {
		r.computed += r.chunk
		if r.chunk > 0 && r.computed == r.goal() {
			tokens += e.emit(r)
		}
		r.chunk = 0
		if r.generated < r.Output {
			kept = append(kept, r)
			continue
		}
		e.used -= r.blocks
		r.finished = true
		e.stats.finish(r, e.clock)
	}
	clear(e.running[len(kept):]) // let the finished go
	e.running = kept
	e.end = time.Time{}
	if tokens > 0 { // vLLM counts batches of output
		e.stats.iterationTokens.observe(float64(tokens), 1)
	}
	e.stats.running, e.stats.waiting, e.stats.used = len(kept), e.left, e.used
}

// emit books one output token of r and returns the tokens it adds to the
// iteration's count: with its first, a request's whole prompt counts too.
func (e *Engine) emit(r *Request) uint64 {
	tokens := uint64(1)
	if r.first.IsZero() {
		r.first = e.clock
		tokens += uint64(r.Prompt)
		e.stats.firstToken(r)
	} else {
		e.stats.itl.observe(e.clock.Sub(r.last).Seconds(), 1)
	}
	r.last = e.clock
	r.generated++
	e.stats.generationTokens++
	// vLLM tells of a preemption with the first token after it.
	e.stats.preemptions += r.preempted
	r.preempted = 0
	return tokens
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
