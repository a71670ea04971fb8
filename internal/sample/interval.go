package sample

import (
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// A minute's load changed in it if more than uneven times the requests run at one of its
// ends than at the other, not counting the first few: those vary by chance.
const uneven, few = 2, 4

// SLO is what users are promised, in seconds.
type SLO struct{ FirstToken, PerToken float64 }

// Interval is what replicas did in a stretch of time.
type Interval struct {
	Seconds float64
	// Prompt are prompt tokens that were computed, Generated tokens that were given,
	// FirstTokens requests that had their first, TokenTime the time that requests
	// spent between tokens, in seconds, summed.
	Prompt, Generated, FirstTokens, TokenTime float64
	// Arrived are requests that came and were taken, Refused those that weren't,
	// Answered those that are done, Late those of them that were later than the SLO.
	Arrived, Refused, Answered, Late float64
	// Waited is set if requests waited all the time, Even if about as many ran at the end
	// as at the beginning: one that was idle before its load came has no one load.
	Waited, Even bool
}

// Add adds what another replica did at the same time.
func (i *Interval) Add(other *Interval) {
	i.Seconds = max(i.Seconds, other.Seconds)
	i.Prompt, i.Generated, i.FirstTokens = i.Prompt+other.Prompt, i.Generated+other.Generated, i.FirstTokens+other.FirstTokens
	i.TokenTime, i.Arrived, i.Refused = i.TokenTime+other.TokenTime, i.Arrived+other.Arrived, i.Refused+other.Refused
	i.Answered, i.Late = i.Answered+other.Answered, i.Late+other.Late
}

// reading is what is used of a page: counts since the process began, and gauges.
type reading struct {
	sample *Sample
	// prompt are computed prompt tokens, first and done requests that had their first
	// and their last token, lateFirst and lateDone those of them beyond the SLO.
	prompt, generated, first, lateFirst, done, lateDone, tokenTime, refused float64
	running, waiting                                                        float64
	// perRequest is set if the page has the time per token of each request.
	perRequest bool
	// slo are the bounds of histograms that it is judged at.
	slo SLO
}

func read(s *Sample, slo SLO) reading {
	value := func(metric string) float64 { f, _ := s.Metric(metric); return f.Sum }
	r := reading{
		sample: s, prompt: value(policy.FamilyPrompt) - value(policy.FamilyCached), generated: value(policy.FamilyGenerated),
		refused: value(policy.FamilyRejected), running: value(policy.FamilyRunning), waiting: value(policy.FamilyWaiting),
	}
	r.first, r.lateFirst, r.slo.FirstToken, _ = beyond(s, policy.FamilyTTFT, slo.FirstToken)
	r.done, r.lateDone, r.slo.PerToken, r.perRequest = beyond(s, policy.FamilyTPOT, slo.PerToken)
	if f, found := s.Metric(policy.FamilyITL); found {
		r.tokenTime = f.Buckets.Sum
	}
	return r
}

// beyond is how many observations a histogram has, and how many of them are above the
// smallest of its bounds that isn't below a limit: within a bucket nobody knows.
func beyond(s *Sample, metric string, limit float64) (all, late, bound float64, found bool) {
	f, found := s.Metric(metric)
	for i, le := range f.Buckets.Le {
		if le >= limit*(1-1e-9) && !math.IsInf(le, 1) {
			return f.Buckets.Count(), f.Buckets.Count() - f.Buckets.Cumulative[i], le, found
		}
	}
	return f.Buckets.Count(), 0, limit, found
}

// since is what the replica did since an earlier reading; false if counts began anew.
func (r *reading) since(from *reading) (i Interval, ok bool) {
	a, b := from.sample, r.sample
	if a.Restarts != b.Restarts || a.ProcessStart != b.ProcessStart || r.generated < from.generated || r.first < from.first || r.done < from.done {
		return i, false
	}
	i = Interval{
		Seconds: b.At.Sub(a.At).Seconds(), Prompt: max(0, r.prompt-from.prompt), Generated: r.generated - from.generated,
		FirstTokens: r.first - from.first, TokenTime: max(0, r.tokenTime-from.tokenTime),
		// Requests that their clients cancel never end, but had their first token.
		Arrived: r.first - from.first + r.waiting - from.waiting, Refused: max(0, r.refused-from.refused),
		Answered: r.done - from.done, Late: r.lateDone - from.lateDone,
	}
	if !r.perRequest { // The mean over all requests has to do.
		i.Answered = i.FirstTokens
		if i.TokenTime > r.slo.PerToken*(i.Generated-i.FirstTokens) {
			i.Late = i.Answered
		}
	}
	i.Late = min(max(0, i.Late+r.lateFirst-from.lateFirst), i.Answered)
	return i, true
}

// Pod is one replica from reading to reading. Its zero value has none.
type Pod struct {
	// Rate is requests a second that came of late, Waiting and Running are the newest
	// gauges, At is when they were read. SLO are the bounds that answers are judged at.
	Rate, Waiting, Running float64
	At                     time.Time
	SLO                    SLO
	// Overloaded is set if its newest minute was too much.
	Overloaded bool
	// begin is where the current minute began, last the newest reading. fresh is set
	// in the first minute, in which it fills up. waited is the least since begin.
	begin, last reading
	fresh       bool
	waited      float64
}

// Add takes a reading in. It tells what was done since the last one, and since the
// minute began once it is over.
func (p *Pod) Add(s *Sample, slo SLO) (lately, minute Interval) {
	r := read(s, slo)
	same := false
	if p.last.sample != nil {
		if r.slo != p.SLO { // Counts are of the same bounds.
			p.begin, p.last = read(p.begin.sample, slo), read(p.last.sample, slo)
		}
		lately, same = r.since(&p.last)
	}
	p.Waiting, p.Running, p.At, p.SLO = r.waiting, r.running, s.At, r.slo
	switch {
	case !same:
		p.begin, p.last, p.fresh, p.waited, p.Rate = r, r, true, r.waiting, 0
		p.Overloaded = false
		return Interval{}, minute
	case lately.Seconds <= 0:
		return lately, minute
	}
	p.last, p.Rate, p.waited = r, lately.Arrived/lately.Seconds, min(p.waited, r.waiting)
	if s.At.Sub(p.begin.sample.At) < time.Minute {
		return lately, minute
	}
	if !p.fresh {
		minute, _ = r.since(&p.begin)
		minute.Waited = p.waited >= 2
		a, b := p.begin.running, r.running
		minute.Even = max(a, b) <= uneven*max(min(a, b), few)
	}
	p.begin, p.fresh, p.waited = r, false, r.waiting
	return lately, minute
}
