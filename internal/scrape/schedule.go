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
	return now - now%interval + offset + interval*time.Duration(btoi(now%interval >= offset))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// calendar is a heap of targets by due.
type calendar []*target

var _ heap.Interface = (*calendar)(nil)

func (c calendar) Len() int           { return len(c) }
func (c calendar) Less(i, j int) bool { return c[i].due < c[j].due }
func (c calendar) Swap(i, j int) {
	c[i], c[j] = c[j], c[i]
	c[i].index, c[j].index = i, j
}

// Push is for package heap.
func (c *calendar) Push(x any) {
	t := x.(*target)
	t.index = len(*c)
	*c = append(*c, t)
}

// Pop is for package heap.
func (c *calendar) Pop() any {
	old := *c
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*c = old[:len(old)-1]
	t.index = -1
	return t
}

// lane bounds how many scrapes run at once. There are two: pods that timed out
// the last time have one of their own, so that however many pods hang, they
// take nothing from the others and wait only for each other.
type lane struct {
	limit, busy int
	waiting     []*target
}

// perLane is far above what is needed: 10 000 pods that all hang hold 4 000
// scrapes at a timeout of 2 s and an interval of 5 s. A waiting scrape costs
// some 10 KB.
const perLane = 4096

// enter takes a slot for t or lets it wait for one.
func (l *lane) enter(t *target) bool {
	if l.busy >= l.limit {
		l.waiting = append(l.waiting, t)
		return false
	}
	l.busy++
	return true
}

// leave frees a slot, and gives it to the first that waits for one.
func (l *lane) leave() (next *target) {
	for len(l.waiting) > 0 {
		next, l.waiting = l.waiting[0], l.waiting[1:]
		if !next.gone {
			return next
		}
	}
	l.busy--
	return nil
}
