package scrape

import "time"

// beatEvery is how often Run goes round at least, and lateAfter how long it may
// take before the process counts as dead: a busy machine doesn't stop it for so
// long, and a stopped one does no harm for longer than KEDA waits.
const (
	beatEvery = time.Second
	lateAfter = 30 * time.Second
)

// OnTime reports whether the loop that starts scrapes goes round. It takes no lock,
// so that it answers whatever else hangs. Before Run has begun it is true.
func (r *Reader) OnTime(now time.Time) bool {
	beat := time.Duration(r.beat.Load())
	return beat == 0 || now.Sub(r.epoch)-beat <= lateAfter
}

// sweepIntervals is how many intervals a process waits at most for the first
// reading of every pod. One is enough unless thousands hang.
const sweepIntervals = 3

// Swept reports whether every pod that was known at the first call has been read,
// or at least attempted, once; it stays true from then on. It is true as well
// three intervals after the first call, and if there was no pod then: whoever asks
// must first have told of all fleets.
func (r *Reader) Swept() bool {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.sweep
	if s.over {
		return true
	}
	if s.begun.IsZero() {
		s.begun = now
		for _, t := range r.byDue {
			if !t.attempted {
				t.counted = true
				s.left++
			}
		}
	}
	s.over = s.left == 0 || now.Sub(s.begun) >= sweepIntervals*r.cfg.Interval
	return s.over
}

// sweepOver is for a target that was attempted, or has gone. It needs mu.
func (r *Reader) sweepOver(t *target) {
	if t.counted {
		t.counted = false
		r.sweep.left--
	}
}
