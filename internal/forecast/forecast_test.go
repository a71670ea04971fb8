package forecast

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// foreseen is the greatest of the forecasts for so many minutes ahead.
func foreseen(s *Series, ahead int) (most Forecast) {
	for _, f := range s.Predict(ahead) {
		if f.Level >= most.Level {
			most = f
		}
	}
	return most
}

// enough is the level that covers so much of what may come.
func enough(s *Series, ahead int, q float64) float64 {
	level := 0.0
	for _, f := range s.Predict(ahead) {
		level = max(level, min(f.Level*f.Quantile(q), f.Most))
	}
	return level
}

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
		for _, f := range s.Predict(ahead) {
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
		a, b := foreseen(&one, 7), foreseen(&other, 7)
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
	if of := reflect.TypeFor[Series](); !flat(of) || of.Size() > 10_000 {
		t.Errorf("a series takes %d B, or grows", of.Size())
	}
}

func TestASteadyLoadIsForeseenAsItIs(t *testing.T) {
	s := watched(6*hour, 7, func(int64) float64 { return 5 })
	if level := enough(s, 7, .99); math.Abs(level-5) > .01 {
		t.Errorf("for a load of 5 %v is enough", level)
	}
}

func TestARampIsForeseen(t *testing.T) {
	ramp := func(m int64) float64 { return 100 * (2 + 10*max(0, float64(m)-3*hour)/(2*hour)) }
	s := watched(4*hour, 12, noisy(1, ramp))
	if level := enough(s, 12, .98); level < .95*ramp(4*hour+11) || level > 1.25*ramp(4*hour+11) {
		t.Errorf("12 minutes ahead it is %.0f, and %.0f is enough", ramp(4*hour+11), level)
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
			if f := foreseen(s, 7); f.Level < 350 || !f.Seasonal {
				t.Errorf("seed %d: seven minutes before night %d's batch of 400 it is foreseen as %.0f", seed, night+1, f.Level)
			}
		}
	}
}

func TestABatchThatDoesNotComeAgainIsForgottenWithinTwentyMinutes(t *testing.T) {
	s := watched(dayMinutes+hour+25, 7, noisy(1, batch(func(night int64) bool { return night == 0 })))
	if f := foreseen(s, 7); f.Level > 150 {
		t.Errorf("25 minutes after it didn't come it is foreseen as %.0f, of 100", f.Level)
	}
}

func TestWhatComesOnceAWeekIsForeseenFromTheSecondWeek(t *testing.T) {
	weekly := batch(func(night int64) bool { return night%7 == 2 })
	s := watched(9*dayMinutes+hour-7, 7, noisy(1, weekly))
	if f := foreseen(s, 7); f.Level < 350 {
		t.Errorf("a week after a batch of 400 it is foreseen as %.0f", f.Level)
	}
}

// Five minutes of four times the load, once an hour.
func TestSpikesThatComeAgainAreCoveredAllTheTime(t *testing.T) {
	spikes := func(m int64) float64 {
		if m%hour >= 55 {
			return 400
		}
		return 100
	}
	for minute := int64(6 * hour); minute < 7*hour; minute += 7 {
		s := watched(minute, 7, noisy(1, spikes))
		if level := enough(s, 7, .98); level < 380 || level > 520 {
			t.Errorf("%d minutes into an hour, in whose last five the load is 400, %.0f is enough", minute%hour, level)
		}
	}
}

// What grew once to a new level doesn't go on growing.
func TestAStepIsNoSlope(t *testing.T) {
	for after := int64(3); after < 40; after += 4 {
		s := watched(4*hour+after, 7, noisy(1, func(m int64) float64 { return 100 + 200*min(1, float64(m/(4*hour))) }))
		if level := enough(s, 7, .98); level < 280 || level > 800 {
			t.Errorf("%d minutes after a step from 100 to 300 %.0f is enough", after, level)
		}
	}
}

func TestNoMoreIsReckonedWithThanADayHad(t *testing.T) {
	swing := func(m int64) float64 { return 300 + 200*math.Sin(float64(m)*2*math.Pi/47) }
	for minute := int64(8 * hour); minute < 9*hour; minute += 5 {
		if level := enough(watched(minute, 7, noisy(1, swing)), 7, .999); level > 600 {
			t.Errorf("of a load that swings up to 500 %.0f are reckoned with", level)
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
	if level := enough(once, 7, .98); level > 150 {
		t.Errorf("1.5 h after one crowd %.0f is reckoned with, of 100", level)
	}
	twice := watched(10*hour, 7, noisy(1, crowd(6*hour, 8*hour)))
	if level := enough(twice, 7, .98); level < 250 {
		t.Errorf("after two crowds no more than %.0f is reckoned with", level)
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

// A load whose minutes differ by chance alone is known better than its last minutes are.
func TestChanceIsNoChange(t *testing.T) {
	levels := func(load func(int64) float64) (least, most float64) {
		least = math.Inf(1)
		for m := int64(6 * hour); m < 7*hour; m++ {
			level := foreseen(watched(m, 7, load), 7).Level
			least, most = min(least, level), max(most, level)
		}
		return least, most
	}
	if least, most := levels(noisy(1, func(int64) float64 { return 100 })); least < 93 || most > 107 {
		t.Errorf("100 that vary by 10 a minute are foreseen as %.0f to %.0f", least, most)
	}
}

// What grew in a minute has grown: that it will do so again is not expected for as long as
// the errors of that minute are remembered.
func TestAStepIsNotExpectedAgain(t *testing.T) {
	for seed := range uint64(5) {
		for _, after := range []int64{7, 12, 30} {
			s := watched(4*hour+after, 7, noisy(seed, func(m int64) float64 { return 100 + 200*min(1, float64(m/(4*hour))) }))
			if level := enough(s, 7, .98); level < 280 || level > 400 {
				t.Errorf("seed %d: %d minutes after a step from 100 to 300 %.0f is enough", seed, after, level)
			}
		}
	}
}

// A crowd comes within a minute or two, in which the level is on its way.
func TestACrowdThatComesInTwoMinutesIsNoHabit(t *testing.T) {
	s := watched(10*hour, 7, noisy(1, func(m int64) float64 {
		return 100 + 300*max(0, min(1, float64(m-8*hour)/3))*max(0, min(1, float64(8*hour+30-m)))
	}))
	if level := enough(s, 7, .98); level > 135 {
		t.Errorf("1.5 h after one crowd of 400 %.0f is reckoned with, of 100", level)
	}
}

// Of two that have known a load for as long each keeps its own: they would swap what they
// know for ever.
func TestASeriesKeepsItsOwnBesideOneAsOld(t *testing.T) {
	one, other := watched(300, 7, func(int64) float64 { return 100 }), watched(300, 7, func(int64) float64 { return 200 })
	before := *one
	if one.Merge(other, 7); *one != before {
		t.Errorf("a load of 100 becomes %.0f by what another says that is as old", foreseen(one, 7).Level)
	}
}
