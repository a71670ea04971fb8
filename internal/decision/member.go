package decision

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// StartBudget is how long KAITO gives a replica to start: node, image, model
// and benchmark. One that takes longer is no longer counted on.
const StartBudget = 30 * time.Minute

// Member is a replica as a verdict saw it.
type Member struct {
	// Replica is its Workspace's name.
	Replica string
	Phase   Phase
	// Stuck says in words why it isn't coming or going: it is Broken, has been
	// Starting for longer than StartBudget, or is Terminating and overdue. "" for
	// all others.
	Stuck string
	// Asleep is set while its engine sleeps.
	Asleep bool
}

// Missing is a metric that no serving replica's page has.
type Missing struct {
	Metric string
	// Nearest is the name on the pages that is most like it, "" if none is.
	Nearest string
}

func members(fleet Fleet, now time.Time) []Member {
	all := make([]Member, len(fleet.Replicas))
	for i := range fleet.Replicas {
		r := &fleet.Replicas[i]
		all[i] = Member{Replica: r.name(), Phase: r.Phase, Stuck: r.stuck(now), Asleep: r.Asleep && r.Phase == Serving}
	}
	return all
}

// name is the Workspace's: its first pod is called so, with -0.
func (r *Replica) name() string { return strings.TrimSuffix(r.Pod, "-0") }

// stuck says why the replica isn't coming or going, "" if it is or has done so.
func (r *Replica) stuck(now time.Time) string {
	why := r.Why
	if why == "" {
		why = "KAITO gives no reason"
	}
	switch {
	case r.Phase == Broken:
		return why
	case r.Phase == Starting && !r.Ordered.IsZero() && now.Sub(r.Ordered) > StartBudget:
		return fmt.Sprintf("not serving %s after it was ordered: %s", duration(StartBudget), why)
	case r.Phase == Terminating && !r.Overdue.IsZero() && now.After(r.Overdue):
		return fmt.Sprintf("not gone by %s: %s", r.Overdue.UTC().Format("15:04 MST"), why)
	}
	return ""
}

// sameOrder is how far apart the Workspaces of one step are made at most.
const sameOrder = 10 * time.Second

// fruitless says why no more replicas are ordered, "" if they may be: since one was
// last ordered that serves, at least two steps came to nothing but replicas that are
// stuck, one of them in the place of the other. Where there is no quota, or no image,
// each further one would be stuck as well.
func (f Fleet) fruitless(now time.Time) string {
	var served time.Time
	var stuck []*Replica
	for i := range f.Replicas {
		switch r := &f.Replicas[i]; {
		case r.Phase == Serving && r.Ordered.After(served):
			served = r.Ordered
		case r.Phase == Terminating, r.Ended, r.Ordered.IsZero():
		case r.stuck(now) != "":
			stuck = append(stuck, r)
		}
	}
	slices.SortStableFunc(stuck, func(a, b *Replica) int { return a.Ordered.Compare(b.Ordered) })
	steps, last := 0, served
	var newest *Replica
	for _, r := range stuck {
		if r.Ordered.Sub(last) > sameOrder {
			steps, last, newest = steps+1, r.Ordered, r
		}
	}
	if steps < 2 {
		return ""
	}
	return fmt.Sprintf("no more is ordered, because %s, which was to stand in for another one, is stuck too: %s", newest.name(), newest.stuck(now))
}

// coming finds a replica that is on its way, and says which in words. One that
// KAITO hasn't made a Workspace for yet is on its way as well, and one that has
// just become Ready, for the length of a window: until then the measure is
// partly of the time before its relief. One that starts beside as many serving
// ones as are desired takes the place of one of them, in an upgrade.
func (f Fleet) coming(window time.Duration, now time.Time) (string, bool) {
	var present, serving int32
	text := ""
	for i := range f.Replicas {
		r := &f.Replicas[i]
		if r.Phase == Terminating {
			continue
		}
		present++
		switch {
		case r.Phase == Serving && !r.relieves(window, now):
			serving++
		case r.Phase == Serving:
			text = r.name() + " has just become Ready"
		case r.Phase == Starting && r.stuck(now) == "" && text == "":
			text = r.name() + " is starting"
			if r.Why != "" {
				text += " (" + r.Why + ")"
			}
		}
	}
	if serving >= f.Desired {
		return "", false
	}
	if text != "" {
		return text, true
	}
	if raised := f.raised(); present < f.Desired && !raised.IsZero() && now.Sub(raised) <= StartBudget {
		return "a replica has been ordered", true
	}
	return "", false
}

// relieves tells whether the replica became Ready so shortly ago. One that has
// been known to serve for longer was only too busy for its probe meanwhile, and
// must not hold up the help that it needs.
func (r *Replica) relieves(window time.Duration, now time.Time) bool {
	return !r.ReadySince.IsZero() && now.Sub(r.ReadySince) < window && now.Sub(r.Expected) < window
}

// raised is when the fleet last grew. A process that hasn't seen it takes it
// from the newest Workspace, so that a restart doesn't forget the cooldown.
func (f Fleet) raised() time.Time {
	if !f.Raised.IsZero() {
		return f.Raised
	}
	var newest time.Time
	for i := range f.Replicas {
		if r := &f.Replicas[i]; r.Ordered.After(newest) {
			newest = r.Ordered
		}
	}
	return newest
}

// missing is the metric if every page that was read lacks it. Before anything
// was read nobody knows.
func missing(metric string, fleet Fleet, now time.Time) []Missing {
	var page *Sample
	for i := range fleet.Replicas {
		r := &fleet.Replicas[i]
		if r.Phase != Serving || r.Last == nil || now.Sub(r.Last.At) > fleet.Freshness {
			continue
		}
		if _, found := find(r.Last, metric); found {
			return nil
		}
		if _, there := unusable(r.Last, metric); there {
			return nil
		}
		if page == nil || len(r.Last.Names) > len(page.Names) {
			page = r.Last
		}
	}
	if page == nil {
		return nil
	}
	m := Missing{Metric: metric}
	// The name itself is there if only its value is no number.
	if nearest, found := policy.Nearest(metric, page.Names); found && nearest != metric {
		m.Nearest = nearest
	}
	return []Missing{m}
}
