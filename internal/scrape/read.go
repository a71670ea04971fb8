package scrape

import (
	"container/heap"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// schedule enters a new target. It needs mu, and reports whether the target is
// the next to be read.
func (r *Reader) schedule(t *target, now time.Time) bool {
	id := t.id
	if page := t.set.page; page != (policy.Page{}) {
		// Another page of the same pod has its own moment.
		id = fmt.Sprint(id, page)
	}
	t.due = dueAfter(now.Sub(r.epoch), offset(id, r.cfg.Interval), r.cfg.Interval)
	heap.Push(&r.byDue, t)
	r.metrics.targets.Inc()
	return t.index == 0
}

// startDue starts all scrapes that are due and returns how long it is to the
// next.
func (r *Reader) startDue(ctx context.Context, running *sync.WaitGroup) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Since(r.epoch)
	r.handOver(now)
	for t := r.quick.next(); t != nil; t = r.quick.next() {
		r.start(ctx, running, t, now)
	}
	for len(r.byDue) > 0 && r.byDue[0].due <= now {
		t := r.byDue[0]
		// A process that slept through several turns takes one of them.
		t.due = dueAfter(max(now, t.due), t.due%r.cfg.Interval, r.cfg.Interval)
		heap.Fix(&r.byDue, 0)
		if t.inFlight {
			r.metrics.late.Inc()
			continue
		}
		t.inFlight = true
		if r.poolOf(t).enter(t) {
			r.start(ctx, running, t, now)
		}
	}
	if len(r.byDue) == 0 {
		return time.Hour
	}
	return r.byDue[0].due - now
}

func (r *Reader) poolOf(t *target) *pool {
	if t.slow {
		return &r.slow
	}
	return &r.quick
}

// start needs mu.
func (r *Reader) start(ctx context.Context, running *sync.WaitGroup, t *target, now time.Duration) {
	t.began = now
	running.Go(func() { r.work(ctx, t) })
}

// work reads t, and then whoever waited for its slot.
func (r *Reader) work(ctx context.Context, t *target) {
	for t != nil {
		if ctx.Err() == nil {
			r.scrape(ctx, t)
		}
		t = r.done(t)
	}
}

// done notes that a scrape has ended and gives its slot to the next.
func (r *Reader) done(t *target) (next *target) {
	hangs := t.reason() == Timeout
	now := time.Since(r.epoch)
	r.mu.Lock()
	defer r.mu.Unlock()
	pool := t.pool
	t.inFlight, t.pool, t.slow = false, nil, hangs || now-t.began > slowAfter
	t.attempted = true
	r.sweepOver(t)
	if next = pool.leave(); next != nil {
		next.began = now
	}
	return next
}

// scratch is the memory of one page being read.
type scratch struct {
	decoder
	small []byte
}

// read reads one pod's page and keeps what it says.
func (r *Reader) read(ctx context.Context, t *target) {
	start := time.Now()
	r.mu.Lock()
	sel, keep := t.set.selector, t.set.keep
	r.mu.Unlock()
	query := t.filter.query(sel, start)
	p, err := r.fetch(ctx, t, sel, query, start.Add(t.timeout))
	switch {
	case query != "" && t.filter.harms(&p, err):
		p, err = r.fetch(ctx, t, sel, "", start.Add(t.timeout))
	case query == "" && err == nil:
		t.filter.sawWhole(&p, sel)
	}
	for _, is := range p.flaws {
		r.metrics.flawed.WithLabelValues(flawReasons[is]).Inc()
	}
	if err == nil {
		t.filter.addNames(&p, sel, start)
		if f := t.took(&p, keep); f != nil {
			err = f
		}
	}
	r.note(t, start, err)
}

// fetch gets and decodes one page.
func (r *Reader) fetch(ctx context.Context, t *target, sel *selector, query string, deadline time.Time) (p reading, err error) {
	err = r.client.get(ctx, &t.link, query, deadline, func(resp *http.Response, began time.Time) error {
		s := r.scratch.Get().(*scratch)
		defer r.scratch.Put(s)
		s.reset(sel)
		s.gather = query == "" && t.filter.namesDue(sel, began)
		if f := r.readBody(s, resp); f != nil {
			return f
		}
		like := t.last()
		first := like == nil
		if first {
			like = sel.like.Load()
		}
		var f *Failure
		if p, f = s.decode(began, like); f != nil {
			return f
		}
		if first {
			sel.like.Store(p.sample)
		}
		return nil
	})
	return p, err
}

func (r *Reader) readBody(s *scratch, resp *http.Response) *Failure {
	openMetrics, f := checkResponse(resp)
	if f != nil {
		return f
	}
	s.openMetrics = openMetrics
	return s.readLines(resp.Body, s.small, r.chunks, r.cfg.MaxBytes)
}

// note counts how a scrape ended, and tells of it if that is news.
func (r *Reader) note(t *target, start time.Time, err error) {
	f := failureOf(err)
	if f.reason() == Stopped {
		return
	}
	r.metrics.duration.Observe(time.Since(start).Seconds())
	is := f.reason()
	if is != OK {
		r.metrics.failures.WithLabelValues(string(is)).Inc()
	}
	now := time.Now()
	end := t.ended(f, now)
	if end.news {
		if end.before != OK {
			r.metrics.failing.WithLabelValues(string(end.before)).Dec()
		}
		if is != OK {
			r.metrics.failing.WithLabelValues(string(is)).Inc()
		}
	}
	if is == Local && r.lack.news(now) {
		r.cfg.Log.Info("pods can't be read for want of something that the scaler needs itself", "reason", string(is), "words", f.Error())
	}
	if end.tell {
		r.tell(t, is, f, end.leftOut)
	}
}

// tell of a transition, and of how many weren't told before it.
func (r *Reader) tell(t *target, reason Reason, f *Failure, leftOut int) {
	words := "readable again"
	if f != nil {
		words = f.Error()
	}
	log := r.cfg.Log.WithValues("namespace", t.set.key.Namespace, "inferenceSet", t.set.key.Name,
		"pod", t.pod, "reason", string(reason), "words", words)
	if leftOut > 0 {
		log = log.WithValues("changesLeftOut", leftOut)
	}
	log.Info("pod's metrics page")
}

// handOver lets scrapes that turn out to be slow go on in the slow pool, if all slots
// of the quick one are taken: 10 000 pods may come to hang in the same second, and
// nobody knew. It needs mu.
func (r *Reader) handOver(now time.Duration) {
	if r.quick.busy < r.quick.limit || now-r.handedOver < handOverEvery {
		return
	}
	r.handedOver = now
	for _, t := range r.byDue {
		if t.pool == &r.quick && now-t.began > slowAfter {
			t.pool = &r.slow
			r.quick.busy--
			r.slow.busy++
		}
	}
}
