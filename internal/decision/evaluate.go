// Package decision turns what is known of a fleet into what KEDA is told, and
// says why. It is pure: time is an argument, and the same code answers KEDA and
// explains itself.
//
// It rests on one rule: unknown is never zero. A pod that can't be read stands
// for the interval of what it could have said, and the fleet moves only where
// the whole interval points.
package decision

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// survey is a fleet's readings of one metric, added up.
type survey struct {
	// serving counts replicas, read and unreadable together.
	serving int
	// total is over the readable, and the least that the fleet could have;
	// largest is the greatest of them.
	total, largest float64
	// most is the greatest total that the fleet could have: +Inf while any
	// replica is unreadable and not yet released.
	most       float64
	read       []string
	unreadable []Unread
	released   int
}

// Evaluate judges a fleet by what a trigger asks for, at the time now.
//
// With every serving replica readable it publishes their total, and the HPA
// does the rest. Otherwise, with L and U the least and the greatest total that
// the fleet could have: L if that alone asks for more replicas, U if even that
// asks for fewer, and else the value on which the HPA holds. So a missing
// reading never reverses a move, and a greater reading never lowers the answer.
func Evaluate(trigger policy.Trigger, fleet Fleet, now time.Time) Verdict {
	queue := trigger.Queue
	s := look(queue.Metric, fleet, now)
	verdict := Verdict{Desired: fleet.Desired, Read: s.read, Unreadable: s.unreadable}
	hold := queue.Target * float64(fleet.Desired)

	switch {
	case s.serving == 0:
		verdict.Answer, verdict.Value = Held, hold
	case len(s.read) == 0:
		verdict.Answer, verdict.Replicas = Unknown, fleet.Desired
		verdict.Reason = s.nothingReadable(queue)
		return verdict
	case len(s.unreadable) == 0:
		verdict.Answer, verdict.Value = Measured, s.total
	case hpa(s.total, queue, fleet) > fleet.Desired:
		verdict.Answer, verdict.Value = Bounded, s.total
	case !math.IsInf(s.most, 1) && hpa(s.most, queue, fleet) < fleet.Desired:
		verdict.Answer, verdict.Value = Bounded, s.most
	default:
		verdict.Answer, verdict.Value = Held, hold
	}
	wanted := hpa(verdict.Value, queue, fleet)
	verdict.Replicas = trigger.Bounds.Clamp(wanted)
	verdict.Reason = s.reason(queue, verdict, wanted)
	return verdict
}

func hpa(total float64, queue policy.Queue, fleet Fleet) int32 {
	return HPA(total, queue.Target, fleet.Desired, policy.UpTolerance, policy.DownTolerance)
}

// look adds up the fleet. Replicas that never served, or are being deleted,
// have no load of their own: they stand for nothing, not for an unknown.
func look(metric string, fleet Fleet, now time.Time) survey {
	var s survey
	for _, replica := range fleet.Replicas {
		if replica.Phase != Serving || replica.joins(fleet.Freshness, now) {
			continue
		}
		s.serving++
		value, why := replica.read(metric, fleet.Freshness, now)
		if why == "" {
			s.read = append(s.read, replica.Pod)
			s.total += value
			s.largest = max(s.largest, value)
			continue
		}
		released := replica.silent(metric, now) > fleet.Grace
		if released {
			s.released++
		}
		s.unreadable = append(s.unreadable, Unread{Pod: replica.Pod, Why: why, Released: released})
	}
	s.most = s.total + s.largest*float64(s.released)
	// One that is unreadable and not released could be anything.
	if len(s.unreadable) > s.released {
		s.most = math.Inf(1)
	}
	return s
}

// joins tells whether the replica has turned Ready so shortly ago that it would
// be strange to have read it yet. A moment before it was starting, without
// load, and so it goes on to count; that it is new to this process alone is not
// enough, or a restart would take loaded pods for idle ones.
func (r Replica) joins(freshness time.Duration, now time.Time) bool {
	return r.Last == nil && r.Failure == "" && !r.ReadySince.IsZero() &&
		now.Sub(r.ReadySince) <= freshness && now.Sub(r.Expected) <= freshness
}

// read is the replica's value of a metric, or why there is none, in words.
func (r Replica) read(metric string, freshness time.Duration, now time.Time) (float64, string) {
	if r.Last == nil || now.Sub(r.Last.At) > freshness {
		if r.Failure != "" {
			return 0, r.Failure
		}
		return 0, "it has not been read yet"
	}
	family, found := r.Last.Family(metric)
	if !found {
		return 0, "its page has no " + metric
	}
	if family.Kind == Histogram {
		return 0, metric + " is a histogram, which has no total to compare with a threshold"
	}
	if family.Sum < 0 {
		return 0, metric + " is negative"
	}
	return family.Sum, ""
}

// silent is for how long nothing has been known of the metric.
func (r Replica) silent(metric string, now time.Time) time.Duration {
	since := r.Expected
	if r.Last != nil {
		if _, found := r.Last.Family(metric); found {
			since = r.Last.At
		}
	}
	return now.Sub(since)
}

func (s *survey) nothingReadable(queue policy.Queue) string {
	return fmt.Sprintf("cannot tell the load: %s of %s can be read (%s)",
		none(s.serving), queue.Metric, s.first())
}

// first is one of the unreadable pods with what is wrong with it.
func (s *survey) first() string {
	return s.unreadable[0].Pod + ": " + s.unreadable[0].Why
}

func none(serving int) string {
	if serving == 1 {
		return "the only serving replica's value"
	}
	return fmt.Sprintf("no serving replica's value (of %d)", serving)
}

// reason puts a verdict into words: what was read, what it is measured against,
// and what follows. Wanted is what it would come to without bounds.
func (s *survey) reason(queue policy.Queue, v Verdict, wanted int32) string {
	if s.serving == 0 {
		return fmt.Sprintf("holding at %d: no replica serves yet, so there is no load to measure", v.Desired)
	}
	read := fmt.Sprintf("%s is %s in total on %s, %s wanted on each",
		queue.Metric, number(s.total), replicas(len(s.read)), number(queue.Target))
	if missing := s.missing(); missing != "" {
		read += "; " + missing
	}
	switch {
	case v.Answer == Held:
		return fmt.Sprintf("holding at %d: %s", v.Desired, read)
	case v.Replicas != v.Desired && v.Replicas < wanted:
		return fmt.Sprintf("%d → %d, the maximum: %s, which would be %d", v.Desired, v.Replicas, read, wanted)
	case v.Replicas != v.Desired:
		return fmt.Sprintf("%d → %d: %s", v.Desired, v.Replicas, read)
	case v.Replicas > wanted:
		return fmt.Sprintf("%d is the minimum: %s", v.Desired, read)
	case v.Replicas < wanted:
		return fmt.Sprintf("%d is the maximum: %s, which would be %d", v.Desired, read, wanted)
	default:
		return fmt.Sprintf("%d is right: %s", v.Desired, read)
	}
}

func (s *survey) missing() string {
	if len(s.unreadable) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d can't be read (%s)", len(s.unreadable), s.serving, s.first())
	if s.released > 0 {
		fmt.Fprintf(&b, ", %d of them for so long that %s stands for %s at most",
			s.released, pronoun(s.released), number(s.largest))
	}
	return b.String()
}

func pronoun(n int) string {
	if n == 1 {
		return "it"
	}
	return "each"
}

func replicas(n int) string {
	if n == 1 {
		return "1 replica"
	}
	return strconv.Itoa(n) + " replicas"
}

func number(x float64) string {
	return strconv.FormatFloat(x, 'g', 6, 64)
}
