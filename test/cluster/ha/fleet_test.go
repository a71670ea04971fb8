package ha

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// fleet is an InferenceSet with two replicas, in a namespace of its own.
type fleet struct {
	*testing.T
	types.NamespacedName
	hpa string
}

// newFleet makes an InferenceSet with two replicas that have ten requests
// waiting each. Annotated, the scaler provides for it; else somebody has to
// write a ScaledObject.
func newFleet(t *testing.T, annotations map[string]string) *fleet {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "ha-"}}
	if err := shared.Client.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	f := &fleet{T: t, NamespacedName: types.NamespacedName{Namespace: namespace.Name, Name: "phi-4"}, hpa: "keda-hpa-phi-4"}
	u := kaito.NewInferenceSet("v1alpha1", f.NamespacedName, 2, annotations)
	if err := shared.Client.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, object := range []client.Object{f.scaledObject(), f.object()} {
			if err := client.IgnoreNotFound(shared.Client.Delete(ctx, object)); err != nil {
				t.Error(err)
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := shared.KAITO.AwaitReady(ctx, f.Namespace, f.Name, 2); err != nil {
		t.Fatal(err)
	}
	for _, pod := range shared.KAITO.Serving(f.Namespace, f.Name) {
		pod.SetWaiting(10)
	}
	return f
}

// provided are annotations for a fleet on which a wrong reading would be acted
// upon at once.
func provided() map[string]string {
	return map[string]string{
		"auto-provision": "true", "threshold": "10", "max-replicas": "5",
		"evaluationwindow": "0", "scaleupcooldown": "1", "scaledowncooldown": "1",
	}
}

func (f *fleet) object() *unstructured.Unstructured {
	return kaito.Object("v1alpha1", "InferenceSet", f.NamespacedName)
}

func (f *fleet) scaledObject() *kedav1alpha1.ScaledObject {
	so := &kedav1alpha1.ScaledObject{}
	so.Namespace, so.Name = f.Namespace, f.NamespacedName.Name
	return so
}

// byHand writes a ScaledObject as a user would who wants KEDA to ask every
// second, and the HPA to follow at once.
func (f *fleet) byHand(address string) {
	f.Helper()
	rules := &autoscalingv2.HPAScalingRules{
		StabilizationWindowSeconds: new(int32(0)),
		SelectPolicy:               new(autoscalingv2.MaxChangePolicySelect),
		Policies:                   []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 1, PeriodSeconds: 1}},
	}
	so := f.scaledObject()
	so.Spec = kedav1alpha1.ScaledObjectSpec{
		ScaleTargetRef:  &kedav1alpha1.ScaleTarget{APIVersion: "kaito.sh/v1alpha1", Kind: "InferenceSet", Name: f.NamespacedName.Name},
		PollingInterval: new(int32(1)), MinReplicaCount: new(int32(1)), MaxReplicaCount: new(int32(5)),
		Advanced: &kedav1alpha1.AdvancedConfig{HorizontalPodAutoscalerConfig: &kedav1alpha1.HorizontalPodAutoscalerConfig{
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules, ScaleDown: rules},
		}},
		Triggers: []kedav1alpha1.ScaleTriggers{{
			Type: "external", MetricType: autoscalingv2.AverageValueMetricType,
			Metadata:          f.metadata(address),
			AuthenticationRef: &kedav1alpha1.AuthenticationRef{Kind: "ClusterTriggerAuthentication", Name: "keda-kaito-scaler-creds"},
		}},
	}
	if err := shared.Client.Create(f.Context(), so); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) metadata(address string) map[string]string {
	return map[string]string{
		"scalerAddress": address, "enableTLS": "true", "threshold": "10", "inferenceSetName": f.NamespacedName.Name,
	}
}

func (f *fleet) desired() (int64, error) {
	u := f.object()
	if err := shared.Client.Get(f.Context(), f.NamespacedName, u); err != nil {
		return 0, err
	}
	n, _, err := unstructured.NestedInt64(u.Object, "spec", "replicas")
	return n, err
}

// scaled waits until the HPA works with what the scaler publishes.
func (f *fleet) scaled() {
	f.Helper()
	eventually(f.T, patience, "the HPA sees 20 requests waiting", func() error {
		hpa := &autoscalingv2.HorizontalPodAutoscaler{}
		if err := shared.Client.Get(f.Context(), types.NamespacedName{Namespace: f.Namespace, Name: f.hpa}, hpa); err != nil {
			return err
		}
		for _, metric := range hpa.Status.CurrentMetrics {
			if e := metric.External; e != nil && e.Current.AverageValue != nil && e.Current.AverageValue.Value() == 10 {
				return nil
			}
		}
		return fmt.Errorf("it sees %+v", hpa.Status.CurrentMetrics)
	})
}

// still watches that two replicas stay desired until the returned function is
// called.
func (f *fleet) still() (end func()) {
	f.Helper()
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
			// The API server may be away.
			if n, err := f.desired(); err == nil && n != 2 {
				f.Errorf("%s: %d replicas are desired of %s, with 20 requests waiting and 10 wanted on each", time.Now().Format(time.TimeOnly), n, f.NamespacedName)
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		close(stop)
		watching.Wait()
	})
}

// asked is how often the scalers were asked about this fleet, by KEDA and by
// clients of ours.
func (f *fleet) asked(scalers ...*stack.Scaler) int {
	f.Helper()
	n := 0
	for _, scaler := range scalers {
		for line := range strings.Lines(logOf(f.T, scaler)) {
			if strings.Contains(line, `"answered"`) && strings.Contains(line, f.Namespace) {
				n++
			}
		}
	}
	return n
}
