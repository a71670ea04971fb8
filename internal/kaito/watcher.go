package kaito

import (
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Fleets is told who the replicas of an InferenceSet are and what is to be read
// of them, one Reading for each page, each time that changes.
type Fleets interface {
	Set(key types.NamespacedName, desired int32, replicas []Replica, readings []policy.Reading)
	Forget(key types.NamespacedName)
}

// TriggerObserver is told by which triggers a fleet is scaled, those of ScaledObjects
// first, each time that it is looked at; none once it isn't scaled any more.
type TriggerObserver interface {
	SetTriggers(key types.NamespacedName, triggers []policy.Trigger)
}

// Watcher keeps Fleets up to date from the cache: with every InferenceSet that
// asks for scaling, and every one that a ScaledObject's trigger names. It runs
// on every process, leader or not, so that a standby knows as much. It outlives
// the managers whose caches it reads, one after the other.
type Watcher struct {
	fleets Fleets
	// observer may be nil.
	observer TriggerObserver
	now      func() time.Time
	// AllowHostNetwork lets pods on their node's network be read. It is set
	// before the Watcher is used.
	AllowHostNetwork bool
	// synced is set once every InferenceSet of the start has been looked at.
	synced atomic.Bool

	// mu guards served. It is held throughout a reconcile, which reads nothing
	// but memory.
	mu sync.Mutex
	// served remembers, for each fleet, the pods that have been seen Ready.
	served map[types.NamespacedName]map[types.UID]bool

	// admitting guards admissions, which KEDA's calls ask for. It is held for
	// moments.
	admitting sync.RWMutex
	// admissions are those of fleets of which some trigger is refused.
	admissions map[types.NamespacedName]Admission
}

// NewWatcher makes a Watcher, which watches nothing yet. Asked may be nil.
func NewWatcher(fleets Fleets, asked TriggerObserver) *Watcher {
	return &Watcher{
		fleets: fleets, observer: asked, now: time.Now, served: map[types.NamespacedName]map[types.UID]bool{},
		admissions: map[types.NamespacedName]Admission{},
	}
}

// noLongerThere are the fleets that are known beside these. Some are gone since the last
// manager's time, some are newer than the list: a look at each tells.
func (w *Watcher) noLongerThere(there map[types.NamespacedName]bool) []types.NamespacedName {
	w.mu.Lock()
	defer w.mu.Unlock()
	var others []types.NamespacedName
	for key := range w.served {
		if !there[key] {
			others = append(others, key)
		}
	}
	return others
}

// Synced tells whether every InferenceSet of the start has been looked at.
func (w *Watcher) Synced() bool { return w.synced.Load() }

// setAdmission keeps which triggers on a fleet are answered, if not all are.
func (w *Watcher) setAdmission(key types.NamespacedName, a Admission) {
	w.admitting.Lock()
	defer w.admitting.Unlock()
	if a.full() {
		w.admissions[key] = a
	} else {
		delete(w.admissions, key)
	}
}

// Refused says in words why a trigger isn't answered, "" if it is: one InferenceSet
// has so many at most.
func (w *Watcher) Refused(t policy.Trigger) string {
	w.admitting.RLock()
	a, full := w.admissions[types.NamespacedName{Namespace: t.Namespace, Name: t.InferenceSet}]
	w.admitting.RUnlock()
	if !full {
		return ""
	}
	return a.Refused(t)
}

// correctPhases puts right, from what this process has seen, who serves though its
// pod isn't Ready. One that was Ready before serves: too busy to answer its
// probe within a second, it is full of load. One that came under the eyes of
// this process and has not been Ready since doesn't, whatever its Workspace's
// state says: that speaks of the pod before it, and KAITO's benchmark is still
// to come. Only of a fleet that is seen for the first time does the Workspace's
// word count. A pod that tells itself that it was Ready is believed, and one that
// has ended never serves again.
func (w *Watcher) correctPhases(key types.NamespacedName, replicas []Replica) []Replica {
	before, seen := w.served[key]
	now := make(map[types.UID]bool, len(replicas))
	for i := range replicas {
		r := &replicas[i]
		switch {
		case r.UID == "":
			continue
		case before[r.UID] && !r.Ended && (r.Phase == sample.Starting || r.Phase == sample.Broken):
			// What KAITO says of a start isn't of this pod's.
			r.Phase, r.Why, r.BelievedAt = sample.Serving, "", time.Time{}
		case seen && !before[r.UID] && r.Phase == sample.Serving && !r.Ready && !r.WasReady:
			r.Phase = sample.Starting
		}
		if r.Phase == sample.Serving {
			now[r.UID] = true
		}
	}
	w.served[key] = now
	return replicas
}

func (w *Watcher) forget(key types.NamespacedName) {
	w.setAdmission(key, Admission{})
	delete(w.served, key)
	w.fleets.Forget(key)
	if w.observer != nil {
		w.observer.SetTriggers(key, nil)
	}
}
