package decision

import (
	"math"
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

const (
	// bins of load, each a twentieth of what a replica could do at the limit.
	bins     = 30
	binWidth = .05
	// enoughRequests must have been served before the learned counts for more
	// than its prior.
	enoughRequests = 2000
	// remembered is how many minutes of demand are kept: a day.
	remembered = 24 * 60
)

// Learned is what is known of an InferenceSet: what its replicas can do, what
// its users ask for, how its load grows and how long a replica takes to start.
// It is a value: Judge returns a new one. Its zero value knows nothing. Across
// a restart all of it matters but OutOfReach, which comes back by itself.
type Learned struct {
	// Began is the first verdict, At the last, Before the one before it.
	Began, Before, At time.Time
	// Speed are the engine's times relative to the prior's: of an empty
	// iteration, a prompt token and a generated token; Doubt is the covariance
	// of their estimate.
	Speed [3]float64
	Doubt [3][3]float64
	// Prompt, Generated and Requests are decayed sums: the mean request.
	Prompt, Generated, Requests float64
	// Answered and Late are decayed counts of answers by the load at which they
	// were given, in bins.
	Answered, Late [bins]float64
	// Ceiling is what a replica that is overloaded gives.
	Ceiling Ceiling
	// Demand is the demand of each minute, in seconds of work a second, and -1
	// where that is unknown; Need the
	// greatest need, in replicas. Both are rings, by minute.
	Demand, Need [remembered]float32
	// Errors are those of the forecasters, Swings those of all together.
	Errors [len(forecasters)]Errors
	Swings Swings
	// Seen and Missed are decayed counts of requests and of those that were late
	// or refused.
	Seen, Missed float64
	// OutOfReach is set while no policy that reacts can keep the promise.
	OutOfReach bool
	// Calm is when latency and the KV cache were last as they should be.
	Calm time.Time
	// Enough is when there were last as many replicas as needed.
	Enough time.Time
	// Highest is the greatest demand of a minute within a day, Peaked when it was
	// last greater than any before it.
	Highest float64
	Peaked  time.Time
	// ColdStarts are the newest ones seen, in seconds; Started how many.
	ColdStarts [8]float64
	Started    int
}

// prior is what a replica is taken for until it has been seen at work: an empty
// iteration of 10 ms, a generated token as costly as three of a prompt, and
// nine tenths of its time filled in KAITO's benchmark of 2048 tokens in and 256
// out.
func (s Saturation) prior() [3]float64 {
	peak := s.PeakTokensPerMinute / 60
	if peak <= 0 {
		peak = 15000
	}
	prompt := .9 / peak / (8.0/9 + 3.0/9)
	return [3]float64{.010, prompt, 3 * prompt}
}

// doubt is the variance of a prior speed, relative: with KAITO's benchmark it may
// be half as much again, without it several times as much.
func (s Saturation) doubt() float64 {
	if s.PeakTokensPerMinute > 0 {
		return .25
	}
	return 25
}

// speed are an empty iteration, a prompt token and a generated token in seconds.
func (l *Learned) speed(s Saturation) [3]float64 {
	prior := s.prior()
	if l.Speed == [3]float64{} {
		return prior
	}
	for i := range prior {
		prior[i] *= min(max(l.Speed[i], .02), 100)
	}
	return prior
}

// limit is the share of its time that a replica can give to tokens while the
// time between them is as promised: an iteration of a steady batch takes
// empty ÷ (1 − that share).
func (l *Learned) limit(s Saturation) float64 {
	return max(.2, 1-l.speed(s)[0]/s.ITL.Seconds())
}

// cost is the replica's time that the mean request takes, in seconds, under the
// speeds that the sums were weighted with.
func (l *Learned) cost(s Saturation) float64 {
	// Until some were seen, as KAITO's benchmark has them.
	const supposed = 3
	speed := l.speed(s)
	return (l.Prompt + l.Generated + supposed*(2048*speed[1]+256*speed[2])) / (l.Requests + supposed)
}

// learn takes in a minute.
func (l Learned) learn(s Saturation, fleet sample.Fleet, load load, now time.Time) Learned {
	if l.Began.IsZero() {
		l.Began = now
		l.Speed = [3]float64{1, 1, 1}
		for i := range l.Doubt {
			l.Doubt[i][i] = s.doubt()
		}
	}
	for _, r := range fleet.Replicas {
		if r.ReadySince.After(l.At) && !r.ReadySince.After(now) && !l.At.IsZero() && r.ReadySince.After(r.Ordered) {
			l.ColdStarts[l.Started%len(l.ColdStarts)] = r.ReadySince.Sub(r.Ordered).Seconds()
			l.Started++
		}
	}
	for _, p := range load.pods {
		l.fit(s, p)
	}
	elapsed := 15.0
	if !l.At.IsZero() {
		elapsed = min(now.Sub(l.At).Seconds(), sight.Seconds())
	}
	l.Before, l.At = l.At, now
	share := elapsed / sight.Seconds()
	l.meet(s, load, elapsed)
	l.forget(elapsed)
	for _, p := range load.pods {
		l.file(s, p, share)
		if p.swamped {
			l.Ceiling.meets(p, share)
		}
		l.Seen += (p.answered + p.refused) * share
		l.Missed += (p.late + p.refused) * share
	}
	if !load.alarm(s) || l.Calm.IsZero() {
		l.Calm = now
	}
	l.record(s, load.arrivals*l.cost(s), now)
	return l
}

// meet takes in what was asked for. The sums are of seconds of work, and half of
// them is forgotten in ten minutes.
func (l *Learned) meet(s Saturation, load load, elapsed float64) {
	speed := l.speed(s)
	prompt, generated := load.prompt*speed[1], load.generated*speed[2]
	if prompt+generated <= 0 {
		return
	}
	requests := load.requests
	if l.Requests < enoughRequests {
		// Of those who have begun to run and aren't done, the prompt was worked off
		// and half of the answer: a fleet that fills up finishes none at first.
		requests += load.begun * (prompt + generated/2) / (prompt + generated)
	}
	keep, share := math.Exp2(-elapsed/600), elapsed/sight.Seconds()
	l.Prompt = l.Prompt*keep + prompt*share
	l.Generated = l.Generated*keep + generated*share
	l.Requests = l.Requests*keep + max(0, requests)*share
}

// file notes how a replica's answers were at the load they were given at.
func (l *Learned) file(s Saturation, p podLoad, share float64) {
	if p.answered == 0 || !p.steady {
		return
	}
	speed := l.speed(s)
	work := p.prompt*speed[1] + p.generated*speed[2]
	bin := min(int(work/l.limit(s)/binWidth), bins-1)
	l.Answered[bin] += p.answered * share
	l.Late[bin] += p.late * share
}

// forget ages what is known of each bin: of a busy one the newest 20 000 answers
// count, and what nobody has seen for hours is tried again, what was bad not
// before a day.
func (l *Learned) forget(elapsed float64) {
	const most, bad = 20000, .1
	keep := math.Exp2(-elapsed / (2 * time.Hour).Seconds())
	long := math.Exp2(-elapsed / (12 * time.Hour).Seconds())
	l.Seen, l.Missed = l.Seen*keep, l.Missed*keep
	l.Ceiling.forget(elapsed)
	for bin := range bins {
		k := keep
		if l.Late[bin] > bad*l.Answered[bin] {
			k = long
		}
		if l.Answered[bin] > most {
			k *= most / l.Answered[bin]
		}
		l.Answered[bin] *= k
		l.Late[bin] *= k
	}
}

// fit is recursive least squares of 1 = empty × iterations a second + prompt ×
// tokens in a second + generated × tokens out a second: that is what a busy
// replica's time is spent on.
func (l *Learned) fit(s Saturation, p podLoad) {
	if !p.busy || p.steps <= 0 {
		return
	}
	prior := s.prior()
	x := [3]float64{prior[0] * p.steps, prior[1] * p.prompt, prior[2] * p.generated}
	// The variance of a minute's sum, and by how much a speed may have changed
	// since: an estimate rests on some hundred readings.
	const noise, drift = .01, 1e-6
	var dx [3]float64
	variance, wrong := noise, 1.0
	if p.beyond {
		variance = 30 * noise
	}
	for i := range x {
		for j := range x {
			dx[i] += l.Doubt[i][j] * x[j]
		}
		variance += x[i] * dx[i]
		wrong -= x[i] * l.Speed[i]
	}
	for i := range x {
		l.Speed[i] += dx[i] / variance * wrong
	}
	for i := range x {
		for j := range x {
			l.Doubt[i][j] -= dx[i] * dx[j] / variance
			if i == j {
				l.Doubt[i][j] = min(l.Doubt[i][j]+drift, s.doubt())
			}
		}
	}
}

// coldStart is how long a replica takes: the longest but one of the newest, of
// fewer than four the longest, or the prior.
func (l *Learned) coldStart(s Saturation) time.Duration {
	n := min(l.Started, len(l.ColdStarts))
	if n == 0 {
		return s.ColdStart
	}
	seen := slices.Clone(l.ColdStarts[:n])
	slices.Sort(seen)
	which := n - 1
	if n >= 4 {
		which--
	}
	return time.Duration(seen[which] * float64(time.Second))
}

func minute(now time.Time) int64 { return now.Unix() / 60 }

// remember writes the minute down.
func (l Learned) remember(n need, desired int32, now time.Time) Learned {
	i := slot(minute(now))
	if n.whole <= float64(desired)+hair {
		l.Enough = now
	}
	l.Need[i] = max(l.Need[i], float32(n.peak))
	return l
}

// record writes the demand down: a minute's is that of its last verdict.
func (l *Learned) record(s Saturation, work float64, now time.Time) {
	last := minute(l.Before)
	if l.Before.IsZero() {
		last = minute(now) - 1
	}
	if minute(now) != last {
		// Minutes without a verdict are unknown.
		for m := max(last+1, minute(now)-remembered+1); m <= minute(now); m++ {
			l.Demand[slot(m)], l.Need[slot(m)] = -1, 0
		}
		l.check(s, last)
		before := l.Highest
		if l.Highest = l.highest(minute(now)); l.Highest > before {
			l.Peaked = now
		}
	}
	l.Demand[slot(minute(now))] = float32(work)
}

// most is the greatest need of a window.
func (l *Learned) most(window time.Duration, now time.Time) float64 {
	most := float32(0)
	for m := minute(now.Add(-window)); m <= minute(now); m++ {
		most = max(most, l.Need[slot(m)])
	}
	return float64(most)
}
