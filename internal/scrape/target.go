package scrape

import (
	"slices"
	"sync"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// frozenAfter is how long an engine may run requests without a sign that it finished a
// step. Mostly a step is a piece of a prompt at most: 8 s for 16 k tokens at 0.5 ms
// each. But where prompts aren't cut into pieces, one of 128 k tokens is a step of 64 s.
const frozenAfter = 2 * time.Minute

// target is one pod that is read: an incarnation of a replica's first pod, by
// its UID. Its schedule belongs to the Reader, under the Reader's mu.
type target struct {
	link link
	// id is the pod's UID.
	id, pod string
	set     *pageSet
	// timeout bounds a scrape.
	timeout time.Duration

	// due is when the next scrape is to start, since the Reader's epoch; index
	// is the target's place in the heap, -1 if it isn't there.
	due   time.Duration
	index int
	// inFlight is set from when a scrape is asked for until it has ended, its
	// wait for a slot included.
	inFlight bool
	// attempted is set once a scrape has ended; counted while the Reader's first
	// sweep waits for that.
	attempted, counted bool
	// slow is set while the newest scrape timed out or took longer than slowAfter.
	slow bool
	gone bool
	// pool has the slot of the scrape under way, which began then, since the
	// Reader's epoch; nil if there is none.
	pool  *pool
	began time.Duration

	// full is how many families a page had that was asked for whole, -1 if
	// hints are given up; selector is what it was read with. They belong to the
	// scrape in flight, of which there is one at a time.
	full     int
	selector *selector
	// missing is set while the newest page lacks a family that namesOf asks
	// for. names were on it at namesAt. They belong to the scrape in flight too.
	missing bool
	names   []string
	namesOf *selector
	namesAt time.Time

	mu sync.Mutex
	// mu guards everything below.

	// restarts and proven are this container's: proven once it has been Ready,
	// since KAITO's benchmark is over by then.
	restarts int32
	proven   bool
	// expected is when the pod was first seen Serving.
	expected time.Time
	history  sample.History
	failure  *Failure
	// failedAt is when the newest scrape ended, if it failed.
	failedAt time.Time
	voice    voice
	// retired is set when the pod has gone: what is still in flight says
	// nothing any more.
	retired bool
	asleep  bool
	// did is the newest sign of what the engine did, and moved when it last changed
	// or nothing ran.
	did   activity
	moved time.Time
	// rejected is the newest count of refused requests of when the engine moved,
	// and demand is set if a frozen one had requests that wait, or refused some
	// since.
	rejected float64
	demand   bool
}

// see takes over what Kubernetes says of the pod.
func (t *target) see(r *kaito.Replica, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.expected.IsZero() {
		t.expected = now
		t.restarts = r.Restarts
		// A Serving pod of a container that never restarted has been Ready,
		// even if it isn't now and nobody here saw it.
		t.proven = r.Restarts == 0
	}
	if t.restarts != r.Restarts {
		t.restarts, t.proven = r.Restarts, false
	}
	if r.Ready || r.ReadySinceStart {
		t.proven = true
	}
}

// hintFor is the query to send: none until a whole page has been read, so that
// it is known what a hint must not cost.
func (t *target) hintFor(sel *selector, now time.Time) string {
	if t.selector != sel || t.full < 0 || t.missing && t.namesDue(sel, now) {
		return ""
	}
	return sel.hint
}

// namesEvery is how often the names of a page that lacks a family are looked at
// again: what is asked for in vain may still come.
const namesEvery = time.Minute

func (t *target) namesDue(sel *selector, now time.Time) bool {
	return t.namesOf != sel || now.Sub(t.namesAt) >= namesEvery
}

// name gives a sample that lacks a family the names that are on its page. They
// come from a page that was read whole.
func (t *target) name(p *reading, sel *selector, now time.Time) {
	if t.missing = p.missing; !t.missing {
		t.names, t.namesOf = nil, nil
		return
	}
	if p.names != nil {
		t.names, t.namesOf, t.namesAt = p.names, sel, now
	}
	p.sample.Names = t.names
}

// judge reports whether a page has to be read again without the hint: it has
// less for it, or the pod can't bear a query. Such a pod isn't hinted again.
func (t *target) judge(sel *selector, hint string, p *reading, err error) (again bool) {
	if hint == "" {
		if err == nil && t.full >= 0 {
			t.full, t.selector = p.onPage(), sel
		}
		return false
	}
	again = err == nil && p.onPage() < t.full
	if slices.Contains([]Reason{Status, Redirect, BadContent, BadHTTP, NotVLLM, ModelLoading}, failureOf(err).reason()) {
		again = true
	}
	if again {
		t.full = -1
	}
	return again
}

// took keeps a page, unless what it says can't be believed. It returns why.
func (t *target) took(p *reading, keep time.Duration) *Failure {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asleep = p.asleep
	switch {
	case !t.proven:
		return failf(Unproven, "the container was restarted and has not been Ready since: its load may be KAITO's start-up benchmark")
	case t.frozen(p):
		return failf(Frozen, "the engine is frozen: %g requests run, but no step was finished for %s", p.running, p.sample.At.Sub(t.moved).Truncate(time.Second))
	}
	p.sample.Restarts = t.restarts
	t.history.Add(p.sample, keep)
	return nil
}

// activity is what an engine's steps leave on its page. While nothing but a prompt is
// worked off, batches of output, the only thing that is counted of steps, stand still
// for half a minute and more; the KV cache fills up with each piece of the prompt.
// Gauges are set by steps alone: those of a hung engine stand still, too.
type activity struct{ batches, running, waiting, kvUsage float64 }

// frozen needs t.mu. A page that doesn't tell what runs or how many batches were
// made can't be called frozen.
func (t *target) frozen(p *reading) bool {
	did := activity{p.step, p.running, p.waiting, p.kvUsage}
	// NaN compares unequal and not greater: no telling is like moving.
	if did != t.did || !(p.running > 0) || t.moved.IsZero() {
		t.did, t.moved, t.rejected = did, p.sample.At, p.rejected
		return false
	}
	t.demand = p.waiting > 0 || p.rejected > t.rejected
	return p.sample.At.Sub(t.moved) > frozenAfter
}

// retire is the end of the target. It returns what its newest scrape failed
// for.
func (t *target) retire() Reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retired = true
	return t.failure.reason()
}

// reason is what the newest scrape failed for.
func (t *target) reason() Reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failure.reason()
}

// last is the newest sample, nil if there is none.
func (t *target) last() *sample.Sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.history.Newest()
}

// outOfReach tells whether the newest scrape got no connection in its time, and no
// other has in isolatedAfter.
func (t *target) outOfReach(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failure.reason() != Timeout || t.failure.accepted {
		return false
	}
	last := t.history.Newest()
	return last == nil || now.Sub(last.At) > isolatedAfter
}

// fill gives a replica its readings.
func (t *target) fill(r *sample.Replica) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Expected = t.expected
	r.History = t.history
	r.Last = t.history.Newest()
	r.Asleep = t.asleep
	if t.failure == nil {
		return
	}
	r.Failure = t.failure.Error()
	switch {
	case t.failure.Reason == Timeout && t.failure.accepted:
		r.TimedOut = t.failedAt
	case t.failure.Reason == Frozen:
		r.Frozen, r.FrozenDemand = true, t.demand
	}
}
