package scrape

import (
	"container/heap"
	"hash/fnv"
	"time"
)

// offset is where in the interval a pod is read: the same in every process and
// for all its life, and spread evenly over all pods.
func offset(id string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	// FNV's low bits differ little between names that end alike.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return time.Duration(x % uint64(interval)) //nolint:gosec // interval > 0
}

// dueAfter is the first time after now that a target of that offset is due.
func dueAfter(now, offset, interval time.Duration) time.Duration {
	due := now - now%interval + offset // in the interval that now is in
	if due <= now {
		due += interval
	}
	return due
}

// slot is a target's place in the schedule, under the Reader's mu.
type slot struct {
	// due is when the next scrape is to start, since the Reader's epoch; index
	// is the target's place in the heap, -1 if it isn't there.
	due   time.Duration
	index int
	// inFlight is set from when a scrape is asked for until it has ended, its
	// wait for a slot of a pool included.
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
}

// dueHeap is a heap of targets by due.
type dueHeap []*target

var _ heap.Interface = (*dueHeap)(nil)

func (c dueHeap) Len() int           { return len(c) }
func (c dueHeap) Less(i, j int) bool { return c[i].due < c[j].due }
func (c dueHeap) Swap(i, j int) {
	c[i], c[j] = c[j], c[i]
	c[i].index, c[j].index = i, j
}

// Push is for package heap.
func (c *dueHeap) Push(x any) {
	t := x.(*target)
	t.index = len(*c)
	*c = append(*c, t)
}

// Pop is for package heap.
func (c *dueHeap) Pop() any {
	old := *c
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*c = old[:len(old)-1]
	t.index = -1
	return t
}

// pool bounds how many scrapes run at once. There are two: pods that were slow the
// last time have one of their own, so that however many pods hang, they take
// nothing from the others and wait only for each other.
type pool struct {
	limit, busy int
	waiting     []*target
}

const (
	// maxQuick is far above what is needed: a scrape keeps its slot for slowAfter at
	// most, so 20 000 pods that are read every 5 s take 2 000 slots.
	maxQuick = 4096
	// maxSlow is what 9 000 pods need that all hang for 4.5 s of 5 s; 20 000 of them
	// are read every 11 s, which is within the three intervals that a reading counts.
	// Each takes some 12 KB meanwhile.
	maxSlow = 8192
	// slowAfter is a hundred times what a page takes. Whoever takes longer gives its
	// slot to the others when slots are short.
	slowAfter = 500 * time.Millisecond
	// handOverEvery bounds how often all targets are looked through for that.
	handOverEvery = 50 * time.Millisecond
)

// enter takes a slot for t or lets it wait for one.
func (p *pool) enter(t *target) bool {
	if p.busy >= p.limit {
		p.waiting = append(p.waiting, t)
		return false
	}
	p.busy++
	t.pool = p
	return true
}

// leave frees a slot, and gives it to the first that waits for one.
func (p *pool) leave() (next *target) {
	p.busy--
	return p.next()
}

// next takes a slot for the first that waits for one, nil if nobody does or all
// slots are taken: those that were handed over may be more than there are slots.
func (p *pool) next() *target {
	for p.busy < p.limit && len(p.waiting) > 0 {
		next := p.waiting[0]
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		if !next.gone {
			p.busy++
			next.pool = p
			return next
		}
	}
	return nil
}
