package chart

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// own is where these scalers are, and KEDA isn't.
const own = "kaito-workspace"

// The scaler in a namespace, and KEDA in another one: with no right beyond what the
// chart grants, KEDA finds its certificate and an InferenceSet scales, with the
// scaler's certificates and with cert-manager's.
func TestKEDAElsewhereOnWhatHelmRenders(t *testing.T) {
	s := start(t, stack.Options{HPASync: 2 * time.Second, KAITO: quick})
	for _, name := range []string{own, "team-a", "team-b"} {
		if err := s.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	where := []string{"namespaceOverride=" + own, "keda.namespace=" + stack.Namespace}

	ours := run(t, s, append(where, "watchNamespaces={team-a}")...)
	quickStart(t, s, "team-a")
	deleted := kedas(t, s, types.UID(""))
	if err := s.Client.Delete(t.Context(), deleted); err != nil {
		t.Fatal(err)
	}
	kedas(t, s, deleted.UID)
	ours.wantNothingForbidden(t)
	beside := &corev1.Secret{}
	if err := s.Client.Get(t.Context(), client.ObjectKey{Namespace: own, Name: clientSecret}, beside); !apierrors.IsNotFound(err) {
		t.Errorf("KEDA's certificate is beside the scaler too: %v", err)
	}
	if err := ours.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}

	// An Issuer of the scaler's namespace signs; KEDA reads a copy.
	program := installCertManager(t, s)
	theirs := launch(t, s, append(where, "watchNamespaces={team-a,team-b}", "certManager.enabled=true")...)
	if _, err := s.StartCertManager(program); err != nil {
		t.Fatal(err)
	}
	eventually(t, "KEDA has what cert-manager wrote", func(ctx context.Context) error {
		original, copied := &corev1.Secret{}, &corev1.Secret{}
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: own, Name: clientSecret}, original); err != nil {
			return err
		}
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: stack.Namespace, Name: clientSecret}, copied); err != nil {
			return err
		}
		if len(original.Data["tls.crt"]) == 0 || string(original.Data["tls.crt"]) != string(copied.Data["tls.crt"]) {
			return errors.New("it has another certificate")
		}
		return nil
	})
	theirs.awaitReady(t)
	quickStart(t, s, "team-b")
	theirs.wantNothingForbidden(t)
}

// kedas waits for KEDA's Secret in KEDA's namespace, another one than before.
func kedas(t *testing.T, s *stack.Stack, before types.UID) *corev1.Secret {
	t.Helper()
	secret := &corev1.Secret{}
	eventually(t, "KEDA's Secret in KEDA's namespace", func(ctx context.Context) error {
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: stack.Namespace, Name: clientSecret}, secret); err != nil {
			return err
		}
		if secret.UID == before {
			return fmt.Errorf("it is %s still", before)
		}
		return nil
	})
	return secret
}
