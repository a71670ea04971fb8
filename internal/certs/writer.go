package certs

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
)

// writer writes Secrets, with rights on a few names alone.
type writer struct{ client.Client }

// write gives a Secret that data. have is the Secret as it was read, nil if there
// is none.
func (w writer) write(ctx context.Context, have *corev1.Secret, key client.ObjectKey, data Data) (*corev1.Secret, error) {
	if have == nil {
		return w.create(ctx, key, data)
	}
	return have, w.update(ctx, have, data)
}

func (w writer) update(ctx context.Context, secret *corev1.Secret, data Data) error {
	if secret.Immutable != nil && *secret.Immutable {
		return errImmutable
	}
	secret = secret.DeepCopy()
	if secret.Labels == nil {
		secret.Labels = map[string]string{}
	}
	// A Secret that a chart has made says so: taken from Helm, the label would make
	// its next apply of the chart a conflict.
	if secret.Labels[kube.ManagedByLabel] == "" {
		secret.Labels[kube.ManagedByLabel] = kube.Name
	}
	secret.Data = data
	// With the resourceVersion that was read: if somebody wrote meanwhile, the
	// plan has to be made again.
	return w.Update(ctx, secret, kube.FieldOwner)
}

var errImmutable = errors.New("it is immutable: delete it, and it will be made again")

// create goes by server-side apply, because RBAC can hold a patch to a name, and
// the creation that comes of it, but not a POST: so the scaler needs no right to
// create other Secrets. Two leaders at the same moment could overwrite each
// other; both plan again from what they then find.
func (w writer) create(ctx context.Context, key client.ObjectKey, data Data) (*corev1.Secret, error) {
	secretType := corev1.SecretTypeTLS
	if key.Name == CASecret {
		// A CA whose key was lost is kept without; type tls forbids it.
		secretType = corev1.SecretTypeOpaque
	}
	secret := corev1apply.Secret(key.Name, key.Namespace).
		WithLabels(map[string]string{kube.ManagedByLabel: kube.Name}).
		WithType(secretType).
		WithData(data)
	if err := w.Apply(ctx, secret, kube.FieldOwner, client.ForceOwnership); err != nil {
		return nil, err
	}
	created := &corev1.Secret{}
	created.Name, created.Namespace = key.Name, key.Namespace
	if secret.UID != nil {
		created.UID = *secret.UID
	}
	return created, nil
}
