package ports

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	certutil "k8s.io/client-go/util/cert"
)

// metricsLimits are for a few Prometheis, each with a connection or two.
var metricsLimits = Limits{Connections: 32}

// metricsTimeout is how long a scrape may take. Prometheus itself gives
// up after 10 s unless it is told otherwise.
const metricsTimeout = 15 * time.Second

// ServeMetrics serves GET /metrics on the address until the context ends: in
// plaintext to everybody, or with an Authorizer over TLS to those whom it lets
// in. The certificate is one that it makes for itself.
func ServeMetrics(ctx context.Context, address string, gatherer prometheus.Gatherer, authorizer *Authorizer, logger logr.Logger) error {
	var listener net.Listener
	listener, err := Listen(ctx, address, metricsLimits)
	if err != nil {
		return err
	}
	var handler http.Handler = &metricsPage{gatherer: gatherer, log: logger}
	if authorizer != nil {
		certificate, err := selfSigned()
		if err != nil {
			_ = listener.Close()
			return err
		}
		listener = tls.NewListener(listener, &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{certificate},
		})
		handler = authorizer.Handler(handler)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+metricsPath, handler)
	return ServeHTTP(ctx, listener, mux, metricsTimeout, logger)
}

func selfSigned() (tls.Certificate, error) {
	cert, key, err := certutil.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate for the metrics: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate for the metrics: %w", err)
	}
	return pair, nil
}

// pageAge is how long a page is good for all who ask.
const pageAge = time.Second

// metricsPage serves what a gatherer has. Gathering the metrics of 2 000
// InferenceSets takes tens of megabytes for a moment, so that there is one page
// for all who ask within a second, kept packed while they read it.
type metricsPage struct {
	gatherer prometheus.Gatherer
	log      logr.Logger

	// mu guards what follows, and is held while a page is made.
	mu     sync.Mutex
	made   time.Time
	packed []byte
	err    error
}

func (p *metricsPage) page() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.made) < pageAge {
		return p.packed, p.err
	}
	failed := p.err != nil
	p.packed, p.err = p.make()
	p.made = time.Now()
	if p.err != nil && !failed {
		p.log.Error(p.err, "metrics can't be told")
	}
	return p.packed, p.err
}

func (p *metricsPage) make() ([]byte, error) {
	families, err := p.gatherer.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	encoder := expfmt.NewEncoder(zip, textFormat)
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			return nil, fmt.Errorf("write metrics: %w", err)
		}
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("pack metrics: %w", err)
	}
	return packed.Bytes(), nil
}

// textFormat is what every Prometheus takes, whatever else it asks for.
var textFormat = expfmt.NewFormat(expfmt.TypeTextPlain)

// ServeHTTP implements http.Handler.
func (p *metricsPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	packed, err := p.page()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(textFormat))
	w.Header().Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", strconv.Itoa(len(packed)))
		_, _ = w.Write(packed)
		return
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.Copy(w, unpacked) //nolint:gosec // what was packed is a page of our own
}
