// Package forecast predicts a quantity that is observed once a minute, and how far off
// the prediction may be. It knows nothing of what is measured: scaling all observations
// scales all predictions. It is pure, and its state is of constant size.
package forecast

import (
	"iter"
	"math"
)

// Sizes: minutes that are kept one by one, minutes of a slot, slots of a day, of a week
// and those kept, a few more than are compared with a week later, bins of
// actual ÷ predicted (from 1/8 to 8 in steps of 4 %), and the longest horizon in minutes.
const (
	recent                = 240
	slot, day, week       = 10, 24 * 60 / 10, 7 * 24 * 60 / 10
	past                  = week + 8
	bins, binWidth        = 105, .04
	MaxAhead        int64 = 90
)

// What each is worth is in docs/design/automatic-mode.md.
const (
	// halfLife is that of errors in minutes, smooth how many minutes the level is a mean of.
	halfLife, smooth = 120.0, 3
	// long is how many they are while it doesn't change.
	long = 30
	// growth is how much of it, beyond all of a day, is reckoned with once more.
	growth = 1.5
	// sudden is the actual ÷ predicted from which on minutes are a burst. One may be
	// chance: it counts if there was another within isolated minutes, but more than apart.
	sudden, isolated, apart = 2.0, 6 * 60, 30
	// priorDeviation of log(actual ÷ predicted) is assumed, with the weight of
	// priorMinutes, until errors are known.
	priorDeviation, priorMinutes = .15, 30.0
	// seasonalError is the 98 % quantile of actual ÷ predicted up to which a season is
	// believed.
	seasonalError = 1.5
)

// periods are of the methods, in slots: the mean of the last minutes, and what followed a
// day and a week ago.
var periods = [...]int64{0, day, week}

// Series is a quantity over time with the errors of its predictions. Its zero value
// has no observation. Minutes are counted from 1970. All of it is state.
type Series struct {
	// First and Last are the minutes of the first and the newest observation.
	First, Last int64
	// Minutes and Slots are rings of observations and of their means; -1 for none. Peaks
	// are the greatest minutes of each hour of a day.
	Minutes [recent]float32
	Slots   [past]float32
	Peaks   [24]float32
	// Ratios are each method's decayed counts of minutes by actual ÷ predicted.
	Ratios [len(periods)][bins]float32
	// Burst is the newest minute of the newest burst, Earlier of the one before.
	Burst, Earlier int64
}

// Add takes in the observation of a minute. They have to come in order; others
// are ignored. Minutes that are left out are unknown. Errors are those of predictions
// that were made ahead minutes before.
func (s *Series) Add(minute int64, value float64, ahead int) {
	if !(value >= 0) || value > math.MaxFloat32 || minute <= s.Last || minute <= 0 {
		return
	}
	if s.Last == 0 {
		s.First, s.Last = minute, minute-1
	}
	for m := max(s.Last+1, minute-recent+1); m < minute; m++ {
		s.Minutes[m%recent] = -1
	}
	for i := max(s.Last/slot+1, minute/slot-past+1); i <= minute/slot; i++ {
		s.Slots[i%past] = -1
	}
	for h := max(s.Last/60+1, minute/60-23); h <= minute/60; h++ {
		s.Peaks[h%24] = 0
	}
	s.Last, s.Minutes[minute%recent] = minute, float32(value)
	s.Peaks[minute/60%24] = max(s.Peaks[minute/60%24], float32(value))
	mean, _ := s.mean(minute, minute%slot+1)
	s.Slots[minute/slot%past] = float32(mean)
	s.learn(minute, value, clamped(ahead))
}

func clamped(ahead int) int64 { return min(max(int64(ahead), 1), MaxAhead) }

// learn compares what was predicted for a minute with what it brought. A burst that may
// be chance doesn't count. It is the same for as long as predictions don't know of it.
func (s *Series) learn(minute int64, value float64, ahead int64) {
	then := minute - ahead
	if then < s.First {
		return
	}
	if level, known := s.mean(then, smooth); known && value > sudden*level {
		if minute-s.Burst > max(ahead, apart) {
			s.Earlier = s.Burst
		}
		s.Burst = minute
	}
	// The level was still on its way for some minutes.
	chance := s.Burst > 0 && minute-s.Burst <= smooth && (s.Earlier == 0 || s.Burst-s.Earlier > isolated)
	keep := float32(math.Exp2(-1 / halfLife))
	for i := range periods {
		level, known := s.method(i, then, ahead)
		if !known || level <= 0 || chance {
			continue
		}
		for bin := range s.Ratios[i] {
			s.Ratios[i][bin] *= keep
		}
		bin := int(math.Round(math.Log(max(value/level, 1e-9))/binWidth)) + bins/2
		s.Ratios[i][min(max(bin, 0), bins-1)]++
	}
}

// ratios are those of the bins, prior their weights until errors are known.
var ratios, prior = func() (r, p [bins]float64) {
	for i := range r {
		x := float64(i-bins/2) * binWidth
		r[i] = math.Exp(x)
		p[i] = binWidth / priorDeviation / math.Sqrt(2*math.Pi) * math.Exp(-x*x/2/priorDeviation/priorDeviation)
	}
	return r, p
}()

// mean is that of the last n minutes up to now.
func (s *Series) mean(now, n int64) (mean float64, known bool) {
	count, sum := 0, 0.0
	for m := max(now-n+1, s.First, s.Last-recent+1); m <= min(now, s.Last); m++ {
		if y := float64(s.Minutes[m%recent]); y >= 0 {
			count, sum = count+1, sum+y
		}
	}
	return sum / float64(max(count, 1)), count > 0
}

// method is what one predicts for so many minutes after now, by what was known then.
func (s *Series) method(i int, now, ahead int64) (level float64, known bool) {
	if periods[i] > 0 {
		return s.season(periods[i], now, ahead)
	}
	return s.steady(now)
}

// steady is the mean of a long time while that of the last minutes is within three standard
// deviations of it (a control chart), or else theirs. The deviation is that between one
// minute and the next, of which a step or a ramp changes little.
func (s *Series) steady(now int64) (level float64, known bool) {
	lately, known := s.mean(now, smooth)
	mean, _ := s.mean(now, long)
	squares, count, before := 0.0, 0.0, -1.0
	for m := max(now-long+1, s.First, s.Last-recent+1); m <= min(now, s.Last); m++ {
		y := float64(s.Minutes[m%recent])
		if y >= 0 && before >= 0 {
			squares, count = squares+(y-before)*(y-before)/2, count+1
		}
		before = y
	}
	if off := lately - mean; off*off*smooth <= 3*3*squares/max(count, 1) {
		return mean, known
	}
	return lately, known
}

// season is what followed a period ago, by the ratio of the last 20 minutes to those a
// period before them: so what doesn't come again is forgotten in that time.
func (s *Series) season(period, now, ahead int64) (float64, bool) {
	const lately = 20 / slot
	today, known3 := s.mean(now, lately*slot)
	next, known := s.slots((now+ahead)/slot-period, (now+ahead)/slot-period+1)
	before, known2 := s.slots(now/slot-period-lately+1, now/slot-period)
	if !known || !known2 || !known3 {
		return 0, false
	}
	if next <= 0 {
		return 0, true
	}
	return next * min((today+.01*next)/(before+.01*next), 2), true
}

// slots is the mean of slots from first to last, all of which must be known.
func (s *Series) slots(first, last int64) (float64, bool) {
	sum := 0.0
	for i := first; i <= last; i++ {
		if i <= s.First/slot || i <= s.Last/slot-past || i > s.Last/slot || s.Slots[i%past] < 0 {
			return 0, false
		}
		sum += float64(s.Slots[i%past])
	}
	return sum / float64(last-first+1), true
}

// Forecast is a prediction for one horizon with its errors.
type Forecast struct {
	// Now is the mean of the last three minutes, Level what is expected at the horizon.
	Now, Level float64
	// Most is the most that is reckoned with.
	Most float64
	// Seasonal is set if a day or a week before tells of the level.
	Seasonal bool
	weights  [bins]float64
	// seen of the total are minutes, not the prior.
	seen, total float64
}

// Predict are forecasts for so many minutes after the newest observation: that it stays as
// it is and, of a season that was right lately, what that knows of and has not begun.
func (s *Series) Predict(ahead int) (forecasts []Forecast) {
	a := clamped(ahead)
	now, _ := s.mean(s.Last, smooth)
	most := s.most(now, a)
	for i := range periods {
		level, known := s.method(i, s.Last, a)
		f := s.errors(i)
		f.Now, f.Level, f.Most, f.Seasonal = now, level, most, i > 0
		if i > 0 { // Up to a slot early.
			next, _ := s.method(i, s.Last, a+slot)
			known = known && f.seen >= priorMinutes/2 && f.Quantile(.98) < seasonalError
			f.Level = max(level, next)
		}
		if known {
			forecasts = append(forecasts, f)
		}
	}
	return forecasts
}

// most is the greatest minute of a day, or half as much again as the load grew beyond
// what it was before the last so many minutes.
func (s *Series) most(now float64, ahead int64) float64 {
	before, after := 0.0, now
	for h := range int64(22) {
		before = max(before, float64(s.Peaks[(s.Last/60-2-h+24)%24]))
	}
	for m := max(s.Last-120-ahead, s.First, s.Last-recent+1); m <= s.Last; m++ {
		if y := float64(s.Minutes[m%recent]); m > s.Last-ahead {
			after = max(after, y)
		} else {
			before = max(before, y)
		}
	}
	return max(after, before, now+growth*(now-before))
}

// errors takes the errors of a method that were seen, beside the prior.
func (s *Series) errors(method int) (f Forecast) {
	for i, n := range s.Ratios[method] {
		f.weights[i] = float64(n)
		f.seen += float64(n)
	}
	f.total = f.seen
	if unknown := max(0, priorMinutes-f.seen/2); unknown > 0 {
		for i, p := range prior {
			f.weights[i] += unknown * p
		}
		f.total += unknown
	}
	return f
}

// Ratios are the values of actual ÷ predicted with their probabilities.
func (f *Forecast) Ratios() iter.Seq2[float64, float64] {
	return func(yield func(ratio, probability float64) bool) {
		for i, w := range f.weights {
			if w > 1e-4*f.total && !yield(ratios[i], w/f.total) {
				return
			}
		}
	}
}

// Quantile of actual ÷ predicted.
func (f *Forecast) Quantile(q float64) float64 {
	sum := 0.0
	for i, w := range f.weights {
		if sum += w; sum >= q*f.total {
			return ratios[i]
		}
	}
	return ratios[bins-1]
}

// Merge takes over what another series of the same quantity knows, if it has known it
// for longer. The minutes after its last stay.
func (s *Series) Merge(other *Series, ahead int) {
	if other.Last == 0 || s.Last != 0 && s.First <= other.First {
		return
	}
	newer := *s
	*s = *other
	for m := max(s.Last+1, newer.First, newer.Last-recent+1); m <= newer.Last; m++ {
		s.Add(m, float64(newer.Minutes[m%recent]), ahead)
	}
}
