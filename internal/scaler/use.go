package scaler

import (
	"context"
	"maps"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// ScaledObjects knows the ScaledObjects of the cluster, from memory.
type ScaledObjects interface {
	ScaledObject(ctx context.Context, key types.NamespacedName) (*kedav1alpha1.ScaledObject, bool)
}

// use is what the HPA does with the number of the trigger that has this
// metadata: KEDA tells a scaler the metadata and no more. A trigger that isn't
// found is taken for one with an AverageValue, which ours are and which is
// KEDA's default.
func (s *Service) use(ctx context.Context, key types.NamespacedName, metadata map[string]string) policy.Use {
	if s.ScaledObjects == nil {
		return policy.AverageValue
	}
	object, found := s.ScaledObjects.ScaledObject(ctx, key)
	if !found {
		return policy.AverageValue
	}
	for i := range object.Spec.Triggers {
		trigger := &object.Spec.Triggers[i]
		if !maps.Equal(trigger.Metadata, metadata) {
			continue
		}
		switch {
		case object.IsUsingModifiers():
			return policy.Formula
		case trigger.MetricType == autoscalingv2.ValueMetricType:
			return policy.Value
		}
		return policy.AverageValue
	}
	return policy.AverageValue
}
