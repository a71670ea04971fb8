package decision

import (
	"fmt"
	"math"
	"time"
)

// The marks beyond which a load is out of reach, and within which it is no more:
// the share of requests that were late or refused within hours, and how many
// times as high as foretold one minute in a hundred may be when a replica that is
// ordered now serves.
const (
	failing, kept = .03, .015
	wild, tame    = 3.0, 2.0
)

// advise tells whether the load grows faster than replicas start, and what floor
// would serve it. It takes an hour to know, and isn't taken back at once.
func (l *Learned) advise(s Saturation, o *outlook, limit, safe float64, now time.Time) string {
	if now.Sub(l.Began) < time.Hour || l.Requests < enoughRequests && l.Seen < enoughRequests {
		return ""
	}
	missed, swing := l.lately(s), o.quantile(.99)
	l.OutOfReach = missed > failing || swing > wild || l.OutOfReach && (missed > kept || swing > tame)
	if !l.OutOfReach {
		return ""
	}
	floor := int32(min(math.Ceil(max(l.Highest, o.now)/(limit*safe)-hair), math.MaxInt16))
	if floor <= s.Bounds.Min {
		return ""
	}
	start := duration(l.coldStart(s))
	why := fmt.Sprintf("%.1f %% of the requests of the last hours were late or refused", 100*missed)
	if missed <= kept {
		why = fmt.Sprintf("it can be %.1f times what is foretold by the time that a replica ordered now serves", swing)
	}
	advice := fmt.Sprintf("the load grows faster than replicas start (%s): %s; min-replicas %d would serve its highest minute of the last day", start, why, floor)
	if s.Bounds.Max > 0 && floor > s.Bounds.Max {
		advice += fmt.Sprintf(", and max-replicas is %d", s.Bounds.Max)
	}
	return advice
}
