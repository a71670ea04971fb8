package decision

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// evaluateThreshold publishes what a queue's replicas come to: their total, or what
// a trigger written by hand asks for instead.
func evaluateThreshold(trigger policy.Trigger, fleet sample.Fleet, now time.Time) Recommendation {
	if trigger.Queue.Aggregation == policy.Readiness {
		return readinessGate(fleet)
	}
	q := thresholdMode{Trigger: trigger, fleet: fleet, hpa: hpaOf(trigger, fleet), total: totalFor(trigger.Queue, fleet, now), futile: futileScaleUp(fleet, now)}
	if q.Queue.Aggregation == policy.Gate {
		q.gate()
	}
	v := Recommendation{Read: q.read, Unreadable: q.unreadable, MissingMetrics: q.missingMetrics, Replicas: fleet.Desired}
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
		wanted = q.replicas(v.Value)
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
	total
	hpa
	fleet sample.Fleet
	// futile says why no more is ordered, "" if it may be.
	futile string
}

// totalFor reads the fleet the way that the aggregation wants it: low and high are
// of the total, or of the mean.
func totalFor(q policy.Queue, fleet sample.Fleet, now time.Time) total {
	switch q.Aggregation {
	case policy.WindowedAvg, policy.Gate:
		return metricOf(policy.Metric{
			Name: q.Metric, Kind: kind(q.Metric, fleet), Up: q.Target, Down: q.Target, Window: q.Window,
		}, fleet, now)
	case policy.Quantile:
		return metricOf(policy.Metric{
			Name: q.Metric, Kind: policy.Histogram, Up: q.Target, Down: q.Target, Window: q.Window, Quantile: q.Quantile,
		}, fleet, now)
	case policy.Sum, policy.ServiceAvg, policy.Rate, policy.Readiness:
	}
	how := measurement{metric: q.Metric, threshold: q.Target}
	if q.Aggregation == policy.Rate {
		how.statistic, how.window = rate, window(fleet, q.Window, now)
	}
	s := totalOf(how, fleet, now)
	s.window = how.window.Length
	if q.Aggregation == policy.ServiceAvg {
		s.divide()
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
func (q *thresholdMode) gate() {
	is := func(mean float64) float64 {
		if exceeds(mean, q.Queue.Target) {
			return 1
		}
		return 0
	}
	q.low, q.high = is(q.low), is(q.high)
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
		if q.serving == 0 {
			return 0 // whatever x is: infinity × 0 is no number
		}
		return x * float64(q.serving)
	}
	return x
}

// value is the value to publish, and what it rests on.
func (q *thresholdMode) recommend() (Confidence, float64) {
	known := len(q.read) > 0 && q.unknownReason == ""
	switch {
	case q.timeoutValue() > 0:
		return Bounded, q.timeoutValue()
	case q.serving > 0 && len(q.read) == 0 && q.warming == 0:
		return Unknown, 0
	case known && q.complete():
		return q.measuredValue()
	case q.Use == policy.Formula, q.Queue.Aggregation == policy.Gate && q.serving > 0:
		// What a formula holds on nobody knows, and of a gate only whether it
		// is open: so nothing is published that isn't certain. An error makes
		// the HPA hold.
		if known && (q.low == q.high || q.unknownReplicas() == 0) {
			return Bounded, q.published(q.high)
		}
		return Unknown, 0
	case known:
		return q.boundedValue()
	}
	return Held, q.hold()
}

// timeoutValue is what to publish on the evidence of replicas that time out under load, if
// it asks for more than what was read does: 0 if not. What a formula or a gate makes
// of it nobody knows.
func (q *thresholdMode) timeoutValue() float64 {
	if len(q.pods) == 0 || q.Use == policy.Formula || q.Queue.Aggregation == policy.Gate {
		return 0
	}
	most := q.target * float64(q.limit)
	if q.value {
		most = math.Floor(thousandths*most/float64(max(1, q.ready))) / thousandths
	}
	if value, _ := q.beyondTolerance(1); q.replicas(most) <= q.current {
		most = value // the least that this HPA goes up on
	}
	value := min(q.published(q.withEvidence), most)
	switch {
	case math.IsNaN(value), q.replicas(value) <= q.current, q.movesWrongWay(value), value <= q.published(q.low):
		return 0
	}
	return value
}

// measuredValue publishes what was read, or else what the HPA stays on where it would go
// the other way.
func (q *thresholdMode) measuredValue() (Confidence, float64) {
	value := q.published(q.low)
	if q.movesWrongWay(value) {
		return Measured, q.hold()
	}
	return Measured, value
}

// withoutFutileScaleUp takes back what asks for more where more is ordered in vain. What is
// tolerated is taken back with it, so that a greater reading publishes no less.
func (q *thresholdMode) withoutFutileScaleUp(answer Confidence, value float64) (Confidence, float64) {
	if q.futile == "" || answer == Unknown || value <= q.hold() {
		q.futile = ""
		return answer, value
	}
	if q.replicas(value) > q.current {
		return Held, q.hold()
	}
	q.futile = ""
	return answer, q.hold()
}

// boundedValue is the end of the interval that moves the fleet, whatever the truth
// is, or else a hold.
func (q *thresholdMode) boundedValue() (Confidence, float64) {
	low, high := q.published(q.low), q.published(q.high)
	switch {
	case q.replicas(low) > q.current && !q.movesWrongWay(low):
		return Bounded, low
	case !math.IsInf(high, 1) && q.replicas(high) < q.current && !q.movesWrongWay(high):
		return Bounded, high
	}
	return Held, q.hold()
}

// describeUnknown says why there is nothing to publish.
func (q *thresholdMode) describeUnknown() string {
	const prefix = "cannot tell the load: "
	switch {
	case q.serving == 0:
		return prefix + "no replica serves yet"
	case q.unknownReason != "":
		return prefix + q.Queue.Metric + ": " + q.unknownReason
	case len(q.read) == 0 && q.warming == 0:
		return prefix + q.noneReadable(q.Queue.Metric)
	}
	return prefix + q.Queue.Metric + ": " + q.describeMissing()
}

// reason puts a recommendation into words: what was read, what it is measured against,
// and what follows. Wanted is what it would come to without bounds.
func (q *thresholdMode) reason(v Recommendation, wanted int32) string {
	desired := q.fleet.Desired
	if q.serving == 0 {
		return fmt.Sprintf("holding at %d: no replica serves yet, so there is no load to measure", desired)
	}
	read := q.describe()
	switch {
	case q.Use == policy.Formula:
		return fmt.Sprintf("%s for the formula: %s", number(v.Value), read)
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
	metric, target, on := q.Queue.Metric, number(q.Queue.Target), replicas(len(q.read))
	var text string
	switch {
	case len(q.read) == 0 || q.unknownReason != "":
		text = fmt.Sprintf("%s is unknown", metric)
		if q.unknownReason != "" {
			text += ": " + q.unknownReason
		}
	case q.Queue.Aggregation == policy.Gate && q.high > 0:
		text = fmt.Sprintf("%s is above %s over %s on %s", metric, target, duration(q.Queue.Window), on)
	case q.Queue.Aggregation == policy.Gate:
		text = fmt.Sprintf("%s is not above %s over %s on %s", metric, target, duration(q.Queue.Window), on)
	case q.Queue.Aggregation == policy.WindowedAvg:
		text = fmt.Sprintf("%s is %s on average over %s on %s%s", metric, number(q.low), duration(q.Queue.Window), on, q.describeTarget(""))
	case q.Queue.Aggregation == policy.Quantile:
		text = fmt.Sprintf("the %s quantile of %s is %s over %s on %s%s",
			number(q.Queue.Quantile), metric, number(q.low), duration(q.Queue.Window), on, q.describeTarget(""))
	case q.Queue.Aggregation == policy.ServiceAvg:
		text = fmt.Sprintf("%s is %s on average on %s%s", metric, number(q.low), on, q.describeTarget(""))
	case q.Queue.Aggregation == policy.Rate:
		text = fmt.Sprintf("%s gained %s a second over %s in total on %s%s",
			metric, number(q.low), duration(q.window), on, q.describeTarget(" on each"))
	case q.Use == policy.Value:
		text = fmt.Sprintf("%s is %s in total on %s, %s wanted altogether", metric, number(q.low), on, target)
	default:
		text = fmt.Sprintf("%s is %s in total on %s%s", metric, number(q.low), on, q.describeTarget(" on each"))
	}
	return strings.Join(append([]string{text}, q.caveats()...), "; ")
}

// describeTarget is what is measured against; of a formula nobody knows that.
func (q *thresholdMode) describeTarget(of string) string {
	if q.Use == policy.Formula {
		return ""
	}
	return ", " + number(q.Queue.Target) + " wanted" + of
}

// caveats is what a recommendation does without, and what it does about it.
func (q *thresholdMode) caveats() []string {
	var all []string
	// What a metric is unknown for is told already.
	if gaps := q.describeMissing(); gaps != "" && q.unknownReason == "" {
		all = append(all, gaps)
	}
	if len(q.pods) > 0 {
		all = append(all, q.describeTimeouts())
	}
	if q.futile != "" {
		all = append(all, q.futile)
	}
	return all
}
