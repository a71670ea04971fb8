// Package scrape reads the metrics pages of all replicas' pods, each once an
// interval, and keeps what they said in memory.
package scrape

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Reader reads all fleets.
type Reader struct {
	cfg     Config
	client  *client
	chunks  *chunks
	scratch sync.Pool
	metrics *metrics
	// scrape is replaced in tests of the schedule.
	scrape func(context.Context, *target)
	lack   lack
	// wake tells Run that the heap has an earlier entry.
	wake  chan struct{}
	epoch time.Time
	// beat is when Run was last seen to go round, since epoch; 0 before it runs.
	beat atomic.Int64

	mu sync.Mutex
	// mu guards everything below, and the schedule in each target. It is never
	// held while something waits.
	fleets map[types.NamespacedName]*fleet
	// selectors are shared by the fleets that ask for the same families, and
	// nearly all ask for the same: one is 8 KB of tables, 16 MB for 2 000.
	selectors map[string]*sharedSelector
	byDue     dueHeap
	quick     pool
	slow      pool
	// handedOver is when scrapes were last handed over, since epoch.
	handedOver time.Duration
	// sweep is the first reading of all pods that were there at first.
	sweep sweep
}

func (r *Reader) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// sweep is the first reading of all pods that were known when somebody first asked
// for it. Pods that join later don't count, or one that joins every second would
// keep a new process unready for ever.
type sweep struct {
	begun time.Time
	// left is how many targets are counted and not yet attempted.
	left int
	// over latches: a new pod doesn't make a ready process unready.
	over bool
}
