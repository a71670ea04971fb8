package capacity

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// engine is one whose step takes alpha + beta × prompt tokens + gamma × requests.
type engine struct{ alpha, beta, gamma, perStep float64 }

var slo = sample.SLO{FirstToken: 2.5, PerToken: .075}

// minute is what a replica does at so many requests a second of so many tokens: in
// equilibrium a token takes alpha ÷ (1 − load).
func (e engine) minute(r *rand.Rand, rate, in, out float64) *sample.Interval {
	n := math.Round(60*rate + math.Sqrt(60*rate)*r.NormFloat64())
	n = max(n, 1)
	prompt, generated := n*in*math.Exp(.1*r.NormFloat64()), n*out*math.Exp(.1*r.NormFloat64())
	load := e.beta*prompt/60 + e.gamma*generated/60/e.perStep
	perToken := (e.alpha + e.gamma) / e.perStep / max(.02, 1-load) * math.Exp(.03*r.NormFloat64())
	return &sample.Interval{
		Seconds: 60, Prompt: prompt, Generated: generated, FirstTokens: n, TokenTime: perToken * (generated - n),
		Arrived: n, Answered: n, Even: true, Late: boolean(perToken > slo.PerToken) * n,
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// TestCapacityIsLearned: the rate at which the SLO just holds is known within a tenth
// after an hour of ordinary loads, whatever the prior says.
func TestCapacityIsLearned(t *testing.T) {
	for name, e := range map[string]engine{
		"a small model":             {.0078, .00003, .00011, 1},
		"70 B on two nodes":         {.036, .00017, .0001, 1},
		"2.5 tokens a step":         {.0195, .00003, .00028, 2.5},
		"steps of 50 ms":            {.05, .0001, .0002, 1},
		"30 ms, expensive sequence": {.03, .0003, .001, 1},
	} {
		for _, benchmark := range []float64{0, .9 / (e.beta*8/9 + e.gamma/9)} {
			r := rand.New(rand.NewPCG(7, 7))
			var m Model
			m.SetBenchmark(benchmark)
			const in, out = 1155.0, 211.0
			cost := e.beta*in + e.gamma*out/e.perStep
			limit := 1 - (e.alpha+e.gamma)/e.perStep/slo.PerToken
			for i := range 60 {
				load := limit * (.15 + .6*float64(i%7)/7)
				work := e.minute(r, load/cost, in, out)
				m.Observe(work, 60)
				m.Learn(work, slo)
				m.File(work, 1)
			}
			known := m.Curve(slo, false)
			got := known.Limit / m.Cost()
			if want := limit / cost; math.Abs(got/want-1) > .1 {
				t.Errorf("%s, benchmark %.0f: %.2f requests a second, really %.2f", name, benchmark, got, want)
			}
		}
	}
}

// known is a model that was shown minutes of a small model at loads.
func known(minutes int, load func(i int) float64, late func(load float64) float64) *Model {
	var m Model
	e := engine{.0078, .00003, .00011, 1}
	r := rand.New(rand.NewPCG(3, 3))
	for i := range minutes {
		x := load(i)
		work := e.minute(r, x/(e.beta*1155+e.gamma*211), 1155, 211)
		work.Late = late(x) * work.Answered
		m.Observe(work, 60)
		m.Learn(work, slo)
		m.File(work, 1)
	}
	return &m
}

func TestViolationsThatDoNotRiseWithLoadAreNotBoughtOff(t *testing.T) {
	loads := func(i int) float64 { return .1 + .7*float64(i%11)/11 }
	cured := known(600, loads, func(float64) float64 { return .012 }).Curve(slo, false)
	if math.Abs(cured.Base-.012) > .003 || cured.Excess(.7) > .003 {
		t.Errorf("of 1.2 %% that are late at any load %.2f %% are the base, and at 70 %% load %.2f %% more", 100*cured.Base, 100*cured.Excess(.7))
	}
	rising := known(600, loads, func(load float64) float64 { return .012 + .2*boolean(load > .5) }).Curve(slo, false)
	if rising.Excess(.7) < .15 || rising.Fill(.01) > .55 {
		t.Errorf("a fifth more are late beyond half the load, known as %.3f, and it is filled to %.2f", rising.Excess(.7), rising.Fill(.01))
	}
}

func TestAKneeIsFound(t *testing.T) {
	m := known(600, func(i int) float64 { return .3 + .4*float64(i%7)/7 }, func(load float64) float64 { return boolean(load > .6) * .6 })
	if c := m.Curve(slo, false); c.Fill(.01) < .45 || c.Fill(.01) > .6 {
		t.Errorf("most are late beyond 60 %%, and it is filled to %.0f %%", 100*c.Fill(.01))
	}
}

// TestAnOverloadTeachesNoCosts: beyond a knee steps are many times dearer. What a request
// costs within the SLO stays what it was.
func TestAnOverloadTeachesNoCosts(t *testing.T) {
	for _, hours := range []int{2, 13} {
		overloadAfter(t, hours)
	}
}

// overloadAfter are so many hours of ordinary loads, and half of one beyond a knee.
func overloadAfter(t *testing.T, hours int) {
	t.Helper()
	m := known(60*hours, func(i int) float64 { return .2 + .4*float64(i%7)/7 }, func(float64) float64 { return 0 })
	before, limit := m.Cost(), m.Curve(slo, false).Limit
	e := engine{.0078, .00003, .00011, 1}
	r := rand.New(rand.NewPCG(5, 5))
	for range 30 {
		work := e.minute(r, .25/(e.beta*1155+e.gamma*211), 1155, 211)
		work.TokenTime, work.Late = .3*(work.Generated-work.FirstTokens), work.Answered
		m.Observe(work, 60)
		m.Learn(work, slo)
		m.File(work, 1)
	}
	if after := m.Cost(); math.Abs(after/before-1) > .03 {
		t.Errorf("after %d h half an hour of overload makes a request cost %.4f s instead of %.4f", hours, after, before)
	}
	if after := m.Curve(slo, false).Limit; after > .7 || after < .55 {
		t.Errorf("a replica that was served well up to 0.6, and collapses, has a limit of %.2f, before %.2f", after, limit)
	}
}

// TestFewAnswersShowWhatIsLateAtAnyLoad: 1.2 % late, at 0.2 requests a second a replica.
func TestFewAnswersShowWhatIsLateAtAnyLoad(t *testing.T) {
	for seed := range uint64(20) {
		var m Model
		e := engine{.036, .00017, .0001, 1}
		r := rand.New(rand.NewPCG(seed, 1))
		for i := range 8 * 60 {
			rate := .05 + .25*float64(i%29)/29
			for range 4 {
				work := e.minute(r, rate, 6800, 1500)
				work.Late = 0
				for range int(work.Answered) {
					work.Late += boolean(r.Float64() < .012)
				}
				m.Observe(work, 15)
				m.Learn(work, slo)
				m.File(work, 1)
			}
		}
		if c := m.Curve(slo, false); math.Abs(c.Base-.012) > .008 || c.Excess(.7*c.Limit) > .01 {
			t.Errorf("seed %d: of 1.2 %% that are late at any load %.2f %% are the base, and %.2f %% more near the limit of %.2f", seed, 100*c.Base, 100*c.Excess(.7*c.Limit), c.Limit)
		}
	}
}

func TestAModelSlowerThanItsSLOIsKnown(t *testing.T) {
	e := engine{.08, .00003, .0002, 1}
	r := rand.New(rand.NewPCG(7, 7))
	var m Model
	m.SetBenchmark(15000)
	for i := range 120 {
		load := .15 + .5*float64(i%7)/7
		work := e.minute(r, load/(e.beta*1155+e.gamma*211), 1155, 211)
		m.Observe(work, 60)
		m.Learn(work, slo)
		m.File(work, 1)
	}
	if cost, want := m.Cost(), e.beta*1155+e.gamma*211; math.Abs(cost/want-1) > .15 || math.Abs(m.Idle()/.0802-1) > .05 {
		t.Errorf("a request costs %.4f s, really %.4f, and an idle replica takes %.4f s a token", cost, want, m.Idle())
	}
}

func TestASaturatedReplicaShowsItsCeiling(t *testing.T) {
	var m Model
	e := engine{.03, .0003, .001, 1}
	r := rand.New(rand.NewPCG(3, 3))
	for i := range 20 {
		work := e.minute(r, 2, 200, 60)
		if i == 19 { // sixteen sequences, and no more
			work = e.minute(r, 4.3, 200, 60)
			work.Waited, work.Late, work.Arrived, work.Refused = true, work.Answered, 1.2*work.Arrived, 400
		}
		m.Observe(work, 60)
		m.Learn(work, slo)
		m.File(work, 1)
	}
	c := m.Curve(slo, false)
	if rate := c.Limit / m.Cost(); rate > 1.15*4.3 || rate < .85*4.3 {
		t.Errorf("a saturated replica that gives 4.3 requests a second is known to give %.1f", rate)
	}
}

func TestTheCurveNeverFallsAndIsANumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Model
		number := rapid.OneOf(rapid.Float64Range(0, 1e6), rapid.SampledFrom([]float64{0, 1, 1e-9, 1e12}))
		for range rapid.IntRange(0, 60).Draw(t, "minutes") {
			i := sample.Interval{
				Seconds: rapid.Float64Range(1, 100).Draw(t, "seconds"), Prompt: number.Draw(t, "prompt"), Generated: number.Draw(t, "generated"),
				FirstTokens: number.Draw(t, "first"), TokenTime: number.Draw(t, "time"), Arrived: number.Draw(t, "arrived"),
				Answered: number.Draw(t, "answered"), Waited: rapid.Bool().Draw(t, "waited"), Even: rapid.Bool().Draw(t, "even"),
			}
			i.Late = i.Answered * rapid.Float64Range(0, 1).Draw(t, "late")
			m.SetBenchmark(rapid.SampledFrom([]float64{0, 1000, 23000, math.Inf(1)}).Draw(t, "benchmark"))
			m.Observe(&i, i.Seconds)
			m.Learn(&i, slo)
			m.File(&i, 1)
		}
		for j := range m.Variance {
			for k := range m.Variance {
				if v := m.Variance[j][k]; math.IsNaN(v) || v*v > 1.001*m.Variance[j][j]*m.Variance[k][k]+1e-12 {
					t.Fatalf("no covariance: %v", m.Variance)
				}
			}
		}
		c := m.Curve(slo, false)
		before := 0.0
		for load := 0.0; load < 2; load += .01 {
			x := c.Excess(load)
			if math.IsNaN(x) || x < before-1e-9 {
				t.Fatalf("at %.2f it is %v, after %v: %+v", load, x, before, c)
			}
			before = x
		}
		if cost := m.Cost(); !(cost > 0) || !(c.Fill(.01) > 0) {
			t.Fatalf("a request costs %v, filled to %v", cost, c.Fill(.01))
		}
	})
}

func TestABenchmarkThatComesLateForgetsNothing(t *testing.T) {
	m := known(60, func(i int) float64 { return .2 + .5*float64(i%7)/7 }, func(float64) float64 { return 0 })
	before := m.Cost()
	m.SetBenchmark(5000)
	if after := m.Cost(); math.Abs(after/before-1) > 1e-9 {
		t.Errorf("a request costs %.4f s, and %.4f s once a benchmark is told", before, after)
	}
}

// TestTheMinuteInWhichAFirstLoadComesShowsNoLimit: a replica that was idle for half of it,
// and overloaded then, worked off half of what it can.
func TestTheMinuteInWhichAFirstLoadComesShowsNoLimit(t *testing.T) {
	for name, steps := range map[string]float64{"of a small model": .0078, "of a model whose steps take half the SLO": .036} {
		e := engine{steps, .00003, .00011, 1}
		r := rand.New(rand.NewPCG(3, 3))
		var m Model
		fill := func() float64 { c := m.Curve(slo, false); return c.Fill(.01) / m.Cost() }
		m.SetBenchmark(.9 / (e.beta*8/9 + e.gamma/9))
		before := fill()
		half := e.minute(r, .4/(e.beta*1155+e.gamma*211), 1155, 211)
		half.TokenTime, half.Late, half.Even = .2*(half.Generated-half.FirstTokens), half.Answered, false
		m.Learn(half, slo)
		if after := fill(); math.Abs(after/before-1) > .01 {
			t.Errorf("the first load of a replica %s fills it with %.2f requests a second, before with %.2f", name, after, before)
		}
	}
}

// TestACollapseLimitsForAnHour: what replicas worked off behind a knee is no limit for ever.
func TestACollapseLimitsForAnHour(t *testing.T) {
	ordinary := func(int) float64 { return .3 }
	m := known(60, ordinary, func(float64) float64 { return 0 })
	e := engine{.0078, .00003, .00011, 1}
	r := rand.New(rand.NewPCG(5, 5))
	for i := range 90 {
		work := e.minute(r, .25/(e.beta*1155+e.gamma*211), 1155, 211)
		if i < 10 {
			work.TokenTime, work.Late = .3*(work.Generated-work.FirstTokens), work.Answered
		}
		m.Observe(work, 60)
		m.Learn(work, slo)
		// The others' answers were in time at 0.3.
		if c := m.Curve(slo, true); i == 9 && c.Excess(.3) < 1 {
			t.Errorf("while it lasts, at a limit of %.2f, %.2f of what comes at 0.3 are late", c.Limit, c.Excess(.3))
		}
		if limit := m.Curve(slo, false).Limit; i == 30 && limit > .5 || i == 89 && limit < .8 {
			t.Errorf("%d minutes after a collapse the limit is %.2f", i-10, limit)
		}
	}
}
