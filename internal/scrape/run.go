package scrape

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

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
