package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// former is a ScaledObject as an earlier version wrote it for this
// InferenceSet: two triggers under a formula, a fallback, on v1alpha1.
func (s *set) former(owners ...metav1.OwnerReference) *kedav1alpha1.ScaledObject {
	trigger := func(name, metric string) kedav1alpha1.ScaleTriggers {
		return kedav1alpha1.ScaleTriggers{
			Type: "external", Name: name, MetricType: autoscalingv2.AverageValueMetricType,
			Metadata: map[string]string{
				"scalerAddress": shared.Scaler.GRPC, "enableTLS": "true", "scalerName": "keda-kaito-scaler",
				"inferenceSetName": s.name, "inferenceSetNamespace": s.namespace, "metricName": metric, "threshold": "10",
				"metricProtocol": "http", "metricPort": "80", "metricPath": "/metrics", "scrapeTimeout": "3s",
			},
			AuthenticationRef: &kedav1alpha1.AuthenticationRef{Kind: "ClusterTriggerAuthentication", Name: "keda-kaito-scaler-creds"},
		}
	}
	return &kedav1alpha1.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.namespace, Name: s.name, OwnerReferences: owners,
			Labels: map[string]string{"team": "a"},
			Annotations: map[string]string{
				"scaledobject.kaito.sh/managed-by": "keda-kaito-scaler", "autoscaling.keda.sh/paused-scale-in": "true",
			},
		},
		Spec: kedav1alpha1.ScaledObjectSpec{
			ScaleTargetRef:  &kedav1alpha1.ScaleTarget{APIVersion: "kaito.sh/v1alpha1", Kind: "InferenceSet", Name: s.name},
			MinReplicaCount: new(int32(1)),
			MaxReplicaCount: new(int32(5)),
			Fallback:        &kedav1alpha1.Fallback{FailureThreshold: 3, Replicas: 4},
			Advanced: &kedav1alpha1.AdvancedConfig{ScalingModifiers: kedav1alpha1.ScalingModifiers{
				Formula: "waiting + 0 * running", Target: "10", MetricType: autoscalingv2.AverageValueMetricType,
			}},
			Triggers: []kedav1alpha1.ScaleTriggers{
				trigger("waiting", "vllm:num_requests_waiting"), trigger("running", "vllm:num_requests_running"),
			},
		},
	}
}

// measures waits until the HPA has one metric of that name, on that version of
// the InferenceSet.
func (s *set) measures(metric, apiVersion string) *autoscalingv2.HorizontalPodAutoscaler {
	s.Helper()
	var hpa *autoscalingv2.HorizontalPodAutoscaler
	s.eventually("an HPA on "+metric, func() (err error) {
		if hpa, err = s.hpa(); err != nil {
			return err
		}
		if m := hpa.Spec.Metrics; len(m) != 1 || m[0].External == nil || m[0].External.Metric.Name != metric {
			return fmt.Errorf("its metrics are %+v", m)
		}
		if got := hpa.Spec.ScaleTargetRef.APIVersion; got != apiVersion {
			return fmt.Errorf("it is on %s", got)
		}
		return nil
	})
	return hpa
}

// settled waits until the HPA has computed something from its metric, and
// checks for a while that this moves no replica.
func (s *set) settled(replicas int64) {
	s.Helper()
	s.eventually("an HPA that has its metric", func() error {
		hpa, err := s.hpa()
		if err != nil {
			return err
		}
		for _, c := range hpa.Status.Conditions {
			if c.Type == autoscalingv2.ScalingActive && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return errors.New("it is not active")
	})
	s.always("no replica moves", 5*time.Second, func() error {
		if got := s.desired(); got != replicas {
			return fmt.Errorf("%d replicas", got)
		}
		return nil
	})
}

// owner makes an object that owns ScaledObjects beside the InferenceSet, as
// somebody's own tool may.
func (s *set) owner() metav1.OwnerReference {
	s.Helper()
	app := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "app"}}
	if err := shared.Client.Create(s.ctx, app); err != nil {
		s.Fatal(err)
	}
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: app.Name, UID: app.UID}
}

func (s *set) uid() types.UID {
	s.Helper()
	u := s.object()
	if err := shared.Client.Get(s.ctx, s.key(), u); err != nil {
		s.Fatal(err)
	}
	return u.GetUID()
}

func TestAScaledObjectOfAnEarlierVersionIsConvertedInPlace(t *testing.T) {
	for _, tt := range []struct {
		name  string
		owned bool
	}{
		{"controlled by the InferenceSet", true},
		{"marked, and controlled by nobody", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ask := brisk()
			ask["auto-provision"] = "not yet" // refused, so that the setting is left alone
			s := apply(t, ask, func(u *unstructured.Unstructured) { u.Object["spec"].(map[string]any)["replicas"] = int64(2) })
			s.awaitReady(2)
			s.queue(10, 10) // 10 wanted on each: 2 is right
			owners := []metav1.OwnerReference{s.owner()}
			if tt.owned {
				owners = append(owners, metav1.OwnerReference{
					APIVersion: "kaito.sh/v1alpha1", Kind: "InferenceSet", Name: s.name, UID: s.uid(),
					Controller: new(true), BlockOwnerDeletion: new(true),
				})
			}
			before := s.former(owners...)
			if err := shared.Client.Create(s.ctx, before, client.FieldOwner("manager")); err != nil {
				t.Fatal(err)
			}
			hpaBefore := s.measures("composite-metric", "kaito.sh/v1alpha1")
			s.settled(2)

			s.annotate("auto-provision", "true")
			s.told("ScaledObjectAdopted", `one of an earlier version was converted in place, and replicas stay as they are: `)
			hpa := s.measures("s0-vllm:num_requests_waiting", "kaito.sh/v1beta1")
			s.settled(2)
			s.published("20")
			if hpa.UID != hpaBefore.UID {
				t.Error("the HPA was made anew")
			}
			s.converted(before, owners[0])
		})
	}
}

// converted checks the ScaledObject after the conversion, and after a change
// that comes later.
func (s *set) converted(before *kedav1alpha1.ScaledObject, other metav1.OwnerReference) {
	s.Helper()
	check := func(maximum int32) {
		s.Helper()
		var so *kedav1alpha1.ScaledObject
		s.eventually(fmt.Sprintf("a maximum of %d", maximum), func() (err error) {
			if so, err = s.scaledObject(); err == nil && *so.Spec.MaxReplicaCount != maximum {
				err = fmt.Errorf("it is %d", *so.Spec.MaxReplicaCount)
			}
			return err
		})
		if so.UID != before.UID {
			s.Error("the ScaledObject was made anew")
		}
		if so.Spec.Fallback != nil || so.Spec.Advanced.ScalingModifiers.Formula != "" || len(so.Spec.Triggers) != 1 ||
			so.Spec.Triggers[0].Name != "keda-kaito-scaler" || so.Spec.ScaleTargetRef.APIVersion != "kaito.sh/v1beta1" {
			s.Errorf("something of the earlier version is left: %+v", so.Spec)
		}
		if so.Labels["team"] != "a" || so.Annotations["autoscaling.keda.sh/paused-scale-in"] != "true" {
			s.Errorf("something of the user's is gone: %+v", so.ObjectMeta)
		}
		owner := metav1.GetControllerOf(so)
		if owner == nil || owner.UID != s.uid() || owner.APIVersion != "kaito.sh/v1beta1" {
			s.Errorf("controlled by %+v", owner)
		}
		if len(so.OwnerReferences) != 2 || so.OwnerReferences[0].UID != other.UID {
			s.Errorf("owners %+v, want the user's and ours", so.OwnerReferences)
		}
	}
	check(5)
	s.annotate("max-replicas", "7") // an apply, by other means than the conversion
	s.told("ScaledObjectUpdated", "max-replicas 5 → 7; now scaling between 1 and 7 replicas")
	check(7)
}

// A user's own values in the spec are put back, and what others have put beside
// them goes: the spec is the scaler's as a whole.
func TestWhatIsPutIntoTheSpecGoes(t *testing.T) {
	t.Parallel()
	s := apply(t, brisk())
	before := s.provisioned()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { // KEDA writes to it as well
		so, err := s.scaledObject()
		if err != nil {
			return err
		}
		so.Spec.Fallback = &kedav1alpha1.Fallback{FailureThreshold: 3, Replicas: 4}
		so.Spec.CooldownPeriod = new(int32(7))
		so.Labels["team"] = "a"
		return shared.Client.Update(s.ctx, so, client.FieldOwner("kubectl-edit"))
	})
	if err != nil {
		t.Fatal(err)
	}
	s.told("ScaledObjectUpdated", "cooldownPeriod removed; fallback removed; now scaling between 1 and 5 replicas")
	so, err := s.scaledObject()
	if err != nil {
		t.Fatal(err)
	}
	if so.UID != before.UID || so.Spec.Fallback != nil || so.Spec.CooldownPeriod != nil || so.Labels["team"] != "a" {
		t.Errorf("ScaledObject: %+v", so)
	}
}
