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

// Judges judges every fleet of which something is learned, at decision.Interval of
// wall time and whether or not KEDA asks: every replica of the scaler learns
// alike, and whichever KEDA comes to answers from memory.
type Judges struct {
	fleets Fleets
	// started tells whether the fleets have been looked at once.
	started func() bool
	log     logr.Logger

	// Metrics, if not nil, counts what doesn't fit. It is set before anything runs.
	Metrics *Metrics

	// mu guards minds and recalled, but not what the minds hold.
	mu    sync.Mutex
	minds map[charge]*mind
	// recalled is what the archive had of fleets that nobody has asked for yet.
	recalled map[string][]byte
	// crowded are the InferenceSets that ask for more than is learned for.
	crowded map[types.NamespacedName]bool
	// said is the archive's newest error, took whether anything was taken over.
	said string
	took bool
	// left is how many entries the archive had no room for the last time.
	left int

	// beat is the end of the newest turn.
	beat heartbeat
}

// charge is what one mind judges. Other promises are learned anew: which answers
// were late is a part of what is learned.
type charge struct {
	key     types.NamespacedName
	page    policy.Page
	promise policy.Saturation
}

// mind is a decision.Scaler that several use.
type mind struct {
	// mu guards what follows. It is held while a fleet is judged, which waits for
	// nobody.
	mu sync.Mutex
	decision.Scaler
	// trigger is the newest of those that the mind is charged with.
	trigger policy.Trigger
	// memory is what the mind has learned, packed; nil once it has learned more.
	memory []byte
}

// pack is what the mind has learned, for the archive, and until when; nil if that
// is nothing. What it hasn't learned anything since isn't packed again.
func (m *mind) pack() (memory []byte, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.memory == nil {
		var err error
		if m.memory, err = m.MarshalBinary(); err != nil {
			panic(fmt.Sprintf("write into memory: %v", err)) // a buffer takes everything
		}
	}
	_, at = m.Since()
	return m.memory, at
}

// maxEstimators bounds the minds of one InferenceSet: one is some 12 kB.
const maxEstimators = 4

// NewJudges makes Judges, who begin with Run.
func NewJudges(fleets Fleets, started func() bool, log logr.Logger) *Judges {
	return &Judges{fleets: fleets, started: started, log: log, minds: map[charge]*mind{}, crowded: map[types.NamespacedName]bool{}}
}

// chargeOf is false for a trigger that learns nothing.
func chargeOf(trigger policy.Trigger) (charge, bool) {
	promise := trigger.Learned()
	if promise == nil {
		return charge{}, false
	}
	return charge{keyOf(trigger), trigger.Page, *promise}, true
}

// Ask tells by which triggers a fleet is scaled. What was learned for others is
// forgotten. Of one fleet the first four pairs of page and promise are learned
// for; a trigger with another one holds.
func (j *Judges) Ask(key types.NamespacedName, triggers []policy.Trigger) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var asked []charge
	left := 0
	for _, trigger := range triggers {
		c, learns := chargeOf(trigger)
		// The first has the bounds that are in force.
		if !learns || slices.Contains(asked, c) {
			continue
		}
		if len(asked) == maxEstimators {
			left++
			continue
		}
		asked = append(asked, c)
		m := j.minds[c]
		if m == nil {
			m = &mind{}
			j.minds[c] = m
			j.begin(c, m)
		}
		m.mu.Lock()
		m.trigger = trigger
		m.mu.Unlock()
	}
	for c := range j.minds {
		if c.key == key && !slices.Contains(asked, c) {
			delete(j.minds, c)
		}
	}
	j.crowd(key, left)
}

// crowd notes that so many triggers of a fleet aren't learned for, and says so
// once. It needs mu.
func (j *Judges) crowd(key types.NamespacedName, left int) {
	if left == 0 {
		delete(j.crowded, key)
		return
	}
	if !j.crowded[key] {
		j.crowded[key] = true
		j.Metrics.over(limitEstimators, left)
		j.log.Info("too many SLOs or pages: nothing is learned for the last triggers, which hold",
			"inferenceSet", key, "most", maxEstimators, "leftOut", left)
	}
}

// turns is in how many parts a pace is cut. Each fleet has its turn in one of
// them: a thousand at once would keep KEDA's calls waiting.
const turns = 60

const turn = decision.Interval / turns

// Run judges until ctx is done.
func (j *Judges) Run(ctx context.Context) error {
	everyTurn(ctx, &j.beat, func(now time.Time, last, this int64) {
		if j.started() {
			j.judge(now, last, this)
		}
	})
	return nil
}

// OnTime tells whether the evaluation loop keeps its pace: false once Run has not
// finished a turn of a quarter of a second for 45 s, after which its verdicts are
// too old to be answered with. Before Run it is true: nothing is late yet.
func (j *Judges) OnTime() bool { return j.beat.within(lateAfter) }

// lateAfter is when a loop is too late to be alive. decision.Scaler answers with a
// hold from then on.
const lateAfter = 3 * decision.Interval

// heartbeat is when a loop was last seen at work. Its clock doesn't jump.
type heartbeat struct{ at atomic.Pointer[time.Time] }

func (h *heartbeat) set(now time.Time) { h.at.Store(&now) }

// within tells whether a heartbeat is not older than d, or there was none yet.
func (h *heartbeat) within(d time.Duration) bool {
	at := h.at.Load()
	return at == nil || time.Since(*at) <= d
}

// everyTurn calls do at each turn until ctx is done, with the turns after last
// and not after this being due.
func everyTurn(ctx context.Context, beat *heartbeat, do func(now time.Time, last, this int64)) {
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

// in tells whether a fleet's turn is after last and not after this: at the same
// time by the clock of every replica of the scaler.
func (c charge) in(last, this int64) bool { return inTurn(turnOf(c.key), turns, last, this) }

// inTurn tells whether one of its turns, of which it has each of so many, is after
// last and not after this.
func inTurn(its uint32, of, last, this int64) bool {
	// The newest turn of its own that isn't after this.
	newest := this - (this-int64(its)%of)%of
	return newest > last
}

// judge judges every fleet whose turn is after last and not after this.
func (j *Judges) judge(now time.Time, last, this int64) {
	for c, m := range j.all() {
		if !c.in(last, this) {
			continue
		}
		fleet, known := j.fleets.Fleet(c.key, c.page)
		if !known {
			continue
		}
		m.mu.Lock()
		m.Update(m.trigger, fleet, now)
		m.memory = nil
		m.mu.Unlock()
	}
}

// all are the minds of this moment.
func (j *Judges) all() map[charge]*mind {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.minds)
}

// Answer is the verdict on a fleet by a trigger of KEDA's.
func (j *Judges) Answer(trigger policy.Trigger, fleet sample.Fleet, now time.Time) decision.Verdict {
	c, learns := chargeOf(trigger)
	if !learns {
		return decision.Evaluate(trigger, fleet, now)
	}
	j.mu.Lock()
	m := j.minds[c]
	j.mu.Unlock()
	if m == nil { // made a moment ago
		m = &mind{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Scaler.Answer(trigger, fleet, now)
}
