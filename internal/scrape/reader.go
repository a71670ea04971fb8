// Package scrape reads the metrics pages of all replicas' pods, each once an
// interval, and keeps what they said in memory.
package scrape

import (
	"context"
	"sync"
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
	// wake tells Run that the calendar has an earlier entry.
	wake  chan struct{}
	epoch time.Time

	mu sync.Mutex
	// mu guards everything below, and the schedule in each target. It is never
	// held while something waits.
	fleets map[types.NamespacedName]*fleet
	// selectors are shared by the fleets that ask for the same families, and
	// nearly all ask for the same: one is 8 KB of tables, 16 MB for 2 000.
	selectors map[string]*sharedSelector
	calendar  calendar
	quick     lane
	suspects  lane
	// fresh is how many targets haven't been attempted yet.
	fresh int
	// swept latches: a new pod doesn't make a ready process unready.
	swept bool
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
		quick:     lane{limit: perLane},
		suspects:  lane{limit: perLane},
	}
	r.scratch.New = func() any { return &scratch{small: make([]byte, smallChunk)} }
	r.scrape = r.read
	return r
}

// Swept tells whether every target known has been attempted at least once. It
// stays true from then on. Before the first Set it is true as well: whoever
// asks must first have told of all fleets.
func (r *Reader) Swept() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.swept = r.swept || r.fresh == 0
	return r.swept
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
		timer.Reset(r.startDue(ctx, &running))
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
