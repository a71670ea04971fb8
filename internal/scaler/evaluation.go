package scaler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
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

// fleetKey is what one scaler evaluates. Other SLOs are learned anew: which answers
// were late is a part of what is learned.
type fleetKey struct {
	inferenceSet types.NamespacedName
	page         policy.Page
	slo          policy.Saturation
}

// fleetScaler is a decision.Scaler that several use.
type fleetScaler struct {
	// turn is the fleet's own. It never changes.
	turn uint32
	// unusable says why what was loaded of it last couldn't be used, as was logged. The
	// loop's mu guards it.
	unusable string
	// mu guards what follows. It is held while a fleet is evaluated, which waits for
	// nobody.
	mu sync.Mutex
	decision.Scaler
	// trigger is the newest of those that the scaler is for.
	trigger policy.Trigger
	// state is what the scaler has learned, packed; nil once it has learned more.
	state []byte
}

// marshal is what the scaler has learned, for the store, and until when; nil if that
// is nothing. What it hasn't learned anything since isn't packed again.
func (m *fleetScaler) marshal() (memory []byte, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == nil {
		var err error
		if m.state, err = m.MarshalBinary(); err != nil {
			panic(fmt.Sprintf("write into memory: %v", err)) // a buffer takes everything
		}
	}
	_, at = m.Learned()
	return m.state, at
}

// maxFleetScalers bounds the scalers of one InferenceSet: one is some 12 kB.
const maxFleetScalers = 4

// NewEvaluationLoop makes an EvaluationLoop, which starts with Run.
func NewEvaluationLoop(fleets Fleets, started func() bool, log logr.Logger) *EvaluationLoop {
	return &EvaluationLoop{fleets: fleets, started: started, log: log, scalers: map[fleetKey]*fleetScaler{}, overLimit: map[types.NamespacedName]bool{}}
}

// fleetKeyOf is false for a trigger that learns nothing.
func fleetKeyOf(trigger policy.Trigger) (fleetKey, bool) {
	promise := trigger.Learned()
	if promise == nil {
		return fleetKey{}, false
	}
	return fleetKey{keyOf(trigger), trigger.Page, *promise}, true
}

// Ask tells by which triggers a fleet is scaled. What was learned for others is
// forgotten. Of one fleet the first four pairs of page and SLO are learned
// for; a trigger with another one holds.
func (j *EvaluationLoop) Ask(key types.NamespacedName, triggers []policy.Trigger) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var asked []fleetKey
	left := 0
	for _, trigger := range triggers {
		c, learns := fleetKeyOf(trigger)
		// The first has the bounds that are in force.
		if !learns || slices.Contains(asked, c) {
			continue
		}
		if len(asked) == maxFleetScalers {
			left++
			continue
		}
		asked = append(asked, c)
		m := j.scalers[c]
		if m == nil {
			m = &fleetScaler{turn: turnOf(c.inferenceSet)}
			j.scalers[c] = m
			j.mergePending(c, m)
		}
		m.mu.Lock()
		m.trigger = trigger
		m.mu.Unlock()
	}
	for c := range j.scalers {
		if c.inferenceSet == key && !slices.Contains(asked, c) {
			delete(j.scalers, c)
		}
	}
	j.setOverLimit(key, left)
}

// setOverLimit notes that so many triggers of a fleet aren't learned for, and says so
// once. It needs mu.
func (j *EvaluationLoop) setOverLimit(key types.NamespacedName, left int) {
	if left == 0 {
		delete(j.overLimit, key)
		return
	}
	if !j.overLimit[key] {
		j.overLimit[key] = true
		j.Metrics.countDropped(limitFleetScalers, left)
		j.log.Info("too many SLOs or pages: nothing is learned for the last triggers, which hold",
			"inferenceSet", key, "most", maxFleetScalers, "leftOut", left)
	}
}

// turns is in how many parts a pace is cut. Each fleet has its turn in one of
// them: a thousand at once would keep KEDA's calls waiting.
const turns = 60

const turn = decision.Interval / turns

// Run evaluates until ctx is done.
func (j *EvaluationLoop) Run(ctx context.Context) error {
	runTurns(ctx, &j.heartbeat, func(now time.Time, last, this int64) {
		if j.started() {
			j.evaluate(now, last, this)
		}
	})
	return nil
}

// OnTime tells whether the evaluation loop keeps its pace: false once Run has not
// finished a turn of a quarter of a second for 45 s, after which its recommendations are
// too old to be answered with. Before Run it is true: nothing is late yet.
func (j *EvaluationLoop) OnTime() bool { return j.heartbeat.within(maxLag) }

// maxLag is when a loop is too late to be alive. decision.Scaler answers with a
// hold from then on.
const maxLag = 3 * decision.Interval

// heartbeat is when a loop was last seen at work. Its clock doesn't jump.
type heartbeat struct{ last atomic.Pointer[time.Time] }

func (h *heartbeat) set(now time.Time) { h.last.Store(&now) }

// within tells whether a heartbeat is not older than d, or there was none yet.
func (h *heartbeat) within(d time.Duration) bool {
	at := h.last.Load()
	return at == nil || time.Since(*at) <= d
}

// runTurns calls do at each turn until ctx is done, with the turns after last
// and not after this being due.
func runTurns(ctx context.Context, beat *heartbeat, do func(now time.Time, last, this int64)) {
	last := turnAt(time.Now())
	for {
		now := time.Now()
		beat.set(now)
		timer := time.NewTimer(now.Truncate(turn).Add(turn).Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		now = time.Now()
		this := turnAt(now)
		do(now, last, this)
		last = this
	}
}

// turnAt numbers the turns since 1970.
func turnAt(now time.Time) int64 { return now.UnixNano() / int64(turn) }

// inTurn tells whether one of its turns, of which it has each of so many, is after
// last and not after this.
func inTurn(its uint32, of, last, this int64) bool {
	// The newest turn of its own that isn't after this.
	newest := this - (this-int64(its)%of)%of
	return newest > last
}

// evaluate evaluates every fleet whose turn is after last and not after this.
func (j *EvaluationLoop) evaluate(now time.Time, last, this int64) {
	for c, m := range j.due(last, this) {
		fleet, known := j.fleets.Fleet(c.inferenceSet, c.page)
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
func (j *EvaluationLoop) due(last, this int64) map[fleetKey]*fleetScaler {
	j.mu.Lock()
	defer j.mu.Unlock()
	due := map[fleetKey]*fleetScaler{}
	for c, m := range j.scalers {
		if inTurn(m.turn, turns, last, this) {
			due[c] = m
		}
	}
	return due
}

// all are the scalers of this moment.
func (j *EvaluationLoop) all() map[fleetKey]*fleetScaler {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.scalers)
}

// Recommend is the recommendation on a fleet by a trigger of KEDA's.
func (j *EvaluationLoop) Recommend(trigger policy.Trigger, fleet sample.Fleet, now time.Time) decision.Recommendation {
	c, learns := fleetKeyOf(trigger)
	if !learns {
		return decision.Evaluate(trigger, fleet, now)
	}
	j.mu.Lock()
	m := j.scalers[c]
	j.mu.Unlock()
	if m == nil { // made a moment ago
		m = &fleetScaler{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Scaler.Current(trigger, fleet, now)
}
