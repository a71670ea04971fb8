package decision

import (
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

const (
	// glance is how far back is looked for a jump, in two halves: requests come by
	// the hundred in each where a replica more or less matters. What is thrown in
	// at once, as by a batch, is in one of them alone.
	glance = Interval
	// deviations are how many standard deviations of a Poisson number are taken off,
	// and jumped how many times the minute's rate the rest must be to be a jump:
	// the bursts of code come to 1.25 times, and pass.
	deviations = 2
	jumped     = 1.5
)

// jump is what has come lately, in requests a second over the fleet, and the
// variance of that, in both halves of a glance.
type jump [2]struct{ rate, variance float64 }

// add adds a replica's.
func (j *jump) add(h *sample.History, now time.Time) {
	first, last := h.Ends(now.Add(-glance))
	middle, _ := h.Ends(now.Add(-glance / 2))
	for i, half := range [2]stretch{{first, middle}, {middle, last}} {
		if span := half.seconds(); span > 0 {
			came, _ := half.came()
			j[i].rate += came / span
			j[i].variance += came / span / span
		}
	}
}

// least is what both halves surely had.
func (j *jump) least() float64 {
	surely := math.Inf(1)
	for _, half := range j {
		surely = min(surely, half.rate-deviations*math.Sqrt(half.variance))
	}
	return surely
}

// rate is the requests a second that the load is reckoned with: the minute's, or
// what it has jumped to, of which a minute shows a quarter by then. What the mean
// request costs must be known for that: too much for too many is a fleet. It is
// no demand to remember: that is the minute's.
func (l *Learned) rate(load load) float64 {
	const few = 200
	if l.Requests >= few && load.surely > jumped*load.arrivals {
		return load.surely
	}
	return load.arrivals
}
