package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Backdate is how far NotBefore lies before the time of issue: KEDA's clock may
// be behind ours, and a clock that jumped ahead an hour and back again must not
// leave us with a certificate of the future.
const Backdate = 2 * time.Hour

// maxPEM bounds how many certificates of a Secret are looked at. A rotation
// needs three; a Secret may hold a megabyte of them.
const maxPEM = 8

// authority is a CA. key is nil if it was lost: such a CA is trusted, but it
// signs nothing any more.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(life time.Duration, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the CA's key: %w", err)
	}
	id, err := keyID(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate(now, now.Add(life))
	if err != nil {
		return nil, err
	}
	// Every generation has a subject of its own, so that chains are told apart
	// by name as well as by key.
	template.Subject = pkix.Name{CommonName: caName + " " + hex.EncodeToString(id[:4])}
	template.SubjectKeyId = id
	asCA(template)
	cert, err := sign(template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, nil
}

func asCA(t *x509.Certificate) {
	t.IsCA = true
	t.BasicConstraintsValid = true
	// 1: room for the next generation's cross certificate, and no more.
	t.MaxPathLen = 1
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
}

// crossSign makes a certificate of next, signed by a.
func (a *authority) crossSign(next *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	template, err := newTemplate(now, earlier(a.cert.NotAfter, next.NotAfter))
	if err != nil {
		return nil, err
	}
	template.Subject = next.Subject
	template.SubjectKeyId = next.SubjectKeyId
	asCA(template)
	template.MaxPathLen, template.MaxPathLenZero = 0, true
	return sign(template, a.cert, next.PublicKey, a.key)
}

// issue makes a leaf with a new key.
func (a *authority) issue(role role, names subjects, life time.Duration, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key for the %s: %w", role, err)
	}
	template, err := newTemplate(now, earlier(now.Add(life), a.cert.NotAfter))
	if err != nil {
		return nil, nil, err
	}
	template.Subject = pkix.Name{CommonName: role.commonName()}
	template.DNSNames = names.dns
	template.IPAddresses = names.ips
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{role.usage()}
	template.BasicConstraintsValid = true
	cert, err := sign(template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, nil, err
	}
	return cert, key, nil
}

func newTemplate(now, notAfter time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		NotBefore:    now.Add(-Backdate).UTC().Truncate(time.Second),
		NotAfter:     notAfter.UTC().Truncate(time.Second),
	}, nil
}

func sign(template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("signing %q: %w", template.Subject.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading back %q: %w", template.Subject.CommonName, err)
	}
	return cert, nil
}

func keyID(public *ecdsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return sum[:20], nil
}

// authorityProblem says why cert can't be one of our roots, or "".
func authorityProblem(cert *x509.Certificate, now time.Time) string {
	public, ok := cert.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || public.Curve != elliptic.P256():
		return "its key is not ECDSA P-256"
	case !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return "it is no CA"
	case !strings.HasPrefix(cert.Subject.CommonName, caName+" "):
		return fmt.Sprintf("its name %q is not ours", cert.Subject.CommonName)
	case now.Before(cert.NotBefore):
		return "it is not valid before " + cert.NotBefore.Format(time.RFC3339)
	case !now.Before(cert.NotAfter):
		return "it expired at " + cert.NotAfter.Format(time.RFC3339)
	case cert.CheckSignatureFrom(cert) != nil:
		return "it is not signed by itself"
	}
	return ""
}

// renewAt is two thirds into the life of cert: the last third is for outages,
// holidays, and for KEDA to read the new one.
func renewAt(cert *x509.Certificate) time.Time {
	issued := cert.NotBefore.Add(Backdate)
	return issued.Add(cert.NotAfter.Sub(issued) / 3 * 2)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func encodeCerts(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		// A write to a bytes.Buffer does not fail.
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.Bytes()
}

// decodeCerts reads the certificates of a PEM text, up to the first that can't
// be read.
func decodeCerts(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(certs) < maxPEM {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return certs, fmt.Errorf("PEM block %d is no certificate", len(certs)+1)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errNoPEM
	}
	return certs, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodeKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errNoPEM
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		// Not wrapped: parse errors may quote what they read, and this is a key.
		return nil, errors.New("holds no PKCS #8 key")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("holds a key other than ECDSA P-256")
	}
	return key, nil
}

// belongs says whether key is the private half of cert's key.
func belongs(key *ecdsa.PrivateKey, cert *x509.Certificate) bool {
	public, ok := cert.PublicKey.(*ecdsa.PublicKey)
	return ok && key != nil && key.PublicKey.Equal(public)
}

// role is which end of the connection a leaf is for.
type role uint8

const (
	forServer role = iota
	forClient
)

func (r role) String() string {
	if r == forServer {
		return "server"
	}
	return "client"
}

func (r role) commonName() string {
	if r == forServer {
		return serverName
	}
	return ClientName
}

func (r role) usage() x509.ExtKeyUsage {
	if r == forServer {
		return x509.ExtKeyUsageServerAuth
	}
	return x509.ExtKeyUsageClientAuth
}

func (r role) subjects(names Names) subjects {
	if r == forServer {
		return names.subjects()
	}
	return subjects{dns: []string{ClientName}}
}
