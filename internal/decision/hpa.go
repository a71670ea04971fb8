package decision

import "math"

// fixedTolerance is the HPA's own where its behaviour has none, before
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
	if within(total, target, current, up, down) {
		return current
	}
	// ceil: target 10, total 11 → 2 replicas; floor would stay at 1.
	return int32(min(math.Ceil(total/target), math.MaxInt32))
}

// within tells whether a total is so near to what current replicas are meant
// for that the HPA stays.
func within(total, target float64, current int32, up, down float64) bool {
	// With no replica there is no ratio: the HPA has 0 ÷ 0 or x ÷ 0, and both
	// fall outside of every tolerance.
	if current == 0 {
		return false
	}
	ratio := total / (target * float64(current))
	return ratio >= 1-down && ratio <= 1+up
}

// toward is the number of replicas to publish, against a target of 1 for each,
// so that the HPA goes from current to wanted at once upwards, and that way by
// its own pace downwards. Where it keeps to 10 % it may be up to a tenth more.
func (f Fleet) toward(wanted int32) float64 {
	if up, down := f.tolerances(0, 0); wanted == f.Desired || !within(float64(wanted), 1, f.Desired, up, down) {
		return float64(wanted)
	}
	if wanted > f.Desired {
		return f.step(1)
	}
	return f.step(-1)
}

// step is the number of replicas to publish, against a target of 1 for each, so
// that the HPA goes from current by one in that direction: +1, -1 or 0.
//
// Where the HPA keeps to 10 % it holds on 11 of 10, and on 9: there the number
// goes past the band, and it is the HPA's pace of one replica at a time that
// makes it one step. Downwards the next integer above 0.9 × current is right
// itself up to 19 replicas.
func (f Fleet) step(direction int32) float64 {
	// KEDA hands on thousandths: a hundredth past the band survives that.
	const past = 0.01
	current := float64(f.Desired)
	wanted := max(current+float64(direction), 0)
	up, down := f.tolerances(0, 0)
	switch {
	case direction == 0, !within(wanted, 1, f.Desired, up, down):
		return wanted
	case direction > 0:
		return math.Ceil((1+up)*current + past)
	default:
		return math.Round(1000*((1-down)*current-past)) / 1000
	}
}
