package scaler

import (
	"context"
	"maps"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// scaledObjects are known by name.
type scaledObjects map[types.NamespacedName]*kedav1alpha1.ScaledObject

func (s scaledObjects) ScaledObject(_ context.Context, key types.NamespacedName) (*kedav1alpha1.ScaledObject, bool) {
	object, found := s[key]
	return object, found
}

// HPA implements ScaledObjects: there is none.
func (s scaledObjects) HPA(context.Context, types.NamespacedName) (*autoscalingv2.HorizontalPodAutoscaler, bool) {
	return nil, false
}

// holding is the ScaledObject default/phi-4 with a decoy and the trigger.
func holding(ref *pb.ScaledObjectRef, kind autoscalingv2.MetricTargetType, formula string) scaledObjects {
	decoy := maps.Clone(ref.GetScalerMetadata())
	decoy["threshold"] = "99"
	object := &kedav1alpha1.ScaledObject{Spec: kedav1alpha1.ScaledObjectSpec{Triggers: []kedav1alpha1.ScaleTriggers{
		{Type: "external", Metadata: decoy, MetricType: autoscalingv2.AverageValueMetricType},
		{Type: "external", Metadata: ref.GetScalerMetadata(), MetricType: kind},
	}}}
	if formula != "" {
		object.Spec.Advanced = &kedav1alpha1.AdvancedConfig{
			ScalingModifiers: kedav1alpha1.ScalingModifiers{Formula: formula, Target: "1"},
		}
	}
	return scaledObjects{phi4: object}
}

// The HPA divides an AverageValue by the replicas and takes a Value as it is,
// so that a mean means the same to both.
func TestAMeanIsPublishedAsTheHPAUsesIt(t *testing.T) {
	mean := trigger("aggregation", "service-avg")
	for _, tt := range []struct {
		story string
		ref   *pb.ScaledObjectRef
		known scaledObjects
		want  float64
	}{
		{"AverageValue", mean, holding(mean, autoscalingv2.AverageValueMetricType, ""), 36},
		{"KEDA's default", mean, holding(mean, "", ""), 36},
		{"Value", mean, holding(mean, autoscalingv2.ValueMetricType, ""), 10},
		{"a formula", mean, holding(mean, autoscalingv2.AverageValueMetricType, "waiting / 2"), 12},
		{"a ScaledObject that isn't known", mean, scaledObjects{}, 36},
		{"a trigger that isn't in it", mean, holding(trigger(), autoscalingv2.ValueMetricType, ""), 36},
		{"a total as a Value", trigger(), holding(trigger(), autoscalingv2.ValueMetricType, ""), 36},
	} {
		t.Run(tt.story, func(t *testing.T) {
			s, _ := service(of(4, waiting("a", 15), waiting("b", 15), waiting("c", 6), sample.Replica{Pod: "d"}))
			s.ScaledObjects = tt.known
			got, err := ask(t, s, tt.ref)
			if err != nil {
				t.Fatal(err)
			}
			if value := got.GetMetricValues()[0].GetMetricValueFloat(); value != tt.want {
				t.Errorf("%v, want %v", value, tt.want)
			}
		})
	}
}

// What the HPA won't do is not announced.
func TestBoundsOfAScaledObjectByHandAreKnown(t *testing.T) {
	ref := trigger()
	known := holding(ref, autoscalingv2.AverageValueMetricType, "")
	known[phi4].Spec.MinReplicaCount, known[phi4].Spec.MaxReplicaCount = new(int32(0)), new(int32(5))
	s, seen := service(of(4, waiting("a", 150), waiting("b", 0), waiting("c", 0), waiting("d", 0)))
	s.ScaledObjects = known
	if _, err := ask(t, s, ref); err != nil {
		t.Fatal(err)
	}
	if got := seen.last.Replicas; got != 5 {
		t.Errorf("%d replicas are announced, want 5, the maximum", got)
	}
}

// The HPA's own tolerance is a tenth in both directions, unless its behaviour says
// otherwise.
func TestTheTolerancesOfAScaledObjectByHandAreKnown(t *testing.T) {
	object := holding(trigger(), "", "")[phi4]
	if got := *tolerances(object); got != (policy.Tolerances{Up: .1, Down: .1}) {
		t.Errorf("without a behaviour %v", got)
	}
	object.Spec.Advanced = &kedav1alpha1.AdvancedConfig{
		HorizontalPodAutoscalerConfig: &kedav1alpha1.HorizontalPodAutoscalerConfig{
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{
				ScaleUp:   &autoscalingv2.HPAScalingRules{},
				ScaleDown: &autoscalingv2.HPAScalingRules{Tolerance: new(resource.MustParse("0.5"))},
			},
		},
	}
	if got := *tolerances(object); got != (policy.Tolerances{Up: .1, Down: .5}) {
		t.Errorf("with one of a half downwards %v", got)
	}
}
