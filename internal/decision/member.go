package decision

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/text"
)

// ReplicaState is a replica as a recommendation saw it.
type ReplicaState struct {
	// Replica is its Workspace's name.
	Replica string
	Phase   sample.Phase
	// Stuck says in words why it isn't coming or going: it is Broken, has been
	// Starting for longer than StartBudget, or is Terminating and overdue. "" for
	// all others.
	Stuck string
	// Sleeping is set while its engine sleeps.
	Sleeping bool
}

func replicaStates(fleet sample.Fleet, now time.Time) []ReplicaState {
	all := make([]ReplicaState, len(fleet.Replicas))
	for i := range fleet.Replicas {
		r := &fleet.Replicas[i]
		all[i] = ReplicaState{Replica: name(r), Phase: r.Phase, Stuck: stuck(r, now), Sleeping: r.Asleep && r.Phase == sample.Serving}
	}
	return all
}

// name is the Workspace's: its first pod is called so, with -0.
func name(r *sample.Replica) string { return strings.TrimSuffix(r.Pod, "-0") }

// stuck says why the replica isn't coming or going, "" if it is or has done so.
func stuck(r *sample.Replica, now time.Time) string {
	why := r.Why
	if why == "" {
		why = "KAITO gives no reason"
	}
	switch {
	case r.Phase == sample.Broken:
		return why
	case r.Phase == sample.Starting && !r.Ordered.IsZero() && now.Sub(r.Ordered) > sample.StartBudget:
		return fmt.Sprintf("not serving %s after it was ordered: %s", text.Duration(sample.StartBudget), why)
	case r.Phase == sample.Terminating && !r.Overdue.IsZero() && now.After(r.Overdue):
		return fmt.Sprintf("not gone by %s: %s", r.Overdue.UTC().Format("15:04 MST"), why)
	}
	return ""
}

// sameOrder is how far apart the Workspaces of one step are made at most.
const sameOrder = 10 * time.Second

// futileScaleUp says why no more replicas are ordered, "" if they may be: since one was
// last ordered that serves, at least two steps came to nothing but replicas that are
// stuck, one of them in the place of the other. Where there is no quota, or no image,
// each further one would be stuck as well.
func futileScaleUp(f sample.Fleet, now time.Time) string {
	var served time.Time
	var failed []*sample.Replica
	for i := range f.Replicas {
		switch r := &f.Replicas[i]; {
		case r.Phase == sample.Serving && r.Ordered.After(served):
			served = r.Ordered
		case r.Phase == sample.Terminating, r.Ended, r.Ordered.IsZero():
		case stuck(r, now) != "":
			failed = append(failed, r)
		}
	}
	slices.SortStableFunc(failed, func(a, b *sample.Replica) int { return a.Ordered.Compare(b.Ordered) })
	steps, last := 0, served
	var newest *sample.Replica
	for _, r := range failed {
		if r.Ordered.Sub(last) > sameOrder {
			steps, last, newest = steps+1, r.Ordered, r
		}
	}
	if steps < 2 {
		return ""
	}
	return fmt.Sprintf("no more is ordered, because %s, which was to stand in for another one, is stuck too: %s", name(newest), stuck(newest, now))
}

// startingReplica finds a replica that is on its way, and says which in words. One that
// KAITO hasn't made a Workspace for yet is on its way as well, and one that has
// just become Ready, for the length of a window: until then the measure is
// partly of the time before its relief. One that starts beside as many serving
// ones as are desired takes the place of one of them, in an upgrade.
func startingReplica(f sample.Fleet, window time.Duration, now time.Time) (string, bool) {
	var present, serving int32
	text := ""
	for i := range f.Replicas {
		r := &f.Replicas[i]
		if r.Phase == sample.Terminating {
			continue
		}
		present++
		switch {
		case r.Phase == sample.Serving && !justReady(r, window, now):
			serving++
		case r.Phase == sample.Serving:
			text = name(r) + " has just become Ready"
		case r.Phase == sample.Starting && stuck(r, now) == "" && text == "":
			text = name(r) + " is starting"
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
	if raised := lastScaleUp(f); present < f.Desired && !raised.IsZero() && now.Sub(raised) <= sample.StartBudget {
		return "a replica has been ordered", true
	}
	return "", false
}

// justReady tells whether the replica became Ready so shortly ago. One that has
// been known to serve for longer was only too busy for its probe meanwhile, and
// must not hold up the help that it needs.
func justReady(r *sample.Replica, window time.Duration, now time.Time) bool {
	return !r.ReadySince.IsZero() && now.Sub(r.ReadySince) < window && now.Sub(r.Expected) < window
}

// lastScaleUp is when the fleet last grew. A process that hasn't seen it takes it
// from the newest Workspace, so that a restart doesn't forget the cooldown.
func lastScaleUp(f sample.Fleet) time.Time {
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
