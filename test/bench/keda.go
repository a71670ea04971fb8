//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log"
	"math/rand/v2"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// keda calls as KEDA does: over one connection, with the certificate that it
// is given for it.
type keda struct {
	conn   *grpc.ClientConn
	client pb.ExternalScalerClient
	// guarded is whether its triggers are.
	guarded bool

	mu sync.Mutex
	// mu guards everything below.
	took          []time.Duration
	calls, failed int
}

func dial(h hello, guarded bool) (*keda, error) {
	pair, err := tls.X509KeyPair(h.Client["tls.crt"], h.Client["tls.key"])
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(h.Client["ca.crt"]) {
		return nil, errors.New("the client's Secret holds no roots")
	}
	conn, err := grpc.NewClient(h.Address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: roots,
		ServerName: service + "." + namespace + ".svc",
	})))
	if err != nil {
		return nil, err
	}
	return &keda{conn: conn, client: pb.NewExternalScalerClient(conn), guarded: guarded}, nil
}

func (k *keda) hangUp() { _ = k.conn.Close() }

// askAll asks for every InferenceSet once. What it takes isn't measured.
func (k *keda) askAll(sets int) {
	for set := range sets {
		k.ask(context.Background(), set)
	}
	k.took = nil
}

// keepAsking asks until it is stopped, at the rate at which KEDA and the HPA
// ask, each every 15 s for each InferenceSet. A slow answer delays no call.
func (k *keda) keepAsking(sets int) (stop func()) {
	ctx := context.Background()
	enough := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(15 * time.Second / time.Duration(2*sets))
		defer tick.Stop()
		for {
			select {
			case <-enough:
				return
			case <-tick.C:
				running.Go(func() { k.ask(ctx, rand.IntN(sets)) })
			}
		}
	})
	return func() {
		close(enough)
		running.Wait()
	}
}

func (k *keda) ask(ctx context.Context, set int) {
	trigger := triggerOf(set, k.guarded)
	ref := &pb.ScaledObjectRef{Name: trigger.InferenceSet, Namespace: namespace, ScalerMetadata: trigger.Metadata("scaler:10450")}
	// KEDA's own calls have a time limit too.
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	start := time.Now()
	answer, err := k.client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "s0-" + metric})
	took := time.Since(start)

	k.mu.Lock()
	defer k.mu.Unlock()
	k.took = append(k.took, took)
	k.calls++
	if err != nil || len(answer.GetMetricValues()) != 1 {
		if k.failed == 0 {
			log.Printf("%s is without an answer: %v", key(set), err)
		}
		k.failed++
	}
}
