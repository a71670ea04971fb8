// Package scrape reads the metrics pages of all replicas' pods, each once an
// interval, and keeps what they said in memory.
package scrape

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// Config is how to read. Zero fields take their default.
type Config struct {
	// Interval is how often each pod is read, 1 s – 60 s, 5 s by default.
	Interval time.Duration
	// Timeout bounds a scrape from connecting to its last byte: above 0, at
	// most Interval, 2 s by default (or Interval, if that is less).
	Timeout time.Duration
	// MaxBytes bounds a page, unpacked, 8 MiB by default.
	MaxBytes int64
	// Grace is handed on in every Fleet, 10 min by default.
	Grace time.Duration
	// Log gets transitions only.
	Log logr.Logger
	// Registerer gets the metrics; nil registers them nowhere.
	Registerer prometheus.Registerer
	// Transition, if not nil, hears of a pod that turned unreadable for a
	// reason other than before, or readable again: Reason OK. It must not
	// block.
	Transition func(key types.NamespacedName, pod string, reason Reason, words string)
}

// Validate fills in the defaults and refuses what is out of range.
func (c *Config) Validate() error {
	if c.Interval == 0 {
		c.Interval = 5 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = min(2*time.Second, c.Interval)
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 8 << 20
	}
	if c.Grace == 0 {
		c.Grace = 10 * time.Minute
	}
	switch {
	case c.Interval < time.Second || c.Interval > time.Minute:
		return fmt.Errorf("scrape interval %v is out of range: it must be from 1s to 1m", c.Interval)
	case c.Timeout < 0 || c.Timeout > c.Interval:
		return fmt.Errorf("scrape timeout %v is out of range: it must be above 0 and at most the interval, %v", c.Timeout, c.Interval)
	case c.MaxBytes < 0:
		return fmt.Errorf("scrape limit of %d bytes is out of range: it must be above 0", c.MaxBytes)
	}
	return nil
}

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
	sets map[types.NamespacedName]*set
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

// set is the fleet of one InferenceSet. Its fields are guarded by the Reader's
// mu; selector is immutable.
type set struct {
	key      types.NamespacedName
	desired  int32
	replicas []kaito.Replica
	// targets[i] reads replicas[i]; nil if that isn't to be read.
	targets []*target
	// want are the families that selector was made for.
	want     []string
	selector *selector
	keep     time.Duration
}

// New makes a Reader of a configuration that Validate accepts; it panics on any
// other.
func New(cfg Config) *Reader {
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	r := &Reader{
		cfg:       cfg,
		client:    newClient(),
		chunks:    newChunks(64),
		metrics:   newMetrics(cfg.Registerer),
		wake:      make(chan struct{}, 1),
		epoch:     time.Now(),
		sets:      map[types.NamespacedName]*set{},
		selectors: map[string]*sharedSelector{},
		quick:     lane{limit: perLane},
		suspects:  lane{limit: perLane},
	}
	r.scratch.New = func() any { return &scratch{small: make([]byte, smallChunk)} }
	r.scrape = r.read
	return r
}

// Set tells who the members of a fleet are, and which families, by exact name,
// their pages are read for. Every replica that is Serving and has an address
// is read within one interval from now; one that no longer is, isn't any more.
func (r *Reader) Set(key types.NamespacedName, desired int32, replicas []kaito.Replica, readings []policy.Reading) {
	var want []string
	for _, reading := range readings {
		want = append(want, reading.Families...)
	}
	now := time.Now()
	r.mu.Lock()
	s := r.sets[key]
	if s == nil {
		s = &set{key: key}
		r.sets[key] = s
	}
	old := s.targets
	s.desired, s.replicas, s.targets = desired, slices.Clone(replicas), make([]*target, len(replicas))
	r.share(s, want)
	earlier := false
	for i := range s.replicas {
		rep := &s.replicas[i]
		if rep.Phase != decision.Serving || rep.UID == "" || !rep.Address.IsValid() {
			continue
		}
		t := find(old, rep)
		if t == nil {
			t = &target{link: link{addr: rep.Address}, id: string(rep.UID), pod: rep.Pod, set: s, index: -1}
			earlier = r.schedule(t, now) || earlier
		}
		t.see(rep, now)
		s.targets[i] = t
	}
	gone := r.leaveOut(old, s.targets)
	r.mu.Unlock()
	dropAll(gone)
	if earlier {
		r.wakeUp()
	}
}

// Remember sets how far back the histories of a fleet reach: its longest
// window. Without it they hold the newest sample alone.
func (r *Reader) Remember(key types.NamespacedName, window time.Duration) error {
	if err := decision.CheckWindow(window); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sets[key]
	if s == nil {
		return fmt.Errorf("InferenceSet %s isn't being read", key)
	}
	// A window that is just full needs the sample before it.
	s.keep = window + r.cfg.Interval
	return nil
}

// sharedSelector counts the fleets that use it.
type sharedSelector struct {
	selector *selector
	users    int
}

// share gives s the selector of these families. It needs mu.
func (r *Reader) share(s *set, want []string) {
	if s.selector != nil && slices.Equal(s.want, want) {
		return
	}
	r.unshare(s)
	// No name holds a newline.
	families := strings.Join(want, "\n")
	shared := r.selectors[families]
	if shared == nil {
		shared = &sharedSelector{selector: newSelector(want)}
		r.selectors[families] = shared
	}
	shared.users++
	s.want, s.selector = slices.Clone(want), shared.selector
}

// unshare needs mu.
func (r *Reader) unshare(s *set) {
	families := strings.Join(s.want, "\n")
	if shared := r.selectors[families]; shared != nil && shared.selector == s.selector {
		if shared.users--; shared.users == 0 {
			delete(r.selectors, families)
		}
	}
}

// find is the target that reads that very pod at that address.
func find(targets []*target, rep *kaito.Replica) *target {
	for _, t := range targets {
		if t != nil && t.id == string(rep.UID) && t.link.addr == rep.Address {
			return t
		}
	}
	return nil
}

// Forget drops a fleet.
func (r *Reader) Forget(key types.NamespacedName) {
	r.mu.Lock()
	var gone []*target
	if s := r.sets[key]; s != nil {
		gone = r.leaveOut(s.targets, nil)
		r.unshare(s)
		delete(r.sets, key)
	}
	r.mu.Unlock()
	dropAll(gone)
}

// leaveOut takes those of old that aren't in now off the schedule. It needs mu.
func (r *Reader) leaveOut(old, now []*target) (gone []*target) {
	for _, t := range old {
		if t == nil || slices.Contains(now, t) {
			continue
		}
		t.gone = true
		if t.index >= 0 {
			heap.Remove(&r.calendar, t.index)
		}
		if !t.attempted {
			r.fresh--
		}
		r.metrics.targets.Dec()
		if reason := t.retire(); reason != OK {
			r.metrics.failing.WithLabelValues(string(reason)).Dec()
		}
		gone = append(gone, t)
	}
	return gone
}

func dropAll(targets []*target) {
	for _, t := range targets {
		t.link.drop()
	}
}

// Fleet is what is known of the fleet at this moment. It never waits for a
// pod. ok is false for one that isn't read.
func (r *Reader) Fleet(key types.NamespacedName, _ policy.Page) (fleet decision.Fleet, ok bool) {
	r.mu.Lock()
	s := r.sets[key]
	if s == nil {
		r.mu.Unlock()
		return decision.Fleet{}, false
	}
	// Set replaces both slices whole.
	desired, replicas, targets := s.desired, s.replicas, s.targets
	r.mu.Unlock()

	fleet = decision.Fleet{
		Desired:   desired,
		Replicas:  make([]decision.Replica, len(replicas)),
		Freshness: freshIntervals * r.cfg.Interval,
		Grace:     r.cfg.Grace,
	}
	for i := range replicas {
		from, to := &replicas[i], &fleet.Replicas[i]
		to.Pod, to.Phase, to.ReadySince = from.Pod, from.Phase, from.Since
		if to.Pod == "" {
			to.Pod = from.Workspace
		}
		switch {
		case targets[i] != nil:
			targets[i].fill(to)
		case from.Phase == decision.Serving:
			to.Expected = from.Since
			to.Failure = "the pod has no address"
		default:
			to.Failure = from.Why
		}
	}
	return fleet, true
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
	for _, s := range r.sets {
		for _, t := range s.targets {
			if t != nil {
				all = append(all, t)
			}
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
