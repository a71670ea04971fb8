package provision

import (
	"sync/atomic"

	"sigs.k8s.io/controller-runtime/pkg/event"
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
