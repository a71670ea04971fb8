package scaler

import (
	"context"
	"maps"
	"slices"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// ScaledObjects knows the ScaledObjects of the cluster and KEDA's HPAs, from
// memory.
type ScaledObjects interface {
	ScaledObject(ctx context.Context, key types.NamespacedName) (*kedav1alpha1.ScaledObject, bool)
	HPA(ctx context.Context, key types.NamespacedName) (*autoscalingv2.HorizontalPodAutoscaler, bool)
}

func complete(trigger *policy.Trigger, object *kedav1alpha1.ScaledObject, use policy.Use) {
	trigger.Use = use
	trigger.Tolerances = tolerances(object)
	if down := behaviorOf(object).ScaleDown; trigger.List != nil && down != nil && down.StabilizationWindowSeconds != nil {
		trigger.DownWindow = time.Duration(*down.StabilizationWindowSeconds) * time.Second
	}
	if trigger.Bounds == (policy.Bounds{}) {
		trigger.Bounds = policy.Bounds{Min: *object.GetHPAMinReplicas(), Max: object.GetHPAMaxReplicas()}
	}
}

// defaultTolerance is the HPA's unless its behaviour has another.
const defaultTolerance = 0.1

// tolerances are those that the HPA of a ScaledObject has, where it has any of its
// own: from Kubernetes 1.35 on.
func tolerances(object *kedav1alpha1.ScaledObject) *policy.Tolerances {
	t := policy.Tolerances{Up: defaultTolerance, Down: defaultTolerance}
	behavior := behaviorOf(object)
	if up := behavior.ScaleUp; up != nil && up.Tolerance != nil {
		t.Up = up.Tolerance.AsApproximateFloat64()
	}
	if down := behavior.ScaleDown; down != nil && down.Tolerance != nil {
		t.Down = down.Tolerance.AsApproximateFloat64()
	}
	return &t
}

// behaviorOf is the HPA's that a ScaledObject asks for, maybe in no direction.
func behaviorOf(object *kedav1alpha1.ScaledObject) autoscalingv2.HorizontalPodAutoscalerBehavior {
	a := object.Spec.Advanced
	if a == nil || a.HorizontalPodAutoscalerConfig == nil || a.HorizontalPodAutoscalerConfig.Behavior == nil {
		return autoscalingv2.HorizontalPodAutoscalerBehavior{}
	}
	return *a.HorizontalPodAutoscalerConfig.Behavior
}

// metricTypeOf is what the HPA does with the number of the trigger that has this
// metadata. One that isn't found is taken for one with an AverageValue, which
// ours are and which is KEDA's default.
func metricTypeOf(object *kedav1alpha1.ScaledObject, metadata map[string]string) policy.Use {
	for i := range object.Spec.Triggers {
		if maps.Equal(object.Spec.Triggers[i].Metadata, metadata) {
			return metricTypeAt(object, i)
		}
	}
	return policy.AverageValue
}

func metricTypeAt(object *kedav1alpha1.ScaledObject, i int) policy.Use {
	switch {
	case object.IsUsingModifiers():
		return policy.Formula
	case object.Spec.Triggers[i].MetricType == autoscalingv2.ValueMetricType:
		return policy.Value
	}
	return policy.AverageValue
}

// triggersIn are those of a ScaledObject that are on an InferenceSet and have one of
// these digests, each once and filled in.
func triggersIn(object *kedav1alpha1.ScaledObject, key types.NamespacedName, digests []uint64) []policy.Trigger {
	var triggers []policy.Trigger
	left := slices.Clone(digests)
	for i := range object.Spec.Triggers {
		trigger, err := policy.ParseTrigger(object.Namespace, object.Spec.Triggers[i].Metadata)
		if err != nil || keyOf(trigger) != key {
			continue
		}
		if at := slices.Index(left, trigger.Digest()); at >= 0 {
			left = slices.Delete(left, at, at+1)
			complete(&trigger, object, metricTypeAt(object, i))
			triggers = append(triggers, trigger)
		}
	}
	return triggers
}

// scalingActive is whether an HPA gets metrics; the zero value if nobody knows.
func scalingActive(hpa *autoscalingv2.HorizontalPodAutoscaler) autoscalingv2.HorizontalPodAutoscalerCondition {
	if hpa != nil {
		for _, c := range hpa.Status.Conditions {
			if c.Type == autoscalingv2.ScalingActive {
				return c
			}
		}
	}
	return autoscalingv2.HorizontalPodAutoscalerCondition{}
}

func readyCondition(so *kedav1alpha1.ScaledObject) kedav1alpha1.Condition {
	for _, c := range so.Status.Conditions {
		if c.Type == kedav1alpha1.ConditionReady {
			return c
		}
	}
	return kedav1alpha1.Condition{}
}
