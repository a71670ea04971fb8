package lifecycle

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"go.uber.org/goleak"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whatever a manager is at when the program is told to stop, that is no failure.
func TestAStopWhileAManagerBeginsIsNoError(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stop()
		http.Error(w, "going away", http.StatusInternalServerError)
	}))
	defer api.Close()
	var lines []string
	log := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
	m := &Managers{Settings: Settings{
		Config: &rest.Config{Host: api.URL}, Log: log, WorkingNamespace: "keda", LeaderElect: true,
		AddTo: func(_ context.Context, mgr manager.Manager, version string, _ func() bool) error {
			return mgr.GetAPIReader().Get(ctx, client.ObjectKey{Namespace: "keda", Name: "phi-4"}, kaito.Object(version, kaito.KindInferenceSet))
		},
	}}
	err := m.Run(ctx, cluster(map[time.Duration]func(*fakediscovery.FakeDiscovery) error{}), "v1beta1")
	if ctx.Err() == nil {
		t.Fatal("the API server was never asked")
	}
	if err != nil || len(lines) != 0 {
		t.Errorf("error %v, log %q; want neither", err, lines)
	}
}
