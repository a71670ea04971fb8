package leader

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Manager is one of which it is known when all that was added to it has ended. A
// manager that loses its Lease doesn't wait for what it runs.
type Manager struct {
	manager.Manager

	// mu guards running: what was started and hasn't ended.
	mu      sync.Mutex
	running map[*runnable]struct{}
	// ended is closed, and made anew, when something ends.
	ended chan struct{}
}

// Track returns a manager to add to instead.
func Track(mgr manager.Manager) *Manager {
	return &Manager{Manager: mgr, running: map[*runnable]struct{}{}, ended: make(chan struct{})}
}

// Add implements manager.Manager.
func (m *Manager) Add(r manager.Runnable) error {
	return m.Manager.Add(&runnable{Runnable: r, manager: m}) //nolint:wrapcheck // as if there were no wrapper
}

// Wait waits until all that was started has ended, but not longer than the
// timeout, and returns what goes on.
func (m *Manager) Wait(timeout time.Duration) (left []string) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		left, ended := m.left()
		if len(left) == 0 {
			return nil
		}
		select {
		case <-ended:
		case <-deadline.C:
			return left
		}
	}
}

func (m *Manager) left() (names []string, ended <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for r := range maps.Keys(m.running) {
		names = append(names, fmt.Sprintf("%T", r.Runnable))
	}
	slices.Sort(names)
	return names, m.ended
}

// runnable is one whose end is noticed.
type runnable struct {
	manager.Runnable
	manager *Manager
}

// NeedLeaderElection implements manager.LeaderElectionRunnable. What doesn't say
// needs it.
func (r *runnable) NeedLeaderElection() bool {
	says, ok := r.Runnable.(manager.LeaderElectionRunnable)
	return !ok || says.NeedLeaderElection()
}

// Start implements manager.Runnable.
func (r *runnable) Start(ctx context.Context) error {
	m := r.manager
	m.mu.Lock()
	m.running[r] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.running, r)
		close(m.ended)
		m.ended = make(chan struct{})
	}()
	return r.Runnable.Start(ctx) //nolint:wrapcheck // as if there were no wrapper
}
