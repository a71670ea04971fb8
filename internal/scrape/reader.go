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

// freshIntervals is how many intervals a sample speaks for its pod.
const freshIntervals = 3

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

// New makes a Reader, which reads while Run does.
func New(cfg Config) *Reader {
	cfg.fillIn()
	r := &Reader{
		cfg:       cfg,
		client:    newClient(),
		chunks:    newChunks(64),
		metrics:   newMetrics(cfg.Registerer),
		wake:      make(chan struct{}, 1),
		epoch:     time.Now(),
		fleets:    map[types.NamespacedName]*fleet{},
		selectors: map[string]*sharedSelector{},
		quick:     pool{limit: maxQuick},
		slow:      pool{limit: maxSlow},
	}
	r.scratch.New = func() any { return &scratch{small: make([]byte, smallChunk)} }
	r.scrape = r.read
	// A page in chunks of one byte is six times as long on the wire.
	r.client.maxWire = int(2 * cfg.MaxBytes)
	return r
}

// Run reads until ctx is done. It returns when every scrape has ended.
func (r *Reader) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer r.dropEverything()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-timer.C:
		}
		next := r.startDue(ctx, &running)
		r.beat.Store(int64(time.Since(r.epoch)))
		timer.Reset(min(next, beatEvery))
	}
}

// dropEverything ends the scrapes in flight and closes what idles.
func (r *Reader) dropEverything() {
	r.mu.Lock()
	var all []*target
	for _, f := range r.fleets {
		for _, p := range f.pages {
			all = append(all, p.live()...)
		}
	}
	r.mu.Unlock()
	dropAll(all)
}

func (r *Reader) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
