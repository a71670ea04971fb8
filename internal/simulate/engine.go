// Package simulate plays a load against a fleet of inference replicas that a
// scaling policy sizes, and scores what came of it. The policies are the ones
// that answer KEDA: they see readings of simulated pods, never the truth. It is
// pure: the same load, policy and seed come to the same result.
package simulate

import (
	"math"
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
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

// clock is what the fleet asks of every engine at every arrival: when the next
// thing happens within it, up to when it has run, in seconds, and how many requests
// wait or run.
type clock struct {
	next, at float64
	inFlight int
}

func (c *clock) head() *clock { return c }

// machine is one replica's engine at work: the fluid one or the one of steps.
type machine interface {
	head() *clock
	// advance runs it to a time.
	advance(t float64)
	// push gives it a request at the time to which it has run, and tells whether
	// it was taken.
	push(request int32) bool
	// unfinished are the requests that a deletion of the replica breaks, silent
	// those that wait for their first token as a caller sees it.
	unfinished() []int32
	silent() []int32
	// occupied is how many requests run and wait.
	occupied() (running, waiting int)
	// read is what a scrape of its page at that time yields of the families asked
	// for. like is an earlier one, or nil.
	read(names []string, at time.Time, like *sample.Sample) *sample.Sample
}

// engine is the fluid one. Between arrivals, first tokens and last tokens an
// iteration's length is constant, so it is advanced from one to the next in
// closed form on a clock of iterations: a request is done at its own iteration,
// whatever the others do to the speed.
type engine struct {
	// clock stands first because every arrival looks at all of it.
	clock
	iterations float64
	// pace is how fast it goes, nil while idle.
	pace *pace

	*paces
	load  *Load
	tally *tally

	waiting   queue[int32]
	prefill   queue[int32]
	left      float64 // prefill tokens that the first of prefill still needs
	admitted  int
	kv        int
	histogram bool
	batch     agenda
	page
}

func newEngine(model *paces, load *Load, score *tally, at float64, histogram bool) *engine {
	e := &engine{clock: clock{next: math.Inf(1), at: at}, paces: model, load: load, tally: score, histogram: histogram}
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
		r := &e.load.Requests[*e.waiting.first()]
		tokens := int(r.In) + int(r.Out)
		if e.kv+tokens > e.model.KVTokens && e.admitted > 0 {
			return
		}
		id := e.waiting.pop()
		e.kv += tokens
		e.admitted++
		e.counters.queries += float64(r.In)
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
		r := &e.load.Requests[id]
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
			e.left = float64(e.load.Requests[*e.prefill.first()].In)
		}
		e.batch.push(running{due: e.iterations + float64(r.Out-1), first: first, request: *r, id: id})
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
	e.tally.served(r.id, request, r.first-request.At, perToken)
}

func (e *engine) unfinished() []int32 {
	return slices.Concat(e.batch.all(), e.waiting.all(), e.prefill.all())
}

func (e *engine) silent() []int32 { return e.waiting.all() }

func (e *engine) occupied() (running, waiting int) { return e.admitted, e.waiting.len() }

func (e *engine) read(names []string, at time.Time, like *sample.Sample) *sample.Sample {
	e.page.running, e.page.waiting = float64(e.admitted), float64(e.waiting.len())
	e.page.usage = min(1, float64(e.kv)/float64(e.model.KVTokens))
	return e.page.read(names, at, like)
}

// queue is first in, first out.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) len() int  { return len(q.items) - q.head }
func (q *queue[T]) first() *T { return &q.items[q.head] }
func (q *queue[T]) push(x T)  { q.items = append(q.items, x) }
func (q *queue[T]) all() []T  { return q.items[q.head:] }
func (q *queue[T]) pop() (x T) {
	x = q.items[q.head]
	q.head++
	if q.head > 64 && q.head*2 > len(q.items) {
		q.items = slices.Delete(q.items, 0, q.head)
		q.head = 0
	}
	return x
}

// pushFront puts one before all others.
func (q *queue[T]) pushFront(x T) {
	if q.head == 0 {
		q.items = slices.Insert(q.items, 0, x)
		return
	}
	q.head--
	q.items[q.head] = x
}
