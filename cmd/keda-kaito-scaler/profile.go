package main

import (
	"context"
	"net/http"
	"net/http/pprof" // registers with the default mux too, which nobody serves here
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/ports"
)

// serveProfiles serves Go's profiles, for kubectl port-forward. They show
// memory, so there is nothing but loopback for them.
func (p *program) serveProfiles(ctx context.Context) error {
	if p.options.pprofAddress == "" {
		return nil
	}
	listener, err := ports.Listen(ctx, p.options.pprofAddress, ports.Limits{Connections: 4})
	if err != nil {
		return err //nolint:wrapcheck // it names the address
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	// Package pprof refuses profiles that would take longer.
	return ports.ServeHTTP(ctx, listener, mux, 5*time.Minute, p.log) //nolint:wrapcheck // it names the address
}
