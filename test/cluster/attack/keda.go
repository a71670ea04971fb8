//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
)

// slowest is the longest that an answer may take: KEDA's calls have 3 s, and a
// kubelet's readiness probe 2 s.
const slowest = 2 * time.Second

// caller is KEDA and the kubelet, who must be answered throughout. KEDA keeps
// one connection and asks for a fleet that means well; the kubelet dials for
// each probe, and so does another KEDA, whom a new connection must not be refused.
type caller struct {
	address, health string
	tls             *tls.Config
	trigger         map[string]string
	out             io.Writer

	mu sync.Mutex
	// mu guards what follows.
	calls, failed int
	took          []time.Duration
	told          map[string]bool
	during        string
}

// newCaller has KEDA's certificate, by the Secret's data.
func newCaller(address, health string, secret map[string][]byte, trigger map[string]string, out io.Writer) (*caller, error) {
	pair, err := tls.X509KeyPair(secret["tls.crt"], secret["tls.key"])
	if err != nil {
		return nil, fmt.Errorf("KEDA's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(secret["ca.crt"]) {
		return nil, errors.New("KEDA's Secret holds no roots")
	}
	return &caller{
		address: address, health: health, trigger: trigger, out: out, told: map[string]bool{},
		tls: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: roots},
	}, nil
}

func (c *caller) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient(c.address, grpc.WithTransportCredentials(credentials.NewTLS(c.tls)))
}

// run calls until the context ends.
func (c *caller) run(ctx context.Context) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	keda := pb.NewExternalScalerClient(conn)
	var running sync.WaitGroup
	defer running.Wait()
	often := func(every time.Duration, what string, call func(context.Context) error) {
		running.Go(func() { c.often(ctx, every, what, call) })
	}
	often(200*time.Millisecond, "GetMetrics", func(ctx context.Context) error { return c.metrics(ctx, keda) })
	often(time.Second, "IsActive", func(ctx context.Context) error {
		_, err := keda.IsActive(ctx, c.ref())
		return err
	})
	often(time.Second, "GetMetricSpec", func(ctx context.Context) error {
		_, err := keda.GetMetricSpec(ctx, c.ref())
		return err
	})
	often(2*time.Second, "GetMetrics over a new connection", c.anew)
	often(time.Second, "readiness probe", func(ctx context.Context) error { return c.probe(ctx, "") })
	often(time.Second, "liveness probe", func(ctx context.Context) error { return c.probe(ctx, "liveness") })
	return nil
}

// often calls one after the other, so that a call that is late delays only
// its own kind. An answer later than slowest is none.
func (c *caller) often(ctx context.Context, every time.Duration, what string, call func(context.Context) error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		within, cancel := context.WithTimeout(ctx, slowest)
		start := time.Now()
		err := call(within)
		took := time.Since(start)
		cancel()
		if ctx.Err() != nil {
			return // cut off by the end of it all
		}
		c.note(what, took, err)
	}
}

func (c *caller) note(what string, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	c.took = append(c.took, took)
	if err == nil && took <= slowest {
		return
	}
	c.failed++
	// One line for each kind of call and attack: thousands may fail.
	if key := what + c.during; !c.told[key] {
		c.told[key] = true
		_, _ = fmt.Fprintf(c.out, "attack: UNANSWERED during %s: %s after %s: %v\n", c.during, what, took.Round(time.Millisecond), err)
	}
}

// under names the attack at hand, for whoever reads of calls that failed, and
// tells how many have so far.
func (c *caller) under(attack string) (failed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.during = attack
	return c.failed
}

func (c *caller) ref() *pb.ScaledObjectRef {
	return &pb.ScaledObjectRef{Name: honest, Namespace: honest, ScalerMetadata: c.trigger}
}

func (c *caller) metrics(ctx context.Context, keda pb.ExternalScalerClient) error {
	answer, err := keda.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: c.ref(), MetricName: "s0"})
	if err != nil {
		return err
	}
	if len(answer.GetMetricValues()) != 1 {
		return fmt.Errorf("%d values", len(answer.GetMetricValues()))
	}
	return nil
}

func (c *caller) anew(ctx context.Context) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return c.metrics(ctx, pb.NewExternalScalerClient(conn))
}

func (c *caller) probe(ctx context.Context, service string) error {
	conn, err := grpc.NewClient(c.health, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answer, err := healthgrpc.NewHealthClient(conn).Check(ctx, &healthgrpc.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if answer.GetStatus() != healthgrpc.HealthCheckResponse_SERVING {
		return fmt.Errorf("it is %s", answer.GetStatus())
	}
	return nil
}

// summary says how the calls went.
func (c *caller) summary() (calls, failed int, p99, longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.took)
	if n := len(c.took); n > 0 {
		p99, longest = c.took[n*99/100], c.took[n-1]
	}
	return c.calls, c.failed, p99, longest
}

// burst asks so often for the honest fleet, some calls at a time.
func (c *caller) burst(ctx context.Context, calls int) error {
	return c.each(ctx, calls, func(int) *pb.GetMetricsRequest {
		return &pb.GetMetricsRequest{ScaledObjectRef: c.ref(), MetricName: "s0"}
	})
}

// each makes so many calls, some at a time, whatever they are answered with.
func (c *caller) each(ctx context.Context, calls int, request func(i int) *pb.GetMetricsRequest) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	keda := pb.NewExternalScalerClient(conn)
	var running sync.WaitGroup
	const workers = 8
	for w := range workers {
		running.Go(func() {
			for i := w; i < calls && ctx.Err() == nil; i += workers {
				_, _ = keda.GetMetrics(ctx, request(i))
			}
		})
	}
	running.Wait()
	return nil
}
