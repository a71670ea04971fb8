package simulate

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// steps is one replica's engine, step by step as vLLM's scheduler goes: who
// decodes is first, with one token and, under speculation, the drafts that are
// accepted; then prompts, first come, first served, to Chunk tokens a step. The
// last piece of a prompt gives the first token. The KV cache is taken block by
// block; when it is full, the request that came last loses all its blocks, waits
// again before all others, and works off again what it had. One engine in a pod
// is simulated.
type steps struct {
	clock
	page
	model     *Engine
	load      *Load
	tally     *tally
	histogram bool
	// draws decide how many drafts are accepted: n or more with a probability of
	// likely[n-1].
	draws  *rand.Rand
	likely []float64

	// arrived have come since the step under way began; the scheduler doesn't know
	// them yet. waiting are in the order in which they are admitted.
	arrived queue[int32]
	waiting queue[sequence]
	// running are in the order of their admission, so that who decodes stands
	// before the one prompt that is in pieces.
	running []sequence
	// busy is set while a step is under way, which ends at next. The one before it
	// ended at before.
	busy   bool
	before float64
	// free is how many blocks of the KV cache are free, of total. A request alone
	// that needs more than all has them: vLLM doesn't start with a --max-model-len
	// beyond its cache.
	free, total, block int32
	// context is how many tokens of running requests are in the cache.
	context int
	// patience is how many seconds a client waits for its first token, 0 for ever;
	// leaves is the earliest time at which a client of these goes away.
	patience, leaves float64
	// cache is nil without a prefix cache.
	cache *prefixCache
}

// sequence is a request as the scheduler has it.
type sequence struct {
	// left are tokens of output to come, todo are tokens of the prompt, or of what
	// a preemption lost, to work off before the next; 0 while it decodes. now are
	// those that the step under way takes.
	left, todo, now int32
	// room is for how many tokens more its blocks have place.
	room, blocks int32
	id           int32
	// cached are those of its prompt that the prefix cache had; notLookedUp until it runs.
	cached int32
	// preempted is how often it was since its last token.
	preempted int32
	// begun is set once a step took some of it, at begin; told once it had its
	// first token, at first.
	begun, told        bool
	begin, first, last float64
}

// notLookedUp is of a prompt that the prefix cache wasn't asked for yet.
const notLookedUp = -1

func newSteps(model *Engine, load *Load, score *tally, at float64, histogram bool, seed uint64) *steps {
	block := int32(model.block())          //nolint:gosec // ≤ 65536: check
	total := int32(model.KVTokens) / block //nolint:gosec // ≤ 1e9: check
	s := &steps{
		clock: clock{next: math.Inf(1), at: at}, model: model, load: load, tally: score, histogram: histogram,
		draws: random(seed), free: total, total: total, block: block, leaves: math.Inf(1),
	}
	for n := range model.Speculation.Tokens {
		s.likely = append(s.likely, math.Pow(model.Speculation.Acceptance, float64(n+1)))
	}
	return s
}

// push takes a request, unless KAITO's guard refuses it: it counts as waiting what
// is in flight beyond those that may run, and answers 429 when that is more than
// may run.
func (s *steps) push(request int32) bool {
	if s.inFlight > 2*s.model.MaxSeqs {
		s.counters.rejected++
		return false
	}
	s.inFlight++
	s.arrived.push(request)
	s.leaves = min(s.leaves, s.cancelled(request, false))
	if !s.busy {
		s.begin()
	}
	return true
}

func (s *steps) advance(t float64) {
	for s.next <= t {
		s.at = s.next
		s.end()
		s.begin()
	}
	s.at = t
}

// begin starts a step with what has come by now, if there is anything to do.
func (s *steps) begin() {
	for s.arrived.len() > 0 {
		id := s.arrived.pop()
		r := &s.load.Requests[id]
		s.waiting.push(sequence{id: id, left: r.Out, todo: r.In, cached: notLookedUp})
	}
	if s.leaves <= s.at {
		s.abort()
	}
	prompts, sequences := s.schedule()
	s.busy = sequences > 0
	if !s.busy {
		s.next = math.Inf(1)
		return
	}
	s.before = s.at
	s.next = s.at + s.model.step(sequences) + s.model.Beta*float64(prompts) + s.model.Delta*float64(s.context)
}

// schedule says what the step does: how many tokens of prompts, of how many
// requests in all.
func (s *steps) schedule() (prompts, sequences int) {
	budget := int32(s.model.Chunk)                  //nolint:gosec // ≤ 1 << 24: check
	decode := int32(1 + s.model.Speculation.Tokens) //nolint:gosec // ≤ 65: check
	preempted := false
	for i := 0; i < len(s.running); i++ { //nolint:intrange // a preemption makes it shorter
		q := &s.running[i]
		if q.todo == 0 && decode == 1 && q.room > 0 && budget > 0 { // the usual case
			q.now = 1
			sequences++
			budget--
			continue
		}
		want := decode
		if q.todo > 0 {
			want = q.todo
		}
		q.now = min(want, budget)
		if q.now > q.room {
			n := len(s.running)
			grown := s.grow(i)
			preempted = preempted || len(s.running) < n
			if !grown {
				break
			}
		}
		if q.now > 0 {
			sequences++
		}
		if q.todo > 0 {
			prompts += int(q.now)
		}
		budget -= q.now
	}
	if preempted {
		return prompts, sequences
	}
	for budget > 0 && s.admit(budget) {
		now := s.running[len(s.running)-1].now
		budget -= now
		prompts += int(now)
		sequences++
	}
	return prompts, sequences
}

// admit lets the first of those that wait run, if it may: all that it has to work
// off must fit in the cache, not its first piece alone.
func (s *steps) admit(budget int32) bool {
	if s.waiting.len() == 0 || len(s.running) >= s.model.MaxSeqs {
		return false
	}
	if s.blocks(s.waiting.first().todo) > s.free && len(s.running) > 0 {
		return false
	}
	q := s.waiting.pop()
	if !q.begun {
		q.begun, q.begin = true, s.at
	}
	if q.cached == notLookedUp { // vLLM tells of no other look
		s.counters.queries += float64(q.todo)
	}
	s.fromCache(&q)
	q.now = min(q.todo, budget)
	s.take(&q, s.blocks(q.now))
	s.running = append(s.running, q)
	return true
}

// fromCache takes what the prefix cache has of a prompt, which needs no work but its
// place among the blocks of the request.
func (s *steps) fromCache(q *sequence) {
	if q.cached != notLookedUp {
		return
	}
	q.cached = s.cache.hit(q.id, q.todo, s.block)
	s.counters.cached += float64(q.cached)
	q.todo -= q.cached
	s.take(q, s.blocks(q.cached))
	q.room -= q.cached
	s.context += int(q.cached)
}

func (s *steps) blocks(tokens int32) int32 { return (tokens + s.block - 1) / s.block }

func (s *steps) take(q *sequence, blocks int32) {
	s.free -= blocks
	q.blocks += blocks
	q.room += blocks * s.block
}

// grow gives a running request the blocks that its step needs, those of who came
// last if there are none. It tells whether the request itself still runs.
func (s *steps) grow(i int) bool {
	q := &s.running[i]
	need := s.blocks(q.now - q.room)
	for need > s.free && len(s.running) > 1 {
		last := len(s.running) - 1
		s.preempt()
		if last == i {
			return false
		}
	}
	s.take(q, need)
	return true
}

// preempt makes the request that was admitted last wait again.
func (s *steps) preempt() {
	last := len(s.running) - 1
	q := s.running[last]
	s.running = s.running[:last]
	s.release(&q)
	r := &s.load.Requests[q.id]
	q.todo, q.now = r.In+r.Out-q.left, 0
	q.preempted++
	s.waiting.pushFront(q)
}

// release gives a request's blocks back.
func (s *steps) release(q *sequence) {
	s.context -= int(q.blocks*s.block - q.room)
	s.free += q.blocks
	q.blocks, q.room = 0, 0
}

// output is what a step gave.
type output struct {
	// pieces came at the step's own distance from the one before.
	pieces, tokens, prompts int
}

// end gives the tokens of the step that ends now, and then shows the gauges.
func (s *steps) end() {
	// vLLM drops those whose clients have gone before it looks at what the step gave.
	if s.leaves <= s.at {
		s.abort()
	}
	var out output
	// Those from here on stay, until one that doesn't; kept are before them.
	from, kept, usual := 0, 0, 0
	plain := s.model.Speculation.Tokens == 0
	for i := range s.running {
		q := &s.running[i]
		if plain && q.todo == 0 && q.now == 1 && q.left > 1 && q.last == s.before { // the usual case
			q.left--
			q.room--
			q.last = s.at
			usual++
		} else if q.now > 0 && s.give(q, &out) {
			s.release(q)
			s.inFlight--
			kept += copy(s.running[kept:], s.running[from:i])
			from = i + 1
		}
	}
	kept += copy(s.running[kept:], s.running[from:])
	s.running = s.running[:kept]
	s.context += usual
	out.tokens += usual
	out.pieces += usual
	s.count(&out)
	s.page.running, s.page.waiting = float64(kept), float64(s.waiting.len())
	s.page.usage = min(1, float64(s.total-s.free)/float64(s.total))
}

// give is what the step gave one request. It tells whether that was all.
func (s *steps) give(q *sequence, out *output) bool {
	done := q.now
	tokens := int32(1)
	if q.todo > 0 {
		q.todo -= q.now
		if q.todo > 0 {
			tokens = 0
		}
	} else {
		if q.now > 1 {
			tokens += s.accepted(q.now - 1)
		}
		tokens = min(tokens, q.left)
		done = tokens
	}
	q.room -= done
	s.context += int(done)
	if tokens == 0 {
		return false
	}
	q.left -= tokens
	out.tokens += int(tokens)
	s.piece(q, out)
	if q.left > 0 {
		return false
	}
	s.finish(q)
	return true
}

// accepted draws how many of so many drafts are.
func (s *steps) accepted(drafts int32) (n int32) {
	draw := s.draws.Float64()
	for n < drafts && draw < s.likely[n] {
		n++
	}
	return n
}

// piece counts a piece of a request's output: its first, or the time since the
// last.
func (s *steps) piece(q *sequence, out *output) {
	if q.preempted > 0 {
		s.counters.preemptions += float64(q.preempted)
		q.preempted = 0
	}
	switch {
	case !q.told:
		q.told, q.first = true, s.at
		r := &s.load.Requests[q.id]
		out.prompts += int(r.In)
		s.counters.skipped += float64(max(q.cached, 0))
		if s.histogram {
			s.counters.ttft[bucket(ttftBounds[:], s.at-r.At)]++
			s.counters.ttftSum += s.at - r.At
		}
	case q.last == s.before: // the usual case: counted at once for all
		out.pieces++
	default:
		s.counters.itl[bucket(tokenBounds[:], s.at-q.last)]++
		s.counters.tokenTime += s.at - q.last
	}
	q.last = s.at
}

// count counts what the step gave. One that gave nothing, because it worked off
// nothing but pieces of prompts, is no iteration on vLLM's page.
func (s *steps) count(out *output) {
	if out.tokens == 0 {
		return
	}
	c := &s.counters
	c.steps++
	c.generated += float64(out.tokens)
	c.prompt += float64(out.prompts)
	if out.pieces > 0 {
		took := s.at - s.before
		c.itl[bucket(tokenBounds[:], took)] += float64(out.pieces)
		c.tokenTime += took * float64(out.pieces)
	}
}

// finish counts a request that has all its tokens.
func (s *steps) finish(q *sequence) {
	r := &s.load.Requests[q.id]
	s.counters.success++
	perToken := 0.0
	if r.Out > 1 {
		perToken = (s.at - q.first) / float64(r.Out-1)
	}
	if s.histogram {
		s.counters.tpot[bucket(tokenBounds[:], perToken)]++
		s.counters.tpotSum += perToken
		waited := q.begin - r.At
		s.counters.queued[bucket(secondBounds[:], waited)]++
		s.counters.queuedSum += waited
	}
	s.tally.served(q.id, r, q.first-r.At, perToken)
}

func (s *steps) unfinished() []int32 {
	if s.leaves <= s.at {
		s.abort()
	}
	ids := slices.Clone(s.arrived.all())
	for _, all := range [][]sequence{s.running, s.waiting.all()} {
		for i := range all {
			ids = append(ids, all[i].id)
		}
	}
	return ids
}

func (s *steps) silent() []int32 {
	if s.leaves <= s.at {
		s.abort()
	}
	ids := slices.Clone(s.arrived.all())
	for _, all := range [][]sequence{s.running, s.waiting.all()} {
		for i := range all {
			if !all[i].told {
				ids = append(ids, all[i].id)
			}
		}
	}
	return ids
}

func (s *steps) occupied() (running, waiting int) {
	return len(s.running), s.waiting.len() + s.arrived.len()
}

func (s *steps) read(names []string, at time.Time, like *sample.Sample) *sample.Sample {
	return s.page.read(names, at, like)
}
