package certs

import (
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/log"
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
			result, err := l.Reconcile(ctx, theOne)
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
	if got, want := gauge(t, "server"), float64(leafOf(t, w.bundle.Server).NotAfter.Unix()); got != want {
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
	setExpiry("ca", time.Unix(42, 0))
	if got := gauge(t, "ca"); got != 42 {
		t.Errorf("gauge says %f, want 42", got)
	}
	// A CA that isn't there has no expiry.
	setExpiry("ca", time.Time{})
	if got := gauge(t, "ca"); got != 0 {
		t.Errorf("gauge says %f, want none", got)
	}
}

// gauge is the expiry of a certificate, 0 for none.
func gauge(t *testing.T, certificate string) float64 {
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
		for _, metric := range family.GetMetric() {
			if metric.GetLabel()[0].GetValue() == certificate {
				return metric.GetGauge().GetValue()
			}
		}
	}
	return 0
}
