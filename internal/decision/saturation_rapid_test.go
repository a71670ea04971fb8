package decision

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// later is a fleet of the workers a quarter minute after the last verdict, the
// one at busier with so many more requests running and waiting, the one at
// silent without a reading.
func later(desired int32, workers []*worker, busier int, more float64, silent int) (Fleet, time.Time) {
	const at = 12*time.Minute + 15*time.Second
	all := make([]Replica, len(workers))
	for i, w := range workers {
		next := *w
		if i == busier {
			next.running, next.waiting = next.running+more, next.waiting+more/2
		}
		if i != silent {
			next.History.Add(next.page(t0.Add(at), at.Seconds()), 2*time.Minute)
			next.Last = next.History.Newest()
		} else {
			next.Last, next.Failure = nil, "no answer within 2s"
		}
		all[i] = next.Replica
	}
	return fleet(desired, all...), t0.Add(at)
}

// More load on one replica never asks for fewer, and one that can't be read
// never for a step down.
func TestMoreLoadNeverAsksForFewer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := saturated()
		n := rapid.IntRange(1, 4).Draw(t, "replicas")
		workers := make([]*worker, n)
		for i := range workers {
			workers[i] = worksAt(float64(rapid.IntRange(0, 16).Draw(t, "rps")))
		}
		desired := int32(rapid.IntRange(n, n+3).Draw(t, "desired")) //nolint:gosec // few
		_, learned := after(s, 12*time.Minute, desired, workers...)
		at := rapid.IntRange(0, n-1).Draw(t, "which")
		more := float64(rapid.IntRange(0, 200).Draw(t, "more"))
		f, now := later(desired, workers, -1, 0, -1)
		was, _ := s.Judge(learned, f, now)
		f, now = later(desired, workers, at, more, -1)
		if busier, _ := s.Judge(learned, f, now); busier.Replicas < was.Replicas {
			t.Fatalf("%g more requests: %d instead of %d: %s\nbefore: %s", more, busier.Replicas, was.Replicas, busier.Reason, was.Reason)
		}
		f, now = later(desired, workers, -1, 0, at)
		if lost, _ := s.Judge(learned, f, now); lost.Replicas < min(desired, s.Bounds.Max) {
			t.Fatalf("with one unreadable: %d of %d: %s", lost.Replicas, desired, lost.Reason)
		}
	})
}
