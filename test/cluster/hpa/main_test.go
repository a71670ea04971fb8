package hpa_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

// syncPeriod of the controller. No multiple of it within half a minute is near
// a whole second that is used as a window or period here.
const syncPeriod = 1300 * time.Millisecond

// plane is a control plane without KEDA: the test itself serves the metrics.
var plane *controlplane.Cluster

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	programs, err := controlplane.Build(ctx, os.Stderr)
	if err == nil {
		var manifests [][]byte
		if manifests, err = kaito.Manifests(kaito.Both); err == nil {
			plane, err = controlplane.Start(ctx, controlplane.Options{
				Programs: programs, HPASync: syncPeriod, Manifests: manifests,
				NoKEDAOperator: true, NoKEDAAdapter: true, NoKEDAWebhooks: true, Out: os.Stderr,
			})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return controlplane.RunTests(m, plane, stop, 30)
}
