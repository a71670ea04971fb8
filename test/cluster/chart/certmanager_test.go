package chart

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

const (
	serverSecret = "keda-kaito-scaler-server-certs"
	clientSecret = "keda-kaito-scaler-client-certs"
)

// cert-manager's own controllers make the certificates that the chart asks for,
// and renew them and their CA while KEDA asks. The scaler writes none.
func TestCertManagersCertificatesServe(t *testing.T) {
	audit := filepath.Join(t.TempDir(), "audit.log")
	s := start(t, stack.Options{HPASync: time.Second, KAITO: quick, AuditLog: audit, AuditPolicy: stack.AuditPolicy})
	program := installCertManager(t, s)
	// New connections all the time, so that each certificate comes into use.
	scaler := launch(t, s, "certManager.enabled=true", "connectionAge=3s", "log.level=1")
	eventually(t, "the rendered liveness probe passes", probe(t, scaler.container.LivenessProbe))
	if err := probe(t, scaler.container.ReadinessProbe)(t.Context()); err == nil {
		t.Error("ready before there is a certificate")
	}
	if _, err := s.StartCertManager(program); err != nil {
		t.Fatal(err)
	}
	scaler.awaitReady(t)
	quickStart(t, s, "default")
	scaler.wantOnlyOurs(t, s)

	log := kedaLogFromNow(t, s)
	scaler.answers(t, 3)
	for _, name := range []string{"server", "client", "ca", "server", "client"} {
		secret := map[string]string{"server": serverSecret, "client": clientSecret, "ca": "keda-kaito-scaler-ca"}[name]
		before := serial(t.Context(), t, s, secret)
		renew(t, s, "keda-kaito-scaler-"+name)
		eventually(t, name+" is renewed", func(ctx context.Context) error {
			if serial(ctx, t, s, secret).Cmp(before) == 0 {
				return errors.New("it is the one before")
			}
			return nil
		})
		eventually(t, "what is served is what the Secret says", func(ctx context.Context) error {
			return scaler.serves(ctx, t, s, serial(ctx, t, s, serverSecret))
		})
		scaler.answers(t, 8) // over connections that are younger than the certificate
	}
	log.wantNoFailure()
	scaler.wantNothingForbidden(t)
	requests, err := stack.Requests(audit)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range requests {
		if r.Object.Resource == "secrets" && r.Verb != "get" && r.Verb != "list" && r.Verb != "watch" {
			t.Errorf("the scaler asked for %s %s, which is cert-manager's to do", r.Verb, r.URI)
		}
	}
}

// installCertManager builds it and applies its CRDs, without a conversion
// webhook: they have one version.
func installCertManager(t *testing.T, s *stack.Stack) (program string) {
	t.Helper()
	program, crds, err := controlplane.BuildCertManager(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(crds, "cert-manager.io_*.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("cert-manager's CRDs are %q: %v", files, err)
	}
	for _, file := range files {
		manifest, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(t.Context(), manifest); err != nil {
			t.Fatal(err)
		}
	}
	return program
}

// renew does what `cmctl renew` does.
func renew(t *testing.T, s *stack.Stack, name string) {
	t.Helper()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		certificate := &unstructured.Unstructured{}
		certificate.SetAPIVersion("cert-manager.io/v1")
		certificate.SetKind("Certificate")
		key := client.ObjectKey{Namespace: stack.Namespace, Name: name}
		if err := s.Client.Get(t.Context(), key, certificate); err != nil {
			return err
		}
		conditions, _, err := unstructured.NestedSlice(certificate.Object, "status", "conditions")
		if err != nil {
			return err
		}
		conditions = append(conditions, map[string]any{
			"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "renewed by a test",
			"lastTransitionTime": metav1.Now().UTC().Format(time.RFC3339), "observedGeneration": certificate.GetGeneration(),
		})
		if err := unstructured.SetNestedSlice(certificate.Object, conditions, "status", "conditions"); err != nil {
			return err
		}
		return s.Client.Status().Update(t.Context(), certificate)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func secretOf(ctx context.Context, t *testing.T, s *stack.Stack, name string) *corev1.Secret {
	t.Helper()
	secret := &corev1.Secret{}
	if err := s.Client.Get(ctx, client.ObjectKey{Namespace: stack.Namespace, Name: name}, secret); err != nil {
		t.Fatal(err)
	}
	return secret
}

// serial is that of the certificate in a Secret.
func serial(ctx context.Context, t *testing.T, s *stack.Stack, secret string) *big.Int {
	t.Helper()
	block, _ := pem.Decode(secretOf(ctx, t, s, secret).Data["tls.crt"])
	if block == nil {
		t.Fatalf("no certificate in %s", secret)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.SerialNumber
}

// dial shakes hands as KEDA does, with what the client's Secret says now, or
// without a certificate.
func (c *scaler) dial(ctx context.Context, t *testing.T, s *stack.Stack, certificate bool) (tls.ConnectionState, error) {
	t.Helper()
	secret := secretOf(ctx, t, s, clientSecret)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret.Data["ca.crt"])
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, NextProtos: []string{"h2"}}
	if certificate {
		pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
		if err != nil {
			return tls.ConnectionState{}, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	dialer := tls.Dialer{Config: config}
	connection, err := dialer.DialContext(ctx, "tcp", c.grpc)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = connection.Close() }()
	// In TLS 1.3 the server's verdict on a client comes after the handshake: as
	// the first frame of its own, or as an alert.
	if err := connection.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := connection.Read(make([]byte, 1)); err != nil {
		return tls.ConnectionState{}, fmt.Errorf("after the handshake: %w", err)
	}
	return connection.(*tls.Conn).ConnectionState(), nil
}

func (c *scaler) serves(ctx context.Context, t *testing.T, s *stack.Stack, want *big.Int) error {
	t.Helper()
	state, err := c.dial(ctx, t, s, true)
	if err != nil {
		return err
	}
	if got := state.PeerCertificates[0].SerialNumber; got.Cmp(want) != 0 {
		return fmt.Errorf("serial %x is served, want %x", got, want)
	}
	return nil
}

// wantOnlyOurs wants KEDA let in, and nobody without its certificate.
func (c *scaler) wantOnlyOurs(t *testing.T, s *stack.Stack) {
	t.Helper()
	if _, err := c.dial(t.Context(), t, s, true); err != nil {
		t.Errorf("KEDA's certificate is refused: %v", err)
	}
	if _, err := c.dial(t.Context(), t, s, false); err == nil {
		t.Error("somebody without a certificate is let in")
	}
}

// answers waits until KEDA has been answered so many times more.
func (c *scaler) answers(t *testing.T, more int) {
	t.Helper()
	count := func() int { return strings.Count(c.log(t), `"msg":"answered"`) }
	before := count()
	eventually(t, fmt.Sprintf("KEDA asks %d times more", more), func(context.Context) error {
		if n := count() - before; n < more {
			return fmt.Errorf("it did so %d times", n)
		}
		return nil
	})
}

// kedaLog is KEDA's operator's log from some point on.
type kedaLog struct {
	*testing.T
	file string
	from int64
}

func kedaLogFromNow(t *testing.T, s *stack.Stack) *kedaLog {
	t.Helper()
	l := &kedaLog{T: t, file: s.Process("keda-operator").LogFile()}
	info, err := os.Stat(l.file)
	if err != nil {
		t.Fatal(err)
	}
	l.from = info.Size()
	return l
}

// wantNoFailure wants no call of KEDA's to have failed.
func (l *kedaLog) wantNoFailure() {
	l.Helper()
	data, err := os.ReadFile(l.file)
	if err != nil {
		l.Fatal(err)
	}
	for line := range strings.Lines(string(data[min(l.from, int64(len(data))):])) {
		if strings.Contains(line, "\tERROR\t") && strings.Contains(line, "external_scaler") {
			l.Errorf("a call of KEDA's failed: %s", line)
		}
	}
}
