package scaler

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
)

const (
	// lateChecks is how many looks, of one a second, must find a part late: it has
	// a chance to go on first when a process wakes up that was suspended.
	lateChecks = 5
	// stuckChecks is how many looks may find the same call in flight. Each takes
	// well under two seconds.
	stuckChecks = 30
)

// Liveness is the health service that a kubelet's liveness probe names;
// the empty name is readiness.
const Liveness = "liveness"

// Watchdog tells whether the parts that a live process can't do without keep their
// time. Looks are counted: a process that was suspended for an hour made none. The
// zero value watches nothing.
type Watchdog struct {
	// mu guards parts.
	mu    sync.Mutex
	parts map[string]*part
}

type part struct {
	onTime func() bool
	// late is how many looks in a row have found it late.
	late int
}

// Add has a part watched from now on. OnTime must not wait for anything.
func (w *Watchdog) Add(name string, onTime func() bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.parts == nil {
		w.parts = map[string]*part{}
	}
	w.parts[name] = &part{onTime: onTime}
}

// check returns the parts that are late. It is to be called every second.
func (w *Watchdog) check() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var late []string
	for _, name := range slices.Sorted(maps.Keys(w.parts)) {
		p := w.parts[name]
		if p.onTime() {
			p.late = 0
			continue
		}
		if p.late++; p.late >= lateChecks {
			late = append(late, name)
		}
	}
	return late
}

// changing is on time as long as a value changes within so many looks.
func changing(value func() uint64) (onTime func() bool) {
	last, looks := value(), 0
	return func() bool {
		if now := value(); now != last {
			last, looks = now, 0
		}
		looks++
		return looks < stuckChecks
	}
}

// reportLiveness keeps liveness true to what it sees. It waits for nobody: it must go
// on if all else hangs.
func (w *Watchdog) reportLiveness(ctx context.Context, state *health.Server, log logr.Logger) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	live := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		late := w.check()
		if is := len(late) == 0; is != live {
			live = is
			status := healthgrpc.HealthCheckResponse_SERVING
			if live {
				log.Info("live again")
			} else {
				status = healthgrpc.HealthCheckResponse_NOT_SERVING
				log.Info("not live: a part makes no progress, the kubelet will restart the container", "late", late)
			}
			state.SetServingStatus(Liveness, status)
		}
	}
}

// calls are those in flight. Each takes well under two seconds, so that one which
// doesn't end is stuck, and all that come after it may be.
type calls struct {
	// mu guards what follows. Numbers grow.
	mu       sync.Mutex
	newest   uint64
	inFlight map[uint64]struct{}
}

func (c *calls) begin() (number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inFlight == nil {
		c.inFlight = map[uint64]struct{}{}
	}
	c.newest++
	c.inFlight[c.newest] = struct{}{}
	return c.newest
}

func (c *calls) end(number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inFlight, number)
}

// oldest is the number of the oldest call in flight, which changes when that ends;
// without one it is always another.
func (c *calls) oldest() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.inFlight) == 0 {
		c.newest++
		return c.newest
	}
	oldest := c.newest
	for number := range c.inFlight {
		oldest = min(oldest, number)
	}
	return oldest
}

func (c *calls) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	number := c.begin()
	defer c.end(number)
	return handler(ctx, req)
}
