package e2e

import (
	"maps"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// byHand writes a ScaledObject as users do, in a test's pace.
func (s *set) byHand(change func(*kedav1alpha1.ScaledObjectSpec), triggers ...kedav1alpha1.ScaleTriggers) {
	s.Helper()
	rules := func(pods, seconds int32) *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: new(int32(0)), SelectPolicy: new(autoscalingv2.MaxChangePolicySelect),
			Policies: []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: pods, PeriodSeconds: seconds}},
		}
	}
	so := &kedav1alpha1.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name},
		Spec: kedav1alpha1.ScaledObjectSpec{
			ScaleTargetRef:  &kedav1alpha1.ScaleTarget{APIVersion: "kaito.sh/v1alpha1", Kind: "InferenceSet", Name: s.name},
			MinReplicaCount: new(int32(1)), MaxReplicaCount: new(int32(3)),
			Advanced: &kedav1alpha1.AdvancedConfig{HorizontalPodAutoscalerConfig: &kedav1alpha1.HorizontalPodAutoscalerConfig{
				Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(3, 2), ScaleDown: rules(3, 2)},
			}},
			Triggers: triggers,
		},
	}
	change(&so.Spec)
	if err := shared.Client.Create(s.ctx, so); err != nil {
		s.Fatal(err)
	}
	s.taken()
}

// trigger has all keys that those in the field have, and more of them or others.
func (s *set) trigger(name string, kind autoscalingv2.MetricTargetType, metadata map[string]string) kedav1alpha1.ScaleTriggers {
	all := map[string]string{
		"scalerName": "keda-kaito-scaler", "scalerAddress": shared.Scaler.GRPC, "enableTLS": "true",
		"inferenceSetName": s.name, "inferenceSetNamespace": s.namespace,
		"metricName": "vllm:num_requests_waiting", "threshold": "10",
		"metricProtocol": "http", "metricPort": "80", "metricPath": "/metrics", "scrapeTimeout": "3s",
	}
	maps.Copy(all, metadata)
	return kedav1alpha1.ScaleTriggers{
		Type: "external", Name: name, MetricType: kind, Metadata: all,
		AuthenticationRef: &kedav1alpha1.AuthenticationRef{Kind: "ClusterTriggerAuthentication", Name: "keda-kaito-scaler-creds"},
	}
}

func TestScaledObjectsWrittenByHandGoOnToWork(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		kind     autoscalingv2.MetricTargetType
		metadata map[string]string
		maximum  int32
		// want is what 25 waiting on one pod come to, and published what KEDA is
		// told then.
		want      int
		published string
	}{
		{"total", autoscalingv2.AverageValueMetricType, nil, 4, 3, "25"},
		{"container port", autoscalingv2.AverageValueMetricType, map[string]string{"metricPort": "5000", "aggregation": "sum"}, 4, 3, "25"},
		// Value compares the total with the target however many replicas there
		// are: up to the maximum.
		{"total as Value", autoscalingv2.ValueMetricType, nil, 4, 4, "25"},
		// While the new ones start the average stays 25, on the one that serves.
		{"average", autoscalingv2.AverageValueMetricType, map[string]string{"aggregation": "service-avg", "metricSource": "service"}, 4, 3, "25"},
		{"average over time", autoscalingv2.AverageValueMetricType, map[string]string{"aggregation": "windowed-avg", "metricCacheWindow": "3"}, 4, 3, "25"},
		// The HPA multiplies a Value by the pods that are Ready when it has the
		// average: one of before they were makes it overshoot, and come back.
		{"average as Value", autoscalingv2.ValueMetricType, map[string]string{"aggregation": "service-avg"}, 4, 3, "8.333"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := apply(t, nil)
			s.awaitReady(1)
			s.byHand(func(spec *kedav1alpha1.ScaledObjectSpec) { spec.MaxReplicaCount = &tt.maximum }, s.trigger("", tt.kind, tt.metadata))
			s.queue(25)
			s.settles(tt.want, tt.published)
			s.stays("it has what it asks for", int64(tt.want), 5*time.Second)
			s.queueEach(0)
			s.wantDesired(1)
		})
	}
}

// TestGatesInAFormula is KAITO's AND of two metrics as it was written with KEDA's
// means.
func TestGatesInAFormula(t *testing.T) {
	t.Parallel()
	s := apply(t, nil)
	s.awaitReady(1)
	gate := func(metric, threshold string) map[string]string {
		return map[string]string{"metricName": metric, "threshold": threshold, "aggregation": "gate", "metricCacheWindow": "2"}
	}
	s.byHand(func(spec *kedav1alpha1.ScaledObjectSpec) {
		spec.Advanced.ScalingModifiers = kedav1alpha1.ScalingModifiers{
			Formula: "queue + cache > 1 ? 3 : 1", Target: "1", MetricType: autoscalingv2.AverageValueMetricType,
		}
	},
		s.trigger("queue", "", gate("vllm:num_requests_waiting", "10")),
		s.trigger("cache", "", gate("vllm:kv_cache_usage_perc", "0.2")))
	s.queue(50)
	s.stays("one gate is not enough", 1, 6*time.Second)
	s.cacheEach(0.9)
	s.wantDesired(3)
	s.awaitReady(3)
	s.queueEach(0)
	s.wantDesired(1)
}
