package main

import (
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// autoscalerOf takes from an HPA what kubectl shows of it.
func autoscalerOf(hpa *autoscalingv2.HorizontalPodAutoscaler) autoscaler {
	a := autoscaler{Exists: true, Min: 1, Max: hpa.Spec.MaxReplicas, Desired: hpa.Status.DesiredReplicas}
	if hpa.Spec.MinReplicas != nil {
		a.Min = *hpa.Spec.MinReplicas
	}
	a.Targets = "<unknown>"
	for _, m := range hpa.Spec.Metrics {
		if m.External != nil && m.External.Target.AverageValue != nil {
			a.Target = m.External.Target.AverageValue.AsApproximateFloat64()
			a.Targets = "<unknown>/" + m.External.Target.AverageValue.String() + " (avg)"
		}
	}
	for _, m := range hpa.Status.CurrentMetrics {
		if m.External != nil && m.External.Current.AverageValue != nil && a.Target > 0 {
			current := m.External.Current.AverageValue
			a.Current = reading{Value: current.AsApproximateFloat64(), Known: true}
			a.Targets = current.String() + a.Targets[len("<unknown>"):]
		}
	}
	if b := hpa.Spec.Behavior; b != nil {
		a.Up, a.Down = rulesOf(b.ScaleUp), rulesOf(b.ScaleDown)
	}
	a.Reason, a.Message = telling(hpa.Status.Conditions)
	return a
}

func rulesOf(r *autoscalingv2.HPAScalingRules) rules {
	var out rules
	if r == nil {
		return out
	}
	if r.StabilizationWindowSeconds != nil {
		out.Window = time.Duration(*r.StabilizationWindowSeconds) * time.Second
	}
	if len(r.Policies) > 0 {
		out.Cooldown = time.Duration(r.Policies[0].PeriodSeconds) * time.Second
	}
	return out
}

// telling picks the condition that says why the HPA does what it does: that it
// can't know, that it waits, that it is limited, or that all is well.
func telling(conditions []autoscalingv2.HorizontalPodAutoscalerCondition) (reason, message string) {
	for _, tells := range []func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool{
		func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
			return c.Status == corev1.ConditionFalse && c.Type != autoscalingv2.ScalingLimited
		},
		func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
			return c.Reason == "ScaleUpStabilized" || c.Reason == "ScaleDownStabilized"
		},
		func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
			return c.Type == autoscalingv2.ScalingLimited && c.Status == corev1.ConditionTrue
		},
		func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
			return c.Type == autoscalingv2.AbleToScale
		},
	} {
		for _, c := range conditions {
			if tells(c) {
				return c.Reason, c.Message
			}
		}
	}
	return "", ""
}
