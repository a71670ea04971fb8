package decision

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// reach is how many minutes lie between a load's first sign and a replica that
// serves because of it: a cold start, the minute over which a load is seen, and
// one for deciding.
func (l *Learned) reach(s Saturation) int64 { return int64(l.coldStart(s)/time.Minute) + 2 }

// note works out by how much the demand has grown after the minute that lies a
// cold start back.
func (l *Learned) note(s Saturation, now time.Time) {
	reach := l.reach(s)
	from := minute(now) - reach
	if from < minute(l.Began) {
		return
	}
	was := l.Demand[from%remembered]
	most := was
	for m := from + 1; m < minute(now); m++ {
		most = max(most, l.Demand[m%remembered])
	}
	l.Grew[from%remembered] = most - was
	l.Bursty = l.bursts(s, now)
	l.Highest = l.highest(now)
}

// growth is by how much the demand is expected to grow until a replica that is
// ordered now serves, in replicas.
func (l *Learned) growth(s Saturation, demand float64, now time.Time) float64 {
	per := l.limit(s) * l.safe(s)
	ahead := max(l.trend(s, now), l.burst(s, demand*per, now)) / per
	return ahead
}

// capped is the demand with its growth, near the greatest demand that was ever
// seen once that says something: a passing peak, or a trend that has to end,
// orders more than the top. Demand that is far beyond is no noise, but new.
func (l *Learned) capped(s Saturation, demand, growth float64, now time.Time) float64 {
	if now.Sub(l.Began) < time.Hour {
		return demand + growth
	}
	most := s.Tuning.Cap * l.Highest / (l.limit(s) * l.safe(s))
	if demand > 1.2*most {
		return demand
	}
	return min(demand+growth, most)
}

// highest is the greatest mean demand of three minutes.
func (l *Learned) highest(now time.Time) float64 {
	most := float32(0)
	for m := max(minute(l.Began), minute(now)-remembered+1) + 3; m < minute(now); m++ {
		most = max(most, (l.Demand[m%remembered]+l.Demand[(m-1)%remembered]+l.Demand[(m-2)%remembered])/3)
	}
	return float64(most)
}

// trend is the growth within a cold start if the load goes on as it has lately, less what could be chance.
func (l *Learned) trend(s Saturation, now time.Time) float64 {
	back := int64(s.Tuning.Trend / time.Minute)
	if now.Sub(l.Began) < s.Tuning.Trend+time.Minute {
		return 0
	}
	var sumXY, sumXX, mean float64
	for i := int64(1); i <= back; i++ {
		mean += float64(l.Demand[(minute(now)-i)%remembered]) / float64(back)
	}
	for i := int64(1); i <= back; i++ {
		x := float64(back+1)/2 - float64(i)
		sumXY += x * (float64(l.Demand[(minute(now)-i)%remembered]) - mean)
		sumXX += x * x
	}
	slope := sumXY / sumXX
	var off float64
	for i := int64(1); i <= back; i++ {
		x := float64(back+1)/2 - float64(i)
		d := float64(l.Demand[(minute(now)-i)%remembered]) - mean - slope*x
		off += d * d
	}
	chance := math.Sqrt(off / float64(back-2) / sumXX)
	return max(0, slope-s.Tuning.Sure*chance) * float64(l.reach(s))
}

// past is a minute of the past: how unlike the present its demand was, and by
// how much it grew within a cold start.
type past struct{ off, grew float64 }

// pasts are the minutes that a whole cold start has followed, and their peak.
func (l *Learned) pasts(s Saturation, work float64, now time.Time) (all []past, peak float64) {
	first := max(minute(l.Began), minute(now)-remembered+1)
	last := minute(now) - l.reach(s)
	for m := first; m < last; m++ {
		d := float64(l.Demand[m%remembered])
		all = append(all, past{math.Abs(d - work), float64(l.Grew[m%remembered])})
		peak = max(peak, d)
	}
	return all, peak
}

// fewest minutes of the past say something.
const fewest = 30

// bursts tells whether large growth within a cold start is usual.
func (l *Learned) bursts(s Saturation, now time.Time) bool {
	all, peak := l.pasts(s, 0, now)
	if len(all) < fewest {
		return false
	}
	slices.SortFunc(all, func(a, b past) int { return cmp.Compare(a.grew, b.grew) })
	return all[len(all)*95/100].grew >= s.Tuning.Bursty*peak
}

// burst is the growth that followed similar loads within a cold start, at the
// forecast's quantile; 0 unless large growth is usual.
func (l *Learned) burst(s Saturation, work float64, now time.Time) float64 {
	if !l.Bursty {
		return 0
	}
	all, _ := l.pasts(s, work, now)
	if len(all) < fewest {
		return 0
	}
	// The tenth of the past that is most like the present.
	slices.SortFunc(all, func(a, b past) int { return cmp.Compare(a.off, b.off) })
	near := all[:max(fewest/2, len(all)/10)]
	slices.SortFunc(near, func(a, b past) int { return cmp.Compare(a.grew, b.grew) })
	return near[min(int(s.Tuning.Forecast*float64(len(near))), len(near)-1)].grew
}
