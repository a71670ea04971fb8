package scaler

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/kaito-project/keda-kaito-scaler/internal/ports"
)

const (
	// KEDA sends no pings of its own and never closes a connection: a peer
	// that vanished is noticed from here, within 40 s.
	pingAfter, pingTimeout = 30 * time.Second, 10 * time.Second
	// connectionGrace bounds the calls in flight of a connection that is of age.
	connectionGrace = 10 * time.Second
	// stopTimeout bounds the wait for calls in flight: none takes long.
	stopTimeout = 5 * time.Second

	// DefaultConnectionAge is how long a connection lasts: KEDA has spread over
	// the replicas some minutes after a rollout, and a handshake costs nothing.
	DefaultConnectionAge = 5 * time.Minute
)

// The limits of the ports. A client without a certificate takes a few megabytes
// of them at most.
var (
	// keda opens one connection for all triggers with the same certificate.
	// A TLS handshake with a chain of several certificates is of 6 KB.
	kedaLimits = ports.Limits{Connections: 128, Bytes: 16 << 10}
	// A kubelet opens a connection for each probe, and sends 400 bytes. A client
	// that asks once a second sends 8 KB in the minute that a connection lasts.
	healthLimits = ports.Limits{Connections: 128, Bytes: 16 << 10}
)

const (
	// handshakeTimeout bounds TLS and the first frames of HTTP/2.
	handshakeTimeout = 10 * time.Second
	// kedaStreams is how many calls of one connection run at once; others wait at
	// the client. Each takes well under a millisecond.
	kedaStreams, healthStreams = 256, 4
	// A call carries a trigger's metadata. What the scaler writes is of an
	// InferenceSet's annotations, which Kubernetes bounds at 256 KB.
	maxCall, maxProbe = 512 << 10, 1 << 10
	// maxHeaders bounds a call's headers: KEDA's have 300 bytes.
	maxHeaders = 16 << 10
	// A health connection that idles, or is old, ends.
	healthBuffer          = 1 << 10
	healthIdle, healthAge = 30 * time.Second, time.Minute
)

// Serve answers KEDA over TLS on the address until the context ends, and then
// lets the calls in flight finish. A connection ends, without a call failing for
// it, when it is age old, 10 % more or less: so KEDA spreads over replicas that
// joined.
func Serve(
	ctx context.Context, address string, config *tls.Config, age time.Duration, service *Service, watchdog *Watchdog,
) error {
	listener, err := ports.Listen(ctx, address, kedaLimits)
	if err != nil {
		return err //nolint:wrapcheck // it names the address
	}
	return serve(ctx, listener, newServer(config, age, service, watchdog))
}

func newServer(config *tls.Config, age time.Duration, service *Service, watchdog *Watchdog) *grpc.Server {
	running := &calls{}
	watchdog.Add("calls", changing(running.oldest))
	server := grpc.NewServer(
		grpc.Creds(trustingCredentials{credentials.NewTLS(config), service.Handshakes}),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxConcurrentStreams(kedaStreams), grpc.MaxRecvMsgSize(maxCall), grpc.MaxHeaderListSize(maxHeaders),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: pingAfter, Timeout: pingTimeout,
			MaxConnectionAge: age, MaxConnectionAgeGrace: connectionGrace,
		}),
		grpc.ChainUnaryInterceptor(running.unary, service.Metrics.unary),
		grpc.StreamInterceptor(service.Metrics.stream),
	)
	pb.RegisterExternalScalerServer(server, service)
	return server
}

// trustingCredentials trusts a connection whose client has shown its certificate.
type trustingCredentials struct {
	credentials.TransportCredentials
	handshakes *Handshakes
}

// ServerHandshake implements credentials.TransportCredentials.
func (t trustingCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := t.TransportCredentials.ServerHandshake(raw)
	if err == nil {
		ports.Trust(raw)
	} else {
		t.handshakes.recordFailure(err)
	}
	return conn, info, err //nolint:wrapcheck // gRPC looks for its own errors
}

// Clone implements credentials.TransportCredentials.
func (t trustingCredentials) Clone() credentials.TransportCredentials {
	return trustingCredentials{t.TransportCredentials.Clone(), t.handshakes}
}

// ServeHealth answers gRPC health probes in plaintext on the address until the
// context ends. Ready and the watchdog are asked once a second.
func ServeHealth(ctx context.Context, address string, ready func() bool, watchdog *Watchdog, log logr.Logger) error {
	listener, err := ports.Listen(ctx, address, healthLimits)
	if err != nil {
		return err //nolint:wrapcheck // it names the address
	}
	return serveHealth(ctx, listener, ready, watchdog, log)
}

// healthService answers Check alone: nobody who probes the scaler watches, and a stream
// costs memory for as long as its client likes.
type healthService struct {
	healthgrpc.UnimplementedHealthServer
	state *health.Server
}

// Check implements healthgrpc.HealthServer.
func (p healthService) Check(ctx context.Context, request *healthgrpc.HealthCheckRequest) (*healthgrpc.HealthCheckResponse, error) {
	return p.state.Check(ctx, request) //nolint:wrapcheck // a status
}

func serveHealth(ctx context.Context, listener net.Listener, ready func() bool, watchdog *Watchdog, log logr.Logger) error {
	state := health.NewServer()
	server := grpc.NewServer(
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.ReadBufferSize(healthBuffer), grpc.WriteBufferSize(healthBuffer),
		grpc.MaxConcurrentStreams(healthStreams), grpc.MaxRecvMsgSize(maxProbe), grpc.MaxHeaderListSize(maxHeaders),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: pingAfter, Timeout: pingTimeout,
			MaxConnectionIdle: healthIdle, MaxConnectionAge: healthAge, MaxConnectionAgeGrace: connectionGrace,
		}),
	)
	healthgrpc.RegisterHealthServer(server, healthService{state: state})
	state.SetServingStatus(Liveness, healthgrpc.HealthCheckResponse_SERVING)
	state.SetServingStatus("", healthgrpc.HealthCheckResponse_NOT_SERVING)

	// Whoever answers whether it is ready may be stuck.
	var asked atomic.Uint64
	watchdog.Add("readiness", changing(asked.Load))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() {
		reportReadiness(ctx, state, func() bool {
			asked.Add(1)
			return ready()
		}, log)
	})
	watching.Go(func() { watchdog.reportLiveness(ctx, state, log) })
	err := serve(ctx, listener, server)
	cancel()
	watching.Wait()
	return err
}

func reportReadiness(ctx context.Context, state *health.Server, ready func() bool, log logr.Logger) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	was := false
	for {
		if is := ready(); is != was {
			was = is
			log.Info("readiness changed", "ready", is)
			status := healthgrpc.HealthCheckResponse_NOT_SERVING
			if is {
				status = healthgrpc.HealthCheckResponse_SERVING
			}
			state.SetServingStatus("", status)
		}
		select {
		case <-ctx.Done():
			// Endpoints drop this replica before its calls end.
			state.Shutdown()
			return
		case <-ticker.C:
		}
	}
}

// serve runs a server until the context ends, and joins it.
func serve(ctx context.Context, listener net.Listener, server *grpc.Server) error {
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	hard := time.AfterFunc(stopTimeout, server.Stop)
	defer hard.Stop()
	server.GracefulStop()
	// A stop that comes before the start is a stop all the same.
	if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return nil
}
