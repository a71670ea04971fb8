package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// soak is one run.
type soak struct {
	options options
	out     io.Writer
	fleets  []*fleet

	stack *stack.Stack
	site  *site
	asker *asker
	start time.Time // when everything was there
	end   time.Time

	// away lets the API server be away once at a time.
	away sync.Mutex

	// mu guards what follows.
	mu      sync.Mutex
	done    map[deedKind]int
	futile  int // deeds that befell nobody
	moves   int
	back    int // of them the HPA's own, to what KAITO had not followed yet
	wrong   []string
	pods    int
	samples map[string][]sample
	leaves  map[string]map[string]bool // certificates seen, by Secret
	events  map[string]int             // how often each was told, by UID
	// before is how many events there were when they were counted first.
	before   int
	counting time.Time
	lost     []string       // KEDA's calls without an answer
	errors   map[string]int // of the scalers' logs, how often each
}

func newSoak(o options, out io.Writer) *soak {
	s := &soak{
		options: o, out: out, done: map[deedKind]int{}, samples: map[string][]sample{},
		leaves: map[string]map[string]bool{}, events: map[string]int{}, errors: map[string]int{},
	}
	for i := range o.sets {
		s.fleets = append(s.fleets, newFleet(i, o.seed))
	}
	return s
}

func (s *soak) say(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format+"\n", args...) }

// run does everything and ends everything. What was seen stays in s.
func (s *soak) run(ctx context.Context) (err error) {
	s.stack, err = stack.Start(ctx, stack.Options{
		NoScaler: true,
		KAITO: kaito.Options{
			Startup:     kaito.Stages{Node: 2 * time.Second, Download: 2 * time.Second, Engine: 10 * time.Second, Benchmark: time.Second},
			Termination: 5 * time.Second,
			Seed:        s.options.seed,
		},
		Out: s.out,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop(err != nil && ctx.Err() == nil)) }()
	front, err := stack.NewFront(ctx)
	if err != nil {
		return err
	}
	front.SkipDead = true
	s.site = newSite(s.stack, front)
	// The anchor comes second, so that the first leader is one that may be killed.
	for _, name := range []string{"scaler-a", anchor, "scaler-b"} {
		if err := s.site.start(ctx, name); err != nil {
			return err
		}
	}
	if s.asker, err = newAsker(ctx, s.stack, front.Address()); err != nil {
		return err
	}
	if err := s.fill(ctx); err != nil {
		return err
	}
	return s.live(ctx)
}

// stop ends everything, and takes what can only be seen at the end.
func (s *soak) stop(dump bool) error {
	if s.end.IsZero() {
		s.end = time.Now()
	}
	for _, f := range s.fleets {
		f.end()
	}
	if s.asker != nil {
		s.asker.close()
	}
	if dump {
		s.stack.DumpLogs(s.out, 15)
	}
	if s.site != nil {
		s.site.close()
	}
	return errors.Join(s.stack.Stop(), s.stack.Err())
}

// fill makes the InferenceSets.
func (s *soak) fill(ctx context.Context) error {
	s.say("making %d InferenceSets", len(s.fleets))
	for i := range namespaces {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceOf(i)}}
		if err := s.stack.Client.Create(ctx, namespace); err != nil {
			return fmt.Errorf("make a namespace: %w", err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, f := range s.fleets {
		f.begin(s.stack.KAITO)
		group.Go(func() error { return s.join(ctx, f) })
	}
	return group.Wait()
}

// join makes the InferenceSet of a fleet.
func (s *soak) join(ctx context.Context, f *fleet) error {
	if f.limits.mode.real() {
		s.stack.KAITO.Adapt(f.Namespace, f.Name, func(o *kaito.Options) { o.Model = small() })
	}
	if err := s.stack.Client.Create(ctx, f.object()); err != nil {
		return fmt.Errorf("make InferenceSet %s: %w", f.NamespacedName, err)
	}
	return nil
}

// live lets everything run for the time that is asked for.
func (s *soak) live(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	every := func(interval time.Duration, do func(context.Context)) {
		running.Go(func() { repeat(ctx, interval, do) })
	}
	every(time.Second, func(context.Context) {
		now := time.Now()
		for _, f := range s.fleets {
			f.tick(s.stack.KAITO, now)
		}
	})
	every(3*time.Second, s.watch)
	every(15*time.Second, s.learnReferences)
	if err := s.settle(ctx); err != nil {
		return err
	}

	s.mu.Lock()
	s.start = time.Now()
	s.mu.Unlock()
	log, err := os.Stat(s.stack.Process("keda-operator").LogFile())
	if err != nil {
		return err
	}
	defer func() { s.readLogs(log.Size()) }()
	every(10*time.Second, s.measure)
	every(5*time.Second, s.watchCertificates)
	every(time.Minute, s.countEvents)
	every(askEvery/time.Duration(len(s.fleets)), s.askNext(&running))
	running.Go(func() { s.misbehave(ctx) })

	defer func() { s.end = time.Now() }()
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	over := time.NewTimer(s.options.length)
	defer over.Stop()
	s.say("%s: everything is there, and from now on it goes wrong for %s", time.Now().Format(time.TimeOnly), s.options.length)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stack.Failed():
			return s.stack.Err()
		case <-over.C:
			return nil
		case <-minute.C:
			s.say("%s", s.progress())
		}
	}
}

// askEvery is how often the soak asks about each fleet, as KEDA's default does.
const askEvery = 30 * time.Second

// repeat does something now, and at an interval until ctx ends.
func repeat(ctx context.Context, interval time.Duration, do func(context.Context)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		do(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// settle waits until every fleet has its ScaledObject and its replicas.
func (s *soak) settle(ctx context.Context) error {
	const patience = 15 * time.Minute
	begun := time.Now()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for second := 1; ; second++ {
		missing := 0
		for _, f := range s.fleets {
			if f.asked() == nil || len(s.stack.KAITO.Serving(f.Namespace, f.Name)) == 0 {
				missing++
			}
		}
		switch {
		case missing == 0:
			return nil
		case time.Since(begun) > patience:
			return fmt.Errorf("%d InferenceSets have no ScaledObject or no replica after %s", missing, patience)
		case second%15 == 0:
			s.say("  %d of %d have a ScaledObject and a replica that serves", len(s.fleets)-missing, len(s.fleets))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stack.Failed():
			return s.stack.Err()
		case <-ticker.C:
		}
	}
}

// askNext asks about one fleet after another, each without waiting for the last.
func (s *soak) askNext(running *sync.WaitGroup) func(context.Context) {
	turn := 0
	atOnce := make(chan struct{}, 64)
	return func(ctx context.Context) {
		f := s.fleets[turn%len(s.fleets)]
		turn++
		ref := f.asked()
		// One that was made just now need not be known yet.
		if ref == nil || f.age(time.Now()) < askEvery {
			return
		}
		select {
		case atOnce <- struct{}{}:
		case <-ctx.Done():
			return
		}
		running.Go(func() {
			defer func() { <-atOnce }()
			s.asker.ask(ctx, ref)
		})
	}
}
