// Package provision writes the ScaledObject of each InferenceSet that asks for
// one, and tells the InferenceSet's owner what became of it. It runs on the
// leader.
package provision

import (
	"fmt"
	"math"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// pollingInterval is KEDA's, in seconds: the HPA's own sync period.
const pollingInterval int32 = 15

// Settings are what every ScaledObject has in common.
type Settings struct {
	// Version is the version of KAITO's API that ScaledObjects refer to.
	Version string
	// Address is where KEDA reaches the scaler, host:port.
	Address string
	// Authentication is the ClusterTriggerAuthentication with our certificates.
	Authentication string
	// Trust says what the certificates still lack, nil when nothing. Until then
	// no ScaledObject is written: KEDA before 2.20 keeps to the first connection
	// that it makes, even one that had no certificate to present.
	Trust func() error
	// Credentials are what KEDA presents to the scaler; nil leaves KEDA to find
	// out by itself that they were renewed.
	Credentials *Credentials
	// Handover is how much longer the scaler of an earlier version may answer KEDA:
	// that long, ScaledObjects that it wrote are left alone, because it can't
	// answer our triggers and we can answer its. Nil is none.
	Handover func() time.Duration
	// Registerer takes the metrics, nil for none.
	Registerer prometheus.Registerer
}

// ScaledObject is what an InferenceSet with that policy should have.
func ScaledObject(is kaito.InferenceSet, p policy.Policy, s Settings) *kedav1alpha1.ScaledObject {
	apiVersion := kaito.Group + "/" + s.Version
	trigger := p.Trigger(is.Namespace, is.Name)
	metadata := trigger.Metadata(s.Address)
	if digest := s.Credentials.digestOf(); digest != "" {
		metadata[metaCredentials] = digest
	}
	return &kedav1alpha1.ScaledObject{
		TypeMeta: metav1.TypeMeta{APIVersion: kedav1alpha1.SchemeGroupVersion.String(), Kind: "ScaledObject"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   is.Namespace,
			Name:        is.Name,
			Annotations: map[string]string{policy.ManagedBy: kube.Name},
			// No blockOwnerDeletion: it would need a right on the
			// InferenceSet's finalizers, and nothing waits for us.
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: apiVersion, Kind: kaito.KindInferenceSet, Name: is.Name, UID: is.UID,
				Controller: new(true),
			}},
		},
		Spec: kedav1alpha1.ScaledObjectSpec{
			ScaleTargetRef:  &kedav1alpha1.ScaleTarget{APIVersion: apiVersion, Kind: kaito.KindInferenceSet, Name: is.Name},
			PollingInterval: new(pollingInterval),
			MinReplicaCount: new(p.Bounds.Min),
			MaxReplicaCount: new(p.Bounds.Max),
			Advanced: &kedav1alpha1.AdvancedConfig{
				HorizontalPodAutoscalerConfig: &kedav1alpha1.HorizontalPodAutoscalerConfig{
					// Complete in both directions: KEDA updates the HPA at
					// every reconcile if a default has to be filled in.
					Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{
						ScaleUp:   rules(p.Up),
						ScaleDown: rules(p.Down),
					},
				},
			},
			Triggers: []kedav1alpha1.ScaleTriggers{{
				Type:       "external",
				Name:       policy.TriggerName,
				MetricType: autoscalingv2.AverageValueMetricType,
				Metadata:   metadata,
				AuthenticationRef: &kedav1alpha1.AuthenticationRef{
					Kind: "ClusterTriggerAuthentication", Name: s.Authentication,
				},
			}},
		},
	}
}

// rules are a pace in the HPA's words: so many replicas a cooldown.
func rules(pace policy.Pace) *autoscalingv2.HPAScalingRules {
	return &autoscalingv2.HPAScalingRules{
		StabilizationWindowSeconds: new(seconds(pace.Window)),
		SelectPolicy:               new(autoscalingv2.MaxChangePolicySelect),
		Policies: []autoscalingv2.HPAScalingPolicy{{
			Type: autoscalingv2.PodsScalingPolicy, Value: pace.Step, PeriodSeconds: seconds(pace.Cooldown),
		}},
		Tolerance: new(resource.MustParse(fmt.Sprintf("%g", pace.Tolerance))),
	}
}

// seconds are those of a policy's durations, which are within the HPA's limits.
func seconds(d time.Duration) int32 { return int32(max(0, min(d/time.Second, math.MaxInt32))) }

// applied is desired as server-side apply wants it: with our fields alone.
func applied(desired *kedav1alpha1.ScaledObject) (*unstructured.Unstructured, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(desired)
	if err != nil {
		return nil, fmt.Errorf("convert ScaledObject %s/%s: %w", desired.Namespace, desired.Name, err)
	}
	u := &unstructured.Unstructured{Object: object}
	// These are structs in KEDA's type, written even when they are empty.
	unstructured.RemoveNestedField(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(u.Object, "spec", "advanced", "scalingModifiers")
	return u, nil
}
