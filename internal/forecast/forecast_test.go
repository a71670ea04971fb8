package forecast

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

const hour, dayMinutes = 60, 24 * 60

// watched is a series that was shown a load from minute 1 up to, not including, an end.
func watched(end int64, ahead int, load func(minute int64) float64) *Series {
	s := &Series{}
	for m := int64(1); m < end; m++ {
		s.Add(m, load(m), ahead)
	}
	return s
}

// noisy is a load of that mean as requests come by themselves.
func noisy(seed uint64, mean func(minute int64) float64) func(int64) float64 {
	r := rand.New(rand.NewPCG(seed, 1))
	return func(m int64) float64 { x := mean(m); return max(0, x+math.Sqrt(x)*r.NormFloat64()) }
}

// observations are what any process may be fed, good or bad.
func observations() *rapid.Generator[[]float64] {
	return rapid.SliceOfN(rapid.OneOf(
		rapid.Float64Range(0, 1000), rapid.SampledFrom([]float64{0, 1, 1e-9, 1e30, -1, math.NaN(), math.Inf(1), math.MaxFloat64}),
	), 1, 300)
}

func TestAPredictionIsAlwaysANumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Series
		minute := rapid.Int64Range(1, 1<<33).Draw(t, "begin")
		ahead := rapid.IntRange(-1, 200).Draw(t, "ahead")
		for _, x := range observations().Draw(t, "observations") {
			s.Add(minute, x, ahead)
			minute += rapid.SampledFrom([]int64{1, 1, 1, 1, 0, -3, 2, 300, 20000}).Draw(t, "step")
		}
		f := s.Predict(ahead)
		for name, x := range map[string]float64{"now": f.Now, "level": f.Level, "most": f.Most, "median": f.Quantile(.5), "all": f.Quantile(1)} {
			if math.IsNaN(x) || math.IsInf(x, 0) || x < 0 {
				t.Fatalf("%s is %v", name, x)
			}
		}
		sum := 0.0
		for _, p := range f.Ratios() {
			sum += p
		}
		if sum < .95 || sum > 1.001 {
			t.Fatalf("the probabilities add up to %v", sum)
		}
	})
}

func TestAScaledLoadHasAScaledPrediction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		load := rapid.SliceOfN(rapid.Float64Range(1, 100), 2, 400).Draw(t, "load")
		factor := math.Exp2(float64(rapid.IntRange(-20, 20).Draw(t, "power"))) // exact in floats
		var one, other Series
		for i, x := range load {
			one.Add(int64(i+1), x, 7)
			other.Add(int64(i+1), factor*x, 7)
		}
		a, b := one.Predict(7), other.Predict(7)
		if off := math.Abs(b.Level/(factor*a.Level) - 1); off > 1e-6 {
			t.Fatalf("%v times the load is foreseen as %v times %v", factor, b.Level, a.Level)
		}
		if a.Quantile(.9) != b.Quantile(.9) {
			t.Fatalf("its errors are %v, not %v", b.Quantile(.9), a.Quantile(.9))
		}
	})
}

func TestTheStateDoesNotGrow(t *testing.T) {
	var flat func(reflect.Type) bool
	flat = func(of reflect.Type) bool {
		switch of.Kind() { //nolint:exhaustive // all others are of constant size or not used
		case reflect.Slice, reflect.Map, reflect.Pointer, reflect.String, reflect.Interface:
			return false
		case reflect.Array:
			return flat(of.Elem())
		case reflect.Struct:
			for field := range of.Fields() {
				if !flat(field.Type) {
					return false
				}
			}
		}
		return true
	}
	if of := reflect.TypeFor[Series](); !flat(of) || of.Size() > 10<<10 {
		t.Errorf("a series takes %d B, or grows", of.Size())
	}
}

func TestASteadyLoadIsForeseenAsItIs(t *testing.T) {
	s := watched(6*hour, 7, func(int64) float64 { return 5 })
	f := s.Predict(7)
	if math.Abs(f.Level-5) > .01 || f.Quantile(.99) > 1.03 {
		t.Errorf("a load of 5 is foreseen as %v, times %v", f.Level, f.Quantile(.99))
	}
}

func TestARampIsForeseen(t *testing.T) {
	ramp := func(m int64) float64 { return 100 * (2 + 10*max(0, float64(m)-3*hour)/(2*hour)) }
	s := watched(4*hour, 12, noisy(1, ramp))
	if f := s.Predict(12); f.Level < .9*ramp(4*hour+11) {
		t.Errorf("12 minutes ahead it is %.0f, foreseen as %.0f", ramp(4*hour+11), f.Level)
	}
}

// batch runs from 1 to 3 h in the nights that it runs in.
func batch(runs func(night int64) bool) func(int64) float64 {
	return func(m int64) float64 {
		if minute := m % dayMinutes; minute >= hour && minute < 3*hour && runs(m/dayMinutes) {
			return 400
		}
		return 100
	}
}

func TestANightlyBatchIsForeseenFromTheSecondNight(t *testing.T) {
	for seed := range uint64(20) {
		load := noisy(seed, batch(func(int64) bool { return true }))
		for _, night := range []int64{1, 2} {
			s := watched(night*dayMinutes+hour-7, 7, load)
			if f := s.Predict(7); f.Level < 350 || !f.Seasonal {
				t.Errorf("seed %d: seven minutes before night %d's batch of 400 it is foreseen as %.0f", seed, night+1, f.Level)
			}
		}
	}
}

func TestABatchThatDoesNotComeAgainIsForgottenWithinTwentyMinutes(t *testing.T) {
	s := watched(dayMinutes+hour+25, 7, noisy(1, batch(func(night int64) bool { return night == 0 })))
	if f := s.Predict(7); f.Level > 150 {
		t.Errorf("25 minutes after it didn't come it is foreseen as %.0f, of 100", f.Level)
	}
}

func TestWhatComesOnceAWeekIsForeseenFromTheSecondWeek(t *testing.T) {
	weekly := batch(func(night int64) bool { return night%7 == 2 })
	s := watched(9*dayMinutes+hour-7, 7, noisy(1, weekly))
	if f := s.Predict(7); f.Level < 350 {
		t.Errorf("a week after a batch of 400 it is foreseen as %.0f", f.Level)
	}
}

func TestBurstsShorterThanTheHorizonAreNotFollowed(t *testing.T) {
	s := watched(2*hour, 7, noisy(1, func(int64) float64 { return 100 }))
	followed := 0
	for burst := range int64(6) {
		f := s.Predict(7)
		if s.Jumped(&f, 300, 7) {
			followed++
		}
		for m := range int64(15) {
			s.Add(2*hour+15*burst+m, 100, 7)
		}
	}
	if followed == 0 || followed > 2 {
		t.Errorf("%d of 6 were followed: the first may last, and a third doesn't", followed)
	}
}

func TestAStepIsFollowed(t *testing.T) {
	for steps := range int64(5) {
		s := watched(4*hour, 7, noisy(1, func(m int64) float64 { return 100 * float64(int64(1)<<(m/hour)) }))
		f := s.Predict(7)
		if !s.Jumped(&f, 2000, 7) {
			t.Errorf("after %d steps that lasted another isn't followed", steps)
		}
	}
}

func TestOneCrowdIsNoHabit(t *testing.T) {
	crowd := func(at ...int64) func(int64) float64 {
		return func(m int64) float64 {
			for _, begin := range at {
				if m >= begin && m < begin+30 {
					return 400
				}
			}
			return 100
		}
	}
	once := watched(10*hour, 7, noisy(1, crowd(8*hour)))
	if f := once.Predict(7); f.Quantile(.995) > 1.5 {
		t.Errorf("1.5 h after one crowd another of %.1f times the load is reckoned with", f.Quantile(.995))
	}
	twice := watched(10*hour, 7, noisy(1, crowd(6*hour, 8*hour)))
	if f := twice.Predict(7); f.Quantile(.99) < 2 {
		t.Errorf("after two crowds no more than %.1f times the load is reckoned with", f.Quantile(.99))
	}
}

func TestASeriesTakesOverFromOneThatKnowsMore(t *testing.T) {
	load := noisy(1, func(m int64) float64 { return 100 + float64(m) })
	seen := make([]float64, 300)
	var all, late Series
	for m := range seen {
		seen[m] = float64(float32(load(int64(m)))) // as it is kept
		all.Add(int64(m), seen[m], 7)
	}
	var early Series
	for m := range 290 {
		early.Add(int64(m), seen[m], 7)
	}
	for m := 270; m < 300; m++ {
		late.Add(int64(m), seen[m], 7)
	}
	late.Merge(&early, 7)
	if late != all {
		t.Error("what both saw is not what one saw that saw it all")
	}
	merged := late
	merged.Merge(&early, 7)
	merged.Merge(&Series{}, 7)
	if merged != late {
		t.Error("to hear it again changes it")
	}
}
