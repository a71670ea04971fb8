package decision

import (
	"fmt"
	"time"
)

// The windows that can be asked for.
const (
	MinWindow = time.Second
	MaxWindow = time.Hour
)

// CheckWindow refuses a window that no history will be kept for.
func CheckWindow(d time.Duration) error {
	if d < MinWindow || d > MaxWindow {
		return fmt.Errorf("window %v is out of range: it must be from %v to %v", d, MinWindow, MaxWindow)
	}
	return nil
}

// A History is dense in its newest samples and thin in older ones: of those,
// it holds some oldPoints over all that it keeps. At an interval of 5 s, 20
// minutes are kept whole, and an hour at a sample every 15 s before its last
// ten minutes.
const (
	densePoints = 120
	oldPoints   = 240
)

// History is the samples of one pod, taken while it was Serving, ascending in
// time. Its zero value is empty. A copy is a snapshot: what is added to the
// original later doesn't show in it, and it may be read by anybody meanwhile.
type History struct {
	// samples[i] never changes once it stands: Add appends beyond the end of
	// every snapshot, or moves to a new array.
	samples []*Sample
}

// Add appends s, which is newer than all samples before, and drops what a
// window of length keep no longer reaches. keep ≤ 0 keeps nothing but s.
func (h *History) Add(s *Sample, keep time.Duration) {
	if keep <= 0 {
		h.samples = nil
	}
	h.trim(s.At.Add(-keep))
	if len(h.samples) == cap(h.samples) {
		kept := h.thin(keep / oldPoints)
		h.samples = append(make([]*Sample, 0, len(kept)+len(kept)/2+1), kept...)
	}
	h.samples = append(h.samples, s)
}

// trim drops all samples before start but the newest of them: the window's
// deltas begin there.
func (h *History) trim(start time.Time) {
	drop := 0
	for drop+1 < len(h.samples) && !h.samples[drop+1].At.After(start) {
		drop++
	}
	h.samples = h.samples[drop:]
}

// thin returns the samples but for those elder ones that are closer than
// spacing to one before. A process's first and last samples stay: its deltas
// end there.
func (h *History) thin(spacing time.Duration) []*Sample {
	kept := make([]*Sample, 0, len(h.samples))
	for i, s := range h.samples {
		elder := i > 0 && i < len(h.samples)-densePoints
		if elder && s.At.Sub(kept[len(kept)-1].At) < spacing-spacing/8 &&
			h.samples[i-1].sameProcess(s) && s.sameProcess(h.samples[i+1]) {
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

// Newest is the last sample added, nil if there is none.
func (h *History) Newest() *Sample {
	if len(h.samples) == 0 {
		return nil
	}
	return h.samples[len(h.samples)-1]
}

// since is when the oldest sample that has the family was taken.
func (h *History) since(family string) (time.Time, bool) {
	for _, s := range h.samples {
		if _, found := s.Family(family); found {
			return s.At, true
		}
	}
	return time.Time{}, false
}

// Len is the number of samples kept.
func (h *History) Len() int { return len(h.samples) }

// sameProcess reports whether counters go on from s to next. A container's
// restart or another process start begins them anew; whether they themselves
// fell is a matter of each family.
func (s *Sample) sameProcess(next *Sample) bool {
	return s.Restarts == next.Restarts &&
		(s.ProcessStart == next.ProcessStart || s.ProcessStart == 0 || next.ProcessStart == 0)
}
