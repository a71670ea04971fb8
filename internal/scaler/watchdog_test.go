package scaler

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// probed is a health server in the bubble of a test, and how a kubelet asks it.
func probed(t *testing.T, ready func() bool, watchdog *Watchdog) (client healthgrpc.HealthClient, told *[]string, stop func()) {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	told = &[]string{}
	log := funcr.New(func(_, args string) {
		if strings.Contains(args, "live") {
			*told = append(*told, args)
		}
	}, funcr.Options{})
	server := start(t, func(ctx context.Context) error {
		return serveHealth(ctx, listener, ready, watchdog, log)
	})
	conn := dial(t, "passthrough:///health", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	return healthgrpc.NewHealthClient(conn), told, func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.cancel()
		server.ends()
	}
}

func TestALoopThatIsLateIsNotLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late atomic.Bool
		watchdog := &Watchdog{}
		watchdog.Add("reading", func() bool { return !late.Load() })
		watchdog.Add("judging", func() bool { return true })
		client, told, stop := probed(t, func() bool { return true }, watchdog)
		defer stop()
		spend := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		spend(time.Hour)
		// A process that was suspended wakes up, and its loops with it.
		late.Store(true)
		spend(3 * time.Second)
		if got := check(t, client, Liveness); got != healthy {
			t.Errorf("3 s after it woke up: %s", got)
		}
		late.Store(false)
		spend(time.Minute)
		late.Store(true)
		spend(6 * time.Second)
		if got := check(t, client, Liveness); got != unhealthy {
			t.Errorf("with a loop that stays late: %s", got)
		}
		if got := check(t, client, ""); got != healthy {
			t.Errorf("readiness follows liveness: %s", got)
		}
		late.Store(false)
		spend(2 * time.Second)
		if got := check(t, client, Liveness); got != healthy {
			t.Errorf("on time again: %s", got)
		}
		want := []string{
			`"level"=0 "msg"="not live: a part makes no progress, the kubelet will restart the container" "late"=["reading"]`,
			`"level"=0 "msg"="live again"`,
		}
		if diff := cmp.Diff(want, *told); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

func TestWhoHangsOnTheQuestionOfReadinessIsNotLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{})
		client, _, stop := probed(t, func() bool { <-hangs; return true }, &Watchdog{})
		defer stop()
		defer close(hangs)
		time.Sleep((stuckChecks + lateChecks + 2) * time.Second)
		if got := check(t, client, Liveness); got != unhealthy {
			t.Errorf("liveness of a process whose mutex is never given back: %s", got)
		}
	})
}

// stalled is a fleet that is never told.
type stalled struct {
	fleets
	hangs chan struct{}
}

func (s stalled) Fleet(key types.NamespacedName, page policy.Page) (sample.Fleet, bool) {
	<-s.hangs
	return s.fleets.Fleet(key, page)
}

func TestACallOfKEDAsThatNeverEndsIsNotLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleets := stalled{of(1, waiting("a", 7)), make(chan struct{})}
		svc, _ := service(fleets)
		config, trust := certificate(t)
		watchdog := &Watchdog{}
		listener := bufconn.Listen(1 << 16)
		server := start(t, func(ctx context.Context) error {
			return serve(ctx, listener, newServer(config, time.Hour, svc, watchdog))
		})
		conn := dial(t, "passthrough:///scaler", grpc.WithTransportCredentials(trust),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		call := func() {
			_, _ = pb.NewExternalScalerClient(conn).GetMetrics(t.Context(), &pb.GetMetricsRequest{
				ScaledObjectRef: trigger(), MetricName: waitingMetric,
			})
		}
		look := func(times int) (stuck []string) {
			for range times {
				stuck = watchdog.check()
			}
			return stuck
		}
		if stuck := look(100); stuck != nil {
			t.Errorf("stuck without a call: %q", stuck)
		}
		go call()
		synctest.Wait()
		if stuck := look(stuckChecks); stuck != nil {
			t.Errorf("stuck too early: %q", stuck)
		}
		if diff := cmp.Diff([]string{"calls"}, look(lateChecks)); diff != "" {
			t.Errorf("with a call that never ends (-want +got):\n%s", diff)
		}
		close(fleets.hangs)
		synctest.Wait()
		if stuck := look(2); stuck != nil {
			t.Errorf("stuck after the call has ended: %q", stuck)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.cancel()
		server.ends()
	})
}
