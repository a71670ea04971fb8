package scaler

import (
	"context"
	"hash/fnv"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
)

// turns is in how many parts a pace is cut. Each fleet has its turn in one of
// them: a thousand at once would keep KEDA's calls waiting.
const turns = 60

const turn = decision.Interval / turns

// maxLag is when a loop is too late to be alive. decision.Scaler answers with a
// hold from then on.
const maxLag = 3 * decision.Interval

// heartbeat is when a loop was last seen at work. Its clock doesn't jump.
type heartbeat struct{ last atomic.Pointer[time.Time] }

func (h *heartbeat) set(now time.Time) { h.last.Store(&now) }

// within tells whether a heartbeat is not older than d, or there was none yet.
func (h *heartbeat) within(d time.Duration) bool {
	at := h.last.Load()
	return at == nil || time.Since(*at) <= d
}

// runTurns calls do at each turn until ctx is done, with the turns after last
// and not after this being due.
func runTurns(ctx context.Context, beat *heartbeat, do func(now time.Time, last, this int64)) {
	last := turnAt(time.Now())
	for {
		now := time.Now()
		beat.set(now)
		timer := time.NewTimer(now.Truncate(turn).Add(turn).Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		now = time.Now()
		this := turnAt(now)
		do(now, last, this)
		last = this
	}
}

// turnAt numbers the turns since 1970.
func turnAt(now time.Time) int64 { return now.UnixNano() / int64(turn) }

// inTurn tells whether one of its turns, of which it has each of so many, is after
// last and not after this.
func inTurn(its uint32, of, last, this int64) bool {
	// The newest turn of its own that isn't after this.
	newest := this - (this-int64(its)%of)%of
	return newest > last
}

// turnOf spreads InferenceSets over the turns of an interval, by their names: each
// has the same one on every replica of the scaler.
func turnOf(key types.NamespacedName) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key.String()))
	return h.Sum32()
}

// observeEvery is how often each InferenceSet is evaluated to tell its owner: as
// often as its pods are read.
const observeEvery = 5 * time.Second
