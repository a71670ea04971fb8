package scaler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Readiness is false until it is set: health is served from the first moment, and
// what it depends on comes later.
type Readiness struct {
	ready atomic.Pointer[func() bool]
}

// Set gives what tells whether the program is ready.
func (r *Readiness) Set(ready func() bool) { r.ready.Store(&ready) }

// Ready tells whether the program is ready.
func (r *Readiness) Ready() bool {
	ready := r.ready.Load()
	return ready != nil && (*ready)()
}

// WaitUntilReady asks the health service at an address every second until it says
// that it is ready.
func WaitUntilReady(ctx context.Context, address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("%s is no HOST:PORT: %w", address, err)
	}
	// A proxy is for the world outside of the cluster.
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	defer func() { _ = connection.Close() }()
	pause := time.NewTicker(time.Second)
	defer pause.Stop()
	for last := errors.New("it didn't answer"); ; {
		answer, err := healthgrpc.NewHealthClient(connection).Check(ctx, &healthgrpc.HealthCheckRequest{})
		switch {
		case err == nil && answer.GetStatus() == healthgrpc.HealthCheckResponse_SERVING:
			return nil
		case err == nil:
			last = fmt.Errorf("it says %s; its log says what it waits for", answer.GetStatus())
		case status.Code(err) != codes.DeadlineExceeded: // which says less than what came before
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s isn't ready: %w", address, last)
		case <-pause.C:
		}
	}
}
