package sample

import (
	"math"
	"slices"
	"time"
)

// Phase is where a replica stands in its life, as Kubernetes and KAITO tell it.
// Whether it can be read is another matter: see Replica.Last.
type Phase uint8

const (
	// Starting has never been Ready: its node is ordered, its model
	// downloads, or KAITO's benchmark loads it. It has no load of users.
	Starting Phase = iota
	// Serving is Ready, or was Ready and isn't being deleted: a saturated pod
	// fails its probes, so one that turned NotReady is not a pod without load.
	Serving
	// Terminating is being deleted: its load moves to the others.
	Terminating
	// Broken has never been Ready and, by KAITO's own word, will not be
	// without help: no quota, no image, a crash loop. Or its pod has ended.
	Broken
)

func (p Phase) String() string {
	switch p {
	case Starting:
		return "starting"
	case Serving:
		return "serving"
	case Terminating:
		return "terminating"
	case Broken:
		return "broken"
	}
	return "unknown"
}

// Fleet is everything known of an InferenceSet's replicas at one time.
type Fleet struct {
	// Desired is the InferenceSet's spec.replicas, ≥ 0: what the HPA measures
	// against (KAITO echoes it in status.replicas), starting replicas included.
	Desired int32
	// Replicas are the Workspaces with their first pod, in a stable order.
	Replicas []Replica
	// Freshness is how long a sample speaks for its pod, > 0: three scrape
	// intervals.
	Freshness time.Duration
	// Interval is how far apart a pod's samples normally are, > 0.
	Interval time.Duration
	// Raised and Lowered are when Desired was last seen to rise and to fall;
	// zero if this process hasn't seen it.
	Raised, Lowered time.Time
	// Rises are those of Desired in the last RisesLast, ascending, as far as this
	// process has seen them.
	Rises []Rise
	// NoTolerance is set where the HPA has no tolerance of its own in its
	// behaviour (Kubernetes before 1.35) and keeps to 10 % in both directions.
	NoTolerance bool
	// PeakTokensPerMinute is what KAITO's start-up benchmark measured of a
	// replica, input and output together, in the mean of those that tell; 0 if
	// none does.
	PeakTokensPerMinute float64
	// Grace is how long a pod may be unreadable before it stops standing for
	// any load whatever, > 0.
	Grace time.Duration
}

// Replica is one Workspace with its first pod, the only one that serves
// metrics.
type Replica struct {
	// Pod is the pod's name, or the Workspace's while it has no pod.
	Pod   string
	Phase Phase
	// Ordered is when the Workspace was made.
	Ordered time.Time
	// Why is KAITO's or Kubernetes' own reason for a replica that is Starting,
	// Broken or Terminating, in words.
	Why string
	// Overdue is when a Terminating replica should have been gone; zero if that
	// isn't known.
	Overdue time.Time
	// Expected is since when the pod should have been readable: its first
	// Ready that the scaler saw. Zero unless Serving.
	Expected time.Time
	// ReadySince is when Kubernetes says that the pod became Ready; zero for
	// one that isn't.
	ReadySince time.Time
	// Last is the newest sample taken while Serving, nil if there is none. A
	// scrape that failed leaves it as it was.
	Last *Sample
	// History are the samples taken while Serving, as far back as the windows
	// in use reach; Last is the newest of them.
	History History
	// Failure says in words why the newest scrape failed, "" if it didn't.
	Failure string
	// TimedOut is when the newest scrape timed out after the pod had accepted the
	// connection; zero if it ended in any other way.
	TimedOut time.Time
	// Frozen is set while the engine runs requests without finishing a step, and
	// FrozenDemand beside it if requests wait there or were refused since it froze.
	Frozen, FrozenDemand bool
	// Ended is set for one that is Broken because its pod ran, and runs no more: it
	// was evicted, say.
	Ended bool
	// Asleep is set while the engine says that it sleeps: it takes no requests
	// until somebody wakes it.
	Asleep bool
}

// Rise is a rise of the desired replicas: when it was seen, and from how many.
type Rise struct {
	At   time.Time
	From int32
}

// RisesLast is how long a Fleet remembers its rises.
const RisesLast = 2 * EvidenceLasts

// StartBudget is how long KAITO gives a replica to start: node, image, model
// and benchmark. One that takes longer is no longer counted on.
const StartBudget = 30 * time.Minute

// A pod that is short of CPU under load answers late, and its page times out. So a
// time-out right after a loaded reading is evidence that the load goes on: for
// EvidenceLasts after that reading the pod stands for it at least, not for nothing.
// Nobody knows how much of it was relieved meanwhile, so without a new reading it
// brings EvidenceSteps steps up at most, and nothing down.
const (
	EvidenceLasts = time.Minute
	EvidenceSteps = 2
)

// TimesOut tells of a replica that can't be read any more because it times out, since
// a reading that is young enough to be evidence.
func (r *Replica) TimesOut(freshness time.Duration, now time.Time) bool {
	if r.Last == nil || r.Phase != Serving {
		return false
	}
	age := now.Sub(r.Last.At)
	return age > freshness && age <= EvidenceLasts && r.TimedOut.After(r.Last.At)
}

// Room is how many replicas the fleet may have on a reading of that time: two steps
// from where it stood then. It has no room if it made them already.
func (f *Fleet) Room(read time.Time) (limit int32, ok bool) {
	from, steps := f.Desired, 0
	for _, rise := range slices.Backward(f.Rises) {
		if rise.At.After(read) {
			from, steps = rise.From, steps+1
		}
	}
	limit = min(from, math.MaxInt32-EvidenceSteps) + EvidenceSteps
	return limit, steps < EvidenceSteps && f.Desired < limit
}

// HasLoad tells whether the replica has a load that somebody should know. One that has
// turned Ready so shortly ago that it would be strange to have read it yet hasn't: a
// moment before it was starting. That it is new to this process alone is not enough, or
// a restart would take loaded pods for idle ones.
func (r *Replica) HasLoad(freshness time.Duration, now time.Time) bool {
	joins := r.Last == nil && r.Failure == "" && !r.ReadySince.IsZero() &&
		now.Sub(r.ReadySince) <= freshness && now.Sub(r.Expected) <= freshness
	return r.Phase == Serving && !joins
}
