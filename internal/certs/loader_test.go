package certs

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/log"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func TestLoaderFollowsTheSecret(t *testing.T) {
	w := today(t)
	c := fake.NewClientBuilder().WithScheme(newScheme(t)).Build()
	var lines []string
	logger := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
	ctx := log.IntoContext(t.Context(), logger)
	now := w.now
	l := &loader{
		reader: c, key: client.ObjectKey{Namespace: testNames.Namespace, Name: ServerSecret},
		source: NewSource(), now: func() time.Time { return now },
	}
	// Two looks, as if nothing happened between them: at most one line.
	look := func(wants ...string) {
		t.Helper()
		lines = nil
		for range 2 {
			result, err := l.Reconcile(ctx, singleRequest)
			if err != nil || result.RequeueAfter != poll {
				t.Fatalf("%v, %v", result, err)
			}
		}
		if len(lines) != len(wants) {
			t.Errorf("logged %q, want %q", lines, wants)
			return
		}
		for i, want := range wants {
			if !strings.Contains(lines[i], want) {
				t.Errorf("logged %q, want %q", lines[i], want)
			}
		}
	}

	look("waiting for the server's certificate")
	secret := &corev1.Secret{Data: w.bundle.Server}
	secret.Namespace, secret.Name = testNames.Namespace, ServerSecret
	if err := c.Create(ctx, secret); err != nil {
		t.Fatal(err)
	}
	look("loaded server certificate")
	if got, want := gauge(t, "expiry", "server"), float64(leafOf(t, w.bundle.Server).NotAfter.Unix()); got != want {
		t.Errorf("gauge says %f, want %f", got, want)
	}

	secret.Data = Data{keyCert: {}, keyKey: {}}
	if err := c.Update(ctx, secret); err != nil {
		t.Fatal(err)
	}
	look("can't use the Secret of the server's certificate")
	if err := l.source.Ready(); err != nil {
		t.Errorf("a wiped Secret took away what serves: %v", err)
	}

	secret.Data = w.bundle.Server
	if err := c.Update(ctx, secret); err != nil {
		t.Fatal(err)
	}
	look()
	now = now.Add(DefaultLeafLife + time.Minute)
	look("expired")
}

func TestExpiryIsMeasured(t *testing.T) {
	// Twice: a second manager in the same process is no reason to fail.
	registry := prometheus.NewPedanticRegistry()
	for range 2 {
		if err := registerMetrics(registry); err != nil {
			t.Fatal(err)
		}
	}
	setExpiry("ca", &x509.Certificate{NotBefore: time.Unix(7, 0), NotAfter: time.Unix(42, 0)})
	if begins, ends := gauge(t, "not_before", "ca"), gauge(t, "expiry", "ca"); begins != 7 || ends != 42 {
		t.Errorf("gauges say %f to %f, want 7 to 42", begins, ends)
	}
	// A CA that isn't there has no expiry.
	setExpiry("ca", nil)
	if begins, ends := gauge(t, "not_before", "ca"), gauge(t, "expiry", "ca"); begins != 0 || ends != 0 {
		t.Errorf("gauges say %f to %f, want none", begins, ends)
	}
}

// A replica that no longer leads knows nothing of the next leader's renewals: what
// it would go on telling of certificates looks as if nobody renewed them.
func TestAFormerLeaderTellsNothingOfTheLeadersCertificates(t *testing.T) {
	for _, name := range []string{"ca", "client", "server"} {
		setExpiry(name, &x509.Certificate{NotBefore: time.Unix(7, 0), NotAfter: time.Unix(42, 0)})
		t.Cleanup(func() { setExpiry(name, nil) })
	}
	// The next manager of the same process, while the API server is away.
	mgr, err := ctrl.NewManager(&rest.Config{Host: "http://127.0.0.1:1"}, ctrl.Options{
		Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AddToManager(mgr, Options{Rules: NewRules(Names{Namespace: "keda", Service: "scaler"}, 0)}); err == nil {
		t.Fatal("an API server has answered")
	}
	for _, name := range []string{"ca", "client"} {
		if got := gauge(t, "expiry", name); got != 0 {
			t.Errorf("%s still ends at %f", name, got)
		}
	}
	if got := gauge(t, "expiry", "server"); got != 42 {
		t.Errorf("what is served ends at %f, want 42", got)
	}
}

// gauge is the expiry or the not_before of a certificate, 0 for none.
func gauge(t *testing.T, which, certificate string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registerMetrics(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if !strings.HasSuffix(family.GetName(), which+"_timestamp_seconds") {
			continue
		}
		for _, metric := range family.GetMetric() {
			if metric.GetLabel()[0].GetValue() == certificate {
				return metric.GetGauge().GetValue()
			}
		}
	}
	return 0
}
