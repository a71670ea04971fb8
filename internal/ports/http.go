package ports

import (
	"context"
	"errors"
	"fmt"
	"log" //nolint:depguard // what http.Server takes
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-logr/logr"
)

const (
	// headerTimeout bounds the TLS handshake, and a request's header.
	headerTimeout = 10 * time.Second
	// idleTimeout is above the minute that Prometheus takes between two scrapes.
	idleTimeout = 2 * time.Minute
	// maxHeader is above any token: they are of 1 to 8 KB.
	maxHeader = 32 << 10
	// shutdownTimeout bounds the wait for requests in flight.
	shutdownTimeout = 2 * time.Second
)

// ServeHTTP serves HTTP/1.1 until the context ends, and closes the listener. One
// connection has one request at a time, so limits on connections are limits on
// requests. A request must have come, and its answer have been read, within the
// timeout.
func ServeHTTP(ctx context.Context, listener net.Listener, handler http.Handler, timeout time.Duration, logger logr.Logger) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler: handler, Protocols: protocols, BaseContext: func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: headerTimeout, ReadTimeout: timeout, WriteTimeout: timeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
		// A line for each handshake that fails: as many as a client likes.
		ErrorLog: log.New(quiet{logger}, "", 0),
	}
	stopped := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(stopped)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if server.Shutdown(last) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(listener)
	if !unhook() {
		<-stopped
	}
	if !errors.Is(err, http.ErrServerClosed) {
		_ = server.Close()
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return nil
}

// quiet writes lines at a level that nobody sees unless it is asked for.
type quiet struct{ log logr.Logger }

// Write implements io.Writer.
func (q quiet) Write(line []byte) (int, error) {
	q.log.V(1).Info(strings.TrimSpace(string(line)))
	return len(line), nil
}
