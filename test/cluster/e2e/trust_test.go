package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// kedaMaterial is what KEDA presents and trusts: the client's Secret.
func kedaMaterial(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	var secret corev1.Secret
	key := types.NamespacedName{Namespace: stack.Namespace, Name: "keda-kaito-scaler-client-certs"}
	if err := shared.Client.Get(t.Context(), key, &secret); err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(secret.Data["ca.crt"]) {
		t.Fatal("no CA in the client's Secret")
	}
	return certificate, roots
}

// stranger is a client certificate that says all the right things, signed by a
// CA that isn't ours.
func stranger(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "keda-kaito-scaler-client"},
		DNSNames:  []string{"keda-kaito-scaler-client"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestOnlyKEDAIsAnswered(t *testing.T) {
	ours, roots := kedaMaterial(t)
	theirs := stranger(t)
	for _, tt := range []struct {
		caller string
		config *tls.Config
		want   string // "" to be answered
	}{
		{"KEDA", &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{ours}}, ""},
		{"nobody's certificate", &tls.Config{RootCAs: roots}, "certificate required"},
		{
			"a stranger's certificate", &tls.Config{
				RootCAs: roots,
				// Presented although the server doesn't ask for one of that CA.
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &theirs, nil },
			}, "unknown certificate authority",
		},
		{"a client that trusts another CA", &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{ours}}, "signed by unknown authority"},
		{"an old TLS", &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{ours}, MaxVersion: tls.VersionTLS11}, "protocol version not supported"},
	} {
		t.Run(tt.caller, func(t *testing.T) {
			tt.config.MinVersion = tls.VersionTLS10
			tt.config.NextProtos = []string{"h2"}
			err := greet(t, &tls.Dialer{Config: tt.config})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("plaintext", func(t *testing.T) {
		if err := greet(t, &net.Dialer{}); err == nil {
			t.Error("was answered")
		}
	})
}

// greet connects and waits for the first byte of the server's HTTP/2 settings,
// which it sends to whom it trusts. With TLS 1.3 a client learns only there that
// it was refused.
func greet(t *testing.T, dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
},
) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	connection, err := dialer.DialContext(ctx, "tcp", shared.Scaler.GRPC)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, plain := connection.(*net.TCPConn); plain {
		if _, err := connection.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
			return err
		}
	}
	first := make([]byte, 9) // a frame's header: length, type 4 is SETTINGS
	if _, err := io.ReadFull(connection, first); err != nil {
		return err
	}
	if first[3] != 4 {
		return fmt.Errorf("no HTTP/2 settings but %x", first)
	}
	return nil
}

func TestKEDAsCallIsAnsweredOverMutualTLS(t *testing.T) {
	ours, roots := kedaMaterial(t)
	connection, err := grpc.NewClient(shared.Scaler.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{ours}})))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	spec, err := pb.NewExternalScalerClient(connection).GetMetricSpec(ctx, &pb.ScaledObjectRef{
		Namespace: "default", Name: "x", ScalerMetadata: map[string]string{"inferenceSetName": "phi-4", "threshold": "10"},
	})
	if err != nil || spec.GetMetricSpecs()[0].GetTargetSizeFloat() != 10 {
		t.Errorf("got %v, %v, want a target of 10", spec, err)
	}
}
