package aggregate

import (
	"fmt"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/text"
)

// Total is a fleet's readings of one metric.
type Total struct {
	// Serving counts replicas, read, unreadable and warming together.
	Serving int
	Read    []string
	// Unreadable have no reading, and released counts those of them that have
	// had none for longer than the fleet's grace.
	Unreadable []UnreadablePod
	GivenUp    int
	// Warming counts replicas whose samples don't reach back over the window
	// yet, because this process is new or the pod was away; the least reaches
	// back for reached.
	Warming               int
	historyLength, Window time.Duration
	// MissingMetrics is the metric's name if every page that was read lacks it.
	MissingMetrics []MissingMetric

	// Low and high are the least and the greatest that the metric could be over
	// the fleet: high is +Inf while any replica could be anything. They are
	// equal if nothing is missing.
	Low, High float64
	// largest is the greatest of the readings.
	largest float64
	// fromHistogram is set for a histogram.
	fromHistogram bool
	// Idle is set when a histogram had no observations and nothing ran or
	// waited: less than any threshold, even 0.
	Idle bool
	// evidence is of those of the unreadable that time out under load, and seems the
	// least that the metric is if they still have it.
	Timeouts
	WithTimeouts float64
	// UnknownReason says in words why nothing can be told though pods were read, ""
	// if low and high hold.
	UnknownReason string
}

// totalOf asks every serving replica. Those that never served, or are being
// deleted, have no load of their own: they stand for nothing, not for an
// unknown. It leaves the total in low and high.
func totalOf(m measurement, fleet sample.Fleet, now time.Time) Total {
	s := Total{MissingMetrics: FindMissing(m.metric, fleet, now)}
	for i := range fleet.Replicas {
		replica := &fleet.Replicas[i]
		if !replica.HasLoad(fleet.Freshness, now) {
			continue
		}
		s.Serving++
		switch r := m.valueOf(replica, fleet.Freshness, now); {
		case r.why != "":
			if replica.TimesOut(fleet.Freshness, now) {
				if value, loaded := m.lastLoad(replica, now); loaded && s.add(replica, fleet, now) {
					s.WithTimeouts += value
					s.addUnreadable(replica, r.why, false)
					continue
				}
			}
			s.addUnreadable(replica, r.why, UnreadFor(replica, m.metric, now) > fleet.Grace)
		case r.warming:
			s.addWarming(r.historyLength)
		default:
			s.Read = append(s.Read, replica.Pod)
			s.Low += r.value
			s.largest = max(s.largest, r.value)
		}
	}
	s.giveUpNobodyIfNoneRead()
	s.WithTimeouts += s.Low
	s.High = s.Low + s.largest*float64(s.GivenUp)
	// One that is unreadable and not released could be anything. 0 × Inf is no
	// number, so it is left out where there is none.
	if open := s.UnknownReplicas(); open > 0 {
		s.High += m.maximum(s.largest) * float64(open)
	}
	return s
}

func (s *Total) addUnreadable(r *sample.Replica, why string, released bool) {
	s.Unreadable = append(s.Unreadable, UnreadablePod{Pod: r.Pod, Why: why, GivenUp: released})
	if released {
		s.GivenUp++
	}
}

// giveUpNobodyIfNoneRead takes back that replicas were released where nobody was read: there is
// no reading for them to stand for.
func (s *Total) giveUpNobodyIfNoneRead() {
	if len(s.Read) > 0 {
		return
	}
	s.GivenUp = 0
	for i := range s.Unreadable {
		s.Unreadable[i].GivenUp = false
	}
}

func (s *Total) addWarming(reached time.Duration) {
	if s.Warming == 0 || reached < s.historyLength {
		s.historyLength = reached
	}
	s.Warming++
}

// UnknownReplicas is how many replicas could be anything.
func (s *Total) UnknownReplicas() int { return s.Warming + len(s.Unreadable) - s.GivenUp }

// Complete tells whether every serving replica was read.
func (s *Total) Complete() bool { return s.Warming == 0 && len(s.Unreadable) == 0 }

// divide makes the total a mean over the serving replicas.
func (s *Total) divide() {
	if s.Serving > 0 {
		s.Low /= float64(s.Serving)
		s.WithTimeouts /= float64(s.Serving)
		s.High /= float64(s.Serving)
	}
}

// NoneReadable says that no serving replica's value can be read, and why.
func (s *Total) NoneReadable(metric string) string {
	return fmt.Sprintf("%s of %s can be read (%s)", noServingReplica(s.Serving), metric, s.FirstUnreadable())
}

// FirstUnreadable is one of the unreadable pods with what is wrong with it.
func (s *Total) FirstUnreadable() string {
	u := s.Unreadable[0]
	if len(s.MissingMetrics) > 0 && s.MissingMetrics[0].Nearest != "" && strings.HasSuffix(u.Why, " has no "+s.MissingMetrics[0].Metric) {
		return fmt.Sprintf("%s: %s; did you mean %s?", u.Pod, u.Why, s.MissingMetrics[0].Nearest)
	}
	return u.Pod + ": " + u.Why
}

func noServingReplica(serving int) string {
	if serving == 1 {
		return "the only serving replica's value"
	}
	return fmt.Sprintf("no serving replica's value (of %d)", serving)
}

// substitute is what counts for a replica that was released.
func (s *Total) substitute() string {
	if s.fromHistogram {
		return "is left out"
	}
	return fmt.Sprintf("stands for %s at most", text.Number(s.largest))
}

// DescribeMissing says who is missing in the total, "" if nobody is.
func (s *Total) DescribeMissing() string {
	words := ""
	if n := len(s.Unreadable); n > 0 {
		words = fmt.Sprintf("%d of %d can't be read (%s)", n, s.Serving, s.FirstUnreadable())
		if s.GivenUp > 0 {
			words += fmt.Sprintf(", %d of them for so long that %s %s", s.GivenUp, pronoun(s.GivenUp), s.substitute())
		}
	}
	if s.Warming > 0 {
		if words != "" {
			words += "; "
		}
		words += fmt.Sprintf("warming up: readings of %d of %d reach back %s of %s",
			s.Warming, s.Serving, text.Duration(s.historyLength), text.Duration(s.Window))
	}
	return words
}

func pronoun(n int) string {
	if n == 1 {
		return "it"
	}
	return "each"
}
