// Package automatic recommends how many replicas a load needs: what one can do while
// the SLO holds, what load will come within a cold start, and how many requests may
// miss the SLO. It is pure: time is an argument.
package automatic

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/capacity"
	"github.com/kaito-project/keda-kaito-scaler/internal/forecast"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// What each is worth is in docs/design/automatic-mode.md.
const (
	// usualColdStart is assumed until a replica was seen to start: a node, its driver,
	// the image and the weights.
	usualColdStart = 10 * time.Minute
	// steep is what the share that may miss the budget is multiplied by for each third of
	// it that was missed less, with missedHalfLife in seconds.
	steep, missedHalfLife = 2.0, 3600.0
	// mostMissed times the budget is what counts as missed (anti-windup): an outage tells nothing of
	// how full a replica may be when it is over.
	mostMissed = 4.0
	// tries is how often a client asks that is refused: its library tries twice more by
	// default. So what is refused is a third of a request each, and what is wanted no
	// more than three times what is taken.
	tries = 3.0
	// leastWindow is how long the load is watched before a step down, at least, and
	// coldStarts how many cold starts: what is released is missed for one. With two a
	// knee turns 22 times a day instead of 10.
	leastWindow, coldStarts = 15 * time.Minute, 3
	// regretHalfLife is that of releases that were taken back, in seconds.
	regretHalfLife = 12 * 3600.0
	// room divides what may miss the budget for a step down, and where long prompts
	// have more time than others, so that not all that is late is seen. With half of it
	// code turns 42 times a day instead of 28.
	room = 4.0
	// blindSteps is how often the fleet is doubled while its demand is hidden: nobody can
	// be read, or more is refused than taken.
	blindSteps = 2
	// longPrompt is how many tokens of the mean prompt give the first token a second more,
	// as simulate scores it.
	longPrompt = 4096.0
	// kept is how many minutes of needs are kept: the longest window.
	kept = 240
	// gap is how long nothing may have been seen without the window beginning again.
	gap = 2 * time.Minute
)

// Policy is what its owner asks for: bounds, the SLO in seconds, and the share of
// requests that may miss it.
type Policy struct {
	Min, Max int32
	SLO      sample.SLO
	Budget   float64
}

// bounded is a number of replicas within the bounds.
func (p *Policy) bounded(n float64) int32 {
	return min(max(int32(math.Ceil(min(n, math.MaxInt16))), p.Min), p.Max)
}

// Scaler is what is known of one fleet. Its zero value knows nothing. Its exported fields
// are its state: plain values without pointers, about 9 kB, of which ColdStarts alone
// varies in length, up to 8. All else is of the last minute, and of no use to others.
type Scaler struct {
	Model capacity.Model
	// Demand is in tokens a second as the Model counts them.
	Demand forecast.Series
	// ColdStarts are the newest eight, in seconds.
	ColdStarts []float64
	// Needs are the greatest need of each minute.
	Needs [kept]float32
	// Evaluated is when the fleet was seen last, Watched since when without a gap.
	Evaluated, Watched time.Time
	// Regrets are decayed releases that were taken back, Regretted the newest.
	Regrets   float64
	Regretted time.Time
	// OutOfReach is set while its owner is advised of a higher floor.
	OutOfReach bool
	// Seen and Missed are decayed requests, and those that were late or refused
	// beyond what is so at any load.
	Seen, Missed float64

	pods map[string]*sample.Pod
	// starting are replicas that were seen before their first Ready.
	starting map[string]bool
	// sum and ticks are of the current minute's demand, atLeast what the evaluation
	// before had at least.
	minute                        int64
	sum, ticks, atLeast, replicas float64
	// done is what was done in it.
	done sample.Interval
}

// Recommendation is how many replicas to have, and why. Known is false if nothing can
// be said; Holds is set if nothing can be said of the load, Waits if fewer would do but
// the window isn't over.
type Recommendation struct {
	Replicas            int32
	Known, Holds, Waits bool
	Reason              string
	// Advice is what its owner should do that no number of replicas does in time.
	Advice string
	Load
}

// Load is what a recommendation rests on. Need, Demand and Present are in replicas,
// neither rounded nor bounded: what is needed a cold start ahead, what the present load
// fills, and what that of the last three minutes does.
type Load struct {
	Need, Demand, Present float64
	// Fill is the load of a replica that may be, as a share of its time.
	Fill      float64
	ColdStart time.Duration
	// Learning is set until requests tell more than the prior, Slow if an idle replica
	// is later than the SLO, or most answers are at any load.
	Learning, Slow bool
}

// fleet is a fleet at one time.
type fleet struct {
	sample.Fleet
	serving, read, coming int
	// evident are those that time out since a reading with load, of which the newest was
	// at.
	evident int
	at      time.Time
	// saturated is set while more is refused than taken.
	saturated bool
	// givenUp of those that serve can't be read for longer than the fleet's grace, and
	// stand for the most loaded of the others.
	givenUp int
	// replaced are replicas that don't come, or sleep, and are to be replaced.
	replaced int32
	// rate is in tokens a second, atLeast what it can't be less than, least the share of
	// the demand that is certain.
	rate, atLeast, least float64
	// total is what all did since the last evaluation.
	total  sample.Interval
	curve  capacity.Curve
	slo    sample.SLO
	unread string
	// idle is the time per token of an idle replica, if that is beyond the SLO.
	idle float64
}

// Recommend takes the fleet in. It is to be called every 15 s.
func (s *Scaler) Recommend(p Policy, known sample.Fleet, now time.Time) Recommendation {
	if s.Watched.IsZero() || now.Sub(s.Evaluated) > gap {
		s.Watched = now
	}
	elapsed := min(now.Sub(s.Evaluated).Seconds(), 60)
	s.Evaluated = now
	s.Model.SetBenchmark(known.PeakTokensPerMinute / 60)
	f := fleet{Fleet: known, slo: s.judged(p.SLO)}
	if f.slo.PerToken > p.SLO.PerToken {
		f.idle = s.Model.Idle()
	}
	s.phases(&f, now)
	s.observe(&f, elapsed, now)
	// An hour in which all is late is forgotten in two, not in seven.
	s.Missed = min(s.Missed, mostMissed*p.Budget*s.Seen)
	hold := Recommendation{Replicas: f.Desired, Known: true, Holds: true}
	switch {
	case f.serving == 0:
		hold.Reason = fmt.Sprintf("holding at %d: no replica serves yet, so there is no load to measure", f.Desired)
		return hold
	case f.read == 0 && f.evident == f.serving && (f.at.Before(f.Raised) || f.at.Sub(f.Raised) > leastWindow):
		hold.Holds, hold.Replicas = false, p.bounded(max(float64(f.Desired), f.blind(now)))
		hold.Reason = fmt.Sprintf("%d → %d: all %d replicas time out since they were read under load", f.Desired, hold.Replicas, f.serving)
		return hold
	case f.read == 0:
		hold.Known, hold.Holds = false, false
		hold.Reason = fmt.Sprintf("cannot tell the load: none of %d replicas can be read (%s)", f.serving, f.unread)
		return hold
	case s.Demand.Last == 0:
		hold.Reason = fmt.Sprintf("holding at %d: gathering the first minute of readings", f.Desired)
		return hold
	}
	n := s.need(p, &f)
	to := s.move(p, &f, &n, now)
	return Recommendation{
		Replicas: to, Known: true, Waits: n.left > 0, Reason: n.words(p, &f, to), Advice: s.advise(p, &n),
		Load: Load{
			Need: n.replicas, Demand: n.now, Present: n.present, Fill: n.fill, ColdStart: s.coldStart(),
			Learning: n.learning, Slow: f.idle > 0 || f.curve.Base > .5,
		},
	}
}

// coldStart is the longest but one of the newest, of fewer than four the longest.
func (s *Scaler) coldStart() time.Duration {
	n := len(s.ColdStarts)
	if n == 0 {
		return usualColdStart
	}
	sorted := slices.Sorted(slices.Values(s.ColdStarts))
	return time.Duration(sorted[n-1-min(n/4, 1)] * float64(time.Second))
}

// ahead is the horizon in minutes: a cold start, one to see a load, one to decide.
func (s *Scaler) ahead() int { return max(5, int(math.Ceil(s.coldStart().Minutes()))+2) }

// phases counts replicas that don't serve, and learns cold starts of those that were
// seen before their first Ready.
func (s *Scaler) phases(f *fleet, now time.Time) {
	var stuck []time.Time
	late := min(3*s.coldStart(), sample.StartBudget)
	starting := map[string]bool{}
	for i := range f.Replicas {
		r := &f.Replicas[i]
		name := strings.TrimSuffix(r.Pod, "-0")
		switch {
		case r.Phase == sample.Broken, r.Phase == sample.Serving && r.Asleep,
			r.Phase == sample.Starting && !r.Ordered.IsZero() && now.Sub(r.Ordered) > late:
			stuck = append(stuck, r.Ordered)
		case r.Phase == sample.Starting:
			f.coming++
			starting[name] = true
		case r.Phase == sample.Serving && s.starting[name] && r.ReadySince.After(r.Ordered):
			s.ColdStarts = append(s.ColdStarts, r.ReadySince.Sub(r.Ordered).Seconds())
			s.ColdStarts = s.ColdStarts[max(0, len(s.ColdStarts)-8):]
		}
	}
	s.starting = starting
	for _, ordered := range stuck {
		// One that was ordered in the place of another isn't replaced in its turn.
		if ordered.Sub(slices.MinFunc(stuck, time.Time.Compare)) < 10*time.Second {
			f.replaced++
		}
	}
}

// judged is the SLO that can be kept: long prompts take longer to the first token, and
// none can be faster than a replica that has nothing else to do.
func (s *Scaler) judged(slo sample.SLO) sample.SLO {
	slo.FirstToken += math.Floor(s.Model.MeanPrompt() / longPrompt)
	if idle := s.Model.Idle(); idle > .9*slo.PerToken {
		slo.PerToken = 2 * idle
	}
	return slo
}

// observe reads the pods.
func (s *Scaler) observe(f *fleet, elapsed float64, now time.Time) {
	if s.pods == nil {
		s.pods = map[string]*sample.Pod{}
	}
	var rate, greatest float64
	judged, overloaded := f.slo, 0
	for i := range f.Replicas {
		r := &f.Replicas[i]
		// One that has just become Ready has no share of the load yet: what it will have,
		// the others have now.
		if r.Asleep || !r.HasLoad(f.Freshness, now) {
			continue
		}
		f.serving++
		known := s.pods[r.Pod]
		if r.Last == nil || now.Sub(r.Last.At) > f.Freshness {
			f.unreadable(r, known, now)
			continue
		}
		f.read++
		if known == nil {
			known = &sample.Pod{}
			s.pods[r.Pod] = known
		}
		lately, minute := known.Add(r.Last, judged)
		f.slo = known.SLO
		if minute.Seconds > 0 {
			known.Overloaded = s.Model.Learn(&minute, f.slo)
		}
		if known.Overloaded {
			overloaded++
		}
		rate, greatest = rate+known.Rate, max(greatest, known.Rate)
		f.total.Add(&lately)
	}
	maps.DeleteFunc(s.pods, func(_ string, known *sample.Pod) bool { return now.Sub(known.At) > leastWindow })
	s.Model.Observe(&f.total, elapsed)
	f.curve = s.Model.Curve(f.slo, 2*overloaded > f.read)
	s.Regrets *= math.Exp2(-elapsed / regretHalfLife)
	keep := math.Exp2(-elapsed / missedHalfLife)
	// While replicas start, or don't come, what is late tells of that, not of the fill.
	if f.serving >= int(f.Desired) {
		s.Seen = s.Seen*keep + f.total.Answered + f.total.Refused
		// Below 0 too: what is late by chance comes in lumps.
		s.Missed = s.Missed*keep + f.total.Late - f.curve.Base*f.total.Answered + f.total.Refused
	}
	if f.read > 0 {
		s.demand(f, rate+float64(f.givenUp)*greatest, elapsed, now)
	}
}

// unreadable counts a replica that can't be read.
func (f *fleet) unreadable(r *sample.Replica, known *sample.Pod, now time.Time) {
	f.unread = r.Pod
	if r.Failure != "" {
		f.unread += ": " + r.Failure
	}
	if f.Grace > 0 && now.Sub(r.Expected) > f.Grace {
		f.givenUp++
	}
	// One that times out after a reading with load still has it.
	if known != nil && r.TimedOut.After(known.At) && known.Waiting+known.Running > 0 {
		f.evident++
		f.at = later(f.at, known.At)
	}
}

// demand is the load of the fleet, of which some may not be readable.
func (s *Scaler) demand(f *fleet, rate, elapsed float64, now time.Time) {
	all := float64(f.serving) / float64(f.read+f.givenUp)
	f.least = min(1, float64(f.read+f.givenUp+f.evident)/float64(f.serving))
	f.saturated = f.total.Refused > f.total.Arrived
	elapsed = max(elapsed, 1)
	scale := s.Model.Tokens() * all
	rate = max(0, rate)
	refused := f.total.Refused / elapsed
	f.rate = min(rate+refused/tries, rate*tries) * scale
	// Two standard deviations of a Poisson number less, twice in a row.
	atLeast := (rate + refused - 2*math.Sqrt(max(f.total.Arrived, 1))/elapsed) * scale
	f.atLeast, s.atLeast = min(atLeast, s.atLeast), atLeast
	if minute := now.Unix() / 60; minute != s.minute {
		if s.ticks >= 2 {
			s.Demand.Add(s.minute, s.sum/s.ticks, s.ahead())
			if s.done.Seconds < gap.Seconds() { // or what was done is of many minutes
				s.Model.File(&s.done, s.replicas/s.ticks)
			}
		}
		s.minute, s.sum, s.ticks, s.replicas, s.done = minute, 0, 0, 0, sample.Interval{}
	}
	s.sum, s.ticks, s.replicas = s.sum+f.rate, s.ticks+1, s.replicas+float64(f.read)
	seconds := s.done.Seconds + f.total.Seconds
	s.done.Add(&f.total)
	s.done.Seconds = seconds
}

// blind is how many replicas are ordered while none can be read, because they time out
// under load: twice as many after half a minute, and once more after a minute.
func (f *fleet) blind(now time.Time) float64 {
	steps := min(int(now.Sub(f.at)/(30*time.Second)), blindSteps)
	return float64(f.serving << steps)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
