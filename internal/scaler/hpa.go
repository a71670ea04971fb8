package scaler

import (
	"context"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
)

// hpaState is how far an HPA goes by the recommendations on a ScaledObject's triggers, from
// what stands in both: a replica of the scaler sees no more than its own calls.
type hpaState struct {
	// active is set while there is an HPA, and nobody has paused it.
	active bool
	// noMetrics is set while the HPA says that it gets no metrics: KEDA is away, or
	// has been told an error.
	noMetrics bool
	// noUp and noDown are set while that way is barred.
	noUp, noDown bool
	// poll is whether KEDA asks.
	poll pollState
}

// findHPA finds the HPA of a ScaledObject in memory; nil if there is none.
func findHPA(ctx context.Context, objects ScaledObjects, so *kedav1alpha1.ScaledObject) *autoscalingv2.HorizontalPodAutoscaler {
	hpa, found := objects.HPA(ctx, types.NamespacedName{Namespace: so.Namespace, Name: hpaName(so)})
	if !found {
		return nil
	}
	return hpa
}

// hpaStateOf is of a ScaledObject that nobody has paused and its HPA, nil if there
// is none.
func hpaStateOf(so *kedav1alpha1.ScaledObject, hpa *autoscalingv2.HorizontalPodAutoscaler) hpaState {
	if hpa == nil {
		return hpaState{}
	}
	s := hpaState{active: true, noUp: so.NeedToPauseScaleOut(), noDown: so.NeedToPauseScaleIn()}
	if advanced := so.Spec.Advanced; advanced != nil && advanced.HorizontalPodAutoscalerConfig != nil {
		if b := advanced.HorizontalPodAutoscalerConfig.Behavior; b != nil {
			s.noUp, s.noDown = s.noUp || disabled(b.ScaleUp), s.noDown || disabled(b.ScaleDown)
		}
	}
	s.noMetrics = scalingActive(hpa).Status == corev1.ConditionFalse
	return s
}

func disabled(rules *autoscalingv2.HPAScalingRules) bool {
	return rules != nil && rules.SelectPolicy != nil && *rules.SelectPolicy == autoscalingv2.DisabledPolicySelect
}

// hpaName is that of the HPA which KEDA made, or will make, of a ScaledObject.
func hpaName(so *kedav1alpha1.ScaledObject) string {
	if so.Status.HpaName != "" {
		return so.Status.HpaName
	}
	if a := so.Spec.Advanced; a != nil && a.HorizontalPodAutoscalerConfig != nil && a.HorizontalPodAutoscalerConfig.Name != "" {
		return a.HorizontalPodAutoscalerConfig.Name
	}
	return "keda-hpa-" + so.Name
}

// follows tells whether the HPA goes by a recommendation. That nothing can be told is so
// whatever the HPA says; it is what makes it blind.
func (s hpaState) follows(v decision.Recommendation) bool {
	switch {
	case v.Confidence == decision.Unknown:
		return true
	case s.noMetrics, s.noUp && v.Replicas > v.Desired, s.noDown && v.Replicas < v.Desired:
		return false
	}
	return true
}
