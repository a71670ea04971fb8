package decision

import (
	"math"
	"time"
)

// Ceiling is what replicas gave while they could give no more: requests waited
// at them for a whole minute, and most were late or refused. A replica may come
// to that before its tokens take so long as is promised: with as many requests
// running as it takes, with its KV cache full, or where an iteration turns
// dearer. It is in tokens and requests a second, decayed sums over so many
// replicas' minutes, and not in seconds of work: what a token costs is learned
// where the promise is kept, and isn't the same here.
type Ceiling struct {
	Prompt, Generated, Requests, Minutes float64
}

const (
	// ceilingHalf is in what time half of a ceiling is forgotten, ceilingMost how
	// many minutes of replicas count: so after a day or two one that was met for
	// long is tried again, and one that was met for a minute after twelve hours.
	ceilingHalf = 12 * time.Hour
	ceilingMost = 8
	// alike is how much dearer or cheaper than those at the ceiling the mean
	// request may be for it to be the same ceiling.
	alike = 1.5
)

// meets takes in a replica's share of a minute at the ceiling.
func (c *Ceiling) meets(p podLoad, minutes float64) {
	c.Prompt += p.prompt * minutes
	c.Generated += p.generated * minutes
	c.Requests += p.finished * minutes
	c.Minutes += minutes
}

func (c *Ceiling) forget(elapsed float64) {
	keep := math.Exp2(-elapsed / ceilingHalf.Seconds())
	if c.Minutes > ceilingMost {
		keep *= ceilingMost / c.Minutes
	}
	c.Prompt, c.Generated, c.Requests, c.Minutes = c.Prompt*keep, c.Generated*keep, c.Requests*keep, c.Minutes*keep
}

// ceiling is the load that a replica can't be filled beyond, as a share of the
// limit; the limit, 1, where none is known below.
func (l *Learned) ceiling(s Saturation) float64 {
	c := &l.Ceiling
	if c.Minutes < .5 || c.Requests <= 0 {
		return 1
	}
	speed := l.speed(s)
	work := c.Prompt*speed[1] + c.Generated*speed[2]
	if ratio := l.cost(s) / (work / c.Requests); ratio > alike || ratio < 1/alike {
		return 1
	}
	return min(max(work/c.Minutes/l.limit(s), .1), 1)
}
