package scrape

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log" //nolint:depguard // what a server of net/http takes
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

// authority signs certificates of pods.
type authority struct {
	*testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{T: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.newKey()
	a.cert = a.sign(template, template, a.key)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		a.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.Fatal(err)
	}
	return cert
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// leaf is a server's certificate for that name or address.
func (a *authority) leaf(name string, end time.Time) tls.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	key := a.newKey()
	return tls.Certificate{Certificate: [][]byte{a.sign(template, a.cert, key).Raw}, PrivateKey: key}
}

// securePod serves a page over TLS with that certificate.
func securePod(t *testing.T, certificate tls.Certificate, handler http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(strings.TrimPrefix(s.URL, "https://"))
}

func TestAPageOverHTTPS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	busy := page200(page.Busy().Text())
	for _, tt := range []struct {
		name   string
		pod    netip.AddrPort
		config Config
		reason Reason
		words  string
	}{
		{"for the pod's address", securePod(t, ours.leaf("127.0.0.1", later), busy), Config{Roots: ours.roots()}, OK, ""},
		{"for the Workspace's Service", securePod(t, ours.leaf("phi-4-a.default.svc", later), busy), Config{Roots: ours.roots()}, OK, ""},
		{"for all Services of the namespace", securePod(t, ours.leaf("*.default.svc", later), busy), Config{Roots: ours.roots()}, OK, ""},
		{"for another Service", securePod(t, ours.leaf("phi-4-b.default.svc", later), busy), Config{Roots: ours.roots()}, BadTLS, "not phi-4-a.default.svc"},
		{"for another address", securePod(t, ours.leaf("127.0.0.2", later), busy), Config{Roots: ours.roots()}, BadTLS, "phi-4-a.default.svc"},
		{"expired", securePod(t, ours.leaf("127.0.0.1", time.Now().Add(-time.Minute)), busy), Config{Roots: ours.roots()}, BadTLS, "expired"},
		{"signed by somebody else", securePod(t, theirs.leaf("127.0.0.1", later), busy), Config{Roots: ours.roots()}, BadTLS, "unknown authority"},
		{"not in the system's roots", securePod(t, ours.leaf("127.0.0.1", later), busy), Config{}, BadTLS, "unknown authority"},
		{"taken unseen", securePod(t, theirs.leaf("example.com", time.Now().Add(-time.Minute)), busy), Config{SkipVerify: true}, OK, ""},
		{"not TLS", vllm(t, busy), Config{Roots: ours.roots()}, BadTLS, "TLS handshake"},
		{"a redirect", securePod(t, ours.leaf("127.0.0.1", later), func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "https://127.0.0.1/", http.StatusFound)
		}), Config{Roots: ours.roots()}, Redirect, "isn't followed"},
		{"a pod that hangs", rawPod(t, "127.0.0.1:0", untilGone), Config{Timeout: 200 * time.Millisecond}, Timeout, "the TLS handshake took too long"},
		{"a pod that hangs up", rawPod(t, "127.0.0.1:0", func(net.Conn) {}), Config{}, Reset, "while the TLS handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := New(tt.config)
			err := scrapeHTTPS(r, tt.pod)()
			f := failureOf(err)
			if f.reason() != tt.reason || (f != nil && !strings.Contains(f.Error(), tt.words)) {
				t.Errorf("got %q: %v; want %q with %q", f.reason(), err, tt.reason, tt.words)
			}
			r.Forget(phi)
		})
	}
}

func scrapeHTTPS(r *Reader, pod netip.AddrPort) func() error {
	r.Set(phi, 1, []kaito.Replica{serving("phi-4-a", pod)},
		[]policy.Reading{{Page: policy.Page{Scheme: "https"}, Families: []string{waiting}}})
	return scraping(r)
}

// vLLM's server hangs up on a connection that idles for five seconds: the next
// scrape shakes hands again, and is to do without the certificates.
func TestAHandshakeResumesTheSessionBefore(t *testing.T) {
	ca := newAuthority(t)
	var full, resumed atomic.Int64
	pod := securePod(t, ca.leaf("127.0.0.1", time.Now().Add(time.Hour)), func(w http.ResponseWriter, req *http.Request) {
		if req.TLS.DidResume {
			resumed.Add(1)
		} else {
			full.Add(1)
		}
		w.Header().Set("Connection", "close")
		_, _ = w.Write([]byte(page.Busy().Text()))
	})
	r := New(Config{Roots: ca.roots()})
	once := scrapeHTTPS(r, pod)
	for range 4 {
		if err := once(); err != nil {
			t.Fatal(err)
		}
	}
	r.Forget(phi)
	if full.Load() != 1 || resumed.Load() != 3 {
		t.Errorf("%d full handshakes and %d resumed, want 1 and 3", full.Load(), resumed.Load())
	}
}
