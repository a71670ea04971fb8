package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/yaml"
)

const hpaOverloaded = `
spec:
  minReplicas: 1
  maxReplicas: 5
  metrics:
  - type: External
    external:
      metric: {name: "s0-vllm:num_requests_waiting"}
      target: {type: AverageValue, averageValue: "10"}
  behavior:
    scaleUp:
      stabilizationWindowSeconds: 60
      policies: [{type: Pods, value: 1, periodSeconds: 300}]
    scaleDown:
      stabilizationWindowSeconds: 300
      policies: [{type: Pods, value: 1, periodSeconds: 600}]
status:
  desiredReplicas: 1
  currentMetrics:
  - type: External
    external:
      metric: {name: "s0-vllm:num_requests_waiting"}
      current: {averageValue: 8500m}
  conditions:
  - {type: AbleToScale, status: "True", reason: ScaleUpStabilized, message: recent recommendations were lower}
  - {type: ScalingActive, status: "True", reason: ValidMetricFound, message: found}
  - {type: ScalingLimited, status: "True", reason: ScaleUpLimit, message: too fast}
`

func TestAnHPAIsShownAsKubectlDoes(t *testing.T) {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	if err := yaml.Unmarshal([]byte(hpaOverloaded), hpa); err != nil {
		t.Fatal(err)
	}
	want := autoscaler{
		Exists: true, Targets: "8500m/10 (avg)", Target: 10, Current: reading{8.5, true},
		Desired: 1, Min: 1, Max: 5,
		Up: rules{time.Minute, 5 * time.Minute}, Down: rules{5 * time.Minute, 10 * time.Minute},
		Reason: "ScaleUpStabilized", Message: "recent recommendations were lower",
	}
	if diff := cmp.Diff(want, autoscalerOf(hpa)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	hpa.Status.CurrentMetrics = nil
	hpa.Status.Conditions[1].Status, hpa.Status.Conditions[1].Reason = "False", "FailedGetExternalMetric"
	got := autoscalerOf(hpa)
	if got.Targets != "<unknown>/10 (avg)" || got.Current.Known || got.Reason != "FailedGetExternalMetric" {
		t.Errorf("without a value: %+v", got)
	}
}
