package sample

import (
	"fmt"
	"iter"
	"slices"
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

// maxHistory bounds a history in bytes, about: 500 samples of a fleet's usual twelve
// families, or three of the largest that a page can have. Beyond that it is thinned,
// whatever the window.
const maxHistory = 160 << 10

// History is the samples of one pod, taken while it was Serving, ascending in
// time. Its zero value is empty. A copy is a snapshot: what is added to the
// original later doesn't show in it, and it may be read by anybody meanwhile.
type History struct {
	// samples[i] never changes once it stands: Add appends beyond the end of
	// every snapshot, or moves to a new array.
	samples []*Sample
	// weight is at least what the samples take, in bytes.
	weight int
}

// Add appends s, which is newer than all samples before, and drops what a
// window of length keep no longer reaches. keep ≤ 0 keeps nothing but s.
func (h *History) Add(s *Sample, keep time.Duration) {
	if keep <= 0 {
		h.samples, h.weight = nil, 0
	}
	h.trim(s.At.Add(-keep))
	if len(h.samples) == cap(h.samples) {
		kept := thin(h.samples, keep/oldPoints, densePoints)
		h.samples = append(make([]*Sample, 0, len(kept)+len(kept)/2+1), kept...)
	}
	h.weight += s.weight(h.Newest())
	h.samples = append(h.samples, s)
	if h.weight > maxHistory {
		h.lighten(keep)
	}
}

// lighten makes the samples fewer until they take half of what they may, unless they
// are much lighter than was thought, having been trimmed since.
func (h *History) lighten(keep time.Duration) {
	h.weight = weightOf(h.samples)
	if h.weight <= maxHistory/4*3 {
		return
	}
	kept, dense := h.samples, densePoints
	for spacing := keep / oldPoints; spacing > 0 && spacing < keep && weightOf(kept) > maxHistory/2; spacing *= 2 {
		kept = thin(kept, spacing, dense)
		dense /= 2
	}
	// A process that ends at every sample leaves nothing to thin.
	for len(kept) > 1 && weightOf(kept) > maxHistory/4*3 {
		kept = kept[(len(kept)+1)/2:]
	}
	h.samples = slices.Clone(kept)
	h.weight = weightOf(kept)
}

// weightOf is what the samples take in bytes, about.
func weightOf(samples []*Sample) int {
	total := 0
	var before *Sample
	for _, s := range samples {
		total += s.weight(before)
		before = s
	}
	return total
}

// weight is what a sample takes in bytes beside the one before it, about.
func (s *Sample) weight(before *Sample) int {
	// The sample, and its place in the history's array, which has room for half as
	// many again.
	total := 112 + 12 + 8*cap(s.values)
	if before == nil || s.layout != before.layout {
		for _, c := range s.layout.columns() {
			total += 72 + 8*len(c.le)
		}
		if s.layout != nil {
			for _, u := range s.layout.unusable {
				total += 32 + len(u.Name) + len(u.Why)
			}
		}
	}
	if len(s.Names) > 0 && (before == nil || len(before.Names) == 0 || &s.Names[0] != &before.Names[0]) {
		for _, name := range s.Names {
			total += 16 + len(name)
		}
	}
	return total
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

// thin returns the samples but for those elder than the newest dense ones that are
// closer than spacing to one before. A process's first and last samples stay: its deltas
// end there.
func thin(samples []*Sample, spacing time.Duration, dense int) []*Sample {
	kept := make([]*Sample, 0, len(samples))
	for i, s := range samples {
		elder := i > 0 && i < len(samples)-max(1, dense)
		if elder && s.At.Sub(kept[len(kept)-1].At) < spacing-spacing/8 &&
			samples[i-1].sameProcess(s) && s.sameProcess(samples[i+1]) {
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

// Since is when the oldest sample that has the family was taken.
func (h *History) Since(family string) (time.Time, bool) {
	for _, s := range h.samples {
		if _, found := s.Family(family); found {
			return s.At, true
		}
	}
	return time.Time{}, false
}

// Backward are the samples from the newest to the oldest.
func (h *History) Backward() iter.Seq[*Sample] {
	return func(yield func(*Sample) bool) {
		for _, s := range slices.Backward(h.samples) {
			if !yield(s) {
				return
			}
		}
	}
}

// Ends are the newest sample at or before start, or the oldest of the newest
// sample's process, and the newest.
func (h *History) Ends(start time.Time) (first, last *Sample) {
	last = h.Newest()
	first = last
	for i := len(h.samples) - 2; i >= 0 && first.At.After(start); i-- {
		if !h.samples[i].sameProcess(last) {
			break
		}
		first = h.samples[i]
	}
	return first, last
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
