package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// upgraded is a cluster of its own whose KAITO changes under a running scaler.
type upgraded struct {
	*testing.T
	ctx   context.Context
	stack *stack.Stack
}

func (u *upgraded) until(what string, condition func() error) {
	u.Helper()
	last := errors.New("not looked at")
	err := wait.PollUntilContextTimeout(u.ctx, 100*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		last = condition()
		return last == nil, nil
	})
	if err != nil {
		u.Fatalf("%s: %v\n%s", what, last, u.stack.Scaler.Tail(30))
	}
}

// targets waits until phi-4's ScaledObject names its target in that version.
func (u *upgraded) targets(version string) {
	u.Helper()
	u.until("a ScaledObject on "+version, func() error {
		so := &kedav1alpha1.ScaledObject{}
		if err := u.stack.Client.Get(u.ctx, types.NamespacedName{Namespace: "default", Name: "phi-4"}, so); err != nil {
			return err
		}
		if got := so.Spec.ScaleTargetRef.APIVersion; got != "kaito.sh/"+version {
			return fmt.Errorf("it is on %s", got)
		}
		return nil
	})
}

// connect is a connection as KEDA has it.
func (u *upgraded) connect() *grpc.ClientConn {
	u.Helper()
	var secret corev1.Secret
	key := types.NamespacedName{Namespace: stack.Namespace, Name: "keda-kaito-scaler-client-certs"}
	if err := u.stack.Client.Get(u.ctx, key, &secret); err != nil {
		u.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		u.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret.Data["ca.crt"])
	connection, err := grpc.NewClient(u.stack.Scaler.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{certificate}})))
	if err != nil {
		u.Fatal(err)
	}
	u.Cleanup(func() { _ = connection.Close() })
	return connection
}

// ask is KEDA's call for phi-4's queue.
func ask(ctx context.Context, connection *grpc.ClientConn) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	answer, err := pb.NewExternalScalerClient(connection).GetMetrics(ctx, &pb.GetMetricsRequest{
		MetricName: "vllm:num_requests_waiting",
		ScaledObjectRef: &pb.ScaledObjectRef{Name: "phi-4", Namespace: "default", ScalerMetadata: map[string]string{
			"inferenceSetName": "phi-4", "threshold": "10",
		}},
	})
	if err != nil {
		return 0, err
	}
	if len(answer.GetMetricValues()) != 1 {
		return 0, fmt.Errorf("%d values", len(answer.GetMetricValues()))
	}
	return int64(answer.GetMetricValues()[0].GetMetricValueFloat()), nil
}

// keepAsking asks ten times a second, and for readiness too, until it is
// stopped. Whatever isn't an answer of 25 is a fault.
func (u *upgraded) keepAsking(connection *grpc.ClientConn) (stop func() (calls int, faults []string)) {
	ctx, enough := u.ctx, make(chan struct{})
	var asking sync.WaitGroup
	calls := 0
	var faults []string
	asking.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-enough:
				return
			case <-tick.C:
			}
			calls++
			if got, err := ask(ctx, connection); err != nil || got != 25 {
				faults = append(faults, fmt.Sprintf("%s: %d, %v", time.Now().Format(time.TimeOnly), got, err))
			}
			status, err := health(ctx, u.stack.Scaler.Health, "")
			if err != nil || status != healthgrpc.HealthCheckResponse_SERVING {
				faults = append(faults, fmt.Sprintf("%s: readiness %s, %v", time.Now().Format(time.TimeOnly), status, err))
			}
		}
	})
	return func() (int, []string) {
		close(enough)
		asking.Wait()
		return calls, faults
	}
}

func TestAnUpgradeOfKAITOIsFollowedWithoutARestart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	old, err := stack.Start(ctx, stack.Options{
		Versions: kaito.OnlyV1alpha1, NoKEDAProcesses: true, Race: raceDetector,
		KAITO:      kaito.Options{Startup: quick, Termination: time.Second},
		ScalerArgs: []string{"--scrape-interval=1s", "--scrape-timeout=900ms"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := old.Stop(); err != nil {
			t.Error(err)
		}
	}()
	u := &upgraded{t, ctx, old}
	if err := old.Client.Create(ctx, phi4()); err != nil {
		t.Fatal(err)
	}
	if err := old.KAITO.AwaitReady(ctx, "default", "phi-4", 1); err != nil {
		t.Fatal(err)
	}
	for _, pod := range old.KAITO.Serving("default", "phi-4") {
		pod.SetWaiting(25)
	}
	u.targets("v1alpha1")
	connection := u.connect()
	u.until("an answer of 25", func() error {
		got, err := ask(ctx, connection)
		if err == nil && got != 25 {
			err = fmt.Errorf("it is %d", got)
		}
		return err
	})

	stop := u.keepAsking(connection)
	began := time.Now()
	if err := kaito.Install(ctx, old.Config(), kaito.Both); err != nil {
		t.Fatal(err)
	}
	u.targets("v1beta1")
	t.Logf("followed after %s", time.Since(began).Round(time.Second))
	calls, faults := stop()
	if len(faults) > 0 || calls < 50 {
		t.Errorf("of %d calls during the upgrade %d weren't answered with 25:\n%s", calls, len(faults), strings.Join(faults, "\n"))
	}
	log, err := os.ReadFile(old.Scaler.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "KAITO's API is to be used in another version"); n != 1 {
		t.Errorf("the log tells of it %d times, want once", n)
	}
	u.reinstall()
	u.targets("v1beta1")
	if err := old.Scaler.Stop(20 * time.Second); err != nil {
		t.Errorf("the scaler ends with %v\n%s", err, old.Scaler.Tail(20))
	}
}

// reinstall takes KAITO's CRDs away, all objects with them, and makes both anew.
func (u *upgraded) reinstall() {
	u.Helper()
	crds, err := kaito.CRDs(kaito.Both)
	if err != nil {
		u.Fatal(err)
	}
	crd := func(name string) *unstructured.Unstructured {
		c := &unstructured.Unstructured{}
		c.SetAPIVersion("apiextensions.k8s.io/v1")
		c.SetKind("CustomResourceDefinition")
		c.SetName(name)
		return c
	}
	for i := range crds {
		if err := u.stack.Client.Delete(u.ctx, crd(crds[i].Name)); err != nil {
			u.Fatal(err)
		}
	}
	gone := func(what string, object client.Object) {
		u.Helper()
		u.until(what+" gone", func() error {
			err := u.stack.Client.Get(u.ctx, client.ObjectKeyFromObject(object), object)
			if err == nil {
				return errors.New("it is there")
			}
			return client.IgnoreNotFound(err)
		})
	}
	for i := range crds {
		gone(crds[i].Name, crd(crds[i].Name))
	}
	so := &kedav1alpha1.ScaledObject{}
	so.Namespace, so.Name = "default", "phi-4"
	gone("the ScaledObject", so)
	if err := kaito.Install(u.ctx, u.stack.Config(), kaito.Both); err != nil {
		u.Fatal(err)
	}
	u.until("phi-4 anew", func() error { return u.stack.Client.Create(u.ctx, phi4()) })
}

// phi4 is an InferenceSet as users of KAITO 0.8 wrote it.
func phi4() *unstructured.Unstructured {
	return kaito.NewInferenceSet("v1alpha1", types.NamespacedName{Namespace: "default", Name: "phi-4"}, 1,
		map[string]string{"auto-provision": "true", "threshold": "10", "max-replicas": "5"})
}
