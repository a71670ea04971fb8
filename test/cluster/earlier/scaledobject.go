package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

const (
	prefix    = "scaledobject.kaito.sh/"
	createdBy = "inferenceset.kaito.sh/created-by"
	gate      = "readiness_gate"
)

// metric is an entry of the annotation of that name.
type metric struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Up     string `json:"upthreshold"`
	Down   string `json:"downthreshold"`
	Window string `json:"metriccachewindow"`
}

// provision writes the ScaledObject of an InferenceSet that asks for one, and
// writes it again when somebody has changed it.
func (s *scaler) provision(ctx context.Context, is *unstructured.Unstructured) error {
	if is.GetAnnotations()[prefix+"auto-provision"] != "true" || is.GetAnnotations()[prefix+"metrics"] == "" {
		return nil
	}
	spec, err := s.spec(is)
	if err != nil {
		return fmt.Errorf("InferenceSet %s/%s: %w", is.GetNamespace(), is.GetName(), err)
	}
	// Listed, which is what a cache does too.
	var all kedav1alpha1.ScaledObjectList
	if err := s.kube.List(ctx, &all, client.InNamespace(is.GetNamespace())); err != nil {
		return err
	}
	for i := range all.Items {
		found := &all.Items[i]
		if found.Name != is.GetName() {
			continue
		}
		if equality.Semantic.DeepEqual(found.Spec, spec) {
			return nil
		}
		found.Spec = spec
		return s.kube.Update(ctx, found)
	}
	return s.kube.Create(ctx, &kedav1alpha1.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: is.GetNamespace(), Name: is.GetName(),
			Annotations: map[string]string{prefix + "managed-by": "keda-kaito-scaler"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: is.GetAPIVersion(), Kind: is.GetKind(), Name: is.GetName(), UID: is.GetUID(),
				Controller: new(true),
			}},
		},
		Spec: spec,
	})
}

// spec is one trigger for each metric and the readiness gate, under a formula
// that comes to one replica more, one less or the same.
func (s *scaler) spec(is *unstructured.Unstructured) (kedav1alpha1.ScaledObjectSpec, error) {
	asked := is.GetAnnotations()
	var metrics []metric
	if err := yaml.Unmarshal([]byte(asked[prefix+"metrics"]), &metrics); err != nil {
		return kedav1alpha1.ScaledObjectSpec{}, err
	}
	number := func(name string, otherwise int32) int32 {
		if n, err := strconv.ParseInt(asked[prefix+name], 10, 32); err == nil {
			return int32(n)
		}
		return otherwise
	}
	var triggers []kedav1alpha1.ScaleTriggers
	up, down := []string{gate + " == 1"}, []string{}
	for _, m := range metrics {
		name := variable(m.Name)
		how := map[string]string{"gauge": "service-avg", "histogram": "windowed-avg"}[m.Type]
		triggers = append(triggers, s.trigger(is, name, m.Name, how, m.Window))
		up, down = append(up, name+" > "+m.Up), append(down, name+" < "+m.Down)
	}
	triggers = append(triggers, s.trigger(is, gate, gate, "gate", ""))
	period := number("scaledowncooldown", 300)
	return kedav1alpha1.ScaledObjectSpec{
		ScaleTargetRef:  &kedav1alpha1.ScaleTarget{APIVersion: is.GetAPIVersion(), Kind: is.GetKind(), Name: is.GetName()},
		MinReplicaCount: new(max(number("min-replicas", 1), 1)), MaxReplicaCount: new(number("max-replicas", 1)),
		Advanced: &kedav1alpha1.AdvancedConfig{
			HorizontalPodAutoscalerConfig: &kedav1alpha1.HorizontalPodAutoscalerConfig{
				Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{
					ScaleUp:   rules(number("evaluationwindow", 60), number("scaleupcooldown", 300)),
					ScaleDown: rules(period, period),
				},
			},
			ScalingModifiers: kedav1alpha1.ScalingModifiers{
				Target: "1", MetricType: autoscalingv2.ValueMetricType,
				Formula: "(" + strings.Join(up, " && ") + ") ? 2.0 : ((" + strings.Join(down, " && ") + ") ? 0.5 : 1.0)",
			},
		},
		Triggers: triggers,
	}, nil
}

var notInNames = regexp.MustCompile(`[^a-zA-Z0-9_]`)

func variable(metric string) string { return notInNames.ReplaceAllString(metric, "_") }

func (s *scaler) trigger(is *unstructured.Unstructured, name, metric, aggregation, window string) kedav1alpha1.ScaleTriggers {
	metadata := map[string]string{
		"scalerName": "keda-kaito-scaler", "scalerAddress": s.address,
		"inferenceSetName": is.GetName(), "inferenceSetNamespace": is.GetNamespace(),
		"metricName": metric, "aggregation": aggregation, "metricSource": "modelpod",
		"metricProtocol": "http", "metricPort": "5000", "metricPath": "/metrics", "scrapeTimeout": "3s",
	}
	if window != "" {
		metadata["metricCacheWindow"] = window
	}
	return kedav1alpha1.ScaleTriggers{
		Type: "external", Name: name, Metadata: metadata,
		AuthenticationRef: &kedav1alpha1.AuthenticationRef{Kind: "ClusterTriggerAuthentication", Name: credsName},
	}
}

// rules are one replica in each period.
func rules(window, period int32) *autoscalingv2.HPAScalingRules {
	return &autoscalingv2.HPAScalingRules{
		StabilizationWindowSeconds: &window, SelectPolicy: new(autoscalingv2.MaxChangePolicySelect),
		Policies:  []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 1, PeriodSeconds: period}},
		Tolerance: new(resource.MustParse("0.1")),
	}
}
