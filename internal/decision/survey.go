package decision

import (
	"fmt"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// total is a fleet's readings of one metric.
type total struct {
	// serving counts replicas, read, unreadable and warming together.
	serving int
	read    []string
	// unreadable have no reading, and released counts those of them that have
	// had none for longer than the fleet's grace.
	unreadable []UnreadablePod
	givenUp    int
	// warming counts replicas whose samples don't reach back over the window
	// yet, because this process is new or the pod was away; the least reaches
	// back for reached.
	warming               int
	historyLength, window time.Duration
	// missingMetrics is the metric's name if every page that was read lacks it.
	missingMetrics []MissingMetric

	// low and high are the least and the greatest that the metric could be over
	// the fleet: high is +Inf while any replica could be anything. They are
	// equal if nothing is missing.
	low, high float64
	// largest is the greatest of the readings.
	largest float64
	// fromHistogram is set for a histogram.
	fromHistogram bool
	// idle is set when a histogram had no observations and nothing ran or
	// waited: less than any threshold, even 0.
	idle bool
	// evidence is of those of the unreadable that time out under load, and seems the
	// least that the metric is if they still have it.
	timeouts
	withEvidence float64
	// unknownReason says in words why nothing can be told though pods were read, ""
	// if low and high hold.
	unknownReason string
}

// podValue is one replica's value of a metric, or why there is none.
type podValue struct {
	value float64
	// why says in words why there is no value, "" if there is one.
	why string
	// warming is set when its samples don't cover the window yet; they reach
	// back for so long.
	warming       bool
	historyLength time.Duration
}

// totalOf asks every serving replica. Those that never served, or are being
// deleted, have no load of their own: they stand for nothing, not for an
// unknown. It leaves the total in low and high.
func totalOf(m measurement, fleet sample.Fleet, now time.Time) total {
	s := total{missingMetrics: missingMetric(m.metric, fleet, now)}
	for i := range fleet.Replicas {
		replica := &fleet.Replicas[i]
		if !replica.HasLoad(fleet.Freshness, now) {
			continue
		}
		s.serving++
		switch r := m.valueOf(replica, fleet.Freshness, now); {
		case r.why != "":
			if replica.TimesOut(fleet.Freshness, now) {
				if value, loaded := m.lastLoad(replica, now); loaded && s.add(replica, fleet, now) {
					s.withEvidence += value
					s.addUnreadable(replica, r.why, false)
					continue
				}
			}
			s.addUnreadable(replica, r.why, unreadFor(replica, m.metric, now) > fleet.Grace)
		case r.warming:
			s.addWarming(r.historyLength)
		default:
			s.read = append(s.read, replica.Pod)
			s.low += r.value
			s.largest = max(s.largest, r.value)
		}
	}
	s.giveUpNobodyIfNoneRead()
	s.withEvidence += s.low
	s.high = s.low + s.largest*float64(s.givenUp)
	// One that is unreadable and not released could be anything. 0 × Inf is no
	// number, so it is left out where there is none.
	if open := s.unknownReplicas(); open > 0 {
		s.high += m.maximum(s.largest) * float64(open)
	}
	return s
}

func (s *total) addUnreadable(r *sample.Replica, why string, released bool) {
	s.unreadable = append(s.unreadable, UnreadablePod{Pod: r.Pod, Why: why, GivenUp: released})
	if released {
		s.givenUp++
	}
}

// giveUpNobodyIfNoneRead takes back that replicas were released where nobody was read: there is
// no reading for them to stand for.
func (s *total) giveUpNobodyIfNoneRead() {
	if len(s.read) > 0 {
		return
	}
	s.givenUp = 0
	for i := range s.unreadable {
		s.unreadable[i].GivenUp = false
	}
}

func (s *total) addWarming(reached time.Duration) {
	if s.warming == 0 || reached < s.historyLength {
		s.historyLength = reached
	}
	s.warming++
}

// unknownReplicas is how many replicas could be anything.
func (s *total) unknownReplicas() int { return s.warming + len(s.unreadable) - s.givenUp }

// complete tells whether every serving replica was read.
func (s *total) complete() bool { return s.warming == 0 && len(s.unreadable) == 0 }

// divide makes the total a mean over the serving replicas.
func (s *total) divide() {
	if s.serving > 0 {
		s.low /= float64(s.serving)
		s.withEvidence /= float64(s.serving)
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

// unreadFor is for how long nothing has been known of the metric.
func unreadFor(r *sample.Replica, metric string, now time.Time) time.Duration {
	since := r.Expected
	if r.Last != nil {
		if _, found := find(r.Last, metric); found {
			since = r.Last.At
		}
	}
	return now.Sub(since)
}

// noneReadable says that no serving replica's value can be read, and why.
func (s *total) noneReadable(metric string) string {
	return fmt.Sprintf("%s of %s can be read (%s)", noServingReplica(s.serving), metric, s.firstUnreadable())
}

// firstUnreadable is one of the unreadable pods with what is wrong with it.
func (s *total) firstUnreadable() string {
	u := s.unreadable[0]
	if len(s.missingMetrics) > 0 && s.missingMetrics[0].Nearest != "" && strings.HasSuffix(u.Why, " has no "+s.missingMetrics[0].Metric) {
		return fmt.Sprintf("%s: %s; did you mean %s?", u.Pod, u.Why, s.missingMetrics[0].Nearest)
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
func (s *total) substitute() string {
	if s.fromHistogram {
		return "is left out"
	}
	return fmt.Sprintf("stands for %s at most", number(s.largest))
}

// describeMissing says who is missing in the total, "" if nobody is.
func (s *total) describeMissing() string {
	text := ""
	if n := len(s.unreadable); n > 0 {
		text = fmt.Sprintf("%d of %d can't be read (%s)", n, s.serving, s.firstUnreadable())
		if s.givenUp > 0 {
			text += fmt.Sprintf(", %d of them for so long that %s %s", s.givenUp, pronoun(s.givenUp), s.substitute())
		}
	}
	if s.warming > 0 {
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("warming up: readings of %d of %d reach back %s of %s",
			s.warming, s.serving, duration(s.historyLength), duration(s.window))
	}
	return text
}
