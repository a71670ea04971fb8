package automatic

import (
	"fmt"
	"math"
	"time"
)

// A load is out of reach once more than failing of the requests of hours were late or
// refused beyond the base, until it is less than regained. It takes at least known
// minutes and requests to tell.
const (
	failing, regained           = .03, .015
	knownMinutes, knownRequests = 60, 1000.0
)

// advise tells whether the load grows faster than replicas start, and what floor would
// serve the last day; "" if it doesn't.
func (s *Scaler) advise(p Policy, n *need) string {
	if s.Demand.Last-s.Demand.First < knownMinutes || s.Seen < knownRequests {
		return ""
	}
	missed := s.Missed / s.Seen
	if s.OutOfReach = missed > failing || s.OutOfReach && missed > regained; !s.OutOfReach {
		return ""
	}
	floor := math.Ceil(s.Demand.Peak() * s.Model.Cost() / s.Model.Tokens() / n.fill)
	if floor <= float64(p.Min) {
		return ""
	}
	advice := fmt.Sprintf("the load grows faster than replicas start (%s): %.1f %% of the requests of the last hours were late or refused; min-replicas %.0f would serve the highest five minutes of the last day",
		duration(s.coldStart()), 100*missed, floor)
	if floor > float64(p.Max) {
		advice += fmt.Sprintf(", and max-replicas is %d", p.Max)
	}
	return advice
}

// duration is a time in minutes, or in seconds below two of them.
func duration(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f min", math.Ceil(d.Minutes()))
}
