package decision

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// evaluateQueue publishes what a queue's replicas come to: their total, or what
// a trigger written by hand asks for instead.
func evaluateQueue(trigger policy.Trigger, fleet sample.Fleet, now time.Time) Verdict {
	if trigger.Queue.Aggregation == policy.Readiness {
		return readiness(fleet)
	}
	q := queue{Trigger: trigger, fleet: fleet, hpa: hpaOf(trigger, fleet), survey: ask(trigger.Queue, fleet, now), fruitless: fruitless(fleet, now)}
	if q.Queue.Aggregation == policy.Gate {
		q.gate()
	}
	v := Verdict{Read: q.read, Unreadable: q.unreadable, Missing: q.missing, Replicas: fleet.Desired}
	v.Answer, v.Value = q.answer()
	if q.Use != policy.Formula && q.Queue.Aggregation != policy.Gate {
		v.Answer, v.Value = q.halted(v.Answer, v.Value)
	}
	if v.Answer == Unknown {
		v.Reason = q.untold()
		return v
	}
	wanted := fleet.Desired
	if q.Use != policy.Formula {
		wanted = q.makes(v.Value)
	}
	v.Replicas = trigger.Bounds.Clamp(wanted)
	if q.Use == policy.Formula {
		v.Replicas = fleet.Desired
	}
	v.Reason = q.reason(v, wanted)
	return v
}

// queue is a trigger with what was read of its fleet.
type queue struct {
	policy.Trigger
	survey
	hpa
	fleet sample.Fleet
	// fruitless says why no more is ordered, "" if it may be.
	fruitless string
}

// ask reads the fleet the way that the aggregation wants it: low and high are
// of the total, or of the mean.
func ask(q policy.Queue, fleet sample.Fleet, now time.Time) survey {
	switch q.Aggregation {
	case policy.WindowedAvg, policy.Gate:
		return measure(policy.Metric{
			Name: q.Metric, Kind: kind(q.Metric, fleet), Up: q.Target, Down: q.Target, Window: q.Window,
		}, fleet, now)
	case policy.Quantile:
		return measure(policy.Metric{
			Name: q.Metric, Kind: policy.Histogram, Up: q.Target, Down: q.Target, Window: q.Window, Quantile: q.Quantile,
		}, fleet, now)
	case policy.Sum, policy.ServiceAvg, policy.Rate, policy.Readiness:
	}
	how := measurement{metric: q.Metric, threshold: q.Target}
	if q.Aggregation == policy.Rate {
		how.statistic, how.window = rate, window(fleet, q.Window, now)
	}
	s := look(how, fleet, now)
	s.window = how.window.Length
	if q.Aggregation == policy.ServiceAvg {
		s.mean()
	}
	return s
}

// kind is what the pages say that the metric is: a trigger written by hand
// doesn't.
func kind(metric string, fleet sample.Fleet) policy.Kind {
	for _, r := range fleet.Replicas {
		if r.Phase != sample.Serving || r.Last == nil {
			continue
		}
		if family, found := find(r.Last, metric); found && family.Kind == sample.Histogram {
			return policy.Histogram
		}
	}
	return policy.Gauge
}

// gate makes 1 of a mean above the target, 0 of one that isn't, and keeps what
// could be either open.
func (q *queue) gate() {
	is := func(mean float64) float64 {
		if exceeds(mean, q.Queue.Target) {
			return 1
		}
		return 0
	}
	q.low, q.high = is(q.low), is(q.high)
}

// averages tells whether low and high are of one replica, and not a total.
func (q *queue) averages() bool {
	switch q.Queue.Aggregation {
	case policy.ServiceAvg, policy.WindowedAvg, policy.Quantile:
		return true
	case policy.Sum, policy.Gate, policy.Rate, policy.Readiness:
	}
	return false
}

// publish is what to publish of a total or a mean. The HPA divides an
// AverageValue by the replicas desired, of which those that start have no load
// yet: a mean is multiplied by the ones that serve. By the desired ones it would
// grow with each that is ordered, and order the next, long before any serves.
func (q *queue) publish(x float64) float64 {
	if q.averages() && q.Use == policy.AverageValue {
		if q.serving == 0 {
			return 0 // whatever x is: infinity × 0 is no number
		}
		return x * float64(q.serving)
	}
	return x
}

// answer is the value to publish, and what it rests on.
func (q *queue) answer() (Answer, float64) {
	known := len(q.read) > 0 && q.unknown == ""
	switch {
	case q.evident() > 0:
		return Bounded, q.evident()
	case q.serving > 0 && len(q.read) == 0 && q.warming == 0:
		return Unknown, 0
	case known && q.whole():
		return q.measured()
	case q.Use == policy.Formula, q.Queue.Aggregation == policy.Gate && q.serving > 0:
		// What a formula holds on nobody knows, and of a gate only whether it
		// is open: so nothing is published that isn't certain. An error makes
		// the HPA hold.
		if known && (q.low == q.high || q.open() == 0) {
			return Bounded, q.publish(q.high)
		}
		return Unknown, 0
	case known:
		return q.bounded()
	}
	return Held, q.hold()
}

// evident is what to publish on the evidence of replicas that time out under load, if
// it asks for more than what was read does: 0 if not. What a formula or a gate makes
// of it nobody knows.
func (q *queue) evident() float64 {
	if len(q.pods) == 0 || q.Use == policy.Formula || q.Queue.Aggregation == policy.Gate {
		return 0
	}
	most := q.target * float64(q.limit)
	if q.value {
		most = math.Floor(thousandths*most/float64(max(1, q.ready))) / thousandths
	}
	if value, _ := q.past(1); q.makes(most) <= q.current {
		most = value // the least that this HPA goes up on
	}
	value := min(q.publish(q.seems), most)
	switch {
	case math.IsNaN(value), q.makes(value) <= q.current, q.astray(value), value <= q.publish(q.low):
		return 0
	}
	return value
}

// measured publishes what was read, or else what the HPA stays on where it would go
// the other way.
func (q *queue) measured() (Answer, float64) {
	value := q.publish(q.low)
	if q.astray(value) {
		return Measured, q.hold()
	}
	return Measured, value
}

// halted takes back what asks for more where more is ordered in vain. What is
// tolerated is taken back with it, so that a greater reading publishes no less.
func (q *queue) halted(answer Answer, value float64) (Answer, float64) {
	if q.fruitless == "" || answer == Unknown || value <= q.hold() {
		q.fruitless = ""
		return answer, value
	}
	if q.makes(value) > q.current {
		return Held, q.hold()
	}
	q.fruitless = ""
	return answer, q.hold()
}

// bounded is the end of the interval that moves the fleet, whatever the truth
// is, or else a hold.
func (q *queue) bounded() (Answer, float64) {
	low, high := q.publish(q.low), q.publish(q.high)
	switch {
	case q.makes(low) > q.current && !q.astray(low):
		return Bounded, low
	case !math.IsInf(high, 1) && q.makes(high) < q.current && !q.astray(high):
		return Bounded, high
	}
	return Held, q.hold()
}

// untold says why there is nothing to publish.
func (q *queue) untold() string {
	const prefix = "cannot tell the load: "
	switch {
	case q.serving == 0:
		return prefix + "no replica serves yet"
	case q.unknown != "":
		return prefix + q.Queue.Metric + ": " + q.unknown
	case len(q.read) == 0 && q.warming == 0:
		return prefix + q.nothing(q.Queue.Metric)
	}
	return prefix + q.Queue.Metric + ": " + q.gaps()
}

// reason puts a verdict into words: what was read, what it is measured against,
// and what follows. Wanted is what it would come to without bounds.
func (q *queue) reason(v Verdict, wanted int32) string {
	desired := q.fleet.Desired
	if q.serving == 0 {
		return fmt.Sprintf("holding at %d: no replica serves yet, so there is no load to measure", desired)
	}
	read := q.facts()
	switch {
	case q.Use == policy.Formula:
		return fmt.Sprintf("%s for the formula: %s", number(v.Value), read)
	case v.Answer == Held:
		return fmt.Sprintf("holding at %d: %s", desired, read)
	case v.Replicas != desired && v.Replicas < wanted:
		return fmt.Sprintf("%d → %d, the maximum: %s, which would be %d", desired, v.Replicas, read, wanted)
	case v.Replicas != desired:
		return fmt.Sprintf("%d → %d: %s", desired, v.Replicas, read)
	case v.Replicas > wanted:
		return fmt.Sprintf("%d is the minimum: %s", desired, read)
	case v.Replicas < wanted:
		return fmt.Sprintf("%d is the maximum: %s, which would be %d", desired, read, wanted)
	default:
		return fmt.Sprintf("%d is right: %s", desired, read)
	}
}

// facts are the numbers of a verdict.
func (q *queue) facts() string {
	metric, target, on := q.Queue.Metric, number(q.Queue.Target), replicas(len(q.read))
	var text string
	switch {
	case len(q.read) == 0 || q.unknown != "":
		text = fmt.Sprintf("%s is unknown", metric)
		if q.unknown != "" {
			text += ": " + q.unknown
		}
	case q.Queue.Aggregation == policy.Gate && q.high > 0:
		text = fmt.Sprintf("%s is above %s over %s on %s", metric, target, duration(q.Queue.Window), on)
	case q.Queue.Aggregation == policy.Gate:
		text = fmt.Sprintf("%s is not above %s over %s on %s", metric, target, duration(q.Queue.Window), on)
	case q.Queue.Aggregation == policy.WindowedAvg:
		text = fmt.Sprintf("%s is %s on average over %s on %s%s", metric, number(q.low), duration(q.Queue.Window), on, q.wanted(""))
	case q.Queue.Aggregation == policy.Quantile:
		text = fmt.Sprintf("the %s quantile of %s is %s over %s on %s%s",
			number(q.Queue.Quantile), metric, number(q.low), duration(q.Queue.Window), on, q.wanted(""))
	case q.Queue.Aggregation == policy.ServiceAvg:
		text = fmt.Sprintf("%s is %s on average on %s%s", metric, number(q.low), on, q.wanted(""))
	case q.Queue.Aggregation == policy.Rate:
		text = fmt.Sprintf("%s gained %s a second over %s in total on %s%s",
			metric, number(q.low), duration(q.window), on, q.wanted(" on each"))
	case q.Use == policy.Value:
		text = fmt.Sprintf("%s is %s in total on %s, %s wanted altogether", metric, number(q.low), on, target)
	default:
		text = fmt.Sprintf("%s is %s in total on %s%s", metric, number(q.low), on, q.wanted(" on each"))
	}
	return strings.Join(append([]string{text}, q.besides()...), "; ")
}

// wanted is what is measured against; of a formula nobody knows that.
func (q *queue) wanted(of string) string {
	if q.Use == policy.Formula {
		return ""
	}
	return ", " + number(q.Queue.Target) + " wanted" + of
}

// besides is what a verdict does without, and what it does about it.
func (q *queue) besides() []string {
	var all []string
	// What a metric is unknown for is told already.
	if gaps := q.gaps(); gaps != "" && q.unknown == "" {
		all = append(all, gaps)
	}
	if len(q.pods) > 0 {
		all = append(all, q.words())
	}
	if q.fruitless != "" {
		all = append(all, q.fruitless)
	}
	return all
}
