package simulate

import (
	"math"
	"time"
)

// LongPrompts are prompts beyond what a kind's users ask for: documents, code bases,
// whole conversations.
type LongPrompts struct {
	// Share of the requests have them, from 0 to 1.
	Share float64
	// From and To are their tokens, log-uniform between the two.
	From, To float64
}

// into makes such a share of a load's prompts long.
func (l LongPrompts) into(load *Load, seed uint64) *Load {
	if l.Share == 0 {
		return load
	}
	r := random(seed ^ 0x10460)
	for i := range load.Requests {
		if r.Float64() < l.Share {
			load.Requests[i].In = int32(l.From * math.Pow(l.To/l.From, r.Float64()))
		}
	}
	return load
}

// Cancels are clients that go away, whatever they had: users who stop an answer.
type Cancels struct {
	// Share of the requests end so, from 0 to 1, After their arrival.
	Share float64
	After time.Duration
}

// into has such a share of a load's clients go away.
func (c Cancels) into(load *Load, seed uint64) *Load {
	if c.Share == 0 {
		return load
	}
	r := random(seed ^ 0xca9ce1)
	load.Cancels = make([]float64, len(load.Requests))
	for i := range load.Cancels {
		load.Cancels[i] = math.Inf(1)
		if r.Float64() < c.Share {
			load.Cancels[i] = c.After.Seconds()
		}
	}
	return load
}

// Growth is of answers: from a time on each has so many times the tokens, because
// another model, or another prompt, is talkative. The zero value is none.
type Growth struct {
	From  time.Duration
	Times float64
}

// into makes a load's answers longer.
func (g Growth) into(load *Load) *Load {
	for i := range load.Requests {
		if r := &load.Requests[i]; g.Times > 0 && r.At >= g.From.Seconds() {
			r.Out = max(1, int32(float64(r.Out)*g.Times))
		}
	}
	return load
}
