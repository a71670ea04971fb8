package provision

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// KEDA reads its certificate again only when the ScaledObject's spec changes.
func TestRenewedCredentialsReachEveryScaledObject(t *testing.T) {
	w := newWorld(t, inferenceSet())
	c := NewCredentials()
	w.controller.settings.Credentials = c
	result, err := w.controller.Reconcile(t.Context(), reconcile.Request{NamespacedName: phi4})
	if err != nil || result.RequeueAfter != trustInterval {
		t.Errorf("got %+v, %v before KEDA's credentials are known, want to look again in %s", result, err, trustInterval)
	}
	w.wantWrites()
	for _, digest := range []string{"5f0c", "a11e"} {
		c.Set(digest)
		c.Set(digest) // nobody listens: it doesn't block
		<-c.renewed
		requests := w.controller.all(t.Context(), nil)
		if len(requests) != 1 || requests[0].NamespacedName != phi4 {
			t.Fatalf("looks at %v, want every InferenceSet", requests)
		}
		w.reconcile()
		w.wantWrites("apply phi-4")
		so, _ := w.scaledObject("phi-4")
		if got := so.Spec.Triggers[0].Metadata["credentials"]; got != digest {
			t.Errorf("credentials %q, want %q", got, digest)
		}
		w.reconcile()
		w.wantWrites()
	}
	w.wantEvents("Normal ScaledObjectCreated") // a renewal is nothing to an owner
}
