package scaler

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-logr/logr"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
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

	// Liveness is the health service that a kubelet's liveness probe names;
	// the empty name is readiness.
	Liveness = "liveness"
)

// Serve answers KEDA over TLS on the address until the context ends, and then
// lets the calls in flight finish. A connection ends, without a call failing for
// it, when it is age old, 10 % more or less: so KEDA spreads over replicas that
// joined.
func Serve(ctx context.Context, address string, config *tls.Config, age time.Duration, service *Service) error {
	listener, err := listen(ctx, address)
	if err != nil {
		return err
	}
	return serve(ctx, listener, newServer(config, age, service))
}

func newServer(config *tls.Config, age time.Duration, service *Service) *grpc.Server {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(config)),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: pingAfter, Timeout: pingTimeout,
			MaxConnectionAge: age, MaxConnectionAgeGrace: connectionGrace,
		}),
		grpc.UnaryInterceptor(service.Metrics.unary),
		grpc.StreamInterceptor(service.Metrics.stream),
	)
	pb.RegisterExternalScalerServer(server, service)
	return server
}

// ServeHealth answers gRPC health probes in plaintext on the address until the
// context ends. Ready is asked once a second.
func ServeHealth(ctx context.Context, address string, ready func() bool, log logr.Logger) error {
	listener, err := listen(ctx, address)
	if err != nil {
		return err
	}
	return serveHealth(ctx, listener, ready, log)
}

func serveHealth(ctx context.Context, listener net.Listener, ready func() bool, log logr.Logger) error {
	state := health.NewServer()
	server := grpc.NewServer()
	healthgrpc.RegisterHealthServer(server, state)
	state.SetServingStatus(Liveness, healthgrpc.HealthCheckResponse_SERVING)
	state.SetServingStatus("", healthgrpc.HealthCheckResponse_NOT_SERVING)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		follow(ctx, state, ready, log)
	}()
	err := serve(ctx, listener, server)
	cancel()
	<-watched
	return err
}

func follow(ctx context.Context, state *health.Server, ready func() bool, log logr.Logger) {
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

func listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, nil
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
