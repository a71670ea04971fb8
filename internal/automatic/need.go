package automatic

import (
	"fmt"
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/capacity"
	"github.com/kaito-project/keda-kaito-scaler/internal/forecast"
)

// need is how many replicas are needed.
type need struct {
	// now is what the present load fills, replicas what is needed after a cold start.
	now, replicas float64
	// spare is the same with room: what must fit for a step down.
	spare float64
	// present is what the last three minutes need.
	present  float64
	ahead    int
	fill     float64
	seasonal bool
	learning bool
	// fits is what would do if the window were over, in left.
	fits int32
	left time.Duration
}

// need is what the load needs when a replica that is ordered now serves.
func (s *Scaler) need(p Policy, f *fleet) need {
	n := need{ahead: s.ahead(), learning: s.Model.Learning()}
	forecasts := s.Demand.Predict(n.ahead)
	cost := s.Model.Cost() / s.Model.Tokens()
	allowed := s.allowed(p)
	if s.judged(p.SLO).FirstToken > p.SLO.FirstToken {
		allowed /= room // Not all that is late is seen.
	}
	n.fill = f.curve.Fill(allowed)
	n.now = f.rate * cost / n.fill
	least := f.atLeast * cost / n.fill
	n.replicas, n.spare = least, least
	for i := range forecasts {
		x := &forecasts[i]
		if r := replicas(x, cost, &f.curve, allowed); r > n.replicas {
			n.replicas, n.seasonal = r, x.Seasonal
		}
		n.present = x.Now * cost / n.fill // the same of all
		n.spare = max(n.spare, replicas(x, cost, &f.curve, allowed/room))
	}
	if f.saturated {
		n.replicas = min(n.replicas, float64(f.serving<<blindSteps+2))
	}
	return n
}

// allowed is the share of requests that may miss the SLO for now: the budget if a quarter of
// it was used up lately, 1.7 times that if nothing was, a fifth of it if all was.
func (s *Scaler) allowed(p Policy) float64 {
	const assumed = 1000 // requests of which half of the budget missed
	used := (max(s.Missed, 0) + assumed*p.Budget/3) / (s.Seen + assumed) / p.Budget
	return p.Budget * math.Pow(steep, .75-3*min(used, 1))
}

// replicas is the least number with which no more than a share of the requests is
// expected to be late, over what may come around a level.
func replicas(f *forecast.Forecast, cost float64, curve *capacity.Curve, share float64) float64 {
	if f.Level <= 0 {
		return 0
	}
	level := f.Level * cost
	low, high := level/curve.Limit/2, level/curve.Limit*32
	for range 14 { // to 0.1 %
		middle := math.Sqrt(low * high)
		missed, all := 0.0, 0.0
		for ratio, probability := range f.Ratios() {
			ratio = min(ratio, max(1, f.Most/f.Level))
			missed += ratio * probability * curve.Excess(level*ratio/middle)
			all += ratio * probability
		}
		if missed <= share*all {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// move is the number to have now: up to the need at once, down one step when the need
// of a whole window has room on fewer.
func (s *Scaler) move(p Policy, f *fleet, n *need, now time.Time) int32 {
	bounded := func(n float64) int32 { return p.bounded(math.Ceil(n) + float64(f.replaced)) }
	desired, minute := min(max(f.Desired, p.Min), p.Max), now.Unix()/60
	s.Needs[minute%kept], s.Needs[(minute+1)%kept] = max(s.Needs[minute%kept], float32(n.spare)), 0
	window := s.window()
	up := bounded(n.replicas * f.least)
	switch {
	case up > desired:
		if f.Lowered.After(f.Raised) && f.Lowered != s.Regretted && now.Sub(f.Lowered) < kept*time.Minute/2 {
			s.Regrets++
			s.Regretted = f.Lowered
		}
		return up
	case f.read+f.givenUp < f.serving:
		return desired
	case bounded(n.spare) < desired && now.Sub(s.Watched) < window:
		n.fits, n.left = bounded(n.spare), window-now.Sub(s.Watched)
		return desired
	case now.Sub(f.Raised) < window,
		now.Sub(f.Lowered) < max(2*time.Minute, s.coldStart()/2):
		return desired
	}
	most := n.spare
	for m := minute - int64(window.Minutes()); m < minute; m++ {
		most = max(most, float64(s.Needs[m%kept]))
	}
	return min(desired, max(bounded(most), desired-max(1, desired/10)))
}

// window is how long the load is watched before a step down.
func (s *Scaler) window() time.Duration {
	window := max(leastWindow, coldStarts*s.coldStart()).Seconds() * math.Exp2(s.Regrets)
	return time.Duration(min(window, (kept-10)*60)) * time.Second
}

func (n *need) words(p Policy, f *fleet, to int32) string {
	head := fmt.Sprintf("%d → %d", f.Desired, to)
	if to == f.Desired {
		head = fmt.Sprintf("%d is right", to)
	}
	text := fmt.Sprintf("%s: the load needs %.1f replicas in %d min, %.1f now (each %.0f %% busy at most to keep %.3g s and %.3g ms)",
		head, n.replicas, n.ahead, n.now, 100*n.fill, f.slo.FirstToken, 1000*f.slo.PerToken)
	if n.seasonal {
		text += ", as a day or a week ago"
	}
	if n.left > 0 {
		text += fmt.Sprintf("; %d would do, but a step down is not taken before the fleet was watched for another %s", n.fits, duration(n.left))
	}
	if f.replaced > 0 {
		text += fmt.Sprintf("; %d in place of those that don't come or sleep", f.replaced)
	}
	if f.idle > 0 {
		text += fmt.Sprintf("; an idle replica takes %.3g ms a token, so %.3g ms are not judged", 1000*f.idle, 1000*p.SLO.PerToken)
	}
	if f.curve.Base > p.Budget {
		text += fmt.Sprintf("; %.1f %% of the requests are late at any load, which no replica more cures", 100*f.curve.Base)
	}
	if n.learning {
		text += "; still learning what a replica can do"
	}
	return text
}
