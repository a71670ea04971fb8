// Package simulate plays a load against a fleet of inference replicas that a
// scaling policy sizes, and scores what came of it. The policies are the ones
// that answer KEDA: they see readings of simulated pods, never the truth. It is
// pure: the same load, policy and seed come to the same result.
package simulate

import (
	"math"
	"slices"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
)

// paces are how fast a model's batch goes, by how many run and whether there is
// something to prefill: a division and a bucket for each event, worked out once.
type paces struct {
	model *Engine
	// chunk is the model's, perChunk 1 ÷ it.
	chunk, perChunk float64
	plain, prefills []pace
}

type pace struct {
	// iteration is its time in seconds, speed 1 ÷ it.
	iteration, speed float64
	// bucket is where that time lies in tokenBounds.
	bucket int
}

func pacesOf(model *Engine) *paces {
	p := &paces{model: model, chunk: float64(model.Chunk), perChunk: 1 / float64(model.Chunk)}
	of := func(iteration float64) pace {
		speed := 1 / iteration
		return pace{iteration, speed, bucket(tokenBounds[:], 1/speed)}
	}
	for n := range model.MaxSeqs + 1 {
		p.plain = append(p.plain, of(model.step(n)))
		p.prefills = append(p.prefills, of(model.step(n)+model.Beta*float64(model.Chunk)))
	}
	return p
}

// engine is one replica at work. Between arrivals, first tokens and last tokens
// an iteration's length is constant, so it is advanced from one to the next in
// closed form on a clock of iterations: a request is done at its own iteration,
// whatever the others do to the speed.
type engine struct {
	// next is when the next thing happens within it, at up to when it has run,
	// in seconds; iterations is its own clock. inFlight is how many requests
	// wait or run. They stand first because every arrival looks at all of them.
	next, at   float64
	inFlight   int
	iterations float64
	// pace is how fast it goes, nil while idle.
	pace *pace

	*paces
	load  []Request
	tally *tally

	waiting   queue
	prefill   queue
	left      float64 // prefill tokens that the first of prefill still needs
	admitted  int
	kv        int
	histogram bool
	counters  counters
	batch     agenda
	// page is what a scrape found, from scrape to scrape.
	page []decision.Family
}

// counters are those of vLLM's page, since the process began.
type counters struct {
	prompt, generated, success, rejected, steps float64
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
	ttftBounds = [...]float64{
		.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
	}
	tokenBounds  = [...]float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
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

func newEngine(model *paces, load []Request, score *tally, at float64, histogram bool) *engine {
	e := &engine{paces: model, load: load, tally: score, at: at, next: math.Inf(1), histogram: histogram}
	e.batch.init()
	return e
}

// push gives the engine a request at the time t, to which it has run. It tells
// whether it was taken: KAITO's guard answers 429 once as many wait as may run.
func (e *engine) push(request int32) bool {
	if e.waiting.len() >= e.model.MaxSeqs {
		e.counters.rejected++
		return false
	}
	e.inFlight++
	e.waiting.push(request)
	e.admit()
	e.plan()
	return true
}

// admit moves those who wait into the batch, in order, while there is room. The
// KV cache is reserved for a request's whole length, so none is ever preempted.
func (e *engine) admit() {
	for e.waiting.len() > 0 && e.admitted < e.model.MaxSeqs {
		r := &e.load[e.waiting.first()]
		tokens := int(r.In) + int(r.Out)
		if e.kv+tokens > e.model.KVTokens && e.admitted > 0 {
			return
		}
		id := e.waiting.pop()
		e.kv += tokens
		e.admitted++
		if e.histogram {
			since := e.at - r.At
			e.counters.queued[bucket(secondBounds[:], since)]++
			e.counters.queuedSum += since
		}
		if e.prefill.len() == 0 {
			e.left = float64(r.In)
		}
		e.prefill.push(id)
	}
}

// plan works out the pace and when the next thing happens.
func (e *engine) plan() {
	if e.prefill.len() > 0 {
		e.pace = &e.prefills[e.batch.n]
		e.next = e.at + e.left*e.perChunk*e.pace.iteration
		if e.batch.n > 0 {
			e.next = min(e.next, e.due())
		}
		return
	}
	if e.batch.n == 0 {
		e.pace, e.next = nil, math.Inf(1)
		return
	}
	e.pace = &e.plain[e.batch.n]
	e.next = e.due()
}

// due is when the first of the batch has its last token, at the pace.
func (e *engine) due() float64 {
	left := e.batch.due() - e.iterations
	if left < 0 {
		return e.at
	}
	return e.at + left*e.pace.iteration
}

// advance runs the engine to the time t.
func (e *engine) advance(t float64) {
	for e.next <= t {
		e.run(e.next)
		e.happen()
		e.plan()
	}
	e.run(t)
}

// run passes time in which nothing happens.
func (e *engine) run(t float64) {
	dt := t - e.at
	e.at = t
	if e.pace == nil || dt <= 0 {
		return
	}
	steps := dt * e.pace.speed
	e.iterations += steps
	e.counters.steps += steps
	if e.prefill.len() > 0 {
		e.left -= steps * e.chunk
	}
	n := float64(e.batch.n)
	e.counters.generated += n * steps
	e.counters.tokenTime += n * dt
	if e.histogram {
		e.counters.itl[e.pace.bucket] += n * steps
	}
}

// happen lets the first of the prefills have its first token, or the request
// that is due its last.
func (e *engine) happen() {
	const almost = 1e-6
	if e.prefill.len() > 0 && e.left <= almost {
		id := e.prefill.pop()
		r := &e.load[id]
		// The token comes at the end of an iteration that the prefill ends
		// within: half a step later on average.
		first := e.at + .5*e.plain[e.batch.n].iteration
		e.counters.prompt += float64(r.In)
		e.counters.generated++
		if e.histogram {
			e.counters.ttft[bucket(ttftBounds[:], first-r.At)]++
			e.counters.ttftSum += first - r.At
		}
		if e.prefill.len() > 0 {
			e.left = float64(e.load[e.prefill.first()].In)
		}
		e.batch.push(running{due: e.iterations + float64(r.Out-1), first: first, request: *r})
	}
	done := false
	for e.batch.n > 0 && e.batch.due() <= e.iterations+almost {
		e.finish(e.batch.pop())
		done = true
	}
	if done {
		e.admit()
	}
}

func (e *engine) finish(r *running) {
	request := &r.request
	e.inFlight--
	e.admitted--
	e.kv -= int(request.In) + int(request.Out)
	e.counters.success++
	perToken := 0.0
	if request.Out > 1 {
		perToken = max(0, e.at-r.first) / float64(request.Out-1)
	}
	if e.histogram {
		e.counters.tpot[bucket(tokenBounds[:], perToken)]++
		e.counters.tpotSum += perToken
	}
	e.tally.served(request, r.first-request.At, perToken)
}

// unfinished are the requests that a deletion of the replica breaks.
func (e *engine) unfinished() []Request {
	requests := e.batch.all()
	for _, ids := range [][]int32{e.waiting.all(), e.prefill.all()} {
		for _, id := range ids {
			requests = append(requests, e.load[id])
		}
	}
	return requests
}

// queue is first in, first out.
type queue struct {
	items []int32
	head  int
}

func (q *queue) len() int     { return len(q.items) - q.head }
func (q *queue) first() int32 { return q.items[q.head] }
func (q *queue) push(x int32) { q.items = append(q.items, x) }
func (q *queue) all() []int32 { return q.items[q.head:] }
func (q *queue) pop() (x int32) {
	x = q.items[q.head]
	q.head++
	if q.head > 64 && q.head*2 > len(q.items) {
		q.items = slices.Delete(q.items, 0, q.head)
		q.head = 0
	}
	return x
}
