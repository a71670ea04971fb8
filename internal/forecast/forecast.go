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
	slot, day, week       = 5, 24 * 60 / 5, 7 * 24 * 60 / 5
	past                  = week + 8
	bins, binWidth        = 105, .04
	MaxAhead        int64 = 90
)

// What each is worth is in docs/design/automatic-mode.md.
const (
	// halfLife is that of errors in minutes.
	halfLife = 120.0
	// favour is the exponent of (least mean square error ÷ own) in a method's weight.
	favour = 4
	// sudden is the actual ÷ predicted from which on minutes are a burst. One may be
	// chance: it counts if there was another within isolated minutes.
	sudden, isolated = 2.0, 6 * 60
	// priorDeviation of log(actual ÷ predicted) is assumed, with the weight of
	// priorMinutes, until errors are known.
	priorDeviation, priorMinutes = .15, 30.0
	// seasonalError is the deviation of log(actual ÷ predicted) up to which a season
	// is believed about a rise that the other methods can't see.
	seasonalError = .3
	// jump is the quantile of errors beyond which a level is a new one.
	jump = .98
)

// method predicts by the mean of the last minutes, by the line through them, or by
// what followed a period ago.
type method struct {
	minutes, period int64
	line            bool
}

var methods = [...]method{
	{minutes: 3},
	{minutes: 10},
	{minutes: 30},
	{minutes: 120},
	{minutes: 10, line: true},
	{minutes: 40, line: true},
	{period: day},
	{period: week},
}

// seasonal is the first method with a period.
const seasonal = 6

// decayed is a sum over so many minutes, both decayed.
type decayed struct{ Sum, Minutes float64 }

func (d *decayed) mean() float64 { return d.Sum / max(d.Minutes, 1e-9) }

// Series is a quantity over time with the errors of its predictions. Its zero value
// has no observation. Minutes are counted from 1970.
type Series struct {
	// First and Last are the minutes of the first and the newest observation.
	First, Last int64
	// Minutes and Slots are rings of observations and of their means; -1 for none.
	Minutes [recent]float32
	Slots   [past]float32
	// Errors are the mean squares of each method's logarithmic errors.
	Errors [len(methods)]decayed
	// Ratios are decayed counts of minutes by actual ÷ predicted.
	Ratios [bins]float32
	// Burst is the newest minute of the newest burst, Earlier of the one before.
	Burst, Earlier int64
	// Announced jumps are judged at Due by whether the load Lasts; Lasted are those
	// that did.
	Announced, Lasted, Lasts float64
	Due                      int64
}

// Add takes in a minute's observation, finite, ≥ 0 and newer than all before; others
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
	s.Last, s.Minutes[minute%recent] = minute, float32(value)
	mean, _, _ := s.regress(minute, minute%slot+1)
	s.Slots[minute/slot%past] = float32(mean)
	s.learn(minute, value, clamped(ahead))
}

func clamped(ahead int) int64 { return min(max(int64(ahead), 1), MaxAhead) }

// learn compares what was predicted for a minute with what it brought.
func (s *Series) learn(minute int64, value float64, ahead int64) {
	keep, then := math.Exp2(-1/halfLife), minute-ahead
	if s.Due != 0 && minute >= s.Due {
		s.Due, s.Announced, s.Lasted = 0, s.Announced*.95+1, s.Lasted*.95 // of twenty
		if mean, _, _ := s.regress(minute, 3); max(mean, value) >= s.Lasts {
			s.Lasted++
		}
	}
	if then < s.First {
		return
	}
	if f := s.predict(then, ahead); f.Level > 0 {
		s.count(minute, value/f.Level, ahead, float32(keep))
	}
	for i, m := range methods {
		if predicted, known := s.method(m, then, ahead); known && value+predicted > 0 {
			// At most a hundredfold; errors of a thousandth are equal.
			off := math.Log((value + .01*predicted) / (predicted + .01*value))
			s.Errors[i] = decayed{s.Errors[i].Sum*keep + off*off + 1e-6, s.Errors[i].Minutes*keep + 1}
		}
	}
}

// count counts a minute's ratio, unless it is of a burst that may be chance. It is the
// same burst for as long as predictions don't know of it.
func (s *Series) count(minute int64, ratio float64, ahead int64, keep float32) {
	for i := range s.Ratios {
		s.Ratios[i] *= keep
	}
	if ratio > sudden {
		if minute-s.Burst > ahead {
			s.Earlier = s.Burst
		}
		s.Burst = minute
		if s.Earlier == 0 || s.Burst-s.Earlier > isolated {
			return
		}
	}
	bin := int(math.Round(math.Log(max(ratio, 1e-9))/binWidth)) + bins/2
	s.Ratios[min(max(bin, 0), bins-1)]++
}

func ratioOf(bin int) float64 { return math.Exp(float64(bin-bins/2) * binWidth) }

// regress is the mean and the slope a minute of the last n minutes up to now, with
// their mean time before now. The mean is -1 if too few are known.
func (s *Series) regress(now, n int64) (mean, slope, middle float64) {
	var count, sumX, sumY, sumXX, sumXY float64
	for m := max(now-n+1, s.First, s.Last-recent+1); m <= min(now, s.Last); m++ {
		if y := float64(s.Minutes[m%recent]); y >= 0 {
			x := float64(m - now)
			count, sumX, sumY, sumXX, sumXY = count+1, sumX+x, sumY+y, sumXX+x*x, sumXY+x*y
		}
	}
	if count == 0 || n > slot && count < float64(n)/2 {
		return -1, 0, 0
	}
	mean, middle = sumY/count, sumX/count
	if spread := sumXX - sumX*middle; spread > 0 {
		slope = (sumXY - sumX*mean) / spread
	}
	return mean, slope, middle
}

// method is what one predicts for so many minutes after now, by what was known then.
func (s *Series) method(m method, now, ahead int64) (float64, bool) {
	if m.period > 0 {
		return s.season(m.period, now, ahead)
	}
	mean, slope, middle := s.regress(now, m.minutes)
	if m.line {
		return max(0, mean+slope*(float64(ahead)-middle)), mean >= 0
	}
	return mean, mean >= 0
}

// season is what followed a period ago, by the ratio of the last 20 minutes to those a
// period before them: so what doesn't come again is forgotten in that time.
func (s *Series) season(period, now, ahead int64) (float64, bool) {
	today, _, _ := s.regress(now, 4*slot)
	target := (now+ahead)/slot - period
	next, known := s.slots(target, target+1)
	before, known2 := s.slots(now/slot-period-3, now/slot-period)
	if today < 0 || !known || !known2 {
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
	// Now is the mean of the last three minutes, Level what is expected at the
	// horizon, Most what errors go up to: the greatest level of a day, or the growth
	// of the last minutes once more.
	Now, Level, Most float64
	// Seasonal is set if a day or a week before alone tells of the level.
	Seasonal bool
	weights  [bins]float64
	total    float64
}

// Predict is the forecast for so many minutes after the newest observation.
func (s *Series) Predict(ahead int) Forecast { return s.predict(s.Last, clamped(ahead)) }

func (s *Series) predict(now, ahead int64) Forecast {
	var f Forecast
	f.weigh(s)
	f.Now, _ = s.method(methods[0], now, ahead)
	f.Now = max(0, f.Now)
	f.Most = s.most(now, ahead, f.Now)
	f.Level = min(s.together(now, ahead, f.Now), f.Most)
	for i := seasonal; i < len(methods); i++ {
		// Up to a slot early.
		predicted, known := s.method(methods[i], now, ahead)
		next, _ := s.method(methods[i], now, ahead+slot)
		predicted = max(predicted, next)
		proven := s.Errors[i].Minutes >= priorMinutes/2 && s.Errors[i].mean() < seasonalError*seasonalError
		if known && proven && predicted > f.Level*f.Quantile(.9) {
			f.Level, f.Most, f.Seasonal = predicted, max(f.Most, predicted), true
		}
	}
	return f
}

// most is the greatest level of a day, or where the load would be if it went on as it
// went since so many minutes.
func (s *Series) most(now, ahead int64, level float64) float64 {
	most := level
	for i := now/slot - day; i <= now/slot; i++ {
		if mean, known := s.slots(i, i); known {
			most = max(most, mean)
		}
	}
	if before, known := s.method(methods[0], now-ahead, 0); known {
		most = max(most, 2*level-before)
	}
	return most
}

// together is the mean of all methods, each weighted by how small its errors are.
func (s *Series) together(now, ahead int64, fallback float64) float64 {
	least := math.Inf(1)
	for i := range s.Errors {
		if s.Errors[i].Minutes >= priorMinutes/2 {
			least = min(least, s.Errors[i].mean())
		}
	}
	sum, all := 0.0, 0.0
	for i, m := range methods {
		if s.Errors[i].Minutes < priorMinutes/2 {
			continue
		}
		if predicted, known := s.method(m, now, ahead); known {
			weight := 1.0
			if mean := s.Errors[i].mean(); mean > least {
				weight = math.Pow(least/mean, favour)
			}
			sum, all = sum+weight*predicted, all+weight
		}
	}
	if all <= 0 {
		return fallback
	}
	return sum / all
}

// Jumped reports whether a level that was measured within less than a minute, and is
// beyond what errors explain, is the new level. Bursts shorter than the horizon teach
// that jumps don't last: after two a third isn't followed.
func (s *Series) Jumped(f *Forecast, level float64, ahead int) bool {
	if level <= f.Level*f.Quantile(jump) {
		return false
	}
	if s.Due == 0 {
		s.Due, s.Lasts = s.Last+clamped(ahead), (level+f.Level)/2
	}
	return s.Lasted+1 >= (s.Announced+1)/2
}

// weigh takes the errors that were seen, beside the prior.
func (f *Forecast) weigh(s *Series) {
	for i, n := range s.Ratios {
		f.weights[i] = float64(n)
		f.total += float64(n)
	}
	prior := max(0, priorMinutes-f.total/2) * binWidth / priorDeviation / math.Sqrt(2*math.Pi)
	for i := range f.weights {
		x := float64(i-bins/2) * binWidth / priorDeviation
		f.weights[i] += prior * math.Exp(-x*x/2)
		f.total += prior * math.Exp(-x*x/2)
	}
}

// Ratios are the values of actual ÷ predicted with their probabilities.
func (f *Forecast) Ratios() iter.Seq2[float64, float64] {
	return func(yield func(ratio, probability float64) bool) {
		for i, w := range f.weights {
			if w > 1e-4*f.total && !yield(ratioOf(i), w/f.total) {
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
			return ratioOf(i)
		}
	}
	return ratioOf(bins - 1)
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
