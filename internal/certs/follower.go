package certs

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// follower tells of changes of the client's Secret that somebody else makes, and
// copies it to KEDA's namespace if that is another one: a Certificate and its
// Issuer are in one namespace. It runs on the leader where no Keeper does.
type follower struct {
	reader       client.Reader
	key          client.ObjectKey
	reportDigest func(digest string)

	// copyTo is where KEDA reads it; key itself if nothing is to be copied.
	copyTo client.ObjectKey
	// live reads the copy past any cache, writer writes it.
	live      client.Reader
	writer    writer
	onProblem problemFunc

	lastDigest string
	problems   problemLog
}

// Reconcile never returns an error, see problemLog.
func (f *follower) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	again := poll
	err := f.follow(ctx)
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: retry}, nil
	}
	var theirs *clientError
	if errors.As(err, &theirs) {
		again = retryFailed
	}
	if f.lastDigest == "" && theirs == nil && apierrors.IsNotFound(err) {
		// A new installation: whoever makes it is about to.
		f.problems.logOnce(err.Error(), func() { log.FromContext(ctx).Info("waiting for KEDA's certificate", "secret", f.key.Name) })
	} else {
		f.problems.report(ctx, "can't use the Secret of KEDA's certificate", err)
	}
	return reconcile.Result{RequeueAfter: again}, nil
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
	setExpiry(forClient.String(), certs[0])
	copied := f.copy(ctx, secret.Data)
	if copied != nil && !apierrors.IsForbidden(copied) && !apierrors.IsNotFound(copied) {
		return copied
	}
	if copied == nil {
		f.onProblem.call("")
	} else {
		// ScaledObjects needn't wait for it: that KEDA can't ask is told on them.
		f.onProblem.call(copied.Error())
	}
	if text := shortDigest(secret.Data); text != f.lastDigest {
		f.lastDigest = text
		if f.reportDigest != nil {
			f.reportDigest(text)
		}
	}
	return copied
}

// copy brings what KEDA reads up to date.
func (f *follower) copy(ctx context.Context, data Data) error {
	if f.copyTo == f.key {
		return nil
	}
	want := Data{keyRoots: data[keyRoots], keyCert: data[keyCert], keyKey: data[keyKey]}
	have := &corev1.Secret{}
	err := f.live.Get(ctx, f.copyTo, have)
	switch {
	case apierrors.IsNotFound(err):
		have = nil
	case err != nil:
		return &clientError{fmt.Errorf("reading Secret %s: %w", f.copyTo, err)}
	case want.Equal(have.Data):
		return nil
	}
	if _, err := f.writer.write(ctx, have, f.copyTo, want); err != nil {
		return &clientError{fmt.Errorf("writing Secret %s: %w", f.copyTo, err)}
	}
	log.FromContext(ctx).Info("copied KEDA's certificate", "to", f.copyTo)
	return nil
}
