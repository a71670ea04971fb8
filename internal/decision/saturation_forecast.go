package decision

import (
	"math"
	"time"
)

// A forecaster looks back over some minutes of demand: their mean, the straight
// line through them, or what was a day ago, scaled to the present.
type forecaster struct {
	minutes int64
	line    bool
	daily   bool
	// half is the mean's weight beside that of two hours, to which a load
	// without a trend comes back.
	half bool
}

// The forecasters that are believed, each by how small its errors are. The first,
// which knows nothing but now, stands alone until that is known.
var forecasters = [...]forecaster{
	{minutes: 3},
	{minutes: 10},
	{minutes: 30},
	{minutes: 120},
	{minutes: 10, line: true},
	{minutes: 40, line: true},
	{minutes: 20, daily: true},
	{minutes: 3, half: true},
	{minutes: 10, half: true},
}

const (
	// ratios are the bins of demand ÷ forecast, by their logarithm: each is 2 %
	// wide, from an eighth to eight times.
	ratios    = 211
	ratioStep = .02
	// tides are three: the load ebbs, stands or flows.
	tides = 3
)

// Errors are how a forecaster has done: the decayed sum of the squares of its
// errors, in seconds of work a second, over so many minutes.
type Errors struct{ Square, Minutes float64 }

// Swings are how the demand that came divided by what was expected, over so many
// minutes, by the tide in which it was expected: decayed counts, in bins.
type Swings struct {
	Minutes float64
	Ratio   [tides][ratios]float32
	// Burst is the last minute of the newest burst, Earlier that of the one before;
	// zero if there was none.
	Burst, Earlier time.Time
	// last is the newest minute's, if it was counted: it may have to be taken back.
	last swing
}

func ratioBin(ratio float64) int {
	return min(max(int(math.Round(math.Log(max(ratio, 1e-9))/ratioStep))+ratios/2, 0), ratios-1)
}

var binRatio = func() (values [ratios]float64) {
	for i := range values {
		values[i] = math.Exp(float64(i-ratios/2) * ratioStep)
	}
	return values
}()

// demandAt is the demand of a minute, if it is known.
func (l *Learned) demandAt(m int64) (float64, bool) {
	if m < minute(l.Began) || m > minute(l.At) || m <= minute(l.At)-remembered {
		return 0, false
	}
	d := l.Demand[slot(m)]
	return float64(d), d >= 0
}

// foretell is the demand so many minutes after the minute now, from what was
// known then.
func (l *Learned) foretell(f forecaster, now, ahead int64) (float64, bool) {
	if f.daily {
		return l.yesterday(f.minutes, now, ahead)
	}
	var n, sumX, sumY, sumXX, sumXY float64
	for i := range f.minutes {
		y, known := l.demandAt(now - i)
		if !known {
			continue
		}
		x := -float64(i)
		n++
		sumX += x
		sumY += y
		sumXX += x * x
		sumXY += x * y
	}
	if n == 0 || f.minutes > 3 && n < float64(f.minutes)/2 {
		return 0, false
	}
	mean := sumY / n
	if f.half {
		long, known := l.foretell(forecaster{minutes: 120}, now, 0)
		return (mean + long) / 2, known
	}
	if !f.line {
		return mean, true
	}
	slope := (sumXY - sumX*mean) / (sumXX - sumX*sumX/n)
	return max(0, mean+slope*(float64(ahead)-sumX/n)), true
}

// yesterday is the demand of a day before that time, scaled by how the last
// minutes compare with those of a day before them.
func (l *Learned) yesterday(minutes, now, ahead int64) (float64, bool) {
	const day = 24 * 60
	today, known1 := l.foretell(forecaster{minutes: minutes}, now, 0)
	before, known2 := l.foretell(forecaster{minutes: minutes}, now-day, 0)
	then, known3 := l.foretell(forecaster{minutes: 5}, now+ahead-day+2, 0)
	if !known1 || !known2 || !known3 || before <= 0 {
		return 0, false
	}
	return then * min(today/before, 4), true
}

// check compares what was foretold for the minute that has just ended with
// what it brought.
func (l *Learned) check(s Saturation, ended int64) {
	came, known := l.demandAt(ended)
	if !known {
		return
	}
	reach := l.reach(s)
	then := ended - reach
	// The first load of a fleet that had none is no swing of it.
	const first = 30
	if came > first*l.highest(then) {
		return
	}
	keep := math.Exp2(-1 / s.Tuning.Remember.Minutes())
	if told, known := l.expect(then, reach); known {
		l.Swings.fade(keep)
		// Not where the forecast alone fell.
		was, _ := l.foretell(forecasters[0], then, reach)
		l.Swings.see(swingOf(came, told, l.tide(told, then)), came > sudden*max(was, told), ended, reach)
	}
	for i, f := range forecasters {
		if told, known := l.foretell(f, then, reach); known {
			e := &l.Errors[i]
			off := came - told
			e.Square = e.Square*keep + off*off
			e.Minutes = e.Minutes*keep + 1
		}
	}
}

// swing is a minute's: its bin, and how much of it is left there.
type swing struct {
	tide, ratio int
	weight      float32
}

func swingOf(came, told float64, tide int) swing {
	if came <= 0 && told <= 0 {
		return swing{}
	}
	return swing{tide, ratioBin(came / max(told, 1e-9)), 1}
}

// A burst is minutes of more than sudden times what was expected. One may be
// chance, and to be ready for another is to keep a fleet of several times the load,
// idle, for hours. So a burst counts if there was another one shortly before.
const (
	sudden  = 5
	shortly = 4 * time.Hour
)

// see counts the minute in that has ended, unless it is of a burst that may be
// chance, or stands before or after it and may have had a part of it. It is the same
// burst for as long as is looked ahead: after that the forecast knows of it.
func (w *Swings) see(s swing, burst bool, ended, reach int64) {
	begins := burst && ended-minute(w.Burst) > reach
	if begins {
		w.Earlier = w.Burst
	}
	if burst {
		w.Burst = time.Unix(60*ended, 0)
	}
	habit := !w.Earlier.IsZero() && w.Burst.Sub(w.Earlier) <= shortly
	last := w.last
	w.last = swing{}
	switch {
	case habit || ended-minute(w.Burst) > 1:
		w.last = s
		w.Ratio[s.tide][s.ratio] += s.weight
	case begins:
		left := &w.Ratio[last.tide][last.ratio]
		*left = max(0, *left-last.weight)
	}
}

// fade lets a minute pass, and keeps so much of those before.
func (w *Swings) fade(keep float64) {
	w.Minutes = w.Minutes*keep + 1
	w.last.weight *= float32(keep)
	for t := range w.Ratio {
		for i := range w.Ratio[t] {
			w.Ratio[t][i] *= float32(keep)
		}
	}
}

// fewest minutes of errors say something of a forecaster, and one whose mean
// square error is a tenth greater than the least counts for less than half as
// much. To believe the best alone changed the forecast, and how far off it may
// be, whenever another came to be the best by a hair: on a steady load that
// ordered and released a replica for nothing.
const (
	fewest = 15
	favour = 8
)

// expect is what the forecasters foretell together for so many minutes after the
// minute now, from what was known then: the mean, each by the smallness of its
// errors up to today.
func (l *Learned) expect(now, ahead int64) (float64, bool) {
	least := math.Inf(1)
	for i := range l.Errors {
		if e := &l.Errors[i]; e.Minutes >= fewest {
			least = min(least, e.Square/e.Minutes)
		}
	}
	if math.IsInf(least, 1) {
		return l.foretell(forecasters[0], now, ahead)
	}
	sum, all := 0.0, 0.0
	for i, f := range forecasters {
		e := &l.Errors[i]
		if e.Minutes < fewest {
			continue
		}
		told, known := l.foretell(f, now, ahead)
		if !known {
			continue
		}
		weight := 1.0
		if square := e.Square / e.Minutes; square > least {
			weight = math.Pow(least/square, favour)
		}
		sum, all = sum+weight*told, all+weight
	}
	return sum / all, all > 0
}

// tide tells by what is foretold whether the load is lower, as high or higher
// than over two hours: one that has swung away may come back.
func (l *Learned) tide(told float64, now int64) int {
	long, known := l.foretell(forecaster{minutes: 120}, now, 0)
	switch {
	case known && told < .8*long:
		return 0
	case known && told > 1.25*long:
		return 2
	}
	return 1
}

// outlook is what is to be expected of the demand.
type outlook struct {
	// now is the demand as it is, soon what it is taken to be when a replica
	// that is ordered now serves, most what that is at most and crest how far
	// swings go, all in seconds of work a second; swings are the weights of the
	// bins of what comes ÷ what is expected.
	now, soon, most, crest float64
	swings                 [ratios]float64
}

// outlook believes the forecasters, unless the load is beyond anything that they
// were ever wrong by: then the load is what the last minutes say.
func (l *Learned) outlook(s Saturation, now time.Time) outlook {
	var o outlook
	at := minute(now)
	latest, _ := l.foretell(forecasters[0], at, 0)
	// In the first hour the peak may be still to come: half as much again, with Cap.
	highest := max(l.Highest, latest) * (1 + max(0, .36*(1-now.Sub(l.Began).Hours())))
	o.most = highest * s.Tuning.Cap
	// A load that was never higher than now may go on. One that was so an hour ago
	// has turned: swings up to more than its highest minute kept replicas for loads
	// that never came, and up to no more than that none for the first ramp of a day.
	grows := max(0, 1-now.Sub(l.Peaked).Hours())
	o.crest = highest * (1 + (s.Tuning.Cap-1)*min(1, grows))
	level, known1 := l.expect(at, 0)
	soon, known2 := l.expect(at, l.reach(s))
	o.weigh(&l.Swings, l.tide(soon, at))
	if !known1 || !known2 || latest > level*o.quantile(s.Tuning.Surprise) {
		level, soon = latest, latest
	}
	o.now, o.soon = level, min(soon, o.most)
	return o
}

// weigh takes the swings in the same tide, beside those in all of them with the
// weight of half an hour, and a prior that fades within an hour: a standard
// deviation of 15 %.
func (o *outlook) weigh(w *Swings, tide int) {
	const pooled = 30
	prior := max(0, 30-w.Minutes/2)
	share := pooled / max(pooled, w.Minutes)
	for i := range o.swings {
		if prior > 0 {
			x := float64(i-ratios/2) * ratioStep / .15
			o.swings[i] = prior * math.Exp(-x*x/2) * ratioStep / .15 / math.Sqrt(2*math.Pi)
		}
		for t := range w.Ratio {
			if t == tide {
				o.swings[i] += float64(w.Ratio[t][i])
			} else {
				o.swings[i] += share * float64(w.Ratio[t][i])
			}
		}
	}
}

func (o *outlook) quantile(q float64) float64 {
	total := 0.0
	for _, w := range o.swings {
		total += w
	}
	sum := 0.0
	for i, w := range o.swings {
		sum += w
		if sum >= q*total {
			return binRatio[i]
		}
	}
	return binRatio[ratios-1]
}

// mixture are the n demands that a minute may bring, in seconds of work a
// second, with the requests that each stands for.
type mixture struct {
	demand, requests [ratios]float64
	n                int
	all              float64
}

// around are the swings around a level of demand. They are of other levels: at
// this one the part of them that goes beyond the crest is taken for as much as
// that.
func (o *outlook) around(level float64) *mixture {
	m := &mixture{}
	most := max(o.crest, level)
	for i, weight := range o.swings {
		if weight < 1e-3 {
			continue
		}
		d := min(level*binRatio[i], most)
		m.demand[m.n], m.requests[m.n] = d, weight*d
		m.all += weight * d
		m.n++
	}
	return m
}

// misses is the share of requests that would be late with so much capacity, in
// seconds of work a second.
func (m *mixture) misses(capacity float64, late *curve) float64 {
	if m.all == 0 {
		return 0
	}
	missed, per := 0.0, 1/capacity
	for i := range m.n {
		missed += m.requests[i] * late.at(m.demand[i]*per)
	}
	return missed / m.all
}

// budget are the shares of requests that may miss: on average over what
// rounding up to a whole replica adds, and at worst, where it adds nothing.
type budget struct{ mean, worst, replica float64 }

// capacity is the least that keeps to the budget.
func (o *outlook) capacity(level float64, b budget, late *curve) float64 {
	if level <= 0 {
		return 0
	}
	swings := o.around(level)
	enough := func(capacity float64) bool {
		if swings.misses(capacity, late) > b.worst {
			return false
		}
		sum := 0.0
		for s := .125; s < 1 && sum <= 4*b.mean; s += .25 {
			sum += swings.misses(capacity+s*b.replica, late)
		}
		return sum <= 4*b.mean
	}
	low, high := level*.5, level*16
	for range 12 {
		if middle := math.Sqrt(low * high); enough(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// reach is how many minutes lie between a load's first sign and a replica that
// serves because of it: a cold start, the minute over which a load is seen, and
// one for deciding; six at least, since a replica that is ordered stays for ten.
func (l *Learned) reach(s Saturation) int64 { return max(6, int64(l.coldStart(s)/time.Minute)+2) }

// highest is the greatest demand of a minute within the day before one.
func (l *Learned) highest(now int64) float64 {
	most := 0.0
	for m := max(minute(l.Began), now-remembered+1); m < now; m++ {
		d, _ := l.demandAt(m)
		most = max(most, d)
	}
	return most
}
