package certs

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// day one of every story.
var dayOne = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

var testNames = Names{Namespace: "keda", Service: "keda-kaito-scaler-svc"}

// failer is a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is the three Secrets as time goes by.
type world struct {
	t      failer
	rules  Rules
	bundle Bundle
	now    time.Time
	// seen is called after every step.
	seen func(Step)
}

func newWorld(t failer, rules Rules) *world {
	t.Helper()
	if err := rules.Validate(); err != nil {
		t.Fatalf("rules: %v", err)
	}
	return &world{t: t, rules: rules, now: dayOne, seen: func(Step) {}}
}

// usual is a year for leaves and ten for the CA.
func usual(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, NewRules(testNames, 0))
	w.settle()
	return w
}

func (w *world) after(d time.Duration) *world {
	w.now = w.now.Add(d)
	return w
}

func (w *world) plan() Plan { return w.rules.Plan(w.bundle, w.now) }

// step carries out one step and returns it.
func (w *world) step() Step {
	w.t.Helper()
	p := w.plan()
	if p.Step.Op == None {
		return p.Step
	}
	before := w.bundle
	after, err := w.rules.Apply(before, p.Step, w.now)
	if err != nil {
		w.t.Fatalf("%s: %v", p.Step.Op, err)
	}
	for name, same := range map[string]bool{
		CASecret:     before.CA.Equal(after.CA),
		ServerSecret: before.Server.Equal(after.Server),
		ClientSecret: before.Client.Equal(after.Client),
	} {
		if wrote := p.Step.Op.Secret() == name; wrote == same {
			w.t.Fatalf("%s (%s) names %s; Secret %s: written %t, the same %t", p.Step.Op, p.Step.Why, p.Step.Op.Secret(), name, wrote, same)
		}
	}
	w.bundle = after
	w.seen(p.Step)
	return p.Step
}

// settle steps until nothing is left to do and returns what was done.
func (w *world) settle() []Op {
	w.t.Helper()
	var ops []Op
	for range maxSteps {
		s := w.step()
		if s.Op == None {
			return ops
		}
		ops = append(ops, s.Op)
	}
	w.t.Fatalf("no rest after %d steps: %v", maxSteps, ops)
	return nil
}

func (w *world) wantOps(want ...Op) *world {
	w.t.Helper()
	if got := w.settle(); !slices.Equal(got, want) {
		w.t.Fatalf("at %s: did %v, want %v", w.now.Format(time.RFC3339), got, want)
	}
	return w
}

// wantTalk wants KEDA with c to reach a server with s.
func (w *world) wantTalk(c, s Data) {
	w.t.Helper()
	if err := talk(c, s, w.now, w.rules.Names); err != nil {
		w.t.Fatalf("at %s: %v", w.now.Format(time.RFC3339), err)
	}
}

// talk verifies what a handshake between the holders of two Secrets would. See
// source_test.go for real handshakes.
func talk(c, s Data, now time.Time, names Names) error {
	kedas, err := tls.X509KeyPair(c[keyCert], c[keyKey])
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	ours, err := newMaterial(s, now)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	trusted, between := x509.NewCertPool(), x509.NewCertPool()
	trusted.AppendCertsFromPEM(c[keyRoots])
	chain := ours.config.Certificates[0]
	addChain(between, chain)
	if _, err := chain.Leaf.Verify(x509.VerifyOptions{
		DNSName: names.Service + "." + names.Namespace + ".svc", Roots: trusted, Intermediates: between, CurrentTime: now,
	}); err != nil {
		return fmt.Errorf("client refuses server: %w", err)
	}
	between = x509.NewCertPool()
	addChain(between, kedas)
	if _, err := kedas.Leaf.Verify(x509.VerifyOptions{
		Roots: ours.config.ClientCAs, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return fmt.Errorf("server refuses client: %w", err)
	}
	return verifyClient(tls.ConnectionState{PeerCertificates: []*x509.Certificate{kedas.Leaf}})
}

func addChain(pool *x509.CertPool, pair tls.Certificate) {
	for _, der := range pair.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(cert)
		}
	}
}

func leafOf(t failer, d Data) *x509.Certificate {
	t.Helper()
	certs, err := decodeCerts(d[keyCert])
	if err != nil {
		t.Fatalf("%v", err)
	}
	return certs[0]
}

func keyOf(t failer, d Data) *ecdsa.PrivateKey {
	t.Helper()
	key, err := decodeKey(d[keyKey])
	if err != nil {
		t.Fatalf("%v", err)
	}
	return key
}

// with returns d with some keys replaced; nil takes a key away.
func (d Data) with(changes Data) Data {
	d = maps.Clone(d)
	if d == nil {
		d = Data{}
	}
	for key, value := range changes {
		if value == nil {
			delete(d, key)
		} else {
			d[key] = value
		}
	}
	return d
}
