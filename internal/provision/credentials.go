package provision

import (
	"context"
	"errors"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
)

// metaCredentials is the key of a trigger's metadata with the digest of what
// KEDA presents. Nobody reads it: that it changes is what counts. KEDA reads the
// Secrets behind a trigger when the ScaledObject's generation changes, after an
// error, and when it starts; a trigger that never changed would go on with the
// old certificate until calls fail for it.
const metaCredentials = "credentials"

// Credentials stand for what KEDA presents to the scaler and trusts.
type Credentials struct {
	digest  atomic.Pointer[string]
	renewed chan event.GenericEvent
}

// NewCredentials are not known yet. Until they are, no ScaledObject is written:
// it would have to be written again a moment later.
func NewCredentials() *Credentials {
	// One event stands for any number: who hears it looks at the digest.
	return &Credentials{renewed: make(chan event.GenericEvent, 1)}
}

// Set tells a digest of them, which goes into every ScaledObject. It doesn't
// block.
func (c *Credentials) Set(digest string) {
	c.digest.Store(&digest)
	select {
	case c.renewed <- event.GenericEvent{}:
	default:
	}
}

// digestOf is "" while the digest isn't known, and without Credentials.
func (c *Credentials) digestOf() string {
	if c == nil {
		return ""
	}
	if digest := c.digest.Load(); digest != nil {
		return *digest
	}
	return ""
}

var errCredentials = errors.New("what KEDA is to present is not known yet")

// trust says what is still missing before KEDA can be sent to the scaler.
func (c *Controller) trust() error {
	if err := c.settings.Trust(); err != nil {
		return err
	}
	if c.settings.Credentials != nil && c.settings.Credentials.digestOf() == "" {
		return errCredentials
	}
	return nil
}

// all are the InferenceSets that there are.
func (c *Controller) all(ctx context.Context, _ client.Object) []reconcile.Request {
	list := kaito.List(c.settings.Version, kaito.KindInferenceSet)
	if err := c.client.List(ctx, list); err != nil {
		log.FromContext(ctx).Error(err, "can't list InferenceSets for renewed credentials")
		return nil
	}
	requests := make([]reconcile.Request, len(list.Items))
	for i := range list.Items {
		requests[i].NamespacedName = types.NamespacedName{Namespace: list.Items[i].GetNamespace(), Name: list.Items[i].GetName()}
	}
	return requests
}
