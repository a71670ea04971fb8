package e2e

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// health asks as a kubelet's probe does.
func health(ctx context.Context, address, service string) (healthgrpc.HealthCheckResponse_ServingStatus, error) {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer func() { _ = connection.Close() }()
	answer, err := healthgrpc.NewHealthClient(connection).Check(ctx, &healthgrpc.HealthCheckRequest{Service: service})
	return answer.GetStatus(), err
}

func TestAScalerBeforeKAITOWaitsForItAndSaysSo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	bare, err := stack.Start(ctx, stack.Options{NoKAITO: true, NoScaler: true, NoKEDAProcesses: true, Race: raceDetector})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bare.Stop(); err != nil {
			t.Error(err)
		}
	}()
	scaler, err := bare.StartScaler(ctx, "scaler")
	if err != nil {
		t.Fatal(err)
	}
	until := func(what string, condition func() error) {
		t.Helper()
		var last error
		err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(context.Context) (bool, error) {
			last = condition()
			return last == nil, nil
		})
		if err != nil {
			t.Fatalf("%s: %v\n%s", what, last, scaler.Tail(20))
		}
	}
	log := func() string {
		data, err := os.ReadFile(scaler.LogFile())
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	until("the log names what is missing", func() error {
		if !strings.Contains(log(), `"missing":["inferencesets.kaito.sh","workspaces.kaito.sh"]`) {
			return errors.New("it doesn't")
		}
		return nil
	})
	until("alive", func() error {
		status, err := health(ctx, scaler.Health, "liveness")
		if err == nil && status != healthgrpc.HealthCheckResponse_SERVING {
			err = errors.New(status.String())
		}
		return err
	})
	if status, err := health(ctx, scaler.Health, ""); status != healthgrpc.HealthCheckResponse_NOT_SERVING {
		t.Errorf("readiness without KAITO: %s, %v, want NOT_SERVING", status, err)
	}
	if err := kaito.Install(ctx, bare.Config(), kaito.OnlyV1alpha1); err != nil {
		t.Fatal(err)
	}
	if err := bare.AwaitReady(ctx, scaler); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log(), "waiting for APIs"); n != 1 {
		t.Errorf("the log says %d times that it waits, want once", n)
	}
	if !strings.Contains(log(), `"kaito":"kaito.sh/v1alpha1"`) {
		t.Error("the log doesn't tell KAITO's version, v1alpha1")
	}
	if err := scaler.Stop(20 * time.Second); err != nil {
		t.Errorf("a scaler that is told to stop ends with %v\n%s", err, scaler.Tail(20))
	}
}
