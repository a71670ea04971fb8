package scrape

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// secure is how the handshake with one pod goes. Whoever made its certificate
// made it for the Workspace's Service, by which clients know it, or for the
// pod's address: either will do, signed by one of the roots.
func (r *Reader) secure(service, ip string) *tls.Config {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: service,
		NextProtos: []string{"http/1.1"},
		// The session goes with the pod. vLLM's server hangs up on a connection
		// that idles for five seconds, so that each scrape may shake hands.
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it, by two names
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		total := 0
		for _, c := range state.PeerCertificates {
			total += len(c.Raw)
		}
		if total > maxCertificates {
			// They are kept with the connection.
			return fmt.Errorf("its certificates have %d bytes, over the limit of %d", total, maxCertificates)
		}
		if r.cfg.SkipVerify {
			return nil
		}
		return verify(state.PeerCertificates, r.cfg.Roots, time.Now(), service, ip)
	}
	return config
}

// maxCertificates is room for a chain of ten.
const maxCertificates = 32 << 10

// verify that the first of a server's certificates is good for one of the names
// and signed, over the others, by one of the roots.
func verify(certificates []*x509.Certificate, roots *x509.CertPool, now time.Time, names ...string) error {
	if len(certificates) == 0 {
		return errors.New("the server has no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range certificates[1:] {
		between.AddCert(c)
	}
	leaf := certificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now}); err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		err := leaf.VerifyHostname(name)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errs[0]
}
