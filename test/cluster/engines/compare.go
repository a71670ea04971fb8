package engines

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// Course is a number of replicas each second.
type Course []int

// Minutes are the replica-minutes of it.
func (c Course) Minutes() float64 {
	sum := 0
	for _, n := range c {
		sum += n
	}
	return float64(sum) / 60
}

// Run is what came of a load, on real engines or on simulated ones.
type Run struct {
	// Ordered are the replicas asked for.
	Ordered Course
	// Attained is the share of requests that met the SLO.
	Attained float64
	// Missed is the share that missed it of those sent in each stretch of missedEvery;
	// NaN where there was none.
	Missed []float64
	// Refused and Cut are requests.
	Refused, Cut int
	// Told are the changes of the replicas ordered, in words.
	Told []string
}

const missedEvery = 15 * time.Second

// World is what both run in.
type World struct {
	Engine    simulate.Engine
	SLO       simulate.SLO
	ColdStart time.Duration
	// Max is the annotation max-replicas, Initial how many replicas there are before the
	// load.
	Max, Initial int
	// Requests are sent in Length, which leaves time for the last answers.
	Requests []load.Request
	Length   time.Duration
	// Prelude is how long the fleet has been watched before the load; usualPrelude if 0.
	// Automatic mode releases nothing before it has watched for a whole window.
	Prelude time.Duration
}

// Annotations of an InferenceSet in automatic mode, without their prefix.
func (w *World) Annotations() map[string]string {
	return map[string]string{"auto-provision": "true", "max-replicas": strconv.Itoa(w.Max)}
}

// syncPeriod is the HPA's. Where in it a load begins is left to chance, so the
// simulator is asked for several places.
const syncPeriod = 15 * time.Second

// usualPrelude is how long a fleet idles before the load, so that the scaler has the
// readings that it wants before it judges.
const usualPrelude = 45 * time.Second

// Simulate plays the world n times: with other lots, and begun elsewhere in the turns of
// the HPA and of the scaler.
func (w *World) Simulate(ctx context.Context, n int) ([]Run, error) {
	annotations := map[string]string{}
	for key, value := range w.Annotations() {
		annotations[policy.Prefix+key] = value
	}
	var runs []Run
	for seed := range n {
		later := cmp.Or(w.Prelude, usualPrelude) + syncPeriod*time.Duration(seed)/time.Duration(n)
		played := simulated(w.Requests, w.Length, later)
		result, err := simulate.Run(ctx, simulate.Setting{
			Engine: w.Engine, SLO: w.SLO, ColdStart: w.ColdStart, Initial: int32(w.Initial), Seed: uint64(seed),
			Bounds: policy.Bounds{Min: 1, Max: int32(w.Max)}, Steps: true, PerRequest: true,
			EvaluatedBefore: simulate.EvaluatedBefore(uint64(seed)),
		}, played, simulate.Annotated("automatic", annotations))
		if err != nil {
			return nil, err
		}
		runs = append(runs, w.run(result, later))
	}
	return runs, nil
}

// run is a simulation's result in the terms of both.
func (w *World) run(result *simulate.Result, later time.Duration) Run {
	r := Run{Ordered: make(Course, int(w.Length/time.Second))}
	for i := range r.Ordered {
		r.Ordered[i] = w.Initial
	}
	for _, m := range result.Moves {
		at := m.At - later
		r.Told = append(r.Told, fmt.Sprintf("%s: %d → %d: %s", at, m.From, m.To, m.Reason))
		for i := max(0, int(at/time.Second)); i < len(r.Ordered); i++ {
			r.Ordered[i] = int(m.To)
		}
	}
	var s score
	for i, p := range result.PerRequest {
		met := p.Outcome == simulate.Served && p.TTFT <= w.SLO.TTFT && p.PerToken <= w.SLO.ITL
		s.add(w.Requests[i].At, met)
		switch p.Outcome {
		case simulate.Refused:
			r.Refused++
		case simulate.Broken:
			r.Cut++
		case simulate.Served, simulate.Unfinished, simulate.Cancelled:
		}
	}
	r.Attained, r.Missed = s.shares()
	return r
}

// Measured is the run of real engines in the terms of both.
func (w *World) Measured(ordered Course, results []load.Result, cut int) Run {
	r := Run{Ordered: ordered, Refused: load.Count(results, load.Refused), Cut: cut}
	var s score
	for _, p := range results {
		s.add(p.At, p.Met(span(w.SLO.TTFT), span(w.SLO.ITL)))
	}
	r.Attained, r.Missed = s.shares()
	return r
}

func span(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// score counts requests by the time at which they were sent.
type score struct{ sent, met []int }

func (s *score) add(at time.Duration, met bool) {
	i := int(at / missedEvery)
	for len(s.sent) <= i {
		s.sent, s.met = append(s.sent, 0), append(s.met, 0)
	}
	s.sent[i]++
	if met {
		s.met[i]++
	}
}

func (s *score) shares() (attained float64, missed []float64) {
	sent, met := 0, 0
	for i := range s.sent {
		sent, met = sent+s.sent[i], met+s.met[i]
		missed = append(missed, 1-float64(s.met[i])/float64(s.sent[i])) // 0/0 is NaN
	}
	return float64(met) / float64(sent), missed
}

// Spread is what several simulations say of one number.
type Spread struct{ Low, Median, High float64 } // the 5 %, 50 % and 95 % quantiles

// SpreadOf takes it of some numbers, of which NaN are none.
func SpreadOf(values []float64) Spread {
	values = slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(values) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(values)
	at := func(q float64) float64 {
		x := q * float64(len(values)-1)
		i := min(int(x), len(values)-1)
		j := min(i+1, len(values)-1)
		return values[i] + (values[j]-values[i])*(x-float64(i))
	}
	return Spread{at(.05), at(.5), at(.95)}
}

// Holds says whether a number is that near to the median, or among the middle 90 %.
func (s Spread) Holds(x, near float64) bool {
	return math.Abs(x-s.Median) <= near || x >= s.Low && x <= s.High
}

// Each takes a number of each run.
func Each(runs []Run, of func(Run) float64) []float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	return values
}
