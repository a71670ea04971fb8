package scaler

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Handshakes remember why the newest one failed that says something of KEDA's
// certificate. nil remembers nothing.
type Handshakes struct {
	// mu guards what follows.
	mu   sync.Mutex
	at   time.Time
	what string
}

// recordFailure takes in an error of a server's handshake.
func (h *Handshakes) recordFailure(err error) {
	what := describeHandshake(err)
	if h == nil || what == "" {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at, h.what = time.Now(), what
}

// lastFailure is what went wrong within that time, "" if nothing did.
func (h *Handshakes) lastFailure(within time.Duration) string {
	if h == nil {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.what == "" || time.Since(h.at) > within {
		return ""
	}
	return h.what
}

// withoutTLS is what KEDA is without both in a trigger written by hand.
const withoutTLS = "a client that calls doesn't use TLS"

// describeHandshake is what a failed handshake says of the client, "" for nothing: it may
// just have gone away. crypto/tls has no types for most of these.
func describeHandshake(err error) string {
	var plain tls.RecordHeaderError
	text := err.Error()
	switch {
	case errors.As(err, &plain):
		return withoutTLS
	case hasAny(text, "remote error: tls: bad certificate", "remote error: tls: unknown certificate"):
		return "a client that calls doesn't trust the scaler's certificate"
	case strings.Contains(text, "didn't provide a certificate"):
		return "a client that calls shows no certificate"
	case strings.Contains(text, "failed to verify certificate"):
		return "a client that calls shows a certificate that isn't the scaler's"
	}
	return ""
}

func hasAny(text string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}
