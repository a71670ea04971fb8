package scaler

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/ports"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// certificate is a server's for "scaler", and what a client trusts it by.
func certificate(t *testing.T) (*tls.Config, credentials.TransportCredentials) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"scaler"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13,
	}, credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "scaler", MinVersion: tls.VersionTLS13})
}

func loopback(t *testing.T) net.Listener {
	t.Helper()
	listener, err := ports.Listen(t.Context(), "127.0.0.1:0", ports.Limits{Connections: 128})
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func dial(t *testing.T, target string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil && status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	})
	return conn
}

// running is a server that runs until it is stopped.
type running struct {
	*testing.T
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, serve func(context.Context) error) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{T: t, cancel: cancel, done: make(chan error, 1)}
	t.Cleanup(cancel)
	go func() { r.done <- serve(ctx) }()
	return r
}

// ends waits for the server, which must have stopped without an error.
func (r *running) ends() {
	r.Helper()
	if err := <-r.done; err != nil {
		r.Errorf("serving ended with %v", err)
	}
}

// slow is a fleet that takes its time to be told.
type slow struct {
	asked, answer chan struct{}
	fleets
}

func (s slow) Fleet(key types.NamespacedName, page policy.Page) (sample.Fleet, bool) {
	s.asked <- struct{}{}
	<-s.answer
	return s.fleets.Fleet(key, page)
}

func TestACallInFlightIsAnsweredBeforeTheServerStops(t *testing.T) {
	config, trust := certificate(t)
	listener := loopback(t)
	fleets := slow{make(chan struct{}), make(chan struct{}), of(1, waiting("a", 7))}
	svc, _ := service(fleets)
	server := start(t, func(ctx context.Context) error {
		return serve(ctx, listener, newServer(config, DefaultConnectionAge, svc, &Watchdog{}))
	})
	client := pb.NewExternalScalerClient(dial(t, listener.Addr().String(), grpc.WithTransportCredentials(trust)))

	type answer struct {
		*pb.GetMetricsResponse
		error
	}
	answers := make(chan answer, 1)
	go func() {
		response, err := client.GetMetrics(t.Context(), &pb.GetMetricsRequest{ScaledObjectRef: trigger(), MetricName: waitingMetric})
		answers <- answer{response, err}
	}()
	<-fleets.asked
	server.cancel()
	awaitClosed(t, listener.Addr().String())
	select {
	case err := <-server.done:
		t.Fatalf("the server stopped (%v) with a call in flight", err)
	default:
	}
	close(fleets.answer)
	got := <-answers
	if got.error != nil || got.GetMetricValues()[0].GetMetricValueFloat() != 7 {
		t.Errorf("the call in flight: %v, %v; want 7", got.GetMetricsResponse, got.error)
	}
	server.ends()
}

// awaitClosed waits until nobody listens on an address any more.
func awaitClosed(t *testing.T, address string) {
	t.Helper()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			return
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAllOfKEDAsCallsAreServedOverTLSAlone(t *testing.T) {
	config, trust := certificate(t)
	listener := loopback(t)
	svc, _ := service(of(2, waiting("a", 7), waiting("b", 5)))
	server := start(t, func(ctx context.Context) error {
		return serve(ctx, listener, newServer(config, DefaultConnectionAge, svc, &Watchdog{}))
	})
	client := pb.NewExternalScalerClient(dial(t, listener.Addr().String(), grpc.WithTransportCredentials(trust)))

	spec, err := client.GetMetricSpec(t.Context(), trigger())
	if err != nil || spec.GetMetricSpecs()[0].GetTargetSizeFloat() != 10 {
		t.Errorf("spec %v, %v", spec, err)
	}
	metrics, err := client.GetMetrics(t.Context(), &pb.GetMetricsRequest{ScaledObjectRef: trigger(), MetricName: waitingMetric})
	if err != nil || metrics.GetMetricValues()[0].GetMetricValueFloat() != 12 {
		t.Errorf("metrics %v, %v", metrics, err)
	}
	active, err := client.IsActive(t.Context(), trigger())
	if err != nil || !active.GetResult() {
		t.Errorf("active %v, %v", active, err)
	}
	stream, err := client.StreamIsActive(t.Context(), trigger())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("a push trigger's stream: %v, want Unimplemented", err)
	}

	plain := pb.NewExternalScalerClient(dial(t, listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())))
	if _, err := plain.IsActive(t.Context(), trigger()); status.Code(err) != codes.Unavailable {
		t.Errorf("a call in plaintext: %v, want it refused", err)
	}
	server.cancel()
	server.ends()
}

func check(t *testing.T, client healthgrpc.HealthClient, name string) healthgrpc.HealthCheckResponse_ServingStatus {
	t.Helper()
	response, err := client.Check(t.Context(), &healthgrpc.HealthCheckRequest{Service: name})
	if err != nil {
		t.Fatal(err)
	}
	return response.GetStatus()
}

const (
	healthy   = healthgrpc.HealthCheckResponse_SERVING
	unhealthy = healthgrpc.HealthCheckResponse_NOT_SERVING
)

// awaitHealth asks until the answer is as wanted.
func awaitHealth(t *testing.T, client healthgrpc.HealthClient, name string, want healthgrpc.HealthCheckResponse_ServingStatus) {
	t.Helper()
	for check(t, client, name) != want {
		if t.Context().Err() != nil {
			t.Fatalf("health of %q never is %s", name, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestHealthFollowsReadinessAndLivenessDoesNot(t *testing.T) {
	listener := loopback(t)
	// ready is answered one question at a time, so that the test sets the pace.
	ready := make(chan bool)
	stopped := make(chan struct{})
	var lines []string
	log := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
	server := start(t, func(ctx context.Context) error {
		return serveHealth(ctx, listener, func() bool {
			select {
			case answer := <-ready:
				return answer
			case <-stopped:
				return false
			}
		}, &Watchdog{}, log)
	})
	client := healthgrpc.NewHealthClient(dial(t, listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())))

	if got := check(t, client, ""); got != unhealthy {
		t.Errorf("before anybody said that it is ready: %s", got)
	}
	if got := check(t, client, Liveness); got != healthy {
		t.Errorf("liveness of a process that waits for its APIs: %s", got)
	}
	ready <- true
	awaitHealth(t, client, "", healthy)
	ready <- false
	awaitHealth(t, client, "", unhealthy)
	if got := check(t, client, Liveness); got != healthy {
		t.Errorf("liveness of a process that isn't ready: %s", got)
	}
	ready <- true
	awaitHealth(t, client, "", healthy)
	if _, err := client.Check(t.Context(), &healthgrpc.HealthCheckRequest{Service: "other"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown service: %v, want NotFound", err)
	}
	server.cancel()
	close(stopped)
	server.ends()
	want := []string{"true", "false", "true"}
	var got []string
	for _, line := range lines[:min(3, len(lines))] {
		got = append(got, line[strings.LastIndex(line, "=")+1:])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the log tells of each change (-want +got):\n%s\n%q", diff, lines)
	}
}

// hang makes a call whose message never comes.
func hang(ctx context.Context, conn *grpc.ClientConn, method string) (grpc.ClientStream, error) {
	return conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, method)
}

// A client that keeps its stream open must not keep the process from ending.
func TestAServerThatIsHeldUpStopsWithinItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := bufconn.Listen(1 << 16)
		server := start(t, func(ctx context.Context) error {
			return serveHealth(ctx, listener, func() bool { return true }, &Watchdog{}, funcr.New(func(string, string) {}, funcr.Options{}))
		})
		conn := dial(t, "passthrough:///scaler", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		if _, err := hang(t.Context(), conn, healthgrpc.Health_Check_FullMethodName); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stopping := time.Now()
		server.cancel()
		server.ends()
		if took := time.Since(stopping); took != stopTimeout {
			t.Errorf("the server took %s to stop, want %s", took, stopTimeout)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAStopBeforeTheStartIsNoError(t *testing.T) {
	svc, _ := service(of(1))
	config, _ := certificate(t)
	for range 20 { // whichever comes first
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := serve(ctx, loopback(t), newServer(config, DefaultConnectionAge, svc, &Watchdog{})); err != nil {
			t.Fatal(err)
		}
		if err := serveHealth(ctx, loopback(t), func() bool { return false }, &Watchdog{}, funcr.New(func(string, string) {}, funcr.Options{})); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnAddressThatIsTakenIsAnError(t *testing.T) {
	taken := loopback(t)
	defer func() { _ = taken.Close() }()
	address := taken.Addr().String()
	svc, _ := service(of(1))
	config, _ := certificate(t)
	for name, err := range map[string]error{
		"scaler": Serve(t.Context(), address, config, DefaultConnectionAge, svc, &Watchdog{}),
		"health": ServeHealth(t.Context(), address, func() bool { return true }, &Watchdog{}, funcr.New(func(string, string) {}, funcr.Options{})),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "listen on "+address+": ") {
			t.Errorf("%s: error %v, want one that names the address", name, err)
		}
	}
}

func TestAListenerThatBreaksIsAnError(t *testing.T) {
	listener := loopback(t)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	svc, _ := service(of(1))
	config, _ := certificate(t)
	if err := serve(t.Context(), listener, newServer(config, DefaultConnectionAge, svc, &Watchdog{})); err == nil || !strings.HasPrefix(err.Error(), "serve on 127.0.0.1:") {
		t.Errorf("error %v, want one that says what failed", err)
	}
}
