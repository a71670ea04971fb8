package scaler

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// EvaluationLoop evaluates every fleet of which something is learned, at decision.Interval of
// wall time and whether or not KEDA asks: every replica of the scaler learns
// alike, and whichever KEDA comes to answers from memory.
type EvaluationLoop struct {
	fleets Fleets
	// started tells whether the fleets have been looked at once.
	started func() bool
	log     logr.Logger

	// Metrics, if not nil, counts what doesn't fit. It is set before anything runs.
	Metrics *Metrics

	// mu guards scalers and loaded, but not what the scalers hold.
	mu      sync.Mutex
	scalers map[fleetKey]*fleetScaler
	// pending is what the store had of fleets that nobody has asked for yet.
	pending map[string][]byte
	// overLimit are the InferenceSets that ask for more than is learned for.
	overLimit map[types.NamespacedName]bool
	// lastError is the store's newest error, took whether anything was taken over.
	lastError string
	loaded    bool
	// leftOut is how many entries the store had no room for the last time.
	leftOut int

	// heartbeat is the end of the newest turn.
	heartbeat heartbeat
}

// maxFleetScalers bounds the scalers of one InferenceSet: one is some 12 kB.
const maxFleetScalers = 4

// NewEvaluationLoop makes an EvaluationLoop, which starts with Run.
func NewEvaluationLoop(fleets Fleets, started func() bool, log logr.Logger) *EvaluationLoop {
	return &EvaluationLoop{fleets: fleets, started: started, log: log, scalers: map[fleetKey]*fleetScaler{}, overLimit: map[types.NamespacedName]bool{}}
}

// SetTriggers says by which triggers a fleet is scaled. What was learned for others is
// discarded. The first four pairs of page and SLO of a fleet are learned for; a trigger
// with another one holds.
func (l *EvaluationLoop) SetTriggers(key types.NamespacedName, triggers []policy.Trigger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept, leftOut := firstOfEachKey(triggers)
	for c, trigger := range kept {
		m := l.scalers[c]
		if m == nil {
			m = &fleetScaler{turn: turnOf(c.inferenceSet)}
			l.scalers[c] = m
			l.mergePending(c, m)
		}
		m.mu.Lock()
		m.trigger = trigger
		m.mu.Unlock()
	}
	maps.DeleteFunc(l.scalers, func(c fleetKey, _ *fleetScaler) bool {
		_, asked := kept[c]
		return c.inferenceSet == key && !asked
	})
	l.setOverLimit(key, leftOut)
}

// firstOfEachKey are the triggers to learn for, and how many more there are. Of those
// with the same key the first has the bounds that are in force.
func firstOfEachKey(triggers []policy.Trigger) (kept map[fleetKey]policy.Trigger, leftOut int) {
	kept = map[fleetKey]policy.Trigger{}
	for _, trigger := range triggers {
		c, learns := fleetKeyOf(trigger)
		if _, known := kept[c]; known || !learns {
			continue
		}
		if len(kept) == maxFleetScalers {
			leftOut++
			continue
		}
		kept[c] = trigger
	}
	return kept, leftOut
}

// setOverLimit notes that so many triggers of a fleet aren't learned for, and says so
// once. It needs mu.
func (l *EvaluationLoop) setOverLimit(key types.NamespacedName, left int) {
	if left == 0 {
		delete(l.overLimit, key)
		return
	}
	if !l.overLimit[key] {
		l.overLimit[key] = true
		l.Metrics.countDropped(limitFleetScalers, left)
		l.log.Info("too many SLOs or pages: nothing is learned for the last triggers, which hold",
			"inferenceSet", key, "most", maxFleetScalers, "leftOut", left)
	}
}

// Run evaluates until ctx is done.
func (l *EvaluationLoop) Run(ctx context.Context) error {
	runTurns(ctx, &l.heartbeat, func(now time.Time, last, this int64) {
		if l.started() {
			l.evaluate(now, last, this)
		}
	})
	return nil
}

// OnTime tells whether the evaluation loop keeps its pace: false once Run has not
// finished a turn of a quarter of a second for 45 s, after which its recommendations are
// too old to be answered with. Before Run it is true: nothing is late yet.
func (l *EvaluationLoop) OnTime() bool { return l.heartbeat.within(maxLag) }

// evaluate evaluates every fleet whose turn is after last and not after this.
func (l *EvaluationLoop) evaluate(now time.Time, last, this int64) {
	for c, m := range l.due(last, this) {
		fleet, known := l.fleets.Fleet(c.inferenceSet, c.page)
		if !known {
			continue
		}
		m.mu.Lock()
		m.Update(m.trigger, fleet, now)
		m.state = nil
		m.mu.Unlock()
	}
}

// due are the scalers of fleets whose turn is after last and not after this: one in
// sixty.
func (l *EvaluationLoop) due(last, this int64) map[fleetKey]*fleetScaler {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := map[fleetKey]*fleetScaler{}
	for c, m := range l.scalers {
		if inTurn(m.turn, turns, last, this) {
			due[c] = m
		}
	}
	return due
}

// all are the scalers of this moment.
func (l *EvaluationLoop) all() map[fleetKey]*fleetScaler {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.scalers)
}

// Recommend is the recommendation on a fleet by a trigger of KEDA's.
func (l *EvaluationLoop) Recommend(trigger policy.Trigger, fleet sample.Fleet, now time.Time) decision.Recommendation {
	c, learns := fleetKeyOf(trigger)
	if !learns {
		return decision.Evaluate(trigger, fleet, now)
	}
	l.mu.Lock()
	m := l.scalers[c]
	l.mu.Unlock()
	if m == nil { // made a moment ago
		m = &fleetScaler{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Scaler.Current(trigger, fleet, now)
}

// mergePending merges what was loaded of a fleet into its scaler, if anything was. It
// needs mu.
func (l *EvaluationLoop) mergePending(c fleetKey, m *fleetScaler) bool {
	state, found := l.pending[c.checkpointKey()]
	if !found {
		return false
	}
	delete(l.pending, c.checkpointKey())
	saved, err := decision.Unmarshal(state, time.Now())
	if err != nil {
		if m.unusable == err.Error() { // A leader of another version goes on writing it.
			return false
		}
		m.unusable = err.Error()
		l.log.Info("checkpoint of an InferenceSet can't be used, learning starts again", "inferenceSet", c.inferenceSet, "why", err.Error())
		return false
	}
	m.mu.Lock()
	m.Merge(saved)
	m.state = nil
	m.mu.Unlock()
	first, last := saved.Learned()
	l.log.V(1).Info("checkpoint loaded", "inferenceSet", c.inferenceSet, "from", first, "until", last)
	return true
}
