package certs

import (
	"context"
	"encoding/hex"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// follower tells of changes of the client's Secret that somebody else makes. It
// runs on the leader where no Keeper does.
type follower struct {
	reader client.Reader
	key    client.ObjectKey
	tell   func(digest string)

	told string
	said transition
}

// Reconcile never returns an error, see transition.
func (f *follower) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	err := f.follow(ctx)
	if f.told == "" && apierrors.IsNotFound(err) {
		// A new installation: whoever makes it is about to.
		f.said.say(err.Error(), func() { log.FromContext(ctx).Info("waiting for KEDA's certificate", "secret", f.key.Name) })
	} else {
		f.said.report(ctx, "can't use the Secret of KEDA's certificate", err)
	}
	return reconcile.Result{RequeueAfter: poll}, nil
}

func (f *follower) follow(ctx context.Context) error {
	secret := &corev1.Secret{}
	if err := f.reader.Get(ctx, f.key, secret); err != nil {
		return fmt.Errorf("reading Secret %s: %w", f.key.Name, err)
	}
	certs, err := decodeCerts(secret.Data[keyCert])
	if err != nil {
		// Half a Secret isn't worth KEDA's reading it.
		return fmt.Errorf("Secret %s: %s %w", f.key.Name, keyCert, err)
	}
	setExpiry(forClient.String(), certs[0].NotAfter)
	if text := shortDigest(secret.Data); text != f.told {
		f.told = text
		if f.tell != nil {
			f.tell(text)
		}
	}
	return nil
}

// shortDigest is half of a digest in hexadecimal: more than enough to tell two
// apart.
func shortDigest(data Data) string {
	sum := digest(data)
	return hex.EncodeToString(sum[:8])
}
