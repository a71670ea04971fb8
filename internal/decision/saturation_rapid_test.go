package decision

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// later is a fleet of the workers a quarter minute after the last verdict, the
// one at busier with so many more requests running and waiting, the one at
// silent without a reading.
func later(desired int32, workers []*worker, busier int, more float64, silent int) (sample.Fleet, time.Time) {
	const at = 12*time.Minute + 15*time.Second
	all := make([]sample.Replica, len(workers))
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

// seasoned is a fleet that was watched for twelve minutes, and what was learned.
type seasoned struct {
	workers []*worker
	desired int32
	learned Learned
}

// seasonedFleets are of one to four replicas, idle, busy, full, and unevenly so,
// with up to three on their way. To watch one takes a hundred times as long as to
// judge it.
func seasonedFleets(s Saturation) []seasoned {
	loads := [][]float64{{0, 0, 0, 0}, {7, 7, 7, 7}, {16, 16, 16, 16}, {12, 1, 16, 4}}
	var all []seasoned
	for i, rps := range loads {
		for n := 1; n <= len(rps); n++ {
			f := seasoned{desired: int32(n + (i+n)%4)}
			for _, r := range rps[:n] {
				f.workers = append(f.workers, worksAt(r))
			}
			_, f.learned = after(s, 12*time.Minute, f.desired, f.workers...)
			all = append(all, f)
		}
	}
	return all
}

// More load on one replica never asks for fewer, and one that can't be read
// never for a step down.
func TestMoreLoadNeverAsksForFewer(t *testing.T) {
	s := saturated()
	fleets := seasonedFleets(s)
	rapid.Check(t, func(t *rapid.T) {
		known := rapid.SampledFrom(fleets).Draw(t, "fleet")
		at := rapid.IntRange(0, len(known.workers)-1).Draw(t, "which")
		more := float64(rapid.IntRange(0, 200).Draw(t, "more"))
		f, now := later(known.desired, known.workers, -1, 0, -1)
		was, _ := s.Judge(known.learned, f, now)
		f, now = later(known.desired, known.workers, at, more, -1)
		if busier, _ := s.Judge(known.learned, f, now); busier.Replicas < was.Replicas {
			t.Fatalf("%g more requests: %d instead of %d: %s\nbefore: %s", more, busier.Replicas, was.Replicas, busier.Reason, was.Reason)
		}
		f, now = later(known.desired, known.workers, -1, 0, at)
		if lost, _ := s.Judge(known.learned, f, now); lost.Replicas < min(known.desired, s.Bounds.Max) {
			t.Fatalf("with one unreadable: %d of %d: %s", lost.Replicas, known.desired, lost.Reason)
		}
	})
}
