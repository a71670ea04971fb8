package simulate

import "math"

// arrivals sends what comes until a time, from the next of the load's requests on,
// and gives the one after.
func (r *run) arrivals(next int, end float64) int {
	given := len(r.load.Requests)
	if r.attempts != nil {
		given = r.attempts.given
	}
	for {
		at := math.Inf(1)
		if next < given {
			at = r.load.Requests[next].At
		}
		resent := r.attempts.next()
		if min(at, resent) >= end {
			return next
		}
		if resent < at {
			r.route(r.attempts.send())
			continue
		}
		r.tally.minute(&r.load.Requests[next]).Arrived++
		r.route(int32(next)) //nolint:gosec // far fewer
		next++
	}
}

// route sends a request to a replica.
func (r *run) route(id int32) {
	request := &r.load.Requests[id]
	n := len(r.engines)
	if n == 0 {
		r.tally.refuse(id)
		return
	}
	r.turn++
	best := r.turn % n
	if !r.RoundRobin {
		best = r.idlest(best, request.At)
	}
	if r.Routing != LeastBusy && r.Sessions.Count > 0 {
		best = r.bySession(id, best)
	}
	e := &r.engines[best]
	e.advance(request.At)
	if !e.push(id) {
		r.tally.refuse(id)
	}
}

// idlest is the engine with the fewest requests at a time; of several the next
// one from first on, another each time, so that ties are spread.
func (r *run) idlest(first int, at float64) int {
	// The fewest and how far from first in one number: a comparison to foretell
	// for each replica was a tenth of the simulation's time.
	const far = 1 << 16
	n, least := len(r.engines), math.MaxInt
	for i, from := first, 0; from < n; from++ {
		e := &r.engines[i]
		if e.next <= at {
			e.advance(at)
		}
		least = min(least, e.inFlight*far+from)
		if i++; i == n {
			i = 0
		}
	}
	return (first + least%far) % n
}
