package kaito

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
)

// planes are the control planes that the tests share, one for each set of
// served versions, started by the first test that needs them.
var planes = map[Versions]func() (*controlplane.Cluster, error){
	Both:         sync.OnceValues(func() (*controlplane.Cluster, error) { return startPlane(Both) }),
	OnlyV1alpha1: sync.OnceValues(func() (*controlplane.Cluster, error) { return startPlane(OnlyV1alpha1) }),
}

var started []*controlplane.Cluster

func startPlane(v Versions) (*controlplane.Cluster, error) {
	programs, err := controlplane.Build(context.Background(), os.Stderr)
	if err != nil {
		return nil, err
	}
	manifests, err := Manifests(v)
	if err != nil {
		return nil, err
	}
	cluster, err := controlplane.Start(context.Background(), controlplane.Options{
		Programs: programs, Manifests: manifests,
		NoKEDAOperator: true, NoKEDAAdapter: true, NoKEDAWebhooks: true,
	})
	if err == nil {
		started = append(started, cluster)
	}
	return cluster, err
}

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	code := m.Run()
	for _, cluster := range started {
		if code != 0 {
			cluster.DumpLogs(os.Stderr, 10)
		}
		if err := cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
