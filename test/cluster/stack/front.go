package stack

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Front is one address with scalers behind it, as kube-proxy makes it of a
// Service: a new connection goes to the next scaler that is ready, and stays
// there to its end.
type Front struct {
	// SkipDead lets a new connection go to the next scaler if one refuses it, as
	// gRPC's round robin does with the addresses of a headless Service. Without
	// it the connection ends. It is set before the first connection.
	SkipDead bool

	listener net.Listener
	running  sync.WaitGroup
	cancel   context.CancelFunc

	// mu guards what follows.
	mu    sync.Mutex
	ready []string
	next  int
	open  map[net.Conn]string // accepted connections, by where they lead
}

// NewFront listens on a free loopback port, with no scaler behind it, until
// Close. ctx bounds the start only.
func NewFront(ctx context.Context) (*Front, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for KEDA: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &Front{listener: listener, cancel: cancel, open: map[net.Conn]string{}}
	f.running.Go(func() { f.accept(run) })
	return f, nil
}

// Address is where KEDA finds the scalers.
func (f *Front) Address() string { return f.listener.Addr().String() }

// Close ends every connection and waits for it.
func (f *Front) Close() {
	f.cancel()
	_ = f.listener.Close()
	f.mu.Lock()
	for connection := range f.open {
		_ = connection.Close()
	}
	f.mu.Unlock()
	f.running.Wait()
}

func (f *Front) accept(ctx context.Context) {
	for {
		connection, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.running.Go(func() { f.forward(ctx, connection) })
	}
}

func (f *Front) forward(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	defer f.drop(client)
	scaler, ok := f.dial(ctx, client)
	if !ok {
		return
	}
	defer func() { _ = scaler.Close() }()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{client, scaler}, {scaler, client}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			// Either end closes both: a scaler half-closes no connection.
			_ = client.Close()
			_ = scaler.Close()
		})
	}
	both.Wait()
}

// dial connects a client with the next scaler.
func (f *Front) dial(ctx context.Context, client net.Conn) (net.Conn, bool) {
	var dialer net.Dialer
	for tries := 1; ; tries++ {
		address, of := f.pick(client)
		if of == 0 {
			return nil, false
		}
		scaler, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return scaler, true
		}
		if !f.SkipDead || tries >= of {
			return nil, false
		}
	}
}

// pick takes the next of so many scalers that are ready.
func (f *Front) pick(client net.Conn) (address string, of int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.ready) == 0 {
		return "", 0
	}
	f.next++
	address = f.ready[f.next%len(f.ready)]
	f.open[client] = address
	return address, len(f.ready)
}

func (f *Front) drop(client net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, client)
}

// Connections are those that lead to a scaler now.
func (f *Front) Connections(address string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, to := range f.open {
		if to == address {
			n++
		}
	}
	return n
}

// Ready is how many scalers are behind the address.
func (f *Front) Ready() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ready)
}

func (f *Front) set(address string, ready bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch is := slices.Contains(f.ready, address); {
	case ready && !is:
		f.ready = append(f.ready, address)
	case !ready && is:
		f.ready = slices.DeleteFunc(f.ready, func(a string) bool { return a == address })
	}
}

// The chart's readiness probe: as many looks in a row have to come to nothing, each
// within its time, before a pod that is only slow loses its endpoint.
const (
	probeTimeout     = 2 * time.Second
	failureThreshold = 6
)

// Follow keeps a scaler among the ready ones for as long as its probe says so,
// as the endpoints of a Service do, until ctx ends. One that says that it isn't
// ready, or that is gone, is none of them at once: that stands for a pod which is
// being deleted, or whose container has ended.
func (f *Front) Follow(ctx context.Context, scaler *Scaler) error {
	connection, err := grpc.NewClient(scaler.Health, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to the scaler's health port: %w", err)
	}
	defer func() { _ = connection.Close() }()
	defer f.set(scaler.GRPC, false)
	probe := healthgrpc.NewHealthClient(connection)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	late := 0
	for {
		ask, cancel := context.WithTimeout(ctx, probeTimeout)
		answer, err := probe.Check(ask, &healthgrpc.HealthCheckRequest{})
		cancel()
		if status.Code(err) == codes.DeadlineExceeded {
			late++
		} else {
			late = 0
		}
		if late == 0 || late >= failureThreshold {
			f.set(scaler.GRPC, err == nil && answer.GetStatus() == healthgrpc.HealthCheckResponse_SERVING)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
