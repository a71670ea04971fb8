package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	pollEvery = 100 * time.Millisecond
	// readyWithin is generous: a busy machine with two cores takes a third of it.
	readyWithin = 90 * time.Second
)

// await polls until ready returns nil. It gives up when any component of the
// cluster ends, after readyWithin, or with ctx. p is the process that is waited
// for (nil for none in particular): the end of its log goes into the error.
func (c *Cluster) await(ctx context.Context, p *Process, what string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	var last error
	for {
		err := tryOnce(ctx, ready)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // that time is up says less than what was the matter before
			last = err
		}
		select {
		case <-c.failed:
			return fmt.Errorf("waiting for %s: %w", what, c.Err())
		case <-ctx.Done():
			return notReady(ctx, p, what, last)
		case <-ticker.C:
		}
	}
}

// tryOnce bounds one look, so that one request that hangs is not the last.
func tryOnce(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return ready(ctx)
}

func notReady(ctx context.Context, p *Process, what string, last error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
	}
	err := fmt.Errorf("%s was not ready in time: %w", what, last)
	if p != nil {
		err = fmt.Errorf("%w; the end of %s's log:\n%s", err, p.name, p.Tail(tailOnFailure))
	}
	return err
}

// answersOK is a readiness check: GET url answers 200. HTTPS is verified
// against the cluster's CA, with admin's certificate shown.
func (c *Cluster) answersOK(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		config, err := c.clientTLS()
		if err != nil {
			return err
		}
		transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s: %s", url, response.Status, body)
		}
		return nil
	}
}

func (c *Cluster) clientTLS() (*tls.Config, error) {
	admin, err := tls.LoadX509KeyPair(c.ca.file("admin.crt"), c.ca.file("admin.key"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.ca.cert)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{admin}, MinVersion: tls.VersionTLS12}, nil
}

// listens is a readiness check: somebody accepts connections on the port.
func listens(port string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(loopback, port))
		if err != nil {
			return err
		}
		return conn.Close()
	}
}
