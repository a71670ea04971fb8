// Package hpa is the HPA's arithmetic: the replica count that it computes from a value,
// and the value for a replica count. It is pure.
package hpa

import (
	"math"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// FixedTolerance is the HPA's own where its behaviour has none, as before
// Kubernetes 1.35.
const FixedTolerance = 0.1

// Replicas is the arithmetic of Kubernetes' HorizontalPodAutoscaler on an external
// metric of type AverageValue: the replicas that it makes of a total, before
// its windows, policies and bounds. Source: GetExternalPerPodMetricReplicas in
// k8s.io/kubernetes/pkg/controller/podautoscaler.
//
// The total and target are in the metric's unit, current is the scale's
// status.replicas, and up and down are the tolerances as fractions of 1.
func Replicas(total, target float64, current int32, up, down float64) int32 {
	// With no replica there is no ratio: the HPA has 0 ÷ 0 or x ÷ 0, and both
	// fall outside of every tolerance.
	usage, each := milli(total), milli(target)
	if current != 0 && tolerated(usage/(each*float64(current)), up, down) {
		return current
	}
	// ceil: target 10, total 11 → 2 replicas; floor would stay at 1.
	return int32(min(math.Ceil(usage/each), math.MaxInt32))
}

// hpaOfValue is the same for the type Value: the ratio is multiplied by the Ready
// pods. Source: getUsageRatioReplicaCount.
func hpaOfValue(value, target float64, current, ready int32, up, down float64) int32 {
	ratio := milli(value) / milli(target)
	if current == 0 || tolerated(ratio, up, down) {
		return current
	}
	return int32(min(math.Ceil(ratio*float64(ready)), math.MaxInt32))
}

// milli is a number as KEDA hands it on and the HPA counts: in thousandths. 11.7
// for 13 replicas is a ratio of 0.9 there, and 0.8999999999999999 of the floats.
func milli(x float64) float64 { return math.Round(x * Precision) }

// tolerated tells whether a ratio is so near to 1 that the HPA stays.
func tolerated(ratio, up, down float64) bool { return ratio >= 1-down && ratio <= 1+up }

// Autoscaler is what is known of the HPA that a trigger's number goes to.
type Autoscaler struct {
	// Current are the replicas desired, ready those by which a Value is
	// multiplied: one pod each.
	Current, Ready int32
	// IsValue is set for the type Value, and target is what it compares with.
	IsValue bool
	Target  float64
	// UpTolerance and down are its tolerances.
	UpTolerance, DownTolerance float64
}

// For is the HPA of a trigger. Its tolerances are its own before Kubernetes
// 1.35, else those of its behaviour, else those that our ScaledObjects have.
func For(trigger policy.Trigger, fleet sample.Fleet) Autoscaler {
	_, target := trigger.Published()
	h := Autoscaler{Current: fleet.Desired, Ready: ready(fleet), IsValue: trigger.Use == policy.Value, Target: target}
	switch replicas := trigger.List != nil || trigger.Saturation != nil; {
	case fleet.NoTolerance:
		h.UpTolerance, h.DownTolerance = FixedTolerance, FixedTolerance
	case trigger.Tolerances != nil:
		h.UpTolerance, h.DownTolerance = trigger.Tolerances.Up, trigger.Tolerances.Down
	case !replicas:
		h.UpTolerance, h.DownTolerance = policy.UpTolerance, policy.DownTolerance
	}
	return h
}

// ready is how many pods the HPA takes for Ready, as far as is known: those that
// serve though their probe fails aren't. Before any pod is known they are those
// desired.
func ready(f sample.Fleet) int32 {
	if len(f.Replicas) == 0 {
		return f.Desired
	}
	var ready, serving int32
	for i := range f.Replicas {
		r := &f.Replicas[i]
		if r.Phase != sample.Serving {
			continue
		}
		serving++
		if !r.ReadySince.IsZero() {
			ready++
		}
	}
	if ready == 0 {
		return serving
	}
	return ready
}

// Replicas is what it makes of a value.
func (h Autoscaler) Replicas(value float64) int32 {
	if h.IsValue {
		return hpaOfValue(value, h.Target, h.Current, h.Ready, h.UpTolerance, h.DownTolerance)
	}
	return Replicas(value, h.Target, h.Current, h.UpTolerance, h.DownTolerance)
}

// MovesWrongWay tells of a Value on which the HPA stays or goes the other way than the value
// points: it multiplies by the Ready pods, of which there are fewer than desired while
// replicas start, and more while they leave.
func (h Autoscaler) MovesWrongWay(value float64) bool {
	switch goes := h.Replicas(value); {
	case !h.IsValue:
		return false
	case value > h.Target:
		return h.Ready < h.Current && goes <= h.Current
	case value < h.Target:
		return h.Ready > h.Current && goes >= h.Current
	}
	return false
}

// Hold is the value on which it stays, whatever its tolerances.
func (h Autoscaler) Hold() float64 {
	if h.IsValue {
		return h.Target
	}
	return h.Target * float64(h.Current)
}

// Precision are what KEDA hands on of a value: more would be rounded up, which
// makes 8 replicas of the 7 ÷ 6 that were meant for the seventh.
const Precision = 1000

// exactValue is the number to publish for the HPA to go from current to wanted
// replicas, against a target of 1. There is none for a step within its
// tolerances, but for one down that rounding up brings it to: of 10.799 it makes
// 11 from 12.
func (h Autoscaler) exactValue(wanted int32) (value float64, ok bool) {
	unit := int64(1)
	if h.IsValue {
		unit = int64(h.Ready)
	}
	if wanted == h.Current || wanted < 0 || unit == 0 {
		return h.Hold(), wanted == h.Current
	}
	// All of which it makes wanted are above one replica less.
	for n := Precision * int64(wanted) / unit; n >= 0 && n*unit > Precision*(int64(wanted)-1); n-- {
		if value := float64(n) / Precision; h.Replicas(value) == wanted {
			return value, true
		}
	}
	return 0, false
}

// BeyondTolerance is the number just beyond the tolerance in that direction, +1 or -1, and the
// replicas that the HPA makes of it. Of a Value it may come to replicas on the other
// side, while fewer pods are Ready than desired: then it is the one to hold on.
func (h Autoscaler) BeyondTolerance(direction int32) (value float64, replicas int32) {
	edge := h.Hold() * (1 + h.UpTolerance)
	if direction < 0 {
		edge = h.Hold() * (1 - h.DownTolerance)
	}
	// The edge itself is tolerated, or not, as the fraction is rounded. Beyond 2^53 a
	// thousandth more is the same number, and there is none past the edge.
	n := math.Floor(edge * Precision)
	for range 3 {
		value = max(n/Precision, 0)
		if replicas = h.Replicas(value); replicas != h.Current {
			break
		}
		n += float64(direction)
	}
	exact, ok := h.exactValue(replicas)
	switch {
	case int64(direction)*(int64(replicas)-int64(h.Current)) <= 0:
		return h.Hold(), h.Current
	case ok:
		value = exact
	}
	return value, replicas
}

// ValueForStep is the number of replicas to publish so that the HPA goes by one in that
// direction: +1, -1 or 0. Where it tolerates that, the number goes past its
// tolerance, and it is its pace of one replica at a time that makes it one step.
func (h Autoscaler) ValueForStep(direction int32) float64 {
	if direction < 0 && h.Current == 0 {
		direction = 0
	}
	if value, ok := h.exactValue(h.Current + direction); ok {
		return value
	}
	value, _ := h.BeyondTolerance(direction)
	return value
}

// ValueToward is the number of replicas to publish so that the HPA goes to wanted, and
// those that it goes to. Upwards it goes to the next number that is past its
// tolerance, since fewer would keep no SLO; downwards it stays until it can go
// no further than that.
func (h Autoscaler) ValueToward(wanted int32) (value float64, replicas int32) {
	if value, ok := h.exactValue(wanted); ok {
		return value, wanted
	}
	if wanted > h.Current {
		return h.BeyondTolerance(1)
	}
	return h.Hold(), h.Current
}
