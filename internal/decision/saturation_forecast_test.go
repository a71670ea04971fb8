package decision

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// minutes lets the demand of each minute be seen, and what is expected at its end.
func minutes(s Saturation, demand []float64, see func(m int, l *Learned)) {
	l := Learned{Began: t0}
	for m, work := range demand {
		now := t0.Add(time.Duration(m) * time.Minute)
		l.Before, l.At = l.At, now
		l.record(s, work, now)
		see(m, &l)
	}
}

// noisy are minutes of a steady load, with a standard deviation of 6 %.
func noisy(n int, seed uint64) []float64 {
	random := rand.New(rand.NewPCG(seed, 1))
	demand := make([]float64, n)
	for i := range demand {
		demand[i] = 10 * (1 + .06*random.NormFloat64())
	}
	return demand
}

// One forecaster after the other comes to be known, and the best of them changes:
// none of that is a reason for another replica of ten.
func TestASteadyLoadIsForetoldSteadily(t *testing.T) {
	s := saturated()
	for seed := range uint64(5) {
		before := 0.0
		minutes(s, noisy(5*60, seed), func(m int, l *Learned) {
			o := l.outlook(s, l.At)
			wants := o.soon * o.quantile(.95)
			if off := math.Abs(o.soon/10 - 1); m > 60 && off > .06 {
				t.Errorf("seed %d, minute %d: %.2f are foretold of 10", seed, m, o.soon)
			}
			if m > 60 && math.Abs(wants/before-1) > .06 {
				t.Errorf("seed %d, minute %d: with its swings %.2f are reckoned with, %.2f a minute ago", seed, m, wants, before)
			}
			before = wants
		})
	}
}

// Who foretells a ramp is believed while it lasts.
func TestARampIsForetold(t *testing.T) {
	s := saturated()
	demand := noisy(4*60, 1)
	for m := 60; m < len(demand); m++ {
		demand[m] *= 1 + float64(m-60)/60
	}
	minutes(s, demand, func(m int, l *Learned) {
		if m < 120 {
			return
		}
		ahead := l.reach(s)
		comes := 10 * (1 + float64(m-60+int(ahead))/60)
		if told, known := l.expect(minute(l.At), ahead); !known || math.Abs(told/comes-1) > .12 {
			t.Errorf("minute %d: %.1f are foretold, %.1f will come", m, told, comes)
		}
	})
}

// A load that was never higher may go on. Where it was higher an hour ago no swing
// goes beyond that.
func TestHowFarASwingGoes(t *testing.T) {
	s := saturated()
	demand := append(noisy(2*60, 1), noisy(2*60, 2)...)
	for m := range demand[:120] {
		demand[m] *= .5 + float64(m)/240
	}
	for m := range demand[120:] {
		demand[120+m] *= .8
	}
	minutes(s, demand, func(m int, l *Learned) {
		o := l.outlook(s, l.At)
		most := 0.0
		around := o.around(o.soon)
		for i := range around.n {
			most = max(most, around.demand[i])
		}
		switch {
		case m > 60 && m < 118 && most < 1.02*l.Highest:
			t.Errorf("minute %d of a ramp: swings go up to %.2f times its highest", m, most/l.Highest)
		case m > 185 && most > 1.0001*l.Highest:
			t.Errorf("minute %d, an hour after the ramp: swings go up to %.2f times its highest", m, most/l.Highest)
		}
	})
}

// A burst is reckoned with when another one came within four hours before it,
// whatever part of its first minute had some of it.
func TestABurstThatCameOnceIsNoHabit(t *testing.T) {
	const burst, length = 8, 5
	for _, tt := range []struct {
		story  string
		times  float64
		bursts []int // their first minutes
		habit  bool
	}{
		{"once", burst, []int{180}, false},
		{"twice within four hours", burst, []int{180, 410}, true},
		{"twice, half a day apart", burst, []int{180, 900}, false},
		{"twice, and again half a day later", burst, []int{180, 240, 960}, false},
		{"swings of less", 3, []int{180, 240, 300}, true},
	} {
		demand := noisy(tt.bursts[len(tt.bursts)-1]+60, 1)
		for _, at := range tt.bursts {
			for m := at; m < at+length; m++ {
				demand[m] *= tt.times
			}
			demand[at-1] *= 1 + (tt.times-1)*.4
		}
		var last Learned
		minutes(saturated(), demand, func(_ int, l *Learned) { last = *l })
		o, beyond := last.outlook(saturated(), last.At), 0.0
		for i, weight := range o.swings {
			if binRatio[i] > 2 {
				beyond += weight
			}
		}
		if tt.habit != (beyond > .2) {
			t.Errorf("%s: swings beyond twice what is expected weigh %.2f", tt.story, beyond)
		}
	}
	once := append(noisy(180, 1), noisy(60, 2)...)
	for m := 180; m < len(once); m++ {
		once[m] *= burst // for an hour
	}
	minutes(saturated(), once, func(m int, l *Learned) {
		if !l.Swings.Earlier.IsZero() {
			t.Fatalf("minute %d: one burst is taken for two", m)
		}
	})
}
