package scrape

import "time"

// frozenAfter is how long an engine may run requests without a sign that it finished a
// step. Mostly a step is a piece of a prompt at most: 8 s for 16 k tokens at 0.5 ms
// each. But where prompts aren't cut into pieces, one of 128 k tokens is a step of 64 s.
const frozenAfter = 2 * time.Minute

// activity is what an engine's steps leave on its page. While nothing but a prompt is
// worked off, batches of output, the only thing that is counted of steps, stand still
// for half a minute and more; the KV cache fills up with each piece of the prompt.
// Gauges are set by steps alone: those of a hung engine stand still, too.
type activity struct{ batches, running, waiting, kvUsage float64 }

// freezeDetector tells an engine that hangs, whose page is served all the same.
type freezeDetector struct {
	// did is the newest sign of what the engine did, and moved when it last changed
	// or nothing ran.
	did   activity
	moved time.Time
	// rejected is the newest count of refused requests of when the engine moved,
	// and demand is set if a frozen one had requests that wait, or refused some
	// since.
	rejected float64
	demand   bool
}

// frozen takes a page in. One that doesn't tell what runs or how many batches were
// made can't be called frozen.
func (d *freezeDetector) frozen(p *reading) bool {
	did := activity{p.step, p.running, p.waiting, p.kvUsage}
	// NaN compares unequal and not greater: no telling is like moving.
	if did != d.did || !(p.running > 0) || d.moved.IsZero() {
		d.did, d.moved, d.rejected = did, p.sample.At, p.rejected
		return false
	}
	d.demand = p.waiting > 0 || p.rejected > d.rejected
	return p.sample.At.Sub(d.moved) > frozenAfter
}
