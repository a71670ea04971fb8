package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/earlier"
)

// slowly is how a replica starts that a test looks at while it does.
func slowly(o *kaito.Options) { o.Startup = kaito.Stages{Download: 30 * time.Second} }

// writtenBy06 is a ScaledObject of 0.6.2 for this InferenceSet, at a test's pace: of
// its metrics those that a test can set at once, and the gate.
func (s *set) writtenBy06() *kedav1alpha1.ScaledObject {
	s.Helper()
	so := earlier.ScaledObject(s.T, "scaledobject-0.6.2.yaml")
	so.Namespace, so.Name, so.Spec.ScaleTargetRef.Name = s.namespace, s.name, s.name
	so.OwnerReferences[0].Name, so.OwnerReferences[0].UID = s.name, s.uid()
	behavior := so.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior
	behavior.ScaleUp.StabilizationWindowSeconds, behavior.ScaleUp.Policies[0].PeriodSeconds = new(int32(0)), 2
	behavior.ScaleDown.StabilizationWindowSeconds, behavior.ScaleDown.Policies[0].PeriodSeconds = new(int32(4)), 4
	modifiers := &so.Spec.Advanced.ScalingModifiers
	for _, term := range []string{" && vllm_request_queue_time_seconds > 30", " && vllm_request_queue_time_seconds < 1"} {
		modifiers.Formula = strings.Replace(modifiers.Formula, term, "", 1)
	}
	so.Spec.Triggers = append(so.Spec.Triggers[:1], so.Spec.Triggers[2])
	for i := range so.Spec.Triggers {
		metadata := so.Spec.Triggers[i].Metadata
		metadata["scalerAddress"], metadata["inferenceSetName"], metadata["inferenceSetNamespace"] = shared.Scaler.GRPC, s.name, s.namespace
	}
	return so
}

// What 0.6 wrote goes on scaling by its own formula until it is converted, in place.
func TestAScaledObjectOfVersion06ScalesUntilItIsConverted(t *testing.T) {
	t.Parallel()
	ask := listed("{name: vllm:num_requests_waiting, type: gauge, upthreshold: 10, downthreshold: 1}")
	ask["max-replicas"] = "many" // refused, so that what 0.6 wrote is left alone
	s := apply(t, ask, replicas(2))
	s.awaitReady(2)
	s.pins(5, 2)
	so := s.writtenBy06()
	if err := shared.Client.Create(s.ctx, so, client.FieldOwner("manager")); err != nil {
		t.Fatal(err)
	}
	uid := s.measures("composite-metric", "kaito.sh/v1beta1").UID
	s.annotate("max-replicas", "more")
	s.told("ScalingRefused", "; still in force: scaling between 1 and 5 replicas by the formula of an earlier version on vllm:num_requests_waiting, readiness_gate")
	s.settled(2)
	if got := s.composite(); got != "1" {
		t.Errorf("the formula comes to %s on 5 each, want 1", got)
	}

	// One more is ordered, and no other while it starts.
	shared.KAITO.Adapt(s.namespace, s.name, slowly)
	s.pins(30, 2)
	s.wantDesired(3)
	s.stays("the gate is shut while one starts", 3, 8*time.Second)
	s.queueEach(0)
	s.steps(3, 1)
	s.queueEach(5)
	s.settled(1)

	s.annotate("max-replicas", "5")
	s.told("ScaledObjectAdopted", `one of an earlier version was converted in place`)
	if now := s.measures("s0-desired-replicas", "kaito.sh/v1beta1").UID; now != uid {
		t.Error("the HPA was made anew")
	}
	s.settled(1)
}

// pins keeps the queues of n replicas at that length: on a busy machine one may be
// NotReady for a moment.
func (s *set) pins(waiting, n int) {
	s.Helper()
	s.eventually(fmt.Sprintf("%d replicas with %d waiting", n, waiting), func() error {
		serving := shared.KAITO.Serving(s.namespace, s.name)
		s.queueEach(waiting)
		if len(serving) != n {
			return fmt.Errorf("%d serve", len(serving))
		}
		return nil
	})
}

// composite is what KEDA makes of the formula.
func (s *set) composite() (value string) {
	s.Helper()
	s.eventually("a value of the formula", func() error {
		raw, err := shared.Get(s.ctx, fmt.Sprintf("/apis/external.metrics.k8s.io/v1beta1/namespaces/%s/composite-metric?labelSelector=scaledobject.keda.sh%%2Fname%%3D%s",
			s.namespace, s.name), "")
		if err != nil {
			return err
		}
		var list struct{ Items []struct{ Value string } }
		if err := json.Unmarshal(raw, &list); err != nil || len(list.Items) != 1 {
			return fmt.Errorf("%s, %w", raw, err)
		}
		value = list.Items[0].Value
		return nil
	})
	return value
}

// Each ScaledObject of an earlier version passes KEDA's admission and gets its HPA's
// metrics from us.
func TestKEDAIsAnsweredForEveryEarlierScaledObject(t *testing.T) {
	t.Parallel()
	for _, name := range earlier.ScaledObjects(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := apply(t, nil)
			s.awaitReady(1)
			text, err := json.Marshal(earlier.ScaledObject(t, name))
			if err != nil {
				t.Fatal(err)
			}
			u := &unstructured.Unstructured{}
			if err := u.UnmarshalJSON(text); err != nil {
				t.Fatal(err)
			}
			unstructured.RemoveNestedField(u.Object, "status")
			so := here(t, u, s.namespace)
			if err := shared.Client.Create(s.ctx, so); err != nil {
				t.Fatal(err)
			}
			s.eventually("KEDA calls it Ready", func() error {
				got := &kedav1alpha1.ScaledObject{}
				if err := shared.Client.Get(s.ctx, types.NamespacedName{Namespace: s.namespace, Name: so.Name}, got); err != nil {
					return err
				}
				if ready := got.Status.Conditions.GetReadyCondition(); !ready.IsTrue() {
					return fmt.Errorf("it isn't: %s", ready.Message)
				}
				return nil
			})
		})
	}
}
