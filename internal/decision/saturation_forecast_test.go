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
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a story is the same each time
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

// What was never seen is ordered for as growth, not as a swing.
func TestNoSwingGoesBeyondWhatWasSeen(t *testing.T) {
	s := saturated()
	minutes(s, noisy(3*60, 1), func(m int, l *Learned) {
		if m < 120 {
			return
		}
		o := l.outlook(s, l.At)
		for _, level := range []float64{5, 10, o.ever * 1.1} {
			around := o.around(level)
			for i := range around.n {
				if around.demand[i] > max(o.ever, level) {
					t.Fatalf("minute %d: a swing from %.1f to %.1f, and %.1f is the most that ever was", m, level, around.demand[i], o.ever)
				}
			}
		}
	})
}
