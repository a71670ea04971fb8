package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// anchor is the scaler that is never killed: whether memory stays flat shows only
// in a process that lives.
const anchor = "anchor"

// site is the scalers behind one address.
type site struct {
	stack   *stack.Stack
	front   *stack.Front
	follows sync.WaitGroup

	// changing lets one scaler be replaced at a time, so that two are always there.
	changing sync.Mutex

	// mu guards what follows.
	mu      sync.Mutex
	scalers map[string]*member
	started int
	errs    []error
}

// member is a scaler, and what ends its place behind the address.
type member struct {
	*stack.Scaler
	leave context.CancelFunc
}

func newSite(s *stack.Stack, front *stack.Front) *site {
	return &site{stack: s, front: front, scalers: map[string]*member{}}
}

// start starts a scaler and waits until it is behind the address.
func (s *site) start(ctx context.Context, name string) error {
	// Connections of 30 s let KEDA ask every scaler, again and again.
	scaler, err := s.stack.StartScaler(ctx, name, "--scaler-address="+s.front.Address(), "--connection-age=30s")
	if err != nil {
		return err
	}
	run, leave := context.WithCancel(context.WithoutCancel(ctx))
	s.mu.Lock()
	s.scalers[name] = &member{Scaler: scaler, leave: leave}
	s.mu.Unlock()
	s.follows.Go(func() {
		if err := s.front.Follow(run, scaler); err != nil {
			s.note(fmt.Errorf("the probe of %s: %w", name, err))
		}
	})
	return s.stack.AwaitReady(ctx, scaler)
}

// note keeps an error for the end.
func (s *site) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, err)
}

func (s *site) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

// replace ends one scaler other than the anchor, killed or as a kubelet does it,
// and starts another.
func (s *site) replace(ctx context.Context, pick uint64, kill bool) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	victim, name := s.take(pick)
	if victim == nil {
		return errors.New("there is no scaler to replace")
	}
	var err error
	if kill {
		err = victim.Kill()
	} else {
		err = stopInTime(victim)
	}
	victim.leave()
	if err != nil {
		s.note(fmt.Errorf("%s: ending %s: %w", time.Now().Format(time.TimeOnly), name, err))
	}
	s.mu.Lock()
	s.started++
	next := fmt.Sprintf("scaler-%d", s.started)
	s.mu.Unlock()
	// The API server may be away just now; the replica would be started again.
	for {
		err := s.start(ctx, next)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		s.drop(next)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Second):
		}
	}
}

// stopInTime ends a scaler as a kubelet does, in less than its 30 s. One that
// doesn't end has to show where it hangs (SIGQUIT), in a file that stays.
func stopInTime(victim *member) error {
	const late, grace = 15 * time.Second, 20 * time.Second
	show := time.AfterFunc(late, func() {
		if process, err := os.FindProcess(victim.PID()); err == nil {
			_ = process.Signal(syscall.SIGQUIT)
		}
	})
	began := time.Now()
	err := victim.Stop(grace)
	if show.Stop() {
		return err
	}
	log, err := os.ReadFile(victim.LogFile())
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "soak-*.log")
	if err != nil {
		return err
	}
	_, err = file.Write(log)
	return errors.Join(fmt.Errorf("it took %s; its log is %s", time.Since(began).Round(time.Second), file.Name()), err, file.Close())
}

// take takes a victim out of the list.
func (s *site) take(pick uint64) (*member, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(s.scalers)), func(name string) bool { return name == anchor })
	if len(names) == 0 {
		return nil, ""
	}
	name := names[pick%uint64(len(names))]
	victim := s.scalers[name]
	delete(s.scalers, name)
	return victim, name
}

// drop ends a scaler that did not become ready.
func (s *site) drop(name string) {
	s.mu.Lock()
	m := s.scalers[name]
	delete(s.scalers, name)
	s.mu.Unlock()
	if m != nil {
		m.leave()
		_ = m.Kill()
	}
}

// members are the scalers as of now, by name.
func (s *site) members() map[string]*stack.Scaler {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]*stack.Scaler{}
	for name, m := range s.scalers {
		all[name] = m.Scaler
	}
	return all
}

// close ends all places behind the address. The processes end with the stack.
func (s *site) close() {
	s.mu.Lock()
	for _, m := range s.scalers {
		m.leave()
	}
	s.mu.Unlock()
	s.follows.Wait()
	s.front.Close()
}
