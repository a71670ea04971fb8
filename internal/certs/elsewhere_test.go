package certs

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
)

// kedaIsElsewhere is the scaler in KAITO's namespace, and KEDA in its own.
var kedaIsElsewhere = Names{Namespace: "kaito-workspace", KEDANamespace: "keda", Service: "keda-kaito-scaler-svc"}

// namespacesOf tells where the Secrets of ours are, as "namespace/name".
func namespacesOf(t *testing.T, c client.Client) map[string]bool {
	t.Helper()
	var list corev1.SecretList
	if err := c.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for i := range list.Items {
		found[list.Items[i].Namespace+"/"+list.Items[i].Name] = true
	}
	return found
}

func (k *Keeper) change(t *testing.T, namespace, name string, change func(*corev1.Secret)) {
	t.Helper()
	secret := &corev1.Secret{}
	if err := k.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, secret); err != nil {
		t.Fatal(err)
	}
	change(secret)
	if err := k.Client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
}

func TestTheClientsSecretIsWhereKEDAReadsIt(t *testing.T) {
	k := newKeeper(t, NewRules(kedaIsElsewhere, 0), interceptor.Funcs{})
	k.mustReconcile(t)
	k.mustWant(t)
	got := namespacesOf(t, k.Client)
	for _, want := range []string{
		"kaito-workspace/keda-kaito-scaler-ca", "kaito-workspace/keda-kaito-scaler-server-certs", "keda/keda-kaito-scaler-client-certs",
	} {
		if !got[want] {
			t.Errorf("no Secret %s", want)
		}
	}
	if len(got) != 3 {
		t.Errorf("Secrets %v, want three", got)
	}

	// Damaged, deleted, or replaced by something foreign: it is made anew there.
	k.change(t, "keda", ClientSecret, func(s *corev1.Secret) { s.Data = Data{keyCert: {}, keyKey: {}} })
	k.mustReconcile(t)
	k.mustWant(t)
	gone := &corev1.Secret{}
	gone.Namespace, gone.Name = "keda", ClientSecret
	if err := k.Client.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	k.mustReconcile(t)
	k.mustWant(t)
	// Whatever stands under that name in the scaler's own namespace is nobody's.
	if len(namespacesOf(t, k.Client)) != 3 {
		t.Errorf("Secrets %v, want three", namespacesOf(t, k.Client))
	}
}

// An installation in one namespace is told that KEDA is in another one, and then
// that KEDA has moved: the CA and what the scaler serves stay, KEDA is told of its
// new certificate, and whoever still holds the old one is answered.
func TestKEDAMovesToAnotherNamespace(t *testing.T) {
	k := newKeeper(t, NewRules(Names{Namespace: "kaito-workspace", Service: kedaIsElsewhere.Service}, 0), interceptor.Funcs{})
	var lastDigest []string
	k.OnClientMaterial = func(digest string) { lastDigest = append(lastDigest, digest) }
	k.mustReconcile(t)
	before := k.mustWant(t)
	for _, namespace := range []string{"keda", "keda-two"} {
		k.Rules.Names.KEDANamespace = namespace
		k.mustReconcile(t)
		after := k.mustWant(t)
		if after[ClientSecret].Namespace != namespace {
			t.Errorf("KEDA's certificate is in %s, want %s", after[ClientSecret].Namespace, namespace)
		}
		if !after.data(CASecret).Equal(before.data(CASecret)) || !after.data(ServerSecret).Equal(before.data(ServerSecret)) {
			t.Errorf("KEDA in %s: the CA or the server's certificate changed", namespace)
		}
		if err := talk(before.data(ClientSecret), after.data(ServerSecret), k.Now(), kedaIsElsewhere); err != nil {
			t.Errorf("with the certificate of before: %v", err)
		}
	}
	if len(lastDigest) != 3 {
		t.Errorf("told KEDA's material %v, want once for each namespace", lastDigest)
	}
}

// KEDA's namespace is closed to the scaler, or doesn't exist, for all of a
// certificate's life: what the scaler serves is made and renewed all the same, the
// trouble is told, and ScaledObjects are written, on which it can be told. A
// rotation of the CA waits.
func TestAClosedNamespaceOfKEDAsStopsNothingElse(t *testing.T) {
	secrets := schema.GroupResource{Resource: "secrets"}
	for story, refuse := range map[string]func(key client.ObjectKey) (read, write error){
		"no right": func(key client.ObjectKey) (read, write error) {
			err := apierrors.NewForbidden(secrets, key.Name, nil)
			return err, err
		},
		"no namespace": func(key client.ObjectKey) (read, write error) {
			return apierrors.NewNotFound(secrets, key.Name), apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, key.Namespace)
		},
	} {
		t.Run(story, func(t *testing.T) {
			closed := true
			k := newKeeper(t, NewRules(kedaIsElsewhere, 300*day), interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
					if closed && key.Namespace == "keda" {
						read, _ := refuse(key)
						return read
					}
					return c.Get(ctx, key, obj, opts...)
				},
				Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
					if named, ok := obj.(interface{ GetNamespace() *string }); closed && ok && *named.GetNamespace() == "keda" {
						_, write := refuse(client.ObjectKey{Namespace: "keda", Name: ClientSecret})
						return write
					}
					return c.Apply(ctx, obj, opts...)
				},
			})
			now := dayOne
			k.Now = func() time.Time { return now }
			var lastDigest, troubles []string
			k.OnClientMaterial = func(digest string) { lastDigest = append(lastDigest, digest) }
			k.OnClientProblem = func(why string) { troubles = append(troubles, why) }
			serves := func() Data {
				t.Helper()
				if result, err := k.Reconcile(t.Context(), singleRequest); err != nil || result.RequeueAfter != retryFailed {
					t.Fatalf("looks again in %s, %v", result.RequeueAfter, err)
				}
				found, err := k.read(t.Context(), CASecret, ServerSecret)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := newMaterial(found.data(ServerSecret), now); err != nil {
					t.Fatalf("at %s: %v", now, err)
				}
				return found.data(ServerSecret)
			}
			first := serves()
			if len(troubles) != 1 || !strings.Contains(troubles[0], "Secret keda/keda-kaito-scaler-client-certs") || !strings.Contains(k.problems.last, troubles[0]) {
				t.Errorf("trouble %q, logged %q", troubles, k.problems.last)
			}
			if len(lastDigest) != 1 {
				t.Errorf("told KEDA's material %q: ScaledObjects wait", lastDigest)
			}
			now = now.Add(250 * day)
			if serves().Equal(first) {
				t.Error("the server's certificate is not renewed")
			}
			closed = false
			k.mustReconcile(t)
			k.mustWant(t)
			if troubles[len(troubles)-1] != "" || len(lastDigest) != 2 {
				t.Errorf("at the end trouble %q, told %q", troubles, lastDigest)
			}
			// In the course of a rotation it is closed again.
			now = renewAt(leafOf(t, k.mustRead(t).data(CASecret)))
			k.mustReconcile(t)
			staged := k.mustWant(t)
			closed = true
			now = now.Add(DefaultOverlap)
			serves()
			closed = false
			if !k.mustRead(t).data(CASecret).Equal(staged.data(CASecret)) {
				t.Error("a CA that KEDA may not know was promoted")
			}
			k.mustReconcile(t)
			k.mustWant(t)
		})
	}
}

// cert-manager writes the client's Secret beside its Certificate; KEDA reads a
// copy, which follows.
func TestTheFollowerCopiesToKEDAsNamespace(t *testing.T) {
	k := newKeeper(t, NewRules(kedaIsElsewhere, 0), interceptor.Funcs{})
	c := k.Client
	var lastDigest, troubles []string
	f := &follower{
		reader: c, live: c, writer: writer{c}, key: client.ObjectKey{Namespace: "kaito-workspace", Name: ClientSecret},
		copyTo:       kedaIsElsewhere.secret(ClientSecret),
		reportDigest: func(digest string) { lastDigest = append(lastDigest, digest) }, onProblem: func(why string) { troubles = append(troubles, why) },
	}
	original := &corev1.Secret{Data: today(t).bundle.Client.with(Data{"more": {1}})}
	original.Namespace, original.Name = "kaito-workspace", ClientSecret
	if err := c.Create(t.Context(), original); err != nil {
		t.Fatal(err)
	}
	copied := func() {
		t.Helper()
		if result, err := f.Reconcile(t.Context(), singleRequest); err != nil || result.RequeueAfter != poll || f.problems.last != "" {
			t.Fatalf("looks again in %s, %v %s", result.RequeueAfter, err, f.problems.last)
		}
		have := &corev1.Secret{}
		if err := c.Get(t.Context(), f.copyTo, have); err != nil {
			t.Fatal(err)
		}
		if want := Data(original.Data).with(Data{"more": nil}); !want.Equal(have.Data) || have.Labels[kube.ManagedByLabel] != kube.Name {
			t.Errorf("the copy is another one, labels %v", have.Labels)
		}
	}
	copied()
	original.Data = today(t).bundle.Client
	if err := c.Update(t.Context(), original); err != nil {
		t.Fatal(err)
	}
	copied()
	k.change(t, "keda", ClientSecret, func(s *corev1.Secret) { s.Data = nil })
	copied()
	gone := &corev1.Secret{}
	gone.Namespace, gone.Name = "keda", ClientSecret
	if err := c.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	copied()
	if len(lastDigest) != 2 || len(troubles) == 0 || strings.Join(troubles, "") != "" {
		t.Errorf("told %q, trouble %q: want two digests and none", lastDigest, troubles)
	}
}
