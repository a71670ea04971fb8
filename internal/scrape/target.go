package scrape

import (
	"sync"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// target is one pod that is read: an incarnation of a replica's first pod, by
// its UID.
type target struct {
	link link
	// id is the pod's UID.
	id, pod string
	set     *pageSet
	// timeout bounds a scrape.
	timeout time.Duration
	slot
	// filter belongs to the scrape in flight, of which there is one at a time.
	filter nameFilter

	mu sync.Mutex
	// mu guards everything below.

	container container
	freeze    freezeDetector
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
}

// see takes over what Kubernetes says of the pod.
func (t *target) see(r *kaito.Replica, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.expected.IsZero() {
		t.expected = now
		t.container = firstSeen(r)
	}
	t.container.see(r)
}

// took keeps a page, unless what it says can't be believed. It returns why.
func (t *target) took(p *reading, keep time.Duration) *Failure {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asleep = p.asleep
	switch {
	case !t.container.readySinceStart:
		return failf(Unproven, "the container was restarted and has not been Ready since: its load may be KAITO's start-up benchmark")
	case t.freeze.frozen(p):
		return failf(Frozen, "the engine is frozen: %g requests run, but no step was finished for %s", p.running, p.sample.At.Sub(t.freeze.moved).Truncate(time.Second))
	}
	p.sample.Restarts = t.container.restarts
	t.history.Add(p.sample, keep)
	return nil
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
		r.Frozen, r.FrozenDemand = true, t.freeze.demand
	}
}
