package decision

import (
	"math"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// fixedTolerance is the HPA's own where its behaviour has none, as before
// Kubernetes 1.35.
const fixedTolerance = 0.1

// HPA is the arithmetic of Kubernetes' HorizontalPodAutoscaler on an external
// metric of type AverageValue: the replicas that it makes of a total, before
// its windows, policies and bounds. Source: GetExternalPerPodMetricReplicas in
// k8s.io/kubernetes/pkg/controller/podautoscaler.
//
// The total and target are in the metric's unit, current is the scale's
// status.replicas, and up and down are the tolerances as fractions of 1.
func HPA(total, target float64, current int32, up, down float64) int32 {
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
func milli(x float64) float64 { return math.Round(x * thousandths) }

// tolerated tells whether a ratio is so near to 1 that the HPA stays.
func tolerated(ratio, up, down float64) bool { return ratio >= 1-down && ratio <= 1+up }

// hpa is what is known of the HPA that a trigger's number goes to.
type hpa struct {
	// current are the replicas desired, ready those by which a Value is
	// multiplied: one pod each.
	current, ready int32
	// value is set for the type Value, and target is what it compares with.
	value  bool
	target float64
	// up and down are its tolerances.
	up, down float64
}

// hpaOf is the HPA of a trigger. Its tolerances are its own before Kubernetes
// 1.35, else those of its behaviour, else those that our ScaledObjects have.
func hpaOf(trigger policy.Trigger, fleet sample.Fleet) hpa {
	_, target := trigger.Published()
	h := hpa{current: fleet.Desired, ready: ready(fleet), value: trigger.Use == policy.Value, target: target}
	switch replicas := trigger.List != nil || trigger.Saturation != nil; {
	case fleet.NoTolerance:
		h.up, h.down = fixedTolerance, fixedTolerance
	case trigger.Tolerances != nil:
		h.up, h.down = trigger.Tolerances.Up, trigger.Tolerances.Down
	case !replicas:
		h.up, h.down = policy.UpTolerance, policy.DownTolerance
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

// replicas is what it makes of a value.
func (h hpa) replicas(value float64) int32 {
	if h.value {
		return hpaOfValue(value, h.target, h.current, h.ready, h.up, h.down)
	}
	return HPA(value, h.target, h.current, h.up, h.down)
}

// movesWrongWay tells of a Value on which the HPA stays or goes the other way than the value
// points: it multiplies by the Ready pods, of which there are fewer than desired while
// replicas start, and more while they leave.
func (h hpa) movesWrongWay(value float64) bool {
	switch goes := h.replicas(value); {
	case !h.value:
		return false
	case value > h.target:
		return h.ready < h.current && goes <= h.current
	case value < h.target:
		return h.ready > h.current && goes >= h.current
	}
	return false
}

// hold is the value on which it stays, whatever its tolerances.
func (h hpa) hold() float64 {
	if h.value {
		return h.target
	}
	return h.target * float64(h.current)
}

// thousandths are what KEDA hands on of a value: more would be rounded up, which
// makes 8 replicas of the 7 ÷ 6 that were meant for the seventh.
const thousandths = 1000

// exactValue is the number to publish for the HPA to go from current to wanted
// replicas, against a target of 1. There is none for a step within its
// tolerances, but for one down that rounding up brings it to: of 10.799 it makes
// 11 from 12.
func (h hpa) exactValue(wanted int32) (value float64, ok bool) {
	unit := int64(1)
	if h.value {
		unit = int64(h.ready)
	}
	if wanted == h.current || wanted < 0 || unit == 0 {
		return h.hold(), wanted == h.current
	}
	// All of which it makes wanted are above one replica less.
	for n := thousandths * int64(wanted) / unit; n >= 0 && n*unit > thousandths*(int64(wanted)-1); n-- {
		if value := float64(n) / thousandths; h.replicas(value) == wanted {
			return value, true
		}
	}
	return 0, false
}

// beyondTolerance is the number just beyond the tolerance in that direction, +1 or -1, and the
// replicas that the HPA makes of it. Of a Value it may come to replicas on the other
// side, while fewer pods are Ready than desired: then it is the one to hold on.
func (h hpa) beyondTolerance(direction int32) (value float64, replicas int32) {
	edge := h.hold() * (1 + h.up)
	if direction < 0 {
		edge = h.hold() * (1 - h.down)
	}
	// The edge itself is tolerated, or not, as the fraction is rounded. Beyond 2^53 a
	// thousandth more is the same number, and there is none past the edge.
	n := math.Floor(edge * thousandths)
	for range 3 {
		value = max(n/thousandths, 0)
		if replicas = h.replicas(value); replicas != h.current {
			break
		}
		n += float64(direction)
	}
	exact, ok := h.exactValue(replicas)
	switch {
	case int64(direction)*(int64(replicas)-int64(h.current)) <= 0:
		return h.hold(), h.current
	case ok:
		value = exact
	}
	return value, replicas
}

// valueForStep is the number of replicas to publish so that the HPA goes by one in that
// direction: +1, -1 or 0. Where it tolerates that, the number goes past its
// tolerance, and it is its pace of one replica at a time that makes it one step.
func (h hpa) valueForStep(direction int32) float64 {
	if direction < 0 && h.current == 0 {
		direction = 0
	}
	if value, ok := h.exactValue(h.current + direction); ok {
		return value
	}
	value, _ := h.beyondTolerance(direction)
	return value
}

// valueToward is the number of replicas to publish so that the HPA goes to wanted, and
// those that it goes to. Upwards it goes to the next number that is past its
// tolerance, since fewer would keep no SLO; downwards it stays until it can go
// no further than that.
func (h hpa) valueToward(wanted int32) (value float64, replicas int32) {
	if value, ok := h.exactValue(wanted); ok {
		return value, wanted
	}
	if wanted > h.current {
		return h.beyondTolerance(1)
	}
	return h.hold(), h.current
}
