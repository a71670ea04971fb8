package scrape

import (
	"sync"
	"time"
)

// A pod that flaps would make 720 lines an hour in the log. It makes tellAtOnce at
// first, and then one every tellEvery.
const (
	tellEvery  = 10 * time.Minute
	tellAtOnce = 4
)

// voice is what the log has heard of a target.
type voice struct {
	// told is how the newest scrape ended that the log has heard of, and leftOut how
	// many changes it hasn't heard of since.
	told    Reason
	leftOut int
	// spent is until when the lines that were written use up what is allowed.
	spent time.Time
}

// speak reports whether the log is to hear how a scrape ended, and how many changes it
// hasn't heard of. What was left out is made up for by the first scrape that may be
// told of, so that the log ends with what is true.
func (v *voice) speak(is Reason, news bool, now time.Time) (leftOut int, tell bool) {
	if is == Local {
		return 0, false // that is told once for all pods
	}
	if is != v.told && v.spent.Sub(now) <= (tellAtOnce-1)*tellEvery {
		if v.spent.Before(now) {
			v.spent = now
		}
		v.spent = v.spent.Add(tellEvery)
		leftOut, v.leftOut, v.told = v.leftOut, 0, is
		return leftOut, true
	}
	if news {
		v.leftOut++
	}
	return 0, false
}

// lackEnds is how long the scaler must have lacked nothing for another lack to be
// news.
const lackEnds = time.Minute

// lack is what the log has heard of the scaler's own lacks, for all pods together.
type lack struct {
	mu sync.Mutex
	// mu guards last, when something was lacking last.
	last time.Time
}

// news reports whether a lack is a new one.
func (l *lack) news(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.last
	l.last = now
	return before.IsZero() || now.Sub(before) > lackEnds
}
