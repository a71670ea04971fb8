package certs

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
)

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, kedav1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

func newKeeper(t *testing.T, rules Rules, funcs interceptor.Funcs) *Keeper {
	t.Helper()
	c := fake.NewClientBuilder().WithScheme(newScheme(t)).WithInterceptorFuncs(funcs).Build()
	return &Keeper{Client: c, Reader: c, Rules: rules, Now: time.Now}
}

func (k *Keeper) mustReconcile(t *testing.T) reconcile.Result {
	t.Helper()
	result, err := k.Reconcile(t.Context(), singleRequest)
	if err != nil || k.problems.last != "" {
		t.Fatalf("%v %s", err, k.problems.last)
	}
	return result
}

// mustWant wants KEDA and the scaler to understand each other by what stands in
// the Secrets.
func (k *Keeper) mustWant(t *testing.T) secrets {
	t.Helper()
	found := k.mustRead(t)
	if err := talk(found.data(ClientSecret), found.data(ServerSecret), k.Now(), k.Rules.Names); err != nil {
		t.Fatal(err)
	}
	return found
}

func (k *Keeper) mustRead(t *testing.T) secrets {
	t.Helper()
	found, err := k.read(t.Context(), CASecret, ServerSecret, ClientSecret)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestKeeperMakesWhatIsMissing(t *testing.T) {
	recorder := events.NewFakeRecorder(100)
	k := newKeeper(t, NewRules(testNames, 0), interceptor.Funcs{})
	k.Recorder = recorder
	var lastDigest []string
	k.OnClientMaterial = func(digest string) { lastDigest = append(lastDigest, digest) }

	if result := k.mustReconcile(t); result.RequeueAfter != poll {
		t.Errorf("looks again in %s, want %s", result.RequeueAfter, poll)
	}
	found := k.mustRead(t)
	if err := talk(found.data(ClientSecret), found.data(ServerSecret), time.Now(), testNames); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]corev1.SecretType{
		CASecret: corev1.SecretTypeOpaque, ServerSecret: corev1.SecretTypeTLS, ClientSecret: corev1.SecretTypeTLS,
	} {
		if got := found[name]; got.Type != want || got.Labels[kube.ManagedByLabel] != kube.Name {
			t.Errorf("%s: type %s, labels %v", name, got.Type, got.Labels)
		}
	}
	if len(recorder.Events) != 3 || len(lastDigest) != 1 {
		t.Errorf("%d events, told KEDA's material %v: want 3 and one digest", len(recorder.Events), lastDigest)
	}

	// Quiet while nothing happens.
	k.mustReconcile(t)
	if len(recorder.Events) != 3 || len(lastDigest) != 1 {
		t.Errorf("%d events, told KEDA's material %v after nothing happened", len(recorder.Events), lastDigest)
	}

	if err := k.Client.Delete(t.Context(), found[ClientSecret]); err != nil {
		t.Fatal(err)
	}
	k.mustReconcile(t)
	if len(recorder.Events) != 4 || len(lastDigest) != 2 || lastDigest[0] == lastDigest[1] {
		t.Errorf("%d events, told KEDA's material %v after its Secret was deleted", len(recorder.Events), lastDigest)
	}
}

// Secrets of earlier versions, and what people do to ours: other labels and
// types stay, the data becomes right.
func TestKeeperTakesOverExistingSecrets(t *testing.T) {
	k := newKeeper(t, NewRules(testNames, 0), interceptor.Funcs{})
	for _, name := range []string{ServerSecret, ClientSecret} {
		secret := &corev1.Secret{Type: corev1.SecretTypeOpaque, Data: Data{"ca.crt": []byte("x"), "old": {1}}}
		secret.Name, secret.Namespace, secret.Labels = name, testNames.Namespace, map[string]string{"team": "a"}
		if err := k.Client.Create(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
	}
	k.mustReconcile(t)
	found := k.mustRead(t)
	got := found[ClientSecret]
	want := map[string]string{"team": "a", kube.ManagedByLabel: kube.Name}
	if diff := cmp.Diff(want, got.Labels); diff != "" || got.Type != corev1.SecretTypeOpaque || got.Data["old"] != nil {
		t.Errorf("type %s, labels: %s", got.Type, diff)
	}
	if err := talk(found.data(ClientSecret), found.data(ServerSecret), time.Now(), testNames); err != nil {
		t.Error(err)
	}
}

// Helm goes on applying what a chart has made, and stops at what another has taken.
func TestAChartsSecretStaysTheCharts(t *testing.T) {
	k := newKeeper(t, NewRules(testNames, 0), interceptor.Funcs{})
	secret := &corev1.Secret{}
	secret.Name, secret.Namespace, secret.Labels = ClientSecret, testNames.Namespace, map[string]string{kube.ManagedByLabel: "Helm"}
	if err := k.Client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	k.mustReconcile(t)
	if got := k.mustRead(t)[ClientSecret]; got.Labels[kube.ManagedByLabel] != "Helm" || len(got.Data) == 0 {
		t.Errorf("labels %v, %d entries", got.Labels, len(got.Data))
	}
}

func TestKeeperSaysThatAnImmutableSecretHasToGo(t *testing.T) {
	k := newKeeper(t, NewRules(testNames, 0), interceptor.Funcs{})
	secret := &corev1.Secret{Immutable: new(true)}
	secret.Name, secret.Namespace = ServerSecret, testNames.Namespace
	if err := k.Client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	_, err := k.reconcile(t.Context())
	if err == nil || !strings.Contains(err.Error(), ServerSecret) || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("got %v", err)
	}
}

// It isn't trouble that a process was told to stop in the middle of something.
func TestAStopInTheMiddleOfAWriteIsNoTrouble(t *testing.T) {
	k := newKeeper(t, NewRules(testNames, 0), interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, _ client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
			return ctx.Err()
		},
	})
	var lines []string
	ctx, stop := context.WithCancel(log.IntoContext(t.Context(), funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})))
	stop()
	if _, err := k.Reconcile(ctx, singleRequest); err != nil || len(lines) > 0 {
		t.Errorf("error %v, logged %q", err, lines)
	}
}

// Every write may be the last one of this leader; the next goes on from there.
func TestKeeperSurvivesACrashAtAnyWrite(t *testing.T) {
	// 3 writes make everything, 4 stage a CA, 3 promote it.
	for crashAt := range 10 {
		writes := 0
		crash := func() error {
			writes++
			if writes == crashAt+1 {
				return errors.New("crash")
			}
			return nil
		}
		k := newKeeper(t, NewRules(testNames, 300*day), interceptor.Funcs{
			Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
				if err := crash(); err != nil {
					return err
				}
				return c.Apply(ctx, obj, opts...)
			},
			Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
				if err := crash(); err != nil {
					return err
				}
				return c.Update(ctx, obj, opts...)
			},
		})
		now := dayOne
		k.Now = func() time.Time { return now }
		crashes := 0
		reconcileTwice := func() {
			if _, err := k.reconcile(t.Context()); err != nil {
				crashes++
				k.mustReconcile(t)
			}
			found := k.mustRead(t)
			if err := talk(found.data(ClientSecret), found.data(ServerSecret), now, testNames); err != nil {
				t.Errorf("crash at write %d: %v", crashAt+1, err)
			}
		}
		reconcileTwice()
		now = renewAt(leafOf(t, k.mustRead(t).data(CASecret)))
		reconcileTwice()
		now = now.Add(DefaultOverlap)
		reconcileTwice()
		if crashes != 1 {
			t.Errorf("crash at write %d: %d crashes in %d writes", crashAt+1, crashes, writes)
		}
	}
}

// Somebody else's write between our read and ours is not an error.
func TestKeeperPlansAgainAfterAConflict(t *testing.T) {
	conflicts := 1
	k := newKeeper(t, NewRules(testNames, 0), interceptor.Funcs{
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			if conflicts > 0 {
				conflicts--
				return apierrors.NewConflict(schema.GroupResource{Resource: "secrets"}, obj.GetName(), errors.New("changed"))
			}
			return c.Update(ctx, obj, opts...)
		},
	})
	k.mustReconcile(t)
	k.Rules.Names.Address = "scaler.example.com:443"
	if result := k.mustReconcile(t); result.RequeueAfter != retry {
		t.Errorf("looks again in %s, want %s", result.RequeueAfter, retry)
	}
	if result := k.mustReconcile(t); result.RequeueAfter != poll {
		t.Errorf("looks again in %s, want %s", result.RequeueAfter, poll)
	}
	// The resourceVersion of the read goes along.
	found := k.mustRead(t)
	stale := found[ServerSecret].DeepCopy()
	if err := (writer{k.Client}).update(t.Context(), stale, stale.Data); err != nil {
		t.Fatal(err)
	}
	if err := (writer{k.Client}).update(t.Context(), stale, Data{}); !apierrors.IsConflict(err) {
		t.Errorf("a write from an old state: %v, want a conflict", err)
	}
}

func TestKeeperGivesUpOnSomebodyWhoUndoesItsWork(t *testing.T) {
	k := newKeeper(t, NewRules(testNames, 0), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if key.Name == ServerSecret {
				return apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, key.Name)
			}
			return c.Get(ctx, key, obj, opts...)
		},
	})
	if _, err := k.reconcile(t.Context()); !errors.Is(err, errTooManySteps) {
		t.Errorf("got %v", err)
	}
}

func TestTriggerAuthenticationIsKeptRight(t *testing.T) {
	c := fake.NewClientBuilder().WithScheme(newScheme(t)).Build()
	k := &TriggerAuthKeeper{Client: c, Reader: c}
	get := func() *kedav1alpha1.ClusterTriggerAuthentication {
		if err := k.reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		have := &kedav1alpha1.ClusterTriggerAuthentication{}
		if err := c.Get(t.Context(), client.ObjectKey{Name: "keda-kaito-scaler-creds"}, have); err != nil {
			t.Fatal(err)
		}
		want := []kedav1alpha1.AuthSecretTargetRef{
			{Parameter: "caCert", Name: "keda-kaito-scaler-client-certs", Key: "ca.crt"},
			{Parameter: "tlsClientCert", Name: "keda-kaito-scaler-client-certs", Key: "tls.crt"},
			{Parameter: "tlsClientKey", Name: "keda-kaito-scaler-client-certs", Key: "tls.key"},
		}
		if diff := cmp.Diff(want, have.Spec.SecretTargetRef); diff != "" {
			t.Errorf("secretTargetRef (-want +got):\n%s", diff)
		}
		return have
	}
	first := get()
	if again := get(); again.ResourceVersion != first.ResourceVersion {
		t.Error("written again for nothing")
	}
	first.Spec.SecretTargetRef[1].Key = "cert"
	first.Labels = map[string]string{"team": "a"}
	if err := c.Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if mended := get(); mended.Labels["team"] != "a" {
		t.Error("somebody's label was taken away")
	}
	if err := c.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	get()
}

// A CA's life and its successor's youth, with two replicas (one of which hears
// of changes two days late) and two KEDAs (one that reads its Secret when told,
// one that reads it every eight days), with connections that last a day: no call
// fails.
func TestNoCallFailsThroughARotation(t *testing.T) {
	t.Run("beside KEDA", func(t *testing.T) { rotate(t, testNames) })
	elsewhere := testNames
	elsewhere.KEDANamespace = "keda-system"
	t.Run("KEDA elsewhere", func(t *testing.T) { rotate(t, elsewhere) })
}

func rotate(t *testing.T, names Names) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t, Rules{Names: names, LeafLife: 30 * day, CALife: 300 * day, Overlap: day}, interceptor.Funcs{})
		lastDigest := false
		k.OnClientMaterial = func(string) { lastDigest = true }
		k.mustReconcile(t)
		end := time.Now().Add(250 * day)
		roots := map[string]bool{}

		prompt, late := newReplica(t, k), newReplica(t, k)
		attentive, lazy := newKEDA(t, prompt, late), newKEDA(t, prompt, late)
		var previous secrets
		for polls := 0; time.Now().Before(end); polls++ {
			found := k.mustRead(t)
			prompt.load(t, found)
			if previous == nil {
				previous = found
			}
			late.load(t, previous)
			previous = found
			roots[string(found.data(ServerSecret)[keyRoots])] = true
			if lastDigest {
				attentive.read(found.data(ClientSecret))
				lastDigest = false
			}
			if polls%4 == 0 {
				lazy.read(found.data(ClientSecret))
			}
			attentive.poll()
			lazy.poll()
			time.Sleep(2 * day)
			k.mustReconcile(t)
		}
		if len(roots) < 3 {
			t.Errorf("%d sets of roots: no whole rotation was seen", len(roots))
		}
	})
}

type replica struct {
	source   *Source
	listener *bufconn.Listener
}

func newReplica(t *testing.T, k *Keeper) *replica {
	t.Helper()
	r := &replica{source: NewSource(), listener: bufconn.Listen(1 << 16)}
	r.load(t, k.mustRead(t))
	serve(t, r.listener, r.source, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: day}))
	return r
}

func (r *replica) load(t *testing.T, found secrets) {
	t.Helper()
	if _, err := r.source.Load(found.data(ServerSecret), time.Now()); err != nil {
		t.Errorf("%s: load: %v", time.Now().Format(time.RFC3339), err)
	}
}

// kedaProcess holds on to connections, and to what it read.
type kedaProcess struct {
	t        *testing.T
	replicas []*replica
	conns    []*grpc.ClientConn
}

func newKEDA(t *testing.T, replicas ...*replica) *kedaProcess {
	t.Helper()
	p := &kedaProcess{t: t, replicas: replicas}
	t.Cleanup(p.close)
	return p
}

func (p *kedaProcess) close() {
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}

func (p *kedaProcess) read(d Data) {
	p.t.Helper()
	p.close()
	for _, r := range p.replicas {
		// Never idle, as KEDA, which asks every 15 s. The timers of 0 s that end an idle
		// connection also crash Go 1.26's race detector in a bubble, in one run of eight:
		// two of them at once run in one context of its (runtime.timer.unlockAndRun).
		conn, err := grpc.NewClient("passthrough:///scaler", dialer(r.listener), grpc.WithIdleTimeout(0),
			grpc.WithTransportCredentials(credentials.NewTLS(keda(p.t, d))))
		if err != nil {
			p.t.Fatal(err)
		}
		p.conns = append(p.conns, conn)
	}
}

func (p *kedaProcess) poll() {
	p.t.Helper()
	for i, conn := range p.conns {
		if err := call(p.t.Context(), conn); err != nil {
			p.t.Errorf("%s: replica %d: %v", time.Now().Format(time.RFC3339), i, err)
		}
	}
}
