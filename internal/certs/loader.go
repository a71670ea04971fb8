package certs

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// loader brings the server's Secret into a Source. Every replica runs one.
type loader struct {
	reader client.Reader
	key    client.ObjectKey
	source *Source
	now    func() time.Time

	problems problemLog
}

func (l *loader) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	now := l.now()
	changed, err := l.load(ctx, now)
	if end := l.source.Expires(); err == nil && !now.Before(end) {
		err = fmt.Errorf("%w at %s", errExpired, end.Format(time.RFC3339))
	}
	if changed {
		log.FromContext(ctx).Info("loaded server certificate", "expires", l.source.Expires())
	}
	if l.source.Ready() != nil && apierrors.IsNotFound(err) {
		// A new installation: the leader is about to make it.
		l.problems.logOnce(err.Error(), func() { log.FromContext(ctx).Info("waiting for the server's certificate", "secret", l.key.Name) })
	} else {
		l.problems.report(ctx, "can't use the Secret of the server's certificate; what was loaded before goes on serving", err)
	}
	// The expiry of what is served comes without an event.
	return reconcile.Result{RequeueAfter: poll}, nil
}

var errExpired = errors.New("the certificate expired")

func (l *loader) load(ctx context.Context, now time.Time) (bool, error) {
	secret := &corev1.Secret{}
	if err := l.reader.Get(ctx, l.key, secret); err != nil {
		return false, fmt.Errorf("reading Secret %s: %w", l.key.Name, err)
	}
	return l.source.Load(secret.Data, now)
}
