package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is the one CA of a cluster. It signs the serving certificates and
// the client certificates of admin, controller manager and front proxy; the
// front proxy is told apart by its name (--requestheader-allowed-names).
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// certLife outlasts any run; nothing is rotated.
const certLife = 7 * 24 * time.Hour

func newAuthority(dir string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "keda-kaito-scaler-test-ca"},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(certLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	ca := &authority{dir: dir, cert: cert, key: key, pem: pemBlock("CERTIFICATE", der)}
	return ca, os.WriteFile(ca.file("ca.crt"), ca.pem, 0o600)
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// read returns what issue has written.
func (a *authority) read(name string) (cert, key []byte, err error) {
	if cert, err = os.ReadFile(a.file(name + ".crt")); err != nil {
		return nil, nil, err
	}
	key, err = os.ReadFile(a.file(name + ".key"))
	return cert, key, err
}

// issue writes <name>.crt and <name>.key for use on both sides of TLS: KEDA's
// operator and adapter show one certificate to each other as server and client.
// A certificate for hosts, names or addresses, is one for loopback too.
func (a *authority) issue(name string, subject pkix.Name, hosts ...string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(certLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if len(hosts) > 0 {
		template.IPAddresses = []net.IP{net.ParseIP(loopback)}
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return fmt.Errorf("signing the certificate of %s: %w", name, err)
	}
	if err := os.WriteFile(a.file(name+".crt"), pemBlock("CERTIFICATE", der), 0o600); err != nil {
		return err
	}
	return writeKey(a.file(name+".key"), key)
}

// newSigningKey writes the key pair with which the API server signs and checks
// the tokens of ServiceAccounts.
func (a *authority) newSigningKey(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := os.WriteFile(a.file(name+".pub"), pemBlock("PUBLIC KEY", public), 0o600); err != nil {
		return err
	}
	return writeKey(a.file(name+".key"), key)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pemBlock("EC PRIVATE KEY", der), 0o600)
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
