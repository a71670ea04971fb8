package decision

import (
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// sight is how far back a load is looked at. Over 30 s its peaks are a tenth
// higher, and those pass before anybody waits for long.
const sight = time.Minute

// load is what a fleet was asked for and did over the last minute.
type load struct {
	serving, spoke int
	read           []string
	unreadable     []Unread
	// arrivals are requests a second over the fleet, those that can't be read
	// taken to have as many as the others; surely is the least that they may have
	// jumped to.
	arrivals, surely float64
	// waiting is requests; jam those that run beyond what would at the promised
	// time between tokens; kv the mean usage of the cache.
	waiting, jam, kv float64
	// prompt, generated and requests are what was worked off, begun by how much
	// more requests ran at the end of it.
	prompt, generated, requests, begun float64
	// latency is the mean time between tokens, 0 if there were none.
	latency float64
	pods    []podLoad
	// hurts is set while more than a tenth of the requests are late or refused.
	hurts bool
}

// podLoad is one replica's share: tokens, requests that left it, and steps of one of its
// engines, a second, as if each step gave a request one token. A pod is busy if it had
// answers to work on all the time, since steps that work off nothing but prompts aren't
// counted; steady if what it ran hardly changed and nothing waited: then its answers
// tell of its load.
type podLoad struct {
	prompt, generated, steps, finished float64
	busy, steady                       bool
	// beyond is set if requests waited or tokens took longer than promised,
	// swamped if it can't have done more: most were late or refused, and requests
	// waited all the time or iterations took longer than promised.
	beyond, swamped         bool
	late, answered, refused float64
}

// observe adds up the fleet.
func observe(fleet sample.Fleet, s Saturation, now time.Time) load {
	var l load
	// joined are the arrivals at pods that weren't there for the whole minute, or
	// for the longest that any was: before they came, theirs went to the others.
	var rate, joined, longest, kv, missed, ended float64
	var between tally
	var lately jump
	for i := range fleet.Replicas {
		r := &fleet.Replicas[i]
		if !r.HasLoad(fleet.Freshness, now) {
			continue
		}
		l.serving++
		if _, why := family(r, familyRunning, fleet.Freshness, now); why != "" {
			l.unreadable = append(l.unreadable, Unread{Pod: r.Pod, Why: why, Released: silent(r, familyRunning, now) > fleet.Grace})
			continue
		}
		l.read = append(l.read, r.Pod)
		first, last := r.History.Ends(now.Add(-sight))
		d := stretch{first, last}
		span := d.seconds()
		// A pod that has just joined speaks once it has been seen for 10 s.
		if span < 10 {
			continue
		}
		l.spoke++
		came, cancelled := d.came()
		done := d.gain(familySuccess) + cancelled
		lately.add(&r.History, now)
		// Not one that was unready for a moment: it had its load before that.
		if r.ReadySince.After(now.Add(-sight)) && !first.At.Before(r.ReadySince) {
			joined += came + value(first, familyRunning) + value(first, familyWaiting)
			longest = max(longest, last.At.Sub(r.ReadySince).Seconds())
		} else {
			rate += came / span
		}
		longest = max(longest, span) // > 0 whatever the kubelet's clock says
		p, tokens := shareOf(&r.History, d, done, s)
		between.sum, between.count = between.sum+tokens.sum, between.count+tokens.count
		l.waiting += value(last, familyWaiting)
		l.jam += max(0, value(last, familyRunning)-p.generated*s.ITL.Seconds())
		kv += value(last, familyKV)
		l.prompt += p.prompt * span
		l.generated += p.generated * span
		l.requests += done
		l.begun += d.change(familyRunning)
		missed, ended = missed+p.late+p.refused, ended+p.answered+p.refused
		l.pods = append(l.pods, p)
	}
	if l.spoke > 0 {
		// Those who can't be read have as much as the others. Those who have just
		// joined have what they took over from these, and nothing beside.
		like := float64(l.spoke+len(l.unreadable)) / float64(l.spoke)
		l.arrivals, l.surely = (rate+joined/longest)*like, lately.least()*like
		l.waiting, l.jam = l.waiting*like, l.jam*like
		l.kv = kv / float64(l.spoke)
	}
	const few = 5
	l.hurts = missed > max(few, .1*ended)
	l.latency = between.mean()
	return l
}

// shareOf is a replica's share of the load, with its times between tokens. So many
// requests left it.
func shareOf(h *sample.History, d stretch, done float64, s Saturation) (podLoad, tally) {
	span, refused := d.seconds(), d.gain(familyRejected)
	engines, between := d.engines(), d.betweenTokens()
	p := podLoad{
		prompt: max(0, d.gain(familyPrompt)-d.gain(familyCached)) / span, generated: d.gain(familyGenerated) / span,
		finished: done / span, refused: refused,
	}
	_, batches := d.histogram(familySteps)
	if _, pieces := d.histogram(familyITL); pieces > 0 {
		p.steps = batches / engines * between.count / pieces / span
	}
	runs, waits := gaugeSpan(h, familyRunning, d.first.At), gaugeSpan(h, familyWaiting, d.first.At)
	// At a mean of four a Poisson number is none for 2 % of the time. It is those who
	// get tokens that count: others tell nothing of the time of a step.
	p.busy = runs.low >= engines && between.sum/span >= 4*engines
	p.steady = span > 45 && runs.high-runs.low <= max(6, .5*runs.mean) && waits.high < 2 && refused == 0
	p.beyond = between.mean() > s.ITL.Seconds() || waits.high >= 2
	slow, answered := d.beyond(familyTPOT, s.ITL.Seconds())
	tardy, _ := d.beyond(familyTTFT, s.TTFT.Seconds())
	p.late, p.answered = min(slow+tardy, answered), answered
	p.swamped = span > 45 && p.busy && p.late+refused > .5*(answered+refused) && (waits.low >= 2 || p.steps > 0 && p.steps*s.ITL.Seconds() < 1)
	return p, between
}

// tally is a sum over so many.
type tally struct{ sum, count float64 }

// mean is 0 of none.
func (t tally) mean() float64 {
	if t.count <= 0 {
		return 0
	}
	return t.sum / t.count
}

// alarm tells of a fleet that needs more whatever its throughput says: the mean
// time between tokens is past the promise, or the KV cache nearly full.
func (l *load) alarm(s Saturation) bool {
	return l.latency > s.ITL.Seconds() || l.kv > .9
}

// stretch is the first and the last sample of a pod in sight.
type stretch struct{ first, last *sample.Sample }

func (e stretch) seconds() float64 { return e.last.At.Sub(e.first.At).Seconds() }

// extent is the least, the greatest and the mean value of a gauge.
type extent struct{ low, high, mean float64 }

// gaugeSpan is a gauge's extent since a time.
func gaugeSpan(h *sample.History, name string, since time.Time) extent {
	e := extent{low: math.Inf(1), high: math.Inf(-1)}
	n := 0.0
	for s := range h.Backward() {
		if s.At.Before(since) {
			break
		}
		v := value(s, name)
		e.low, e.high = min(e.low, v), max(e.high, v)
		e.mean += v
		n++
	}
	e.mean /= max(1, n)
	return e
}

func value(s *sample.Sample, name string) float64 {
	if f, found := find(s, name); found {
		return f.Value()
	}
	return 0
}

func (e stretch) change(name string) float64 { return value(e.last, name) - value(e.first, name) }

// gain is what a counter gained. One that a page lacks has gained nothing: the
// guard's isn't there without the guard.
func (e stretch) gain(name string) float64 { return max(0, e.change(name)) }

// cacheFull is the usage of the KV cache from which on requests may wait that had
// been running: a preempted one comes back as soon as its tokens fit.
const cacheFull = .8

// came is how many requests arrived, and how many more than what ended tells: those
// left without an end, because their clients cancelled them. It is the greater of two
// counts, of which neither is too high by more than the few prompts under way. What
// ended, and the change of what is in the engine, lacks the cancelled ones: vLLM never
// counts them as finished. First tokens, and the change of what waits, lack those that
// were cancelled in the queue alone. But a preempted request waits though it had its
// first token, so while the cache is full, nothing that waits is taken for new by them.
func (e stretch) came() (all, cancelled float64) {
	ended := e.gain(familySuccess) + e.change(familyRunning) + e.change(familyWaiting)
	_, begun := e.histogram(familyTTFT)
	begun -= value(e.first, familyWaiting)
	if value(e.last, familyKV) < cacheFull {
		begun += value(e.last, familyWaiting)
	}
	all = max(0, ended, begun)
	return all + e.gain(familyRejected), all - max(0, ended)
}

// engines are how many the page is of.
func (e stretch) engines() float64 {
	running, _ := find(e.last, familyRunning)
	return float64(max(1, running.Engines))
}

// betweenTokens is the time between the tokens of answers. vLLM tells of the times
// between pieces of output, each of one step, after the first: with speculation a piece
// is several tokens.
func (e stretch) betweenTokens() tally {
	sum, pieces := e.histogram(familyITL)
	if pieces <= 0 {
		return tally{}
	}
	_, begun := e.histogram(familyTTFT)
	return tally{sum, max(pieces, e.gain(familyGenerated)-begun)}
}

// buckets are a histogram's at both ends, if it went on counting between them.
func (e stretch) buckets(name string) (before, after sample.Buckets, ok bool) {
	a, found1 := find(e.first, name)
	b, found2 := find(e.last, name)
	ok = found1 && found2 && a.Kind == sample.Histogram && sample.Continues(&a, &b)
	return a.Buckets, b.Buckets, ok
}

// histogram is the sum and the number of observations gained.
func (e stretch) histogram(name string) (sum, count float64) {
	a, b, ok := e.buckets(name)
	if !ok {
		return 0, 0
	}
	return b.Sum - a.Sum, b.Count() - a.Count()
}

// beyond is how many of the observations gained were over a limit, and how many
// there were. Within the limit's bucket the tail is taken to fall
// geometrically, to a twentieth at most: linear, 60 ms between bounds of 50 and
// 75 would take most of those just over 50 for late, and without an end to the
// fall, where none was over 75, hardly any.
func (e stretch) beyond(name string, limit float64) (over, all float64) {
	a, b, ok := e.buckets(name)
	if !ok {
		return 0, 0
	}
	all = b.Count() - a.Count()
	lower, above := 0.0, all
	for i, le := range b.Le {
		rest := all - (b.Cumulative[i] - a.Cumulative[i])
		if le < limit {
			lower, above = le, rest
			continue
		}
		switch {
		case le == limit:
			return max(0, rest), all
		case math.IsInf(le, 1), above <= 0:
			return max(0, above), all
		}
		return above * math.Pow(max(rest/above, .05), (limit-lower)/(le-lower)), all
	}
	return 0, all
}
