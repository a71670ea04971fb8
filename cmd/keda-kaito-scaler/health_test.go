package main

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr"

	"github.com/kaito-project/keda-kaito-scaler/internal/scaler"
)

// helm test runs this against the health port of the Service.
func TestHealthAsksWhetherAScalerIsReady(t *testing.T) {
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}

	out := call(t, nowhere, "health", address, "--timeout=2s")
	if out.err == nil || !strings.Contains(out.err.Error(), address+" isn't ready: ") || !strings.Contains(out.err.Error(), "connection refused") {
		t.Errorf("nobody listens: %v", out.err)
	}

	var ready atomic.Bool
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- scaler.ServeHealth(ctx, address, ready.Load, &scaler.Watchdog{}, logr.Discard()) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	// It may not listen at the first question: the second one comes a second later.
	out = call(t, nowhere, "health", address, "--timeout=3s")
	if out.err == nil || !strings.Contains(out.err.Error(), "isn't ready: it says NOT_SERVING; its log says what it waits for") {
		t.Errorf("it isn't ready: %v", out.err)
	}
	ready.Store(true)
	out = call(t, nowhere, "health", address)
	if out.err != nil || out.stdout != address+" is ready\n" {
		t.Errorf("it is ready: %q, %v", out.stdout, out.err)
	}

	for _, args := range [][]string{{"health"}, {"health", "a:1", "b:2"}, {"health", "127.0.0.1"}} {
		if out := call(t, nowhere, args...); out.err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}
