package simulate

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
)

// again is a request that its client sends once more at a time, in seconds.
type again struct {
	at     float64
	origin int32
}

// resends are in the order of their times.
type resends []again

func (r resends) Len() int           { return len(r) }
func (r resends) Less(i, j int) bool { return r[i].at < r[j].at }
func (r resends) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *resends) Push(x any)        { *r = append(*r, x.(again)) }
func (r *resends) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}

// attempts are requests that are sent again. Each is a request of its own to an
// engine, and the same one to its client.
type attempts struct {
	Retries
	load *Load
	rand *rand.Rand
	// given are the load's own requests; of says for each further one which it is.
	given int
	of    []int32
	// tries are by given request.
	tries []uint8
	queue resends
}

// newAttempts have a load of their own, to which requests are added.
func newAttempts(load *Load, r Retries, seed uint64) *attempts {
	own := *load
	own.Requests, own.Cancels = slices.Clone(load.Requests), slices.Clone(load.Cancels)
	return &attempts{Retries: r, load: &own, rand: random(seed), given: len(load.Requests), tries: make([]uint8, len(load.Requests))}
}

// origin is the request that it is to its client.
func (a *attempts) origin(id int32) int32 {
	if a == nil || int(id) < a.given {
		return id
	}
	return a.of[int(id)-a.given]
}

// refused tells whether its client will send it again.
func (a *attempts) refused(id int32) bool {
	if a == nil {
		return false
	}
	origin := a.origin(id)
	if int(a.tries[origin]) >= a.Times {
		return false
	}
	wait := a.After.Seconds() * min(16, math.Pow(2, float64(a.tries[origin]))) * (1 - a.rand.Float64()/4)
	a.tries[origin]++
	heap.Push(&a.queue, again{a.load.Requests[id].At + wait, origin})
	return true
}

// next is when the next one is sent again.
func (a *attempts) next() float64 {
	if a == nil || len(a.queue) == 0 {
		return math.Inf(1)
	}
	return a.queue[0].at
}

// send makes a request of the next one.
func (a *attempts) send() int32 {
	next := heap.Pop(&a.queue).(again)
	r := a.load.Requests[next.origin]
	r.At = next.at
	a.load.Requests = append(a.load.Requests, r)
	if a.load.Cancels != nil {
		a.load.Cancels = append(a.load.Cancels, a.load.Cancels[next.origin])
	}
	a.of = append(a.of, next.origin)
	return int32(len(a.load.Requests) - 1) //nolint:gosec // far fewer
}
