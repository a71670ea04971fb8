package certs

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// With certificates that somebody else writes, KEDA has to be told of them all
// the same, once for each.
func TestFollowerTellsOfSomebodyElsesCertificates(t *testing.T) {
	w := today(t)
	c := fake.NewClientBuilder().WithScheme(newScheme(t)).Build()
	var told []string
	key := client.ObjectKey{Namespace: testNames.Namespace, Name: ClientSecret}
	f := &follower{
		reader: c, key: key, copyTo: key,
		tell: func(digest string) { told = append(told, digest) },
	}
	look := func(wantTold int, trouble string) {
		t.Helper()
		for range 2 { // the second time there is no news
			if result, err := f.Reconcile(t.Context(), theOne); err != nil || result.RequeueAfter != poll {
				t.Fatalf("%v, %v", result, err)
			}
		}
		if len(told) != wantTold || !strings.Contains(f.said.last, trouble) || (trouble == "" && f.said.last != "") {
			t.Errorf("told %q, trouble %q: want %d digests and %q", told, f.said.last, wantTold, trouble)
		}
	}
	look(0, "not found")

	secret := &corev1.Secret{Data: w.bundle.Client}
	secret.Namespace, secret.Name = testNames.Namespace, ClientSecret
	if err := c.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	look(1, "")
	if got, want := gauge(t, "expiry", "client"), float64(leafOf(t, w.bundle.Client).NotAfter.Unix()); got != want {
		t.Errorf("gauge says %f, want %f", got, want)
	}

	secret.Data = Data{keyCert: {}, keyKey: {}}
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	look(1, "holds no PEM")

	secret.Data = today(t).bundle.Client
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	look(2, "")
	if told[0] == told[1] {
		t.Errorf("the same digest %q for another certificate", told[0])
	}
}
