package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Names that users know.
const (
	service      = "keda-kaito-scaler-svc"
	serverSecret = "keda-kaito-scaler-server-certs"
	clientSecret = "keda-kaito-scaler-client-certs"
	credsName    = "keda-kaito-scaler-creds"
	life         = 10 * 365 * 24 * time.Hour
)

// certificates are what KEDA is answered with. Where the chart has just made the
// Secrets, which are empty, they are signed; else the Secrets say what they are.
// They are in memory from then on, whatever becomes of the Secrets.
func certificates(ctx context.Context, kube client.Client, o options) (*tls.Config, error) {
	server, err := secret(ctx, kube, o.namespace, serverSecret)
	if err != nil {
		return nil, err
	}
	if len(server.Data["tls.crt"]) == 0 {
		keda, err := secret(ctx, kube, o.namespace, clientSecret)
		if err != nil {
			return nil, err
		}
		if server.Data, keda.Data, err = sign(o); err != nil {
			return nil, err
		}
		for _, s := range []*corev1.Secret{keda, server} {
			if err := kube.Update(ctx, s); err != nil {
				return nil, err
			}
		}
	}
	pair, err := tls.X509KeyPair(server.Data["tls.crt"], server.Data["tls.key"])
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(server.Data["ca.crt"]) {
		return nil, fmt.Errorf("no CA in Secret %s", serverSecret)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
	}, nil
}

func secret(ctx context.Context, kube client.Client, namespace, name string) (*corev1.Secret, error) {
	found := &corev1.Secret{}
	return found, kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, found)
}

// sign makes a CA that nobody keeps the key of, and both leaves.
func sign(o options) (server, keda map[string][]byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	ca := template("keda-kaito-scaler-ca", 1)
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	leaf := func(cert *x509.Certificate) (map[string][]byte, error) {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, ca, own.Public(), key)
		if err != nil {
			return nil, err
		}
		text, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			return nil, err
		}
		return map[string][]byte{
			"ca.crt": root, "tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
			"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}),
		}, nil
	}
	cert := template(service, 2)
	cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	cert.DNSNames = []string{service, service + "." + o.namespace, service + "." + o.namespace + ".svc"}
	if host, _, err := net.SplitHostPort(o.address); err == nil && net.ParseIP(host) != nil {
		cert.IPAddresses = []net.IP{net.ParseIP(host)}
	}
	if server, err = leaf(cert); err != nil {
		return nil, nil, err
	}
	cert = template("keda-kaito-scaler-client", 3)
	cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	keda, err = leaf(cert)
	return server, keda, err
}

func template(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

// authentication tells KEDA where its certificates are.
func authentication(ctx context.Context, kube client.Client) error {
	want := kedav1alpha1.TriggerAuthenticationSpec{}
	for _, p := range [][2]string{{"caCert", "ca.crt"}, {"tlsClientCert", "tls.crt"}, {"tlsClientKey", "tls.key"}} {
		want.SecretTargetRef = append(want.SecretTargetRef, kedav1alpha1.AuthSecretTargetRef{Parameter: p[0], Name: clientSecret, Key: p[1]})
	}
	found := &kedav1alpha1.ClusterTriggerAuthentication{}
	err := kube.Get(ctx, client.ObjectKey{Name: credsName}, found)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	found.Spec = want
	if err == nil {
		return kube.Update(ctx, found)
	}
	found.Name = credsName
	return kube.Create(ctx, found)
}
