package ha

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
)

// front is one address with scalers behind it, as kube-proxy makes it of a
// Service: a new connection goes to the next scaler that is ready, and stays
// there to its end.
type front struct {
	listener net.Listener
	running  sync.WaitGroup
	cancel   context.CancelFunc

	// mu guards what follows.
	mu    sync.Mutex
	ready []string
	next  int
	open  map[net.Conn]string // accepted connections, by where they lead
}

func newFront(t *testing.T) *front {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &front{listener: listener, cancel: cancel, open: map[net.Conn]string{}}
	f.running.Go(func() { f.accept(ctx) })
	t.Cleanup(f.close)
	return f
}

func (f *front) address() string { return f.listener.Addr().String() }

func (f *front) close() {
	f.cancel()
	_ = f.listener.Close()
	f.mu.Lock()
	for connection := range f.open {
		_ = connection.Close()
	}
	f.mu.Unlock()
	f.running.Wait()
}

func (f *front) accept(ctx context.Context) {
	for {
		connection, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.running.Go(func() { f.forward(ctx, connection) })
	}
}

func (f *front) forward(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	address, ok := f.pick(client)
	if !ok {
		return
	}
	defer f.drop(client)
	var dialer net.Dialer
	scaler, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
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

func (f *front) pick(client net.Conn) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.ready) == 0 {
		return "", false
	}
	f.next++
	address := f.ready[f.next%len(f.ready)]
	f.open[client] = address
	return address, true
}

func (f *front) drop(client net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, client)
}

// connections are those that lead to a scaler now.
func (f *front) connections(address string) int {
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

func (f *front) set(address string, ready bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch is := slices.Contains(f.ready, address); {
	case ready && !is:
		f.ready = append(f.ready, address)
	case !ready && is:
		f.ready = slices.DeleteFunc(f.ready, func(a string) bool { return a == address })
	}
}

// follow keeps a scaler among the ready ones for as long as its probe says so,
// as the endpoints of a Service do.
func (f *front) follow(ctx context.Context, address, health string) error {
	connection, err := grpc.NewClient(health, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	defer f.set(address, false)
	probe := healthgrpc.NewHealthClient(connection)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		answer, err := probe.Check(ask, &healthgrpc.HealthCheckRequest{})
		cancel()
		f.set(address, err == nil && answer.GetStatus() == healthgrpc.HealthCheckResponse_SERVING)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
