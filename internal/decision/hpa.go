package decision

import "math"

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
