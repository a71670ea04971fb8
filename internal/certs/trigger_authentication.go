package certs

import (
	"context"
	"fmt"
	"slices"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
)

// TriggerAuthKeeper keeps the ClusterTriggerAuthentication right that hands the
// client's Secret to KEDA. Only the leader runs one.
type TriggerAuthKeeper struct {
	Client client.Client
	// Reader reads past any cache.
	Reader client.Reader

	problems problemLog
}

// The parameters are those of KEDA's external scaler.
var secretRefs = []kedav1alpha1.AuthSecretTargetRef{
	{Parameter: "caCert", Name: ClientSecret, Key: keyRoots},
	{Parameter: "tlsClientCert", Name: ClientSecret, Key: keyCert},
	{Parameter: "tlsClientKey", Name: ClientSecret, Key: keyKey},
}

// Reconcile writes the object if it isn't as it has to be. It never returns an
// error, see problemLog.
func (k *TriggerAuthKeeper) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	again := poll
	err := k.reconcile(ctx)
	if err != nil {
		again = retryFailed
	}
	k.problems.report(ctx, "can't keep the ClusterTriggerAuthentication", err)
	return reconcile.Result{RequeueAfter: again}, nil
}

func (k *TriggerAuthKeeper) reconcile(ctx context.Context) error {
	have := &kedav1alpha1.ClusterTriggerAuthentication{}
	err := k.Reader.Get(ctx, client.ObjectKey{Name: TriggerAuthentication}, have)
	switch {
	case apierrors.IsNotFound(err):
	case meta.IsNoMatchError(err):
		// KEDA isn't installed yet; its definitions are waited for elsewhere.
		return nil
	case err != nil:
		return fmt.Errorf("reading ClusterTriggerAuthentication %s: %w", TriggerAuthentication, err)
	case slices.Equal(have.Spec.SecretTargetRef, secretRefs) && have.Labels[kube.ManagedByLabel] == kube.Name:
		return nil
	}

	want := triggerAuthentication()
	if err := k.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), kube.FieldOwner, client.ForceOwnership); err != nil {
		return fmt.Errorf("writing ClusterTriggerAuthentication %s: %w", TriggerAuthentication, err)
	}
	log.FromContext(ctx).Info("wrote ClusterTriggerAuthentication", "clusterTriggerAuthentication", TriggerAuthentication)
	return nil
}

// triggerAuthentication holds only what is ours to say, so that applying it
// takes nothing else away.
func triggerAuthentication() *unstructured.Unstructured {
	refs := make([]any, 0, len(secretRefs))
	for _, ref := range secretRefs {
		refs = append(refs, map[string]any{"parameter": ref.Parameter, "name": ref.Name, "key": ref.Key})
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": kedav1alpha1.GroupVersion.String(),
		"kind":       "ClusterTriggerAuthentication",
		"metadata": map[string]any{
			"name":   TriggerAuthentication,
			"labels": map[string]any{kube.ManagedByLabel: kube.Name},
		},
		"spec": map[string]any{"secretTargetRef": refs},
	}}
}
