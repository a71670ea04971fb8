package decision

import (
	"fmt"
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
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
// docs/saturation.md.
type Tuning struct {
	// Fill is how much of the safe load the fleet is filled to.
	Fill float64
	// Keep is how much of it the fleet may have after one replica less.
	Keep float64
	// Misses is the share of requests that may miss what was promised at the
	// load that counts as safe.
	Misses float64
	// Forecast is the quantile of the growths within a cold start, after similar
	// loads, that is ordered for where growth is large.
	Forecast float64
	// Bursty is how large growth within a cold start must be, at its 95th
	// percentile and as a share of the peak, for a forecast.
	Bursty float64
	// Trend is how far back a trend is looked for, Sure by how many standard
	// errors it has to be one.
	Trend time.Duration
	Sure  float64
	// Cap is how far beyond the greatest demand of some minutes that was ever
	// seen is ordered, as a factor, while nobody waits.
	Cap float64
	// Doubtful is how long less than a whole missing replica has to be missing.
	Doubtful time.Duration
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
	Fill: .95, Keep: 1, Misses: .005, Forecast: .7, Bursty: .15, Trend: 15 * time.Minute, Sure: 2, Cap: 1.1, Doubtful: time.Minute,
	DownStarts: 1, DownFloor: 10 * time.Minute, RestStarts: .5, RestFloor: 2 * time.Minute,
}

// The families that saturation is judged by. What is read of a pod is
// policy.Trigger's to say: one that is new here must stand there too.
const (
	familyRunning   = policy.FamilyRunning
	familyWaiting   = policy.FamilyWaiting
	familyKV        = policy.FamilyKV
	familySuccess   = policy.FamilyFinished
	familyPrompt    = policy.FamilyPrompt
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
func (s Saturation) Judge(learned Learned, fleet Fleet, now time.Time) (Verdict, Learned) {
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
	learned = learned.remember(s, need, fleet.Desired, now)
	to := learned.move(s, fleet, load, need, now)
	verdict.Answer, verdict.Value, verdict.Replicas = Measured, float64(to), to
	if len(load.unreadable) > 0 {
		verdict.Answer = Bounded
	}
	verdict.Reason = need.words(fleet, to, s)
	verdict.Load = learned.load(s, need)
	return verdict, learned
}

// need is how many replicas the load needs, and of what it is made up.
type need struct {
	// demand is the load in replicas that are filled as far as is safe; backlog
	// what it takes to serve those who wait, growth what is expected within a
	// cold start, alarm what latency or the KV cache asks for beyond.
	demand, backlog, growth, alarm float64
	// coming are replicas on their way, late such that nobody counts on.
	coming, late int
	// whole is all of that, within the cap, and replicas what it rounds to, within the bounds.
	whole    float64
	replicas int32
	safe     float64
	learning bool
}

// hair over a whole number is no reason for a GPU.
const hair = .1

// need puts the demand together.
func (l Learned) need(s Saturation, fleet Fleet, load load, now time.Time) need {
	n := need{safe: l.safe(s), learning: l.Requests < enoughRequests}
	per := l.limit(s) * n.safe
	cost := l.cost()
	n.demand = load.arrivals * cost / per
	n.backlog = load.waiting * cost / per / drain.Seconds()
	n.growth = l.growth(s, n.demand, now)
	start := l.coldStart(s)
	for _, r := range fleet.Replicas {
		switch {
		case r.Phase == Broken, r.Phase == Starting && !r.Ordered.IsZero() && now.Sub(r.Ordered) > 3*start:
			n.late++
		case r.Phase == Starting:
			n.coming++
		}
	}
	whole := l.capped(s, n.demand, n.growth, now)/s.Tuning.Fill + n.backlog
	// Not behind replicas that are on their way, or fail to come.
	if load.alarm(s) && n.coming+n.late == 0 && whole <= float64(fleet.Desired) {
		n.alarm = float64(fleet.Desired) + .5 - whole
	}
	n.whole = whole + n.alarm
	n.replicas = s.Bounds.Clamp(int32(min(math.Ceil(n.whole-hair), math.MaxInt16)))
	return n
}

// move is the replicas to have now: up to the need at once, down by one at a
// time when the greatest need of a window has room on one replica less.
func (l Learned) move(s Saturation, fleet Fleet, load load, n need, now time.Time) int32 {
	desired := s.Bounds.Clamp(fleet.Desired)
	if n.replicas >= desired {
		// What is less than a whole replica may be a passing peak.
		if n.whole < float64(desired)+1 && now.Sub(l.Enough) < s.Tuning.Doubtful {
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
	case now.Sub(l.Began) < window, !last.IsZero() && now.Sub(last) < rest:
		return desired
	case l.most(window, now) > float64(desired-1)*s.Tuning.Keep:
		return desired
	}
	return desired - 1
}
