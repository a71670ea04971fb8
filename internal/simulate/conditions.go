package simulate

import (
	"errors"
	"fmt"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Conditions are what a world may have beside its load: clients, pods, pages and
// clusters that aren't as a policy would like them. The zero value has none of it.
type Conditions struct {
	Retries Retries
	// Patience is how long a client waits for the first token before it goes away;
	// 0 for ever. In steps alone.
	Patience  time.Duration
	LatePages LatePages
	Flaps     Flaps
	Crashes   Crashes
	NoQuota   NoQuota
	// Asleep of the first replicas sleep: they are Ready, and take no requests.
	Asleep int32
	// Missing are families that no page has.
	Missing []string
	// Unmeasured is set if KAITO's benchmark tells nobody how fast a replica is.
	Unmeasured bool
	// MeasuredAfter is when it tells; 0 from the start on.
	MeasuredAfter time.Duration
	// NoTolerance is Kubernetes before 1.35, whose HPA keeps to a tenth both ways.
	NoTolerance bool
	// EnginesPerPod is how many of its engines a replica has behind one page; 0 and 1
	// for one.
	EnginesPerPod int
	// Sessions make prompts begin as others did, in steps alone, and Routing may
	// follow them.
	Sessions Sessions
	Routing  Routing
	// Nodes of a replica start each for itself, and each has a GPU; 0 and 1 for one.
	Nodes int
}

// Retries are clients that send a refused request again, as OpenAI's do by default
// twice: first after a time, then after twice that, up to 16 times, and up to a
// quarter less.
type Retries struct {
	Times int
	After time.Duration
}

// LatePages are those of pods that are short of CPU under load: a page takes so long
// while at least so many requests wait there.
type LatePages struct {
	Waiting int
	Takes   time.Duration
}

// Flaps are pods that turn NotReady, one at a time: each so long, at such intervals.
type Flaps struct{ Every, For time.Duration }

// Crashes are engines that end, one at a time at such intervals, and are started
// again by the kubelet: their requests are lost, and their counters begin anew.
type Crashes struct{ Every, Restart time.Duration }

// NoQuota is a time in which replicas that are ordered are Broken. At its end they
// start.
type NoQuota struct{ From, For time.Duration }

// scrapeTimeout is the scaler's default.
const scrapeTimeout = scrapeInterval / 10 * 9

// check refuses what can't be played.
func (s *Setting) check(load *Load) error {
	c := &s.Conditions
	if !s.Steps {
		what := s.Engine.needsSteps()
		switch {
		case what != "":
			return fmt.Errorf("engine %s has %s, which is played in steps alone", s.Engine.Name, what)
		case load.Cancels != nil:
			return fmt.Errorf("%s has clients that cancel, which are played in steps alone", load.Name)
		case c.Patience > 0:
			return errors.New("clients that lose patience are played in steps alone")
		case c.Sessions.Shared > 0:
			return errors.New("a prefix cache is played in steps alone")
		}
	}
	if c.Flaps.Every > 0 && c.Flaps.For <= 0 || c.Crashes.Every > 0 && c.Crashes.Restart <= 0 {
		return fmt.Errorf("flaps of %v and restarts of %v: each must last", c.Flaps.For, c.Crashes.Restart)
	}
	return nil
}

// due tells whether one of a series at such intervals, the first after half of one,
// falls into the scrape interval that ends now.
func due(every time.Duration, now time.Time) bool {
	if every <= 0 {
		return false
	}
	since := now.Sub(start) + every/2
	return since%every < scrapeInterval && since >= every
}

// disturb lets pods flap and engines crash, and both recover.
func (r *run) disturb(now time.Time) {
	if r.Flaps.Every == 0 && r.Crashes.Every == 0 {
		return
	}
	for _, replica := range r.serving {
		if replica.back.IsZero() || replica.back.After(now) {
			continue
		}
		replica.readySince, replica.back = now, time.Time{}
		if replica.engine == nil {
			replica.engine = r.machine(now.Sub(start).Seconds())
			replica.starts++
		}
	}
	if victim := r.victim(due(r.Flaps.Every, now)); victim != nil {
		victim.back, victim.readySince = now.Add(r.Flaps.For), time.Time{}
	}
	if victim := r.victim(due(r.Crashes.Every, now)); victim != nil {
		victim.back, victim.readySince = now.Add(r.Crashes.Restart), time.Time{}
		for _, id := range victim.engine.unfinished() {
			r.tally.lost(id)
		}
		victim.engine = nil
	}
	r.connect()
}

// victim is a replica that is well, nil if none is, or none is wanted.
func (r *run) victim(wanted bool) *replica {
	if !wanted {
		return nil
	}
	var well []*replica
	for _, replica := range r.serving {
		if replica.back.IsZero() {
			well = append(well, replica)
		}
	}
	if len(well) == 0 {
		return nil
	}
	return well[r.rand.IntN(len(well))]
}

// broken tells whether a replica lacks quota.
func (r *run) broken(replica *replica, now time.Time) bool {
	from := start.Add(r.NoQuota.From)
	return !replica.ordered.Before(from) && now.Before(from.Add(r.NoQuota.For))
}

// latePage reads a page that takes long: one that is in time after all is there at the
// next scrape, as it was when it was asked for. It tells whether the page takes long.
func (r *run) latePage(replica *replica, now time.Time) bool {
	if replica.pending != nil {
		replica.history.Add(replica.pending, r.scaler.Window)
		replica.pending = nil
	}
	if r.LatePages.Takes == 0 {
		return false
	}
	if _, waiting := replica.engine.occupied(); waiting < r.LatePages.Waiting {
		return false
	}
	if r.LatePages.Takes > scrapeTimeout {
		replica.failure, replica.timedOut = "its page took too long", now
		return true
	}
	replica.failure = ""
	replica.pending = r.read(replica, now.Add(r.LatePages.Takes))
	return true
}

// read is a replica's page.
func (r *run) read(replica *replica, at time.Time) *sample.Sample {
	sample := replica.engine.read(r.names, at, replica.history.Newest())
	sample.ProcessStart += float64(replica.starts)
	sample.Restarts = replica.starts
	return sample
}
