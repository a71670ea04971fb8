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
	var digests []string
	key := client.ObjectKey{Namespace: testNames.Namespace, Name: ClientSecret}
	f := &follower{
		reader: c, key: key, copyTo: key,
		reportDigest: func(digest string) { digests = append(digests, digest) },
	}
	look := func(wantDigests int, problem string) {
		t.Helper()
		for range 2 { // the second time there is no news
			if result, err := f.Reconcile(t.Context(), singleRequest); err != nil || result.RequeueAfter != poll {
				t.Fatalf("%v, %v", result, err)
			}
		}
		if len(digests) != wantDigests || !strings.Contains(f.problems.last, problem) || (problem == "" && f.problems.last != "") {
			t.Errorf("digests %q, problem %q: want %d digests and %q", digests, f.problems.last, wantDigests, problem)
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
	if digests[0] == digests[1] {
		t.Errorf("the same digest %q for another certificate", digests[0])
	}
}
