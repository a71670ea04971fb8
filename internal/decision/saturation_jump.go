package decision

import (
	"math"
	"time"
)

const (
	// glance is how far back is looked for a jump. Requests come by the hundred
	// in it where a replica more or less matters.
	glance = 20 * time.Second
	// deviations are how many standard deviations of a Poisson number are taken off,
	// and jumped how many times the minute's rate the rest must be to be a jump:
	// less is what every minute brings, and a steady load would order for it.
	deviations = 4
	jumped     = 1.25
)

// jump is what has come lately, in requests a second over the fleet, and the
// variance of that.
type jump struct{ rate, variance float64 }

// add adds a replica's.
func (j *jump) add(h *History, now time.Time) {
	first, last := h.ends(now.Add(-glance))
	d := stretch{first, last}
	span := d.seconds()
	if span <= 0 {
		return
	}
	came := d.came()
	j.rate += came / span
	j.variance += came / span / span
}

// least is the least that a load has surely jumped to, if it has: a minute's rate
// would show a third of it by then. Else it is the minute's rate.
func (j *jump) least(minute, like float64) float64 {
	if surely := (j.rate - deviations*math.Sqrt(j.variance)) * like; surely > jumped*minute {
		return surely
	}
	return minute
}
