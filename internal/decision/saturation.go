package decision

import (
	"fmt"
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Saturation asks for as many replicas as the load needs, without a threshold
// to choose: it learns from the pods what a replica can do while its users are
// served as promised, and orders for the demand of when a new replica would
// serve.
type Saturation struct {
	Bounds policy.Bounds
	// TTFT and ITL are what users are promised: the time to the first token and
	// the mean time between tokens, both > 0.
	TTFT, ITL time.Duration
	// PeakTokensPerMinute is what KAITO's start-up benchmark measured, input
	// and output together; 0 if it isn't known.
	PeakTokensPerMinute float64
	// ColdStart is how long a replica is taken to start until one was seen, > 0.
	ColdStart time.Duration
	// Tuning is DefaultTuning but for experiments.
	Tuning Tuning
}

// Tuning are the constants of the policy. What each is worth is in
// docs/automatic-mode.md.
type Tuning struct {
	// Misses is the share of requests that may be late by what is expected of
	// the load when a replica ordered now serves: on average over what rounding
	// up to whole replicas adds. Worst is that share where it adds nothing, as
	// long as no more than Misses were late lately.
	Misses, Worst float64
	// Keep is how much of both there may be with one replica less for it to be
	// released.
	Keep float64
	// Remember is the half-life of the forecasters' errors and of the swings.
	Remember time.Duration
	// Surprise is the quantile of the swings beyond which the load is new.
	Surprise float64
	// Cap is how far beyond the greatest demand of a minute that was ever seen
	// is ordered, as a factor, while nobody waits; and how far swings go while that
	// minute is fresh.
	Cap float64
	// Doubtful is how long less than a whole missing replica has to be missing,
	// and Regretted how long within two cold starts of a step down.
	Doubtful, Regretted time.Duration
	// DownStarts and DownFloor are the window of the way down: so many cold
	// starts, and at least so long.
	DownStarts float64
	DownFloor  time.Duration
	// RestStarts and RestFloor are how long to wait after a step down: so many
	// cold starts, and at least so long.
	RestStarts float64
	RestFloor  time.Duration
}

// DefaultTuning is what the simulations came to.
var DefaultTuning = Tuning{
	Misses: .0065, Worst: .08, Keep: .5, Remember: 2 * time.Hour, Surprise: .98, Cap: 1.1,
	Doubtful: time.Minute, Regretted: 8 * time.Minute,
	DownStarts: 2, DownFloor: 10 * time.Minute, RestStarts: .5, RestFloor: 2 * time.Minute,
}

// The families that saturation is judged by. What is read of a pod is
// policy.Trigger's to say: one that is new here must stand there too.
const (
	familyRunning   = policy.FamilyRunning
	familyWaiting   = policy.FamilyWaiting
	familyKV        = policy.FamilyKV
	familySuccess   = policy.FamilyFinished
	familyPrompt    = policy.FamilyPrompt
	familyCached    = policy.FamilyCached
	familyGenerated = policy.FamilyGenerated
	familyRejected  = policy.FamilyRejected
	familyTTFT      = policy.FamilyTTFT
	familyITL       = policy.FamilyITL
	familySteps     = policy.FamilySteps
	familyTPOT      = policy.FamilyTPOT
)

// SaturationReading is what has to be read for the policy.
func SaturationReading() policy.Reading {
	return policy.Trigger{Saturation: &policy.Saturation{}}.Reading()
}

// drain is the time in which a backlog is to be gone: 15 s would order a fleet
// for a hiccup.
const drain = 120 * time.Second

// Judge is the verdict at a time, with what was learned up to then. It is
// called every few seconds; learned may be the zero value.
func (s Saturation) Judge(learned Learned, fleet sample.Fleet, now time.Time) (Verdict, Learned) {
	load := observe(fleet, s, now)
	verdict := Verdict{
		Answer: Held, Value: float64(fleet.Desired), Desired: fleet.Desired, Replicas: fleet.Desired,
		Read: load.read, Unreadable: load.unreadable,
	}
	switch {
	case load.serving == 0:
		verdict.Reason = fmt.Sprintf("holding at %d: no replica serves yet, so there is no load to measure", fleet.Desired)
		return verdict, learned
	case load.spoke == 0 && len(load.unreadable) == load.serving:
		verdict.Answer, verdict.Value = Unknown, 0
		verdict.Reason = fmt.Sprintf("cannot tell the load: none of %s can be read (%s: %s)",
			replicas(load.serving), load.unreadable[0].Pod, load.unreadable[0].Why)
		return verdict, learned
	case load.spoke == 0:
		verdict.Reason = fmt.Sprintf("holding at %d: gathering the first half minute of readings", fleet.Desired)
		return verdict, learned
	}
	learned = learned.learn(s, fleet, load, now)
	need := learned.need(s, fleet, load, now)
	learned = learned.remember(need, fleet.Desired, now)
	to := learned.move(s, fleet, load, need, now)
	verdict.Answer, verdict.Value, verdict.Replicas = Measured, float64(to), to
	if len(load.unreadable) > 0 {
		verdict.Answer = Bounded
	}
	verdict.Reason, verdict.Advice = need.words(fleet, to, s), need.advice
	verdict.Load = learned.load(s, need)
	return verdict, learned
}

// need is how many replicas the load needs, and of what it is made up.
type need struct {
	// demand is the load of the last minute in replicas that are filled as far
	// as is safe; growth what it is expected to grow until a replica ordered now
	// would serve, burst what its swings ask for beyond; backlog what it takes
	// to serve those who wait, alarm what latency or the KV cache asks for.
	demand, growth, burst, backlog, alarm float64
	// coming are replicas on their way, late such that nobody counts on.
	coming, late int
	// whole is all of that, and replicas what it rounds to, within the bounds.
	whole    float64
	replicas int32
	// present is the whole without alarm, and without what the last three minutes
	// are below what is foretold.
	present float64
	// least is what has to be there for one replica to be released, but for the
	// minutes before; peak what the last minute would have overloaded.
	least, peak float64
	// advice is what its owner should know beyond that, "" for nothing.
	advice string
	// safe is the load at which no more than is bearable were late, as a share of
	// the limit.
	safe     float64
	learning bool
}

// hair over a whole number is no reason for a GPU.
const hair = .1

// need puts the demand together.
func (l *Learned) need(s Saturation, fleet sample.Fleet, load load, now time.Time) need {
	n := need{learning: l.Requests < enoughRequests}
	n.count(fleet, l.coldStart(s), now)
	late := l.lateness(s)
	limit := l.limit(s)
	n.safe = late.under(s.Tuning.Misses)
	per := limit * n.safe
	o := l.outlook(s, now)
	work := l.rate(load) * l.cost(s)
	n.demand = work / per
	n.backlog = load.waiting * l.cost(s) / per / drain.Seconds()
	if n.coming == 0 {
		// Half of what runs beyond what should is done already.
		n.backlog += load.jam / 2 * l.cost(s) / per / drain.Seconds()
	}
	n.growth = (o.soon - work) / per
	bearable := budget{s.Tuning.Misses, l.worst(s), limit}
	if load.hurts {
		// Now, and not when the load will have fallen.
		bearable.worst, o.soon = s.Tuning.Misses, max(o.soon, work)
	}
	n.whole = o.capacity(o.soon, bearable, &late) / limit
	n.burst = n.whole - o.soon/per
	n.advice = l.advise(s, &o, limit, n.safe, now)
	// What is more than ever before is no swing, and who suffers now has no use for
	// a mean over what rounding up adds.
	if (work > o.most || load.hurts) && n.demand > n.whole {
		n.whole, n.growth, n.burst = n.demand, 0, 0
	}
	latest, _ := l.foretell(forecasters[0], minute(now), 0)
	n.present = n.whole*min(1, latest/max(o.soon, 1e-9)) + n.backlog
	n.whole += n.backlog
	n.least = o.capacity(max(o.now, o.soon), budget{bearable.mean * s.Tuning.Keep, bearable.worst * s.Tuning.Keep, limit}, &late)/limit + n.backlog
	n.peak = work / (limit * late.under(.25))
	// Not behind replicas that are on their way, or fail to come.
	if now.Sub(l.Calm) > slow && n.coming+n.late == 0 && now.Sub(joined(fleet)) > slow && n.whole <= float64(fleet.Desired) {
		n.alarm = float64(fleet.Desired) + .5 - n.whole
		n.whole += n.alarm
	}
	n.replicas = s.Bounds.Clamp(int32(min(math.Ceil(n.whole-hair), math.MaxInt16)))
	return n
}

// count tells the replicas that are on their way from those that nobody counts
// on.
func (n *need) count(fleet sample.Fleet, start time.Duration, now time.Time) {
	for _, r := range fleet.Replicas {
		switch {
		case r.Phase == sample.Broken, r.Phase == sample.Starting && !r.Ordered.IsZero() && now.Sub(r.Ordered) > 3*start:
			n.late++
		case r.Phase == sample.Starting:
			n.coming++
		}
	}
}

// joined is when the newest replica began to serve.
func joined(fleet sample.Fleet) (newest time.Time) {
	for _, r := range fleet.Replicas {
		if r.ReadySince.After(newest) {
			newest = r.ReadySince
		}
	}
	return newest
}

// slow is how long latency has to be past the promise for more than throughput
// asks for.
const slow = 3 * time.Minute

// move is the replicas to have now: up to the need at once, down by one at a
// time when the greatest need of a window has room on one replica less.
func (l *Learned) move(s Saturation, fleet sample.Fleet, load load, n need, now time.Time) int32 {
	desired := s.Bounds.Clamp(fleet.Desired)
	if n.replicas >= desired {
		// What is less than a whole replica may be a passing peak, while nobody
		// suffers from it.
		if !load.hurts && n.whole < float64(desired)+1 && now.Sub(l.Enough) < l.hesitation(s, fleet, now) {
			return desired
		}
		return n.replicas
	}
	start := l.coldStart(s)
	window := max(s.Tuning.DownFloor, time.Duration(s.Tuning.DownStarts*float64(start)))
	rest := max(s.Tuning.RestFloor, time.Duration(s.Tuning.RestStarts*float64(start)))
	last := fleet.Lowered
	switch {
	// Nothing is released on what isn't known.
	case len(load.unreadable) > 0, load.alarm(s):
		return desired
	case now.Sub(l.Began) < window, now.Sub(fleet.Raised) < window, !last.IsZero() && now.Sub(last) < rest:
		return desired
	}
	// A tenth of the fleet at a time.
	step := max(1, desired/10)
	room := math.Ceil(max(n.least, l.most(window, now)))
	return max(desired-step, min(desired, int32(room)))
}

// hesitation is how long less than a whole missing replica has to be missing. Of one
// that was released a moment ago it was known that it isn't needed.
func (l *Learned) hesitation(s Saturation, fleet sample.Fleet, now time.Time) time.Duration {
	if fleet.Lowered.After(fleet.Raised) && now.Sub(fleet.Lowered) < 2*l.coldStart(s) {
		return s.Tuning.Regretted
	}
	return s.Tuning.Doubtful
}
