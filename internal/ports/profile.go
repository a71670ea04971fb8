package ports

import (
	"context"
	"net/http"
	"net/http/pprof" // registers with the default mux too, which nobody serves here
	"time"

	"github.com/go-logr/logr"
)

// ServeProfiles serves Go's profiles, for kubectl port-forward, until the context
// ends. They show memory: the address must be a loopback one.
func ServeProfiles(ctx context.Context, address string, log logr.Logger) error {
	listener, err := Listen(ctx, address, Limits{Connections: 4})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	// Package pprof refuses profiles that would take longer.
	return ServeHTTP(ctx, listener, mux, 5*time.Minute, log)
}
