package scrape

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Set tells who the members of a fleet are, and what is read of them, one
// Reading for each page. Every replica that is Serving and has an address is
// read within one interval from now; one that no longer is, isn't any more.
// What is known of a page stays known when other families or another window of
// it are asked for.
func (r *Reader) Set(key types.NamespacedName, desired int32, replicas []kaito.Replica, readings []policy.Reading) {
	now := time.Now()
	r.mu.Lock()
	f := r.fleets[key]
	if f == nil {
		f = &fleet{key: key, desired: desired}
		r.fleets[key] = f
	}
	f.resize(desired, now)
	replicas = slices.Clone(replicas)
	anchor(replicas, f.replicas, now)
	f.replicas = replicas
	gone, earlier := r.setPages(f, readings, now)
	r.mu.Unlock()
	dropAll(gone)
	if earlier {
		r.wakeUp()
	}
}

// setPages brings the pages of a fleet up to date: there is one for each reading. It
// needs mu, and returns the targets that are left out, and whether a new one is the first
// to be read.
func (r *Reader) setPages(f *fleet, readings []policy.Reading, now time.Time) (gone []*target, earlier bool) {
	before := fleet{pages: f.pages}
	f.pages = make([]*pageSet, 0, len(readings))
	for _, reading := range readings {
		p := before.onPage(reading.Page)
		if p == nil {
			p = &pageSet{key: f.key, page: reading.Page}
		}
		f.pages = append(f.pages, p)
		left, first := r.setPage(p, f.replicas, reading, now)
		gone, earlier = append(gone, left...), earlier || first
	}
	for _, p := range before.pages {
		if !slices.Contains(f.pages, p) {
			gone = append(gone, r.leave(p)...)
		}
	}
	return gone, earlier
}

// setPage is setPages for one of them.
func (r *Reader) setPage(p *pageSet, replicas []kaito.Replica, reading policy.Reading, now time.Time) (gone []*target, earlier bool) {
	r.share(p, reading)
	p.keep = 0
	if reading.Window > 0 {
		// A window that is just full needs the sample before it.
		p.keep = reading.Window + r.cfg.Interval
	}
	old := p.targets
	// Fleet reads the old slice without mu.
	p.targets = make([]*target, len(replicas))
	for i := range replicas {
		rep := &replicas[i]
		if rep.Phase != sample.Serving || rep.UID == "" || !rep.Address.IsValid() {
			continue
		}
		t := find(old, rep, p.page)
		if t == nil {
			t = r.newTarget(p, rep)
			earlier = r.schedule(t, now) || earlier
		}
		t.see(rep, now)
		p.targets[i] = t
	}
	return r.leaveOut(old, p.targets), earlier
}

// newTarget is a page of a replica's pod, not scheduled yet.
func (r *Reader) newTarget(p *pageSet, rep *kaito.Replica) *target {
	t := &target{
		link:    link{addr: address(rep, p.page), path: cmp.Or(p.page.Path, "/metrics")},
		id:      string(rep.UID),
		pod:     rep.Pod,
		set:     p,
		timeout: r.cfg.Timeout,
		slot:    slot{index: -1},
	}
	if p.page.Timeout > 0 {
		t.timeout = min(p.page.Timeout, r.cfg.Interval)
	}
	if p.page.Scheme == "https" {
		service := rep.Workspace + "." + p.key.Namespace + ".svc"
		t.link.secure = r.secure(service, t.link.addr.Addr().String())
	}
	return t
}

// share gives p the selector of what is to be read. It needs mu.
func (r *Reader) share(p *pageSet, reading policy.Reading) {
	want := wish(reading)
	if p.selector != nil && p.want == want {
		return
	}
	r.unshare(p)
	shared := r.selectors[want]
	if shared == nil {
		shared = &sharedSelector{selector: newSelector(reading.Families, reading.Limits)}
		r.selectors[want] = shared
	}
	shared.users++
	p.want, p.selector = want, shared.selector
}

// unshare needs mu.
func (r *Reader) unshare(p *pageSet) {
	if shared := r.selectors[p.want]; shared != nil && shared.selector == p.selector {
		if shared.users--; shared.users == 0 {
			delete(r.selectors, p.want)
		}
	}
}

// Forget drops a fleet.
func (r *Reader) Forget(key types.NamespacedName) {
	r.mu.Lock()
	var gone []*target
	if f := r.fleets[key]; f != nil {
		for _, p := range f.pages {
			gone = append(gone, r.leave(p)...)
		}
		delete(r.fleets, key)
	}
	r.mu.Unlock()
	dropAll(gone)
}

// leave takes a whole page off the schedule. It needs mu.
func (r *Reader) leave(p *pageSet) (gone []*target) {
	r.unshare(p)
	return r.leaveOut(p.targets, nil)
}

// leaveOut takes those of old that aren't in now off the schedule. It needs mu.
func (r *Reader) leaveOut(old, now []*target) (gone []*target) {
	for _, t := range old {
		if t == nil || slices.Contains(now, t) {
			continue
		}
		t.gone = true
		if t.index >= 0 {
			heap.Remove(&r.byDue, t.index)
		}
		r.sweepOver(t)
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

// freshIntervals is how many intervals a sample speaks for its pod.
const freshIntervals = 3

// Fleet is what is known of the fleet by one page of its pods at this moment, or of
// its replicas alone by policy.NoPage. It never waits for a pod. ok is false for one
// that isn't read.
func (r *Reader) Fleet(key types.NamespacedName, page policy.Page) (known sample.Fleet, ok bool) {
	r.mu.Lock()
	f := r.fleets[key]
	if f == nil || page != policy.NoPage && f.onPage(page) == nil {
		r.mu.Unlock()
		return sample.Fleet{}, false
	}
	// Set replaces both slices whole.
	replicas := f.replicas
	targets := make([]*target, len(replicas))
	if page != policy.NoPage {
		targets = f.onPage(page).targets
	}
	known = sample.Fleet{
		Desired:     f.desired,
		Freshness:   freshIntervals * r.cfg.Interval,
		Interval:    r.cfg.Interval,
		Raised:      f.raised,
		Lowered:     f.lowered,
		NoTolerance: r.cfg.NoTolerance,
		Rises:       f.rises,
		Grace:       r.cfg.Grace,
	}
	r.mu.Unlock()

	known.PeakTokensPerMinute = peak(replicas)
	behindPolicy := isolated(replicas, targets, time.Now())
	known.Replicas = make([]sample.Replica, len(replicas))
	for i := range replicas {
		from, to := &replicas[i], &known.Replicas[i]
		to.Pod, to.Phase, to.Ordered, to.ReadySince = from.Pod, from.Phase, from.Ordered, from.Since
		to.Why, to.Overdue, to.Ended = from.Why, from.Overdue, from.Ended
		if to.Pod == "" {
			to.Pod = from.Workspace
		}
		switch {
		case targets[i] != nil:
			targets[i].fill(to)
			if behindPolicy && from.Phase == sample.Serving {
				to.Failure += isolationWords
			}
		case from.Phase == sample.Serving:
			to.Expected = from.Since
			to.Failure = cmp.Or(from.NoAddress, "the pod has no address")
		default:
			to.Failure = from.Why
		}
	}
	return known, true
}

// isolationWords are for a fleet whose kubelets reach every pod, and we none.
const isolationWords = ", as behind a NetworkPolicy that doesn't let the scaler's namespace in " +
	"(in KAITO's production stack, list it in networkPolicy.allowedIngressNamespaces)"

// isolated tells whether every serving replica of a fleet is Ready, and takes no
// connection of ours within the time that a scrape has. One that answers, refuses or
// is out of order itself is no sign of a NetworkPolicy.
func isolated(replicas []kaito.Replica, targets []*target, now time.Time) bool {
	serving := 0
	for i := range replicas {
		if replicas[i].Phase != sample.Serving {
			continue
		}
		if serving++; !replicas[i].Ready || targets[i] == nil || !targets[i].outOfReach(now) {
			return false
		}
	}
	return serving > 0
}

// peak is the mean of what the replicas' benchmarks measured, 0 if none tells.
func peak(replicas []kaito.Replica) float64 {
	sum, n := 0.0, 0.0
	for i := range replicas {
		if tokens := replicas[i].PeakTokensPerMinute; tokens > 0 {
			sum += tokens
			n++
		}
	}
	return sum / max(1, n)
}
