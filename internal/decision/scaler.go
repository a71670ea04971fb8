package decision

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Interval is how far apart the judgements of a Scaler are. What is learned depends on
// it, so it is kept whenever and however often KEDA asks.
const Interval = 15 * time.Second

// stale is how old a judgement may be that is still answered with.
const stale = 3 * Interval

// seamless is how long a gap between judgements may be that nothing can have
// happened in that counts.
const seamless = 2 * time.Minute

// UsualColdStart is how long a replica is taken to start until one was seen.
const UsualColdStart = 6 * time.Minute

// Load is what was learned of a fleet's load, as a verdict rests on it.
type Load struct {
	// Demand is in replicas that are filled as far as is safe; Need is the
	// replicas that it comes to with what waits and what is expected to come.
	// Neither is rounded or within any bounds.
	Demand, Need float64
	// Present is the Need without what only latency or the KV cache asks for, and
	// of a load that is lower than foretold that of the last three minutes.
	Present float64
	// Safe is the share of its time that a replica can give to tokens while the
	// promise is kept, in (0, 1).
	Safe float64
	// ColdStart is how long a replica is taken to start.
	ColdStart time.Duration
	// Learning is set until enough was seen to go by more than the prior.
	Learning bool
	// Vain is set while no number of replicas is known to keep the promise.
	Vain bool
}

// load is what a verdict tells of the need that it rests on.
func (l Learned) load(s Saturation, n need) *Load {
	late := l.lateness(s)
	return &Load{
		Demand: n.demand, Need: n.whole, Present: n.present, Safe: l.limit(s) * late.under(s.Tuning.Misses),
		ColdStart: l.coldStart(s), Learning: n.learning, Vain: l.vain(s),
	}
}

// Scaler judges one fleet over time by one trigger, and remembers what it learned
// in doing so. A trigger that learns nothing is judged as Evaluate does. Its
// zero value knows nothing. It isn't safe for use by several at once.
type Scaler struct {
	learned Learned
	// next is what learns in the place of it, if it isn't nil.
	next *next
	// peak is what KAITO's benchmark measured when the learning began: speeds are
	// relative to it.
	peak float64
	// seen is when the fleet was looked at last, watched since when that has been
	// so without a gap, lowered when it was last seen to shrink. They outlive a
	// process.
	seen, watched, lowered time.Time
	// judged is when verdict was given, of a fleet of desired replicas.
	judged  time.Time
	verdict Verdict
}

// Recommend updates if that is due, and answers. It is what simulations call, in
// the place of Update every Interval and Answer when KEDA asks.
func (m *Scaler) Recommend(trigger policy.Trigger, fleet sample.Fleet, now time.Time) Verdict {
	if now.Sub(m.judged) >= Interval {
		m.Update(trigger, fleet, now)
	}
	return m.Answer(trigger, fleet, now)
}

// Update takes the fleet in. It is to be called every Interval.
func (m *Scaler) Update(trigger policy.Trigger, fleet sample.Fleet, now time.Time) {
	promise := trigger.Learned()
	if promise == nil {
		return
	}
	if m.next != nil {
		m.judged, m.verdict = now, m.next.update(trigger, promise, fleet, now)
		return
	}
	if m.watched.IsZero() || now.Sub(m.seen) > seamless {
		m.watched = now
	}
	m.seen = now
	if fleet.Lowered.After(m.lowered) {
		m.lowered = fleet.Lowered
	}
	fleet.Lowered = m.lowered
	if fleet.PeakTokensPerMinute > 0 && m.learned.Requests < enoughRequests {
		m.peak = fleet.PeakTokensPerMinute
	}
	s := Saturation{
		Bounds: bounded(trigger.Bounds), TTFT: promise.TTFT, ITL: promise.ITL,
		PeakTokensPerMinute: m.peak, ColdStart: UsualColdStart, Tuning: DefaultTuning,
	}
	fleet, idle := settleFrozen(fleet, now)
	whole, lost := readable(fleet, now)
	verdict, learned := s.Judge(m.learned, whole, now)
	verdict.unread(lost)
	if len(lost) > 0 && verdict.Replicas > fleet.Desired {
		least, _ := s.Judge(m.learned, unburdened(fleet, lost), now)
		verdict = least.beside(verdict)
	}
	if least, e := underLoad(fleet, lost, s, now); len(e.pods) > 0 {
		likely, _ := s.Judge(m.learned, least, now)
		verdict = verdict.evidently(likely, e)
	}
	if verdict.Replicas < fleet.Desired {
		verdict = m.patient(verdict, learned, s, now)
	}
	if why := fruitless(fleet, now); why != "" && verdict.Replicas > fleet.Desired {
		verdict.Answer, verdict.Waiting, verdict.Replicas = Held, true, fleet.Desired
		verdict.Reason = fmt.Sprintf("holding at %d: %s; %s", fleet.Desired, facts(verdict.Reason), why)
	}
	verdict.setAside(idle, fleet.Grace)
	verdict.Missing = lacking(fleet, now)
	m.learned, m.judged, m.verdict = learned, now, verdict
}

// unread puts right who was read: who stands for another wasn't.
func (v *Verdict) unread(lost []Unread) {
	v.Read = slices.DeleteFunc(v.Read, func(pod string) bool {
		return slices.ContainsFunc(lost, func(u Unread) bool { return u.Pod == pod })
	})
	v.Unreadable = lost
	if v.Answer == Measured && len(lost) > 0 {
		v.Answer = Bounded
	}
}

// beside is the verdict on the least load that a fleet could have, where the one
// on the greatest goes up: it goes up as far as both do, and else holds.
func (v Verdict) beside(greatest Verdict) Verdict {
	held := greatest
	if v.Replicas > greatest.Desired {
		held.Replicas = min(v.Replicas, greatest.Replicas)
		held.Reason, held.Load = v.Reason, v.Load
		return held
	}
	held.Answer, held.Replicas = Held, greatest.Desired
	held.Reason = fmt.Sprintf("holding at %d: %s; but %d of %d can't be read (%s: %s)", greatest.Desired, facts(greatest.Reason),
		len(held.Unreadable), len(held.Unreadable)+len(held.Read), held.Unreadable[0].Pod, held.Unreadable[0].Why)
	return held
}

// bounded are the bounds of a trigger that may not tell them. Nobody is woken
// from zero replicas, so that isn't gone to.
func bounded(b policy.Bounds) policy.Bounds {
	if b == (policy.Bounds{}) {
		b.Max = math.MaxInt16
	}
	b.Min = max(1, b.Min)
	return b
}

// patient holds a step down until the fleet has been watched for a whole window
// of the way down: what it needed in a gap of the readings is unknown, and not
// nothing.
func (m *Scaler) patient(v Verdict, l Learned, s Saturation, now time.Time) Verdict {
	window := max(s.Tuning.DownFloor, time.Duration(s.Tuning.DownStarts*float64(l.coldStart(s))))
	left := window - now.Sub(m.watched)
	if left <= 0 {
		return v
	}
	v.Answer, v.Waiting = Held, true
	v.Reason = fmt.Sprintf("%d for now: %s; a step down not before it has been watched for another %s",
		v.Desired, facts(v.Reason), duration(left))
	v.Replicas = v.Desired
	return v
}

// essential are the families without which nothing can be said.
var essential = []string{
	familyRunning, familyWaiting, familySuccess, familyPrompt, familyGenerated, familySteps, familyTTFT, familyITL,
}

// lacking are those of them that no page has.
func lacking(fleet sample.Fleet, now time.Time) []Missing {
	var all []Missing
	for _, metric := range essential {
		all = append(all, missing(metric, fleet, now)...)
	}
	return all
}

// Answer is the verdict for KEDA, at any time: the newest judgement of the fleet
// as it stands now, or a queue's own, which the judgement may guard.
func (m *Scaler) Answer(trigger policy.Trigger, fleet sample.Fleet, now time.Time) Verdict {
	if trigger.Saturation == nil {
		settled, idle := settleFrozen(fleet, now)
		v := evaluate(trigger, settled, now)
		if trigger.List == nil && trigger.Queue.Guard != nil {
			v.Load = m.loadAt(now)
			v = Guarded(v, v.Load, trigger, settled, now)
		}
		v.setAside(idle, fleet.Grace)
		return v
	}
	v := m.verdict
	v.Members = members(fleet, now)
	v = at(v, fleet)
	switch age := now.Sub(m.judged); {
	case m.judged.IsZero():
		v = Verdict{Answer: Held, Waiting: true, Members: v.Members}
		v.Reason = fmt.Sprintf("holding at %d: the fleet has not been judged yet", fleet.Desired)
	case age > stale:
		v.Answer, v.Waiting, v.Load = Held, false, nil
		v.Reason = fmt.Sprintf("holding at %d: the fleet was judged last %s ago", fleet.Desired, duration(age))
	}
	if v.Answer == Held {
		v.Replicas = fleet.Desired
	}
	v.Desired = fleet.Desired
	v.publish(trigger, fleet)
	return v
}

// loadAt is the newest load, nil if none is known any more.
func (m *Scaler) loadAt(now time.Time) *Load {
	if m.judged.IsZero() || now.Sub(m.judged) > stale {
		return nil
	}
	return m.verdict.Load
}

// at is the verdict on a fleet that may have moved since it was judged. More
// replicas are still needed; a step down was one from where it stood then.
func at(v Verdict, fleet sample.Fleet) Verdict {
	if v.Desired == fleet.Desired || v.Answer == Unknown || v.Answer == Held {
		return v
	}
	was := facts(v.Reason)
	switch {
	case v.Replicas > fleet.Desired:
		v.Reason = fmt.Sprintf("%d → %d: %s", fleet.Desired, v.Replicas, was)
	case v.Replicas == fleet.Desired:
		v.Reason = fmt.Sprintf("%d is right, as judged at %d: %s", fleet.Desired, v.Desired, was)
	default:
		v.Reason = fmt.Sprintf("%d until it is judged anew, last at %d: %s", fleet.Desired, v.Desired, was)
		v.Replicas = fleet.Desired
	}
	return v
}

// facts are a reason without what follows from them.
func facts(reason string) string {
	if _, after, found := strings.Cut(reason, ": "); found {
		return after
	}
	return reason
}

// publish sets the value that makes the HPA go to the verdict's replicas.
func (v *Verdict) publish(trigger policy.Trigger, fleet sample.Fleet) {
	if v.Answer == Unknown {
		v.Value = 0
		return
	}
	h, wanted := hpaOf(trigger, fleet), v.Replicas
	v.Value, v.Replicas = h.toward(wanted)
	switch {
	case v.Replicas == wanted:
	case wanted < fleet.Desired:
		v.Answer, v.Waiting = Held, true
		v.Reason = fmt.Sprintf("holding at %d: %s; %d would do, but so few less this cluster's HPA doesn't take: it stays within %s %%",
			fleet.Desired, facts(v.Reason), wanted, number(100*h.down))
	default:
		v.Reason += fmt.Sprintf("; %d is published, because this cluster's HPA stays within %s %%", v.Replicas, number(100*h.up))
		v.Replicas = trigger.Bounds.Clamp(v.Replicas)
	}
}
