package decision

import (
	"fmt"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// survey is a fleet's readings of one metric.
type survey struct {
	// serving counts replicas, read, unreadable and warming together.
	serving int
	read    []string
	// unreadable have no reading, and released counts those of them that have
	// had none for longer than the fleet's grace.
	unreadable []Unread
	released   int
	// warming counts replicas whose samples don't reach back over the window
	// yet, because this process is new or the pod was away; the least reaches
	// back for reached.
	warming         int
	reached, window time.Duration
	// missing is the metric's name if every page that was read lacks it.
	missing []Missing

	// low and high are the least and the greatest that the metric could be over
	// the fleet: high is +Inf while any replica could be anything. They are
	// equal if nothing is missing.
	low, high float64
	// largest is the greatest of the readings.
	largest float64
	// observed is set for a histogram.
	observed bool
	// idle is set when a histogram had no observations and nothing ran or
	// waited: less than any threshold, even 0.
	idle bool
	// evidence is of those of the unreadable that time out under load, and seems the
	// least that the metric is if they still have it.
	evidence
	seems float64
	// unknown says in words why nothing can be told though pods were read, ""
	// if low and high hold.
	unknown string
}

// reading is one replica's value of a metric, or why there is none.
type reading struct {
	value float64
	// why says in words why there is no value, "" if there is one.
	why string
	// warming is set when its samples don't cover the window yet; they reach
	// back for so long.
	warming bool
	reached time.Duration
}

// look asks every serving replica. Those that never served, or are being
// deleted, have no load of their own: they stand for nothing, not for an
// unknown. It leaves the total in low and high.
func look(m measurement, fleet sample.Fleet, now time.Time) survey {
	s := survey{missing: missing(m.metric, fleet, now)}
	for i := range fleet.Replicas {
		replica := &fleet.Replicas[i]
		if !replica.HasLoad(fleet.Freshness, now) {
			continue
		}
		s.serving++
		switch r := m.of(replica, fleet.Freshness, now); {
		case r.why != "":
			if replica.TimesOut(fleet.Freshness, now) {
				if value, loaded := m.lately(replica, now); loaded && s.add(replica, fleet, now) {
					s.seems += value
					s.skip(replica, r.why, false)
					continue
				}
			}
			s.skip(replica, r.why, silent(replica, m.metric, now) > fleet.Grace)
		case r.warming:
			s.warm(r.reached)
		default:
			s.read = append(s.read, replica.Pod)
			s.low += r.value
			s.largest = max(s.largest, r.value)
		}
	}
	s.retain()
	s.seems += s.low
	s.high = s.low + s.largest*float64(s.released)
	// One that is unreadable and not released could be anything. 0 × Inf is no
	// number, so it is left out where there is none.
	if open := s.open(); open > 0 {
		s.high += m.greatest(s.largest) * float64(open)
	}
	return s
}

func (s *survey) skip(r *sample.Replica, why string, released bool) {
	s.unreadable = append(s.unreadable, Unread{Pod: r.Pod, Why: why, Released: released})
	if released {
		s.released++
	}
}

// retain takes back that replicas were released where nobody was read: there is
// no reading for them to stand for.
func (s *survey) retain() {
	if len(s.read) > 0 {
		return
	}
	s.released = 0
	for i := range s.unreadable {
		s.unreadable[i].Released = false
	}
}

func (s *survey) warm(reached time.Duration) {
	if s.warming == 0 || reached < s.reached {
		s.reached = reached
	}
	s.warming++
}

// open is how many replicas could be anything.
func (s *survey) open() int { return s.warming + len(s.unreadable) - s.released }

// whole tells whether every serving replica was read.
func (s *survey) whole() bool { return s.warming == 0 && len(s.unreadable) == 0 }

// mean makes the total a mean over the serving replicas.
func (s *survey) mean() {
	if s.serving > 0 {
		s.low /= float64(s.serving)
		s.seems /= float64(s.serving)
		s.high /= float64(s.serving)
	}
}

// family is what the replica's newest page says of a metric, or why there is
// nothing, in words.
func family(r *sample.Replica, metric string, freshness time.Duration, now time.Time) (sample.Family, string) {
	if r.Last == nil || now.Sub(r.Last.At) > freshness {
		if r.Failure != "" {
			return sample.Family{}, r.Failure
		}
		return sample.Family{}, "it has not been read yet"
	}
	family, found := find(r.Last, metric)
	if !found {
		if why, there := unusable(r.Last, metric); there {
			return sample.Family{}, why
		}
		return sample.Family{}, "its page has no " + metric
	}
	return family, ""
}

// unusable says why a metric can't be used that stands on the page.
func unusable(s *sample.Sample, metric string) (why string, there bool) {
	for _, name := range policy.Names(metric) {
		if why, there = s.Unusable(name); there {
			return why, true
		}
	}
	return "", false
}

// find is the family of that name, or of one that the metric has in another
// version of vLLM.
func find(s *sample.Sample, metric string) (sample.Family, bool) {
	for _, name := range policy.Names(metric) {
		if family, found := s.Family(name); found {
			return family, true
		}
	}
	return sample.Family{}, false
}

// silent is for how long nothing has been known of the metric.
func silent(r *sample.Replica, metric string, now time.Time) time.Duration {
	since := r.Expected
	if r.Last != nil {
		if _, found := find(r.Last, metric); found {
			since = r.Last.At
		}
	}
	return now.Sub(since)
}

// nothing says that no serving replica's value can be read, and why.
func (s *survey) nothing(metric string) string {
	return fmt.Sprintf("%s of %s can be read (%s)", none(s.serving), metric, s.first())
}

// first is one of the unreadable pods with what is wrong with it.
func (s *survey) first() string {
	u := s.unreadable[0]
	if len(s.missing) > 0 && s.missing[0].Nearest != "" && strings.HasSuffix(u.Why, " has no "+s.missing[0].Metric) {
		return fmt.Sprintf("%s: %s; did you mean %s?", u.Pod, u.Why, s.missing[0].Nearest)
	}
	return u.Pod + ": " + u.Why
}

func none(serving int) string {
	if serving == 1 {
		return "the only serving replica's value"
	}
	return fmt.Sprintf("no serving replica's value (of %d)", serving)
}

// instead is what counts for a replica that was released.
func (s *survey) instead() string {
	if s.observed {
		return "is left out"
	}
	return fmt.Sprintf("stands for %s at most", number(s.largest))
}

// gaps says who is missing in the survey, "" if nobody is.
func (s *survey) gaps() string {
	text := ""
	if n := len(s.unreadable); n > 0 {
		text = fmt.Sprintf("%d of %d can't be read (%s)", n, s.serving, s.first())
		if s.released > 0 {
			text += fmt.Sprintf(", %d of them for so long that %s %s", s.released, pronoun(s.released), s.instead())
		}
	}
	if s.warming > 0 {
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("warming up: readings of %d of %d reach back %s of %s",
			s.warming, s.serving, duration(s.reached), duration(s.window))
	}
	return text
}
