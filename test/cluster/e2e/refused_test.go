package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// refused are triggers that name what isn't theirs to name.
var refused = []map[string]string{
	{"inferenceSetNamespace": "kube-system"},
	{"metricPort": "80@169.254.169.254"},
	{"metricPath": "@x"},
	{"metricPath": "//host"},
	{"metricProtocol": "file"},
	{"scrapeTimeout": "0s"},
	{"scrapeTimeout": "-1s"},
	{"scrapeTimeout": "1h"},
}

// A trigger that is refused makes the scaler open no connection, whether it
// comes in a ScaledObject or in a call.
func TestARefusedTriggerSendsNoPacket(t *testing.T) {
	t.Parallel()
	s := apply(t, nil)
	pod := s.awaitReady(1)[0].VLLM
	so := &kedav1alpha1.ScaledObject{}
	so.Namespace, so.Name = s.namespace, s.name
	so.Spec.ScaleTargetRef = &kedav1alpha1.ScaleTarget{APIVersion: "kaito.sh/v1alpha1", Kind: "InferenceSet", Name: s.name}
	so.Spec.MinReplicaCount, so.Spec.MaxReplicaCount, so.Spec.PollingInterval = new(int32(1)), new(int32(3)), new(int32(1))
	for i, bad := range refused {
		so.Spec.Triggers = append(so.Spec.Triggers, s.trigger(fmt.Sprint("bad-", i), autoscalingv2.AverageValueMetricType, bad))
	}
	if err := shared.Client.Create(s.ctx, so); err != nil {
		t.Fatal(err)
	}
	s.eventually("KEDA finds no trigger that works", func() error {
		so, err := s.scaledObject()
		if err != nil {
			return err
		}
		if ready := so.Status.Conditions.GetReadyCondition(); !ready.IsFalse() {
			return errors.New("it is " + string(ready.Status))
		}
		return nil
	})
	s.refusedInCalls(so)
	// Two intervals of reading pods, in which the good ones of others are read.
	s.always("nobody has called on the pod", 10*time.Second, func() error {
		if n := pod.Visits(); n > 0 {
			return fmt.Errorf("%d connections were made", n)
		}
		return nil
	})

	// The same with nothing wrong: the pod is read, so the count counts.
	if err := shared.Client.Delete(s.ctx, so); err != nil {
		t.Fatal(err)
	}
	s.eventually("the refused one is gone, with KEDA's finalizer", func() error {
		err := shared.Client.Get(s.ctx, client.ObjectKeyFromObject(so), so)
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
	s.byHand(func(*kedav1alpha1.ScaledObjectSpec) {}, s.trigger("", autoscalingv2.AverageValueMetricType, nil))
	s.eventually("the pod is read", func() error {
		if pod.Visits() == 0 {
			return errors.New("it isn't")
		}
		return nil
	})
}

// refusedInCalls asks as KEDA does, with each trigger of a ScaledObject.
func (s *set) refusedInCalls(so *kedav1alpha1.ScaledObject) {
	s.Helper()
	ours, roots := kedaMaterial(s.T)
	connection, err := grpc.NewClient(shared.Scaler.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{ours}})))
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	scaler := pb.NewExternalScalerClient(connection)
	for i := range so.Spec.Triggers {
		metadata := so.Spec.Triggers[i].Metadata
		ref := &pb.ScaledObjectRef{Namespace: s.namespace, Name: s.name, ScalerMetadata: metadata}
		_, err := scaler.GetMetrics(s.ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "s0-anything"})
		if status.Code(err) != codes.InvalidArgument {
			s.Errorf("%v: %v, want it refused", refused[i], err)
		}
		s.Logf("%v: %v", refused[i], status.Convert(err).Message())
	}
}
