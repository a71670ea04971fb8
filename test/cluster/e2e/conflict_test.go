package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ownHPA is a user's own HPA on the InferenceSet.
func (s *set) ownHPA(apiVersion string) *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "by-hand"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: apiVersion, Kind: "InferenceSet", Name: s.name},
			MaxReplicas:    3,
			Metrics: []autoscalingv2.MetricSpec{{
				Type: autoscalingv2.ResourceMetricSourceType,
				Resource: &autoscalingv2.ResourceMetricSource{
					Name:   corev1.ResourceCPU,
					Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))},
				},
			}},
		},
	}
}

// KEDA's admission would let our ScaledObject stand beside an HPA on the other
// version of the API, and beside any that comes later.
func TestAUsersOwnHPAWins(t *testing.T) {
	for _, apiVersion := range []string{"kaito.sh/v1alpha1", "kaito.sh/v1beta1"} {
		t.Run(apiVersion, func(t *testing.T) {
			t.Parallel()
			s := apply(t, brisk())
			s.provisioned()
			hpa := s.ownHPA(apiVersion)
			if err := shared.Client.Create(s.ctx, hpa); err != nil {
				t.Fatal(err)
			}
			s.told("AutoscalingConflict", `HorizontalPodAutoscaler "by-hand", which keda-kaito-scaler did not make, is in the way: it stays`)
			s.withdrawn()
			there := &autoscalingv2.HorizontalPodAutoscaler{}
			if err := shared.Client.Get(s.ctx, client.ObjectKeyFromObject(hpa), there); err != nil || there.UID != hpa.UID ||
				len(there.OwnerReferences) > 0 || there.Spec.ScaleTargetRef.APIVersion != apiVersion {
				t.Errorf("the user's HPA: %v, %+v", err, there)
			}
			if err := shared.Client.Delete(s.ctx, hpa); err != nil {
				t.Fatal(err)
			}
			s.provisioned()
		})
	}
}

func TestAScaledObjectOfTheSameNameStays(t *testing.T) {
	t.Parallel()
	off := brisk()
	off["auto-provision"] = "false"
	s := apply(t, off)
	// One that scales something else altogether.
	theirs := &kedav1alpha1.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name},
		Spec: kedav1alpha1.ScaledObjectSpec{
			ScaleTargetRef: &kedav1alpha1.ScaleTarget{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"},
			Triggers: []kedav1alpha1.ScaleTriggers{{Type: "cron", Metadata: map[string]string{
				"timezone": "UTC", "start": "0 6 * * *", "end": "0 20 * * *", "desiredReplicas": "2",
			}}},
		},
	}
	if err := shared.Client.Create(s.ctx, theirs); err != nil {
		t.Fatal(err)
	}
	s.annotate("auto-provision", "true")
	s.told("AutoscalingConflict", `ScaledObject "phi-4", which keda-kaito-scaler did not make, is in the way`)
	so, err := s.scaledObject()
	if err != nil || so.UID != theirs.UID || so.Spec.ScaleTargetRef.Kind != "Deployment" || len(so.OwnerReferences) > 0 {
		t.Errorf("the user's ScaledObject: %v, %+v", err, so)
	}
	if err := shared.Client.Delete(s.ctx, theirs); err != nil {
		t.Fatal(err)
	}
	s.eventually("ours in its place", func() error {
		so, err := s.scaledObject()
		if err == nil && so.UID == theirs.UID {
			err = errors.New("it is still theirs")
		}
		return err
	})
	s.provisioned()
}

func TestEveryWayToEndLeavesNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*set) error
	}{
		{"in the foreground", func(s *set) error {
			return shared.Client.Delete(s.ctx, s.object(), client.PropagationPolicy(metav1.DeletePropagationForeground))
		}},
		{"in the background", func(s *set) error {
			return shared.Client.Delete(s.ctx, s.object(), client.PropagationPolicy(metav1.DeletePropagationBackground))
		}},
		{"with its namespace", func(s *set) error {
			return shared.Client.Delete(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := apply(t, brisk())
			s.provisioned()
			if err := tt.end(s); err != nil {
				t.Fatal(err)
			}
			s.eventually("the end of the InferenceSet", func() error {
				if err := shared.Client.Get(s.ctx, s.key(), s.object()); !apierrors.IsNotFound(err) {
					return fmt.Errorf("it is still there: %w", err)
				}
				return nil
			})
			s.withdrawn()
			log, err := os.ReadFile(shared.Scaler.LogFile())
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(log)) {
				if strings.Contains(line, s.namespace) && (strings.Contains(line, "ProvisioningFailed") || strings.Contains(line, `"level":"error"`)) {
					t.Errorf("the log of an orderly end: %s", line)
				}
			}
		})
	}
}

func TestANameThatIsTooLongForKEDAIsRefused(t *testing.T) {
	t.Parallel()
	s := apply(t, brisk())
	long := s.object()
	if err := shared.Client.Get(s.ctx, s.key(), long); err != nil {
		t.Fatal(err)
	}
	long.SetName(strings.Repeat("x", 55))
	long.SetResourceVersion("")
	long.SetUID("")
	if err := shared.Client.Create(s.ctx, long); err != nil {
		t.Fatal(err)
	}
	named := *s
	named.name = long.GetName()
	t.Cleanup(named.remove)
	named.told("ScalingRefused", `": must have at most 54 characters to be scaled by KEDA`)
	if _, err := named.scaledObject(); !apierrors.IsNotFound(err) {
		t.Errorf("ScaledObject: %v, want none", err)
	}
}
