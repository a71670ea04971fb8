package simulate

import (
	"math"
	"sync"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// SLO is what users are promised.
type SLO struct {
	// TTFT is the time to the first token of a prompt of up to 4096 tokens, in
	// seconds; each further 4096 add one second. ITL is the mean time between
	// tokens of one request, in seconds.
	TTFT, ITL float64
	// Flat is set if long prompts have no more time than short ones, as a histogram
	// of vLLM's page, which doesn't tell prompts apart, has it.
	Flat bool
}

// AtBounds is the SLO as it can be judged: nobody who reads vLLM's histograms can
// tell two times of one bucket apart, so each limit is the smallest bound of a
// bucket that isn't below it. 2 s and 60 ms are judged at 2.5 s and 75 ms.
func (s SLO) AtBounds() SLO {
	s.TTFT, s.ITL = boundOf(ttftBounds[:], s.TTFT), boundOf(tokenBounds[:], s.ITL)
	return s
}

// boundOf is the smallest bound not below x; x itself beyond the last.
func boundOf(bounds []float64, x float64) float64 {
	if i := bucket(bounds, x); i < len(bounds) {
		return bounds[i]
	}
	return x
}

// DefaultSLO is that of automatic mode: 2.5 s to the first token and 75 ms between tokens.
var DefaultSLO = SLO{TTFT: policy.DefaultTTFT.Seconds(), ITL: policy.DefaultITL.Seconds()}

const perMoreTokens = 4096

func (s SLO) met(r *Request, ttft, itl float64) bool {
	return itl <= s.ITL && ttft <= s.limit(r)
}

// limit is the time to the first token that is promised of a request.
func (s SLO) limit(r *Request) float64 {
	if s.Flat {
		return s.TTFT
	}
	return s.TTFT + float64((int(r.In)-1)/perMoreTokens)
}

// incurable tells of a request that missed the SLO whether more replicas can't have
// cured it: it misses in the same way on an idle one.
func (s SLO) incurable(e *Engine, r *Request, ttft, itl float64) bool {
	return (ttft <= s.limit(r) || e.idleTTFT(r) > s.limit(r)) && (itl <= s.ITL || e.idleITL(r) > s.ITL)
}

// Result is what came of a load under a policy.
type Result struct {
	Load, Policy string
	Seed         uint64
	// Requests is how many there were; of them Attained met the SLO, Refused
	// got a 429 or found no replica, Broken were lost with a replica, and
	// Unfinished had no answer when the load had ended.
	Requests, Attained, Refused, Broken, Unfinished int
	// Incurable missed the SLO, and would have on an idle replica as well: they are
	// nobody's fault who chooses how many there are.
	Incurable int
	// Cancelled is how many clients went away. Those to whom the first token was
	// late by then are among Requests.
	Cancelled int
	// TTFT50 and TTFT99 are quantiles over answered requests, in seconds.
	TTFT50, TTFT99 float64
	// GPUHours is from ordering a replica's node to releasing it, with one GPU
	// for each; WastedHours of it are beyond what the load's work fills when
	// every replica works at the SLO's limit.
	GPUHours, WastedHours float64
	// Reversals are changes of direction within two cold starts.
	Reversals int
	// Turns are all changes of direction.
	Turns int
	// Peak is the most replicas that were desired at a time.
	Peak int32
	// Moves are the changes of the desired replicas, the warm-up's included.
	Moves []Move
	// Reason is the newest, whether or not the replicas changed.
	Reason string
	// Minutes is the course of it.
	Minutes []Minute
	// PerRequest is what came of each request, in the order of the load; nil if it
	// wasn't asked for.
	PerRequest []RequestResult
}

// Move is a change of the desired replicas.
type Move struct {
	At       time.Duration
	From, To int32
	// Reason is the policy's, in words; "" if it gave none.
	Reason string
}

// Attainment is the share of requests that met the SLO, or would have missed it on
// an idle replica as well.
func (r *Result) Attainment() float64 {
	if r.Requests == 0 {
		return 1
	}
	return float64(r.Attained+r.Incurable) / float64(r.Requests)
}

// Minute is a minute of a run.
type Minute struct {
	// Arrived and Missed are requests by the time of their arrival; of those that
	// missed the SLO only what more replicas could have cured counts.
	Arrived, Missed int32
	// Desired and Ready are replicas at the minute's end, Waiting and Running
	// requests.
	Desired, Ready, Waiting, Running int32
	// TTFT is the greatest time to first token of the requests that came in
	// it, in seconds.
	TTFT float32
}

// tally counts requests as they end.
type tally struct {
	// slo is at the bounds of buckets.
	slo    SLO
	engine *Engine
	// attempts are nil if nobody tries again.
	attempts *attempts
	// from is when scoring begins, in seconds.
	from     float64
	answered int
	attained int
	refused  int
	broken   int
	// incurable are among those answered.
	incurable int
	ttft      [ttftBins]int
	minutes   []Minute
	load      *Load
	// cancelled are clients that went away, impatient those of them to whom the
	// first token was late.
	cancelled, impatient int
	// results are nil if nobody asks for them.
	results []RequestResult
}

// The buckets of tally.ttft: each is 3 % wide, the first ends at 1 ms.
const (
	ttftStep = 1.03
	ttftBins = 512
)

// ttftBin is a time's bucket.
func ttftBin(ttft float64) int {
	if ttft <= .001 {
		return 0
	}
	return min(int(math.Log(ttft/.001)/math.Log(ttftStep))+1, ttftBins-1)
}

// cellBits are left of a float64 without its finest digits: cells that are less
// than 1 % wide, so that no more than one bucket begins within one.
const cellBits = 45

// binTable finds ttftBin without a logarithm for each request.
type binTable struct {
	// lowest is the first cell, bins are those that cells begin in.
	lowest uint64
	bins   []int32
	// from is where each bucket begins.
	from [ttftBins + 1]float64
}

var ttftBuckets = sync.OnceValue(func() *binTable {
	t := &binTable{lowest: math.Float64bits(.001) >> cellBits}
	t.from[ttftBins] = math.Inf(1)
	for i := 1; i < ttftBins; i++ {
		// Floats above 0 are in the order of their bits.
		low, high := math.Float64bits(.001), math.Float64bits(1e6)
		for high-low > 1 {
			if middle := low + (high-low)/2; ttftBin(math.Float64frombits(middle)) >= i {
				high = middle
			} else {
				low = middle
			}
		}
		t.from[i] = math.Float64frombits(high)
	}
	for cell := t.lowest; len(t.bins) == 0 || t.bins[len(t.bins)-1] < ttftBins-1; cell++ {
		t.bins = append(t.bins, int32(ttftBin(math.Float64frombits(cell<<cellBits))))
	}
	return t
})

func (t *binTable) of(ttft float64) int {
	cell := math.Float64bits(ttft) >> cellBits
	if ttft <= .001 {
		return 0
	}
	i := int(t.bins[min(int(cell-t.lowest), len(t.bins)-1)])
	if ttft >= t.from[i+1] {
		i++
	}
	return i
}

func (t *tally) served(id int32, r *Request, ttft, itl float64) {
	if first := t.attempts.origin(id); first != id {
		// Its client has waited since the first time that it asked.
		id = first
		ttft += r.At - t.load.Requests[id].At
		r = &t.load.Requests[id]
	}
	t.record(id, Served, ttft, itl)
	m := t.minute(r)
	if long := float32(ttft); long > m.TTFT {
		m.TTFT = long
	}
	met := t.slo.met(r, ttft, itl)
	incurable := !met && t.slo.incurable(t.engine, r, ttft, itl)
	if !met && !incurable {
		m.Missed++
	}
	if r.At < t.from {
		return
	}
	t.answered++
	if met {
		t.attained++
	}
	if incurable {
		t.incurable++
	}
	t.ttft[ttftBuckets().of(ttft)]++
}

// refuse counts a request that nobody took, lost one that went with its replica.
func (t *tally) refuse(id int32) {
	if !t.attempts.refused(id) {
		t.miss(id, Refused, 0, &t.refused)
	}
}
func (t *tally) lost(id int32) { t.miss(id, Broken, 0, &t.broken) }

// cancel counts a request whose client went away, who had had the first token
// after a time; 0 for never, when it had waited until then.
func (t *tally) cancel(id int32, ttft, waited float64) {
	again := t.load.Requests[id].At
	id = t.attempts.origin(id)
	r := &t.load.Requests[id]
	if ttft > 0 {
		waited = ttft
	}
	waited += again - r.At
	if r.At >= t.from {
		t.cancelled++
	}
	if t.slo.met(r, waited, 0) {
		t.record(id, Cancelled, ttft, 0)
		return
	}
	t.miss(id, Cancelled, ttft, &t.impatient)
}

func (t *tally) miss(id int32, what Outcome, ttft float64, count *int) {
	id = t.attempts.origin(id)
	t.record(id, what, ttft, 0)
	r := &t.load.Requests[id]
	t.minute(r).Missed++
	if r.At >= t.from {
		*count++
	}
}

func (t *tally) record(id int32, what Outcome, ttft, itl float64) {
	if t.results != nil {
		t.results[id] = RequestResult{what, ttft, itl}
	}
}

func (t *tally) minute(r *Request) *Minute {
	return &t.minutes[min(int(r.At/60), len(t.minutes)-1)]
}

func (t *tally) quantile(q float64) float64 {
	rank, sum := q*float64(t.answered), 0
	for i, n := range t.ttft {
		sum += n
		if float64(sum) >= rank && sum > 0 {
			return .001 * math.Pow(ttftStep, float64(i))
		}
	}
	return 0
}

// turns counts changes of direction since a time.
func turns(moves []change, since time.Time) int {
	return reversals(moves, since, math.MaxInt64)
}

// reversals counts turns since a time that come within another of the move
// before.
func reversals(moves []change, since time.Time, within time.Duration) int {
	n := 0
	for i := 2; i < len(moves); i++ {
		if moves[i].at.Before(since) {
			continue
		}
		now := moves[i].replicas > moves[i-1].replicas
		before := moves[i-1].replicas > moves[i-2].replicas
		if now != before && moves[i].at.Sub(moves[i-1].at) <= within {
			n++
		}
	}
	return n
}
