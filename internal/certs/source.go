package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Source serves the server's certificate as it was loaded last. Handshakes ask
// it, so a new certificate needs no restart and no reconnection: connections
// that stand keep what they shook hands with.
type Source struct {
	current atomic.Pointer[material]

	// mu guards the order of loads; handshakes don't take it.
	mu     sync.Mutex
	loaded chan struct{} // closed by the first load
}

// material is immutable: a handshake uses one from its start to its end.
type material struct {
	config  *tls.Config
	digest  [sha256.Size]byte
	expires time.Time
}

// NewSource has nothing to serve yet: handshakes fail until the first Load.
func NewSource() *Source {
	return &Source{loaded: make(chan struct{})}
}

var errNotLoaded = errors.New("no server certificate is loaded yet")

// Ready is nil once there is a certificate to serve. It stays nil after that: a
// Secret that was wiped doesn't take away what is in memory.
func (s *Source) Ready() error {
	if s.current.Load() == nil {
		return fmt.Errorf("%w: Secret %s is missing or not in working order", errNotLoaded, ServerSecret)
	}
	return nil
}

// Loaded is closed once there is a certificate to serve.
func (s *Source) Loaded() <-chan struct{} { return s.loaded }

// Expires is the end of the certificate that is served; zero if there is none.
func (s *Source) Expires() time.Time {
	if m := s.current.Load(); m != nil {
		return m.expires
	}
	return time.Time{}
}

// TLSConfig is for the gRPC server. It asks for the client's certificate and
// accepts only KEDA's: signed by one of our roots, for clients, with ClientName.
func (s *Source) TLSConfig() *tls.Config {
	config := baseConfig()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m := s.current.Load()
		if m == nil {
			return nil, errNotLoaded
		}
		return m.config, nil
	}
	return config
}

func baseConfig() *tls.Config {
	return &tls.Config{
		// 1.3 is what any Go peer agrees on; 1.2 is for a KEDA that was told to
		// go no higher.
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert,
		// A resumed session would not show its certificate again, and so would
		// outlive the root that it was verified with.
		SessionTicketsDisabled: true,
		VerifyConnection:       verifyClient,
	}
}

var errClient = errors.New("client certificate refused")

// verifyClient comes after the chain was verified against our roots. A shared
// CA, as with certificates from cert-manager, signs for others too.
func verifyClient(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("%w: there is none", errClient)
	}
	cert := state.PeerCertificates[0]
	if !slices.Contains(cert.DNSNames, ClientName) {
		return fmt.Errorf("%w: its names are %q: must hold %q", errClient, cert.DNSNames, ClientName)
	}
	// Without any usage listed a certificate counts as good for everything.
	if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return fmt.Errorf("%w: it is not meant for clients", errClient)
	}
	return nil
}

// Load takes over the data of the server's Secret, if it is in working order at
// now; otherwise it returns an error and keeps what it has, because an old
// certificate still serves and a broken one doesn't. It says whether anything
// changed.
func (s *Source) Load(data Data, now time.Time) (bool, error) {
	m, err := newMaterial(data, now)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.current.Load()
	if old != nil && old.digest == m.digest {
		return false, nil
	}
	s.current.Store(m)
	setExpiry(forServer.String(), m.config.Certificates[0].Leaf)
	if old == nil {
		close(s.loaded)
	}
	return true, nil
}

// newMaterial checks everything but the names: while replicas of two versions
// run side by side, the one that doesn't lead may have to serve a certificate
// with the names that the other was configured with.
func newMaterial(data Data, now time.Time) (*material, error) {
	pair, err := tls.X509KeyPair(data[keyCert], data[keyKey])
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", keyCert, keyKey, err)
	}
	if pair.Leaf.IsCA || !slices.Contains(pair.Leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		return nil, fmt.Errorf("%s: it is no certificate for a server", keyCert)
	}
	roots := x509.NewCertPool()
	trusted, err := decodeCerts(data[keyRoots])
	if err != nil {
		return nil, fmt.Errorf("%s %w", keyRoots, err)
	}
	for _, root := range trusted {
		roots.AddCert(root)
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: its chain: %w", keyCert, err)
		}
		between.AddCert(cert)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
	}); err != nil {
		return nil, fmt.Errorf("%s against %s: %w", keyCert, keyRoots, err)
	}

	config := baseConfig()
	config.Certificates = []tls.Certificate{pair}
	config.ClientCAs = roots
	return &material{config: config, digest: digest(data), expires: pair.Leaf.NotAfter}, nil
}

// digest is over what counts, whatever else the Secret holds.
func digest(data Data) [sha256.Size]byte {
	h := sha256.New()
	for _, key := range []string{keyRoots, keyCert, keyKey} {
		// A part's own sum, so that nothing moves across a boundary.
		part := sha256.Sum256(data[key])
		h.Write(part[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// shortDigest is half of a digest in hexadecimal: more than enough to tell two
// apart.
func shortDigest(data Data) string {
	sum := digest(data)
	return hex.EncodeToString(sum[:8])
}
