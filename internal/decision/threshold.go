package decision

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/aggregate"
	"github.com/kaito-project/keda-kaito-scaler/internal/hpa"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/text"
)

// evaluateThreshold publishes what a queue's replicas come to: their total, or what
// a trigger written by hand asks for instead.
func evaluateThreshold(trigger policy.Trigger, fleet sample.Fleet, now time.Time) Recommendation {
	if trigger.Queue.Aggregation == policy.Readiness {
		return readinessGate(fleet)
	}
	q := thresholdMode{Trigger: trigger, fleet: fleet, Autoscaler: hpa.For(trigger, fleet), Total: aggregate.Threshold(trigger.Queue, fleet, now), futile: futileScaleUp(fleet, now)}
	if q.Queue.Aggregation == policy.Gate {
		q.gate()
	}
	v := Recommendation{Read: q.Read, Unreadable: q.Unreadable, MissingMetrics: q.MissingMetrics, Replicas: fleet.Desired}
	v.Confidence, v.Value = q.recommend()
	if q.Use != policy.Formula && q.Queue.Aggregation != policy.Gate {
		v.Confidence, v.Value = q.withoutFutileScaleUp(v.Confidence, v.Value)
	}
	if v.Confidence == Unknown {
		v.Reason = q.describeUnknown()
		return v
	}
	wanted := fleet.Desired
	if q.Use != policy.Formula {
		wanted = q.Replicas(v.Value)
	}
	v.Replicas = trigger.Bounds.Clamp(wanted)
	if q.Use == policy.Formula {
		v.Replicas = fleet.Desired
	}
	v.Reason = q.reason(v, wanted)
	return v
}

// thresholdMode is a trigger with what was read of its fleet.
type thresholdMode struct {
	policy.Trigger
	aggregate.Total
	hpa.Autoscaler
	fleet sample.Fleet
	// futile says why no more is ordered, "" if it may be.
	futile string
}

// gate makes 1 of a mean above the target, 0 of one that isn't, and keeps what
// could be either open.
func (q *thresholdMode) gate() {
	is := func(mean float64) float64 {
		if aggregate.Exceeds(mean, q.Queue.Target) {
			return 1
		}
		return 0
	}
	q.Low, q.High = is(q.Low), is(q.High)
}

// averages tells whether low and high are of one replica, and not a total.
func (q *thresholdMode) averages() bool {
	switch q.Queue.Aggregation {
	case policy.ServiceAvg, policy.WindowedAvg, policy.Quantile:
		return true
	case policy.Sum, policy.Gate, policy.Rate, policy.Readiness:
	}
	return false
}

// published is what to publish of a total or a mean. The HPA divides an
// AverageValue by the replicas desired, of which those that start have no load
// yet: a mean is multiplied by the ones that serve. By the desired ones it would
// grow with each that is ordered, and order the next, long before any serves.
func (q *thresholdMode) published(x float64) float64 {
	if q.averages() && q.Use == policy.AverageValue {
		if q.Serving == 0 {
			return 0 // whatever x is: infinity × 0 is no number
		}
		return x * float64(q.Serving)
	}
	return x
}

// value is the value to publish, and what it rests on.
func (q *thresholdMode) recommend() (Confidence, float64) {
	known := len(q.Read) > 0 && q.UnknownReason == ""
	switch {
	case q.timeoutValue() > 0:
		return Bounded, q.timeoutValue()
	case q.Serving > 0 && len(q.Read) == 0 && q.Warming == 0:
		return Unknown, 0
	case known && q.Complete():
		return q.measuredValue()
	case q.Use == policy.Formula, q.Queue.Aggregation == policy.Gate && q.Serving > 0:
		// What a formula holds on nobody knows, and of a gate only whether it
		// is open: so nothing is published that isn't certain. An error makes
		// the HPA hold.
		if known && (q.Low == q.High || q.UnknownReplicas() == 0) {
			return Bounded, q.published(q.High)
		}
		return Unknown, 0
	case known:
		return q.boundedValue()
	}
	return Held, q.Hold()
}

// timeoutValue is what to publish on the evidence of replicas that time out under load, if
// it asks for more than what was read does: 0 if not. What a formula or a gate makes
// of it nobody knows.
func (q *thresholdMode) timeoutValue() float64 {
	if len(q.Pods) == 0 || q.Use == policy.Formula || q.Queue.Aggregation == policy.Gate {
		return 0
	}
	most := q.Target * float64(q.Limit)
	if q.IsValue {
		most = math.Floor(hpa.Precision*most/float64(max(1, q.Ready))) / hpa.Precision
	}
	if value, _ := q.BeyondTolerance(1); q.Replicas(most) <= q.Current {
		most = value // the least that this HPA goes up on
	}
	value := min(q.published(q.WithTimeouts), most)
	switch {
	case math.IsNaN(value), q.Replicas(value) <= q.Current, q.MovesWrongWay(value), value <= q.published(q.Low):
		return 0
	}
	return value
}

// measuredValue publishes what was read, or else what the HPA stays on where it would go
// the other way.
func (q *thresholdMode) measuredValue() (Confidence, float64) {
	value := q.published(q.Low)
	if q.MovesWrongWay(value) {
		return Measured, q.Hold()
	}
	return Measured, value
}

// withoutFutileScaleUp takes back what asks for more where more is ordered in vain. What is
// tolerated is taken back with it, so that a greater reading publishes no less.
func (q *thresholdMode) withoutFutileScaleUp(answer Confidence, value float64) (Confidence, float64) {
	if q.futile == "" || answer == Unknown || value <= q.Hold() {
		q.futile = ""
		return answer, value
	}
	if q.Replicas(value) > q.Current {
		return Held, q.Hold()
	}
	q.futile = ""
	return answer, q.Hold()
}

// boundedValue is the end of the interval that moves the fleet, whatever the truth
// is, or else a hold.
func (q *thresholdMode) boundedValue() (Confidence, float64) {
	low, high := q.published(q.Low), q.published(q.High)
	switch {
	case q.Replicas(low) > q.Current && !q.MovesWrongWay(low):
		return Bounded, low
	case !math.IsInf(high, 1) && q.Replicas(high) < q.Current && !q.MovesWrongWay(high):
		return Bounded, high
	}
	return Held, q.Hold()
}

// describeUnknown says why there is nothing to publish.
func (q *thresholdMode) describeUnknown() string {
	const prefix = "cannot tell the load: "
	switch {
	case q.Serving == 0:
		return prefix + "no replica serves yet"
	case q.UnknownReason != "":
		return prefix + q.Queue.Metric + ": " + q.UnknownReason
	case len(q.Read) == 0 && q.Warming == 0:
		return prefix + q.NoneReadable(q.Queue.Metric)
	}
	return prefix + q.Queue.Metric + ": " + q.DescribeMissing()
}

// reason puts a recommendation into words: what was read, what it is measured against,
// and what follows. Wanted is what it would come to without bounds.
func (q *thresholdMode) reason(v Recommendation, wanted int32) string {
	desired := q.fleet.Desired
	if q.Serving == 0 {
		return fmt.Sprintf("holding at %d: no replica serves yet, so there is no load to measure", desired)
	}
	read := q.describe()
	switch {
	case q.Use == policy.Formula:
		return fmt.Sprintf("%s for the formula: %s", text.Number(v.Value), read)
	case v.Confidence == Held:
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

// describe are the numbers of a recommendation.
func (q *thresholdMode) describe() string {
	metric, target, on := q.Queue.Metric, text.Number(q.Queue.Target), text.CountReplicas(len(q.Read))
	var fact string
	switch {
	case len(q.Read) == 0 || q.UnknownReason != "":
		fact = fmt.Sprintf("%s is unknown", metric)
		if q.UnknownReason != "" {
			fact += ": " + q.UnknownReason
		}
	case q.Queue.Aggregation == policy.Gate && q.High > 0:
		fact = fmt.Sprintf("%s is above %s over %s on %s", metric, target, text.Duration(q.Queue.Window), on)
	case q.Queue.Aggregation == policy.Gate:
		fact = fmt.Sprintf("%s is not above %s over %s on %s", metric, target, text.Duration(q.Queue.Window), on)
	case q.Queue.Aggregation == policy.WindowedAvg:
		fact = fmt.Sprintf("%s is %s on average over %s on %s%s", metric, text.Number(q.Low), text.Duration(q.Queue.Window), on, q.describeTarget(""))
	case q.Queue.Aggregation == policy.Quantile:
		fact = fmt.Sprintf("the %s quantile of %s is %s over %s on %s%s",
			text.Number(q.Queue.Quantile), metric, text.Number(q.Low), text.Duration(q.Queue.Window), on, q.describeTarget(""))
	case q.Queue.Aggregation == policy.ServiceAvg:
		fact = fmt.Sprintf("%s is %s on average on %s%s", metric, text.Number(q.Low), on, q.describeTarget(""))
	case q.Queue.Aggregation == policy.Rate:
		fact = fmt.Sprintf("%s gained %s a second over %s in total on %s%s",
			metric, text.Number(q.Low), text.Duration(q.Window), on, q.describeTarget(" on each"))
	case q.Use == policy.Value:
		fact = fmt.Sprintf("%s is %s in total on %s, %s wanted altogether", metric, text.Number(q.Low), on, target)
	default:
		fact = fmt.Sprintf("%s is %s in total on %s%s", metric, text.Number(q.Low), on, q.describeTarget(" on each"))
	}
	return strings.Join(append([]string{fact}, q.caveats()...), "; ")
}

// describeTarget is what is measured against; of a formula nobody knows that.
func (q *thresholdMode) describeTarget(of string) string {
	if q.Use == policy.Formula {
		return ""
	}
	return ", " + text.Number(q.Queue.Target) + " wanted" + of
}

// caveats is what a recommendation does without, and what it does about it.
func (q *thresholdMode) caveats() []string {
	var all []string
	// What a metric is unknown for is told already.
	if gaps := q.DescribeMissing(); gaps != "" && q.UnknownReason == "" {
		all = append(all, gaps)
	}
	if len(q.Pods) > 0 {
		all = append(all, q.DescribeTimeouts())
	}
	if q.futile != "" {
		all = append(all, q.futile)
	}
	return all
}
