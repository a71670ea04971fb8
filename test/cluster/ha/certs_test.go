package ha

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

const authentication = "keda-kaito-scaler-creds"

var secrets = []string{certs.CASecret, certs.ServerSecret, certs.ClientSecret}

// rules are those of the scalers of a site.
func (s *site) rules() certs.Rules {
	return certs.NewRules(certs.Names{Namespace: stack.Namespace, Service: "keda-kaito-scaler-svc", Address: s.front.Address()}, 0)
}

// settle brings the Secrets into the order that the scaler would have brought
// them into at that time.
func settle(t *testing.T, rules certs.Rules, b certs.Bundle, at time.Time) certs.Bundle {
	t.Helper()
	for {
		step := rules.Plan(b, at).Step
		if step.Op == certs.None {
			return b
		}
		var err error
		if b, err = rules.Apply(b, step, at); err != nil {
			t.Fatal(err)
		}
	}
}

// aged writes Secrets as they are when the leaves are to be renewed after
// leaves, and the CA after ca: two thirds of a life ago they were made.
func (s *site) aged(leaves, ca time.Duration) {
	s.Helper()
	rules, now := s.rules(), time.Now()
	made := settle(s.T, rules, certs.Bundle{}, now.Add(ca-rules.CALife/3*2))
	b := settle(s.T, rules, certs.Bundle{CA: made.CA}, now.Add(leaves-rules.LeafLife/3*2))
	remove(s.T, secrets...)
	write(s.T, certs.CASecret, b.CA)
	write(s.T, certs.ServerSecret, b.Server)
	write(s.T, certs.ClientSecret, b.Client)
}

// passed turns a time in the CA's Secret back, as if so much time had passed.
func (s *site) passed(key string, d time.Duration) {
	s.Helper()
	s.eventually(key+" is noted", func() error {
		found := secret(s.T, certs.CASecret)
		at, err := time.Parse(time.RFC3339, string(found.Data[key]))
		if err != nil {
			return err
		}
		found.Data[key] = []byte(at.Add(-d).Format(time.RFC3339))
		return shared.Client.Update(s.Context(), found)
	})
}

func leafOf(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(secret(t, name).Data["tls.crt"])
	if block == nil {
		t.Fatalf("no certificate in %s", name)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func roots(t *testing.T, name string) int {
	t.Helper()
	return bytes.Count(secret(t, name).Data["ca.crt"], []byte("BEGIN CERTIFICATE"))
}

// attentive polls all scalers in turn, each time over a new connection with what
// the Secret says at that moment: one handshake after another.
func (f *fleet) attentive(s *site, interval time.Duration) *polls {
	addresses := make([]string, 0, len(s.scalers))
	for _, scaler := range s.scalers {
		addresses = append(addresses, scaler.GRPC)
	}
	last := material(f.T)
	turn := 0
	return f.every(interval, func() (*grpc.ClientConn, func()) {
		if config, err := current(); err == nil {
			last = config
		}
		turn++
		connection := connect(f.T, addresses[turn%len(addresses)], last)
		return connection, func() { _ = connection.Close() }
	})
}

// current is KEDA's material, unless the Secret is just being repaired.
func current() (*tls.Config, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return shared.Material(ctx)
}

func (f *fleet) ready() error {
	so := f.scaledObject()
	if err := shared.Client.Get(f.Context(), f.NamespacedName, so); err != nil {
		return err
	}
	for _, condition := range so.Status.Conditions {
		if condition.Type == kedav1alpha1.ConditionReady && condition.Status != "True" {
			return fmt.Errorf("ScaledObject %s is not ready: %s", f.NamespacedName, condition.Message)
		}
	}
	return nil
}

// answered waits until KEDA has had answers about the fleet that came later.
func (f *fleet) answered(s *site, more int) {
	f.Helper()
	scalers := slices.Collect(maps.Values(s.scalers))
	before := f.asked(scalers...)
	s.eventually(fmt.Sprintf("KEDA asks %d times more", more), func() error {
		if n := f.asked(scalers...) - before; n < more {
			return fmt.Errorf("it did so %d times", n)
		}
		return nil
	})
}

// Both leaves and then the CA are renewed when two thirds of their lives are
// over, while KEDA asks every second and its connections end after three.
func TestNoCallFailsWhileCertificatesAreRenewed(t *testing.T) {
	s := newSite(t, "--connection-age=3s")
	f, byHand := newFleet(t, provided()), newFleet(t, nil)
	s.aged(25*time.Second, 35*time.Second)
	first := leafOf(t, certs.ClientSecret)
	s.ready("a", "b")
	byHand.byHand(s.front.Address())
	f.scaled()
	byHand.scaled()
	log := kedaLogFromNow(t)
	held := byHand.holding(s.front.Address(), 250*time.Millisecond)
	fresh := byHand.attentive(s, 500*time.Millisecond)
	ends := []func(){f.still(), byHand.still()}
	if !leafOf(t, certs.ClientSecret).Equal(first) {
		t.Fatal("the leaf was renewed before anybody looked: this machine is too slow for the test's times")
	}

	for _, name := range []string{certs.ServerSecret, certs.ClientSecret} {
		s.eventually(name+" is renewed", func() error {
			if age := time.Since(leafOf(t, name).NotBefore); age > certs.Backdate+time.Minute {
				return fmt.Errorf("it is %s old", age-certs.Backdate)
			}
			return nil
		})
	}
	s.passed("published-at", certs.DefaultOverlap)
	s.eventually("the new CA has signed both leaves", func() error {
		for _, name := range []string{certs.ServerSecret, certs.ClientSecret} {
			if issuer := leafOf(t, name).Issuer; issuer.String() == first.Issuer.String() {
				return fmt.Errorf("%s is still of %s", name, issuer)
			}
		}
		return nil
	})
	f.answered(s, 8) // with connections that are younger than the leaves
	held.stop()      // its leaf has to have expired by what follows
	s.passed("promoted-at", certs.DefaultLeafLife+time.Hour)
	s.eventually("the old CA is trusted no more", func() error {
		for _, name := range secrets {
			if n := roots(t, name); n != 1 {
				return fmt.Errorf("%d roots in %s", n, name)
			}
		}
		return nil
	})
	f.answered(s, 8)
	fresh.stop()
	for _, end := range ends {
		end()
	}

	held.wantPolls(t, "a client that read its certificate once", 40, 0)
	fresh.wantPolls(t, "a client that reads it every time", 20, 0)
	log.wantFailures(0, f)
	// A ScaledObject written by hand has no digest of KEDA's certificate. KEDA
	// finds out when its old one is refused, reads the new one, and asks again
	// within the same poll: nobody but its log sees that.
	log.wantFailures(2, byHand)
	for _, fleet := range []*fleet{f, byHand} {
		if err := fleet.ready(); err != nil {
			t.Error(err)
		}
	}
}

// Whatever becomes of the Secrets, they are right again within seconds, and what
// is loaded goes on serving.
func TestDamagedSecretsAreRepairedWithinSeconds(t *testing.T) {
	s := newSite(t, "--connection-age=3s")
	f, ours := newFleet(t, provided()), newFleet(t, provided())
	remove(t, secrets...)
	s.ready("a", "b")
	f.scaled()
	log := kedaLogFromNow(t)
	fresh := ours.attentive(s, 250*time.Millisecond)
	still := f.still()

	foreign := settle(t, s.rules(), certs.Bundle{}, time.Now())
	server, clients := secret(t, certs.ServerSecret).Data, secret(t, certs.ClientSecret).Data
	cut := func(data certs.Data) certs.Data {
		data = maps.Clone(data)
		for key, value := range data {
			data[key] = value[:len(value)/2]
		}
		return data
	}
	for _, damage := range []struct {
		name string
		do   func()
	}{
		{"both deleted", func() { remove(t, certs.ServerSecret, certs.ClientSecret) }},
		{"wiped", func() {
			write(t, certs.ServerSecret, certs.Data{"tls.crt": nil, "tls.key": nil})
			write(t, certs.ClientSecret, certs.Data{"tls.crt": nil, "tls.key": nil})
		}},
		{"truncated", func() {
			write(t, certs.ServerSecret, cut(secret(t, certs.ServerSecret).Data))
			write(t, certs.ClientSecret, cut(secret(t, certs.ClientSecret).Data))
		}},
		{"swapped", func() { write(t, certs.ServerSecret, clients); write(t, certs.ClientSecret, server) }},
		{"half written", func() {
			data := secret(t, certs.ClientSecret).Data
			data["tls.key"] = foreign.Client["tls.key"]
			write(t, certs.ClientSecret, data)
		}},
		{"foreign", func() { write(t, certs.ServerSecret, foreign.Server); write(t, certs.ClientSecret, foreign.Client) }},
		{"the CA wiped", func() { write(t, certs.CASecret, certs.Data{}) }},
	} {
		fresh.rest() // KEDA's own reading of a damaged Secret is another matter
		before := time.Now()
		damage.do()
		s.eventually(damage.name+": all right again", s.whole)
		took := time.Since(before)
		t.Logf("%s: right again after %s", damage.name, took.Round(10*time.Millisecond))
		if took > 10*time.Second {
			t.Errorf("%s: it took %s, want seconds", damage.name, took)
		}
		fresh.resume()
		f.answered(s, 4)
	}
	fresh.rest()          // who reads the new CA before a server has loaded it is refused, rightly
	remove(t, secrets...) // nobody can go on with what is in memory now
	s.eventually("everything is made anew", s.whole)
	fresh.resume()
	f.answered(s, 4)
	fresh.stop()
	fresh.wantPolls(t, "a client that reads its certificate every time", 15, 0)
	f.scaled()

	eventually(t, patience, "the ClusterTriggerAuthentication is back", s.authenticationReturns())
	still()
	f.answered(s, 4)
	eventually(t, patience, "the ScaledObject is ready", f.ready)
	t.Logf("KEDA: %d calls failed through nine accidents", len(log.failures(f)))
}

// whole tells whether nothing is left to do for the certificates.
func (s *site) whole() error {
	b := certs.Bundle{}
	for name, data := range map[string]*certs.Data{certs.CASecret: &b.CA, certs.ServerSecret: &b.Server, certs.ClientSecret: &b.Client} {
		found, err := secretOf(s.Context(), name)
		if err != nil {
			return err
		}
		*data = found.Data
	}
	if step := s.rules().Plan(b, time.Now()).Step; step.Op != certs.None {
		return fmt.Errorf("%s: %s", step.Op, step.Why)
	}
	return nil
}

// authenticationReturns deletes the ClusterTriggerAuthentication and tells
// whether there is another one.
func (s *site) authenticationReturns() func() error {
	s.Helper()
	object := &kedav1alpha1.ClusterTriggerAuthentication{}
	key := types.NamespacedName{Name: authentication}
	if err := shared.Client.Get(s.Context(), key, object); err != nil {
		s.Fatal(err)
	}
	gone := object.UID
	if err := shared.Client.Delete(s.Context(), object); err != nil {
		s.Fatal(err)
	}
	return func() error {
		again := &kedav1alpha1.ClusterTriggerAuthentication{}
		err := shared.Client.Get(s.Context(), key, again)
		if err == nil && again.UID == gone {
			return errors.New("the old one is still there")
		}
		return client.IgnoreAlreadyExists(err)
	}
}

// The scaler is there first, and KEDA finds it when it comes.
func TestKEDAComesAfterTheScaler(t *testing.T) {
	keda := shared.Process("keda-operator")
	if err := keda.Stop(20 * time.Second); err != nil {
		t.Error(err)
	}
	s := newSite(t)
	f := newFleet(t, provided())
	remove(t, secrets...)
	s.ready("a")
	eventually(t, patience, "the ScaledObject is written", func() error {
		return shared.Client.Get(t.Context(), f.NamespacedName, f.scaledObject())
	})
	log := kedaLogFromNow(t)
	if err := shared.Again(t.Context(), keda); err != nil {
		t.Fatal(err)
	}
	f.scaled()
	log.wantFailures(0, f)
}
