package scrape

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
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

// pageSet is one page of all pods of a fleet. Its fields are guarded by the
// Reader's mu; selector is immutable.
type pageSet struct {
	key  types.NamespacedName
	page policy.Page
	// targets[i] reads replicas[i] of the fleet; nil if that isn't to be read.
	targets []*target
	// want tells what selector was made for.
	want     string
	selector *selector
	// keep is how far back the histories reach.
	keep time.Duration
}

// live are the targets of those that are read.
func (p *pageSet) live() []*target {
	return slices.DeleteFunc(slices.Clone(p.targets), func(t *target) bool { return t == nil })
}

// find is the target that reads that very pod at that address.
func find(targets []*target, rep *kaito.Replica, page policy.Page) *target {
	for _, t := range targets {
		if t != nil && t.id == string(rep.UID) && t.link.addr == address(rep, page) {
			return t
		}
	}
	return nil
}

// portOfService is the port of a Workspace's Service, which leads to the
// container port that is named http.
const portOfService = 80

// address is where a page of a pod is: never anywhere but at the pod's own IP.
func address(rep *kaito.Replica, page policy.Page) netip.AddrPort {
	if page.Port == 0 || page.Port == portOfService {
		return rep.Address
	}
	return netip.AddrPortFrom(rep.Address.Addr(), page.Port)
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

// end is how a scrape ended in the light of the one before.
type end struct {
	before Reason
	// news is set if it ended otherwise, and tell if the log is to hear of it, and
	// of how many changes were left out.
	news, tell bool
	leftOut    int
}

// ended notes how the newest scrape ended, OK or not. Of a pod that has gone there is
// nothing to say.
func (t *target) ended(f *Failure, now time.Time) end {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retired {
		return end{}
	}
	e := end{before: t.failure.reason()}
	t.failure, t.failedAt = f, now
	e.news = e.before != f.reason()
	e.leftOut, e.tell = t.voice.speak(f.reason(), e.news, now)
	return e
}

// isolatedAfter is how long pods that were readable before must have been out of
// reach: those of a lost node are Ready for 50 s more.
const isolatedAfter = 2 * time.Minute

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
