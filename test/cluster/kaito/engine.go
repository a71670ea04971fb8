package kaito

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
)

// Engine is a real vLLM that serves at a simulated pod's address in its place:
// *engine.Engine of test/engine.
type Engine interface {
	// AwaitReady waits until /health answers 200.
	AwaitReady(ctx context.Context) error
	// Benchmark loads the engine for that long and returns how many tokens a minute it
	// worked off.
	Benchmark(ctx context.Context, d time.Duration) (tokensPerMinute float64)
	// Suspend stops its processes until Resume.
	Suspend() error
	Resume() error
	// Stop asks it to end and kills it after the grace period. It returns once it has
	// ended, and so does Kill. Each may be called more than once.
	Stop(grace time.Duration)
	Kill()
	// Done is closed once it has ended, Err says why if nobody asked for it.
	Done() <-chan struct{}
	Err() error
}

// VLLM is what Options.Engines takes to start installed vLLM on GPUs of that kind. Each
// has a folder of its own in dir, named after its address.
func VLLM(installed engine.Installation, gpu simulate.Engine, dir string) func(ip string) (Engine, error) {
	return func(ip string) (Engine, error) {
		own := filepath.Join(dir, ip)
		if err := os.MkdirAll(own, 0o700); err != nil {
			return nil, err
		}
		e, err := installed.Start(engine.Options{Physics: gpu, IP: ip, Dir: own})
		if err != nil {
			return nil, err // and not a nil *engine.Engine, which is no nil Engine
		}
		return e, nil
	}
}

// errNoEngineDoesThat is for a failure that only a simulated pod can be made to have.
var errNoEngineDoesThat = errors.New("a real engine can't be made to fail like that")

// run is a container with a real engine in it, from its start to its end.
type run struct {
	Engine
	cancel context.CancelFunc
	// over is closed once the engine and all that watches it have ended.
	over chan struct{}
}

// launch starts a replica's engine at its first pod's address, where nobody listens
// any more. What happens to it makes the controller look again.
//
//nolint:contextcheck,nolintlint // an engine outlives the reconcile that started it; this spares its callers
func (k *KAITO) launch(r *replica) error {
	started, err := r.engines(r.first.IP())
	if err != nil {
		return fmt.Errorf("starting an engine: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	this := &run{Engine: started, cancel: cancel, over: make(chan struct{})}
	k.mu.Lock()
	r.engine, r.healthy, r.measured = this, false, false
	benchmark := r.startup.Benchmark
	k.mu.Unlock()
	go func() {
		defer close(this.over)
		k.watch(ctx, r, this, benchmark)
	}()
	return nil
}

// watch tells the replica what becomes of its engine.
func (k *KAITO) watch(ctx context.Context, r *replica, this *run, benchmark time.Duration) {
	tell := func(change func()) {
		k.mu.Lock()
		current := r.engine == this
		if current {
			change()
		}
		k.mu.Unlock()
		if current {
			k.look(r.set)
		}
	}
	if err := this.AwaitReady(ctx); err == nil {
		tell(func() { r.healthy = true })
		peak := 0.0
		if benchmark > 0 {
			peak = this.Benchmark(ctx, benchmark)
		}
		tell(func() { r.measured, r.peak = true, max(peak, r.peak) })
	}
	<-this.Done()
	tell(func() {
		if err := this.Err(); err != nil && !r.dying {
			k.log.Error(err, "an engine ended", "workspace", r.workspace)
			r.fail(Restart, time.Now())
		}
	})
}

// end ends it within the grace period and waits for that.
func (e *run) end(grace time.Duration) {
	e.cancel()
	if grace > 0 {
		e.Stop(grace)
	} else {
		e.Kill()
	}
	<-e.over
}

// adjustEngine brings a replica's engine to what its fields say.
func (k *KAITO) adjustEngine(r *replica, was, is adjustment) error {
	k.mu.Lock()
	current, dying, grace := r.engine, r.dying, k.optionsOf(r.set).Termination
	k.mu.Unlock()
	switch {
	case dying:
		if current != nil && !was.dying {
			r.ending.Go(func() {
				current.end(grace)
				k.look(r.set)
			})
		}
		return nil
	case current != nil && (is.restarts != was.restarts || is.down):
		current.end(0)
		k.mu.Lock()
		r.engine = nil
		k.mu.Unlock()
		current = nil
	}
	if current == nil {
		if is.stage < StartingEngine || is.down {
			return nil
		}
		return k.launch(r)
	}
	switch {
	case is.frozen && !was.frozen:
		return current.Suspend()
	case was.frozen && !is.frozen:
		return current.Resume()
	}
	return nil
}

// ended says whether a replica's engine, if it has a real one, has ended.
func (r *replica) ended() bool {
	if r.engine == nil {
		return r.engines != nil
	}
	select {
	case <-r.engine.Done():
		return true
	default:
		return false
	}
}
