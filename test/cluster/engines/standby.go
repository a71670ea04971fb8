package engines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// Standby are engines that have started before a replica needs one. vLLM takes 40 s of
// CPU to start, which the engines that serve meanwhile would miss: on a GPU they don't.
// How long a replica takes to start is the stand-in's kaito.Stages then. An engine that has
// ended isn't used again.
type Standby struct {
	gpu simulate.Engine
	// more starts an engine once none is left.
	more func(ip string) (kaito.Engine, error)

	cancel   context.CancelFunc
	starting sync.WaitGroup

	mu   sync.Mutex
	free []*engine.Engine // guarded by mu
	err  error            // guarded by mu; of starting them
}

// atOnce is how many engines start beside each other: one a core.
const atOnce = 2

// StartStandby begins to start n engines on GPUs of that kind. Await waits until each has
// answered. dir gets their logs. Close ends those that no replica took.
func StartStandby(ctx context.Context, installed engine.Installation, gpu simulate.Engine, n int, dir string) *Standby {
	ctx, cancel := context.WithCancel(ctx)
	s := &Standby{gpu: gpu, more: kaito.VLLM(installed, gpu, dir), cancel: cancel}
	slots := make(chan struct{}, atOnce)
	for i := range n {
		s.starting.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			err := s.add(ctx, installed, filepath.Join(dir, fmt.Sprintf("engine-%d", i)))
			s.mu.Lock()
			defer s.mu.Unlock()
			s.err = errors.Join(s.err, err)
		})
	}
	return s
}

// Await returns what went wrong, once all have started.
func (s *Standby) Await() error {
	s.starting.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// add starts one engine. Its first answers are slower than all later ones, and KAITO's
// benchmark takes them too.
func (s *Standby) add(ctx context.Context, installed engine.Installation, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	e, err := installed.Start(engine.Options{Physics: s.gpu, Dir: dir})
	if err != nil {
		return err
	}
	if err := e.AwaitReady(ctx); err != nil {
		e.Kill()
		return err
	}
	first := load.Client{Model: engine.ModelName, Pick: e.URL}
	for _, r := range first.Run(ctx, load.Burst(4, 100, 10)) {
		if r.Outcome != load.Served {
			e.Kill()
			return fmt.Errorf("the first request to the engine at %s: %s: %w", e.IP(), r.Outcome, r.Err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, e)
	return nil
}

// Start is for kaito.Options.Engines: it gives a replica an engine, or starts one for it if
// none is left.
func (s *Standby) Start(ip string) (kaito.Engine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		return s.more(ip)
	}
	e := s.free[0]
	f, err := forward(ip, e.IP(), engine.Port)
	if err != nil {
		return nil, err
	}
	s.free = s.free[1:]
	return &taken{Engine: e, forwarder: f, peak: s.gpu.PeakTokensPerMinute()}, nil
}

// AfterFirst is Start for all replicas but the first, which nobody waits for: its engine
// starts with its pod.
func (s *Standby) AfterFirst() func(ip string) (kaito.Engine, error) {
	var first sync.Once
	return func(ip string) (e kaito.Engine, err error) {
		start := s.Start
		first.Do(func() { start = s.more })
		return start(ip)
	}
}

// Close ends the engines that no replica took.
func (s *Standby) Close() {
	s.cancel()
	s.starting.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var ending sync.WaitGroup
	for _, e := range s.free {
		ending.Go(e.Kill)
	}
	ending.Wait()
	s.free = nil
}

// taken is an engine that a replica has, at the replica's address.
type taken struct {
	*engine.Engine
	forwarder *forwarder
	peak      float64
}

// Benchmark returns at once what the simulator takes for KAITO's result, which a
// benchmark of minutes would come to.
func (t *taken) Benchmark(context.Context, time.Duration) float64 { return t.peak }

// Stop takes no more connections from the beginning on, as vLLM does.
func (t *taken) Stop(grace time.Duration) {
	t.forwarder.refuse()
	t.Engine.Stop(grace)
	t.forwarder.close()
}

func (t *taken) Kill() {
	t.forwarder.refuse()
	t.Engine.Kill()
	t.forwarder.close()
}
