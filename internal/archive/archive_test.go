package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// world is an API server in memory that counts what is asked of it.
type world struct {
	client.WithWatch
	writes int
	broken error
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	w := &world{}
	w.WithWatch = interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if w.broken != nil {
				return w.broken
			}
			return c.Get(ctx, key, obj, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			w.writes++
			return c.Apply(ctx, obj, opts...)
		},
	})
	return w
}

// open is the archive as another process finds it.
func (w *world) open() *Archive { return &Archive{Reader: w, Writer: w, Namespace: "keda"} }

func (w *world) load(t *testing.T) map[string][]byte {
	t.Helper()
	entries, err := w.open().Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	w := newWorld(t)
	want := map[string][]byte{}
	for i := range 100 {
		want[fmt.Sprintf("team.model-%d_0badcafe", i)] = []byte{1, byte(i), 0xff}
	}
	a := w.open()
	if err := a.Save(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, w.load(t)); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
	var list corev1.ConfigMapList
	if err := w.List(t.Context(), &list, client.InNamespace("keda")); err != nil || len(list.Items) != Shards {
		t.Errorf("%d ConfigMaps, %v", len(list.Items), err)
	}

	// What is there already isn't written, and what is gone goes.
	w.writes = 0
	if err := a.Save(t.Context(), want); err != nil || w.writes > 0 {
		t.Errorf("%d writes of the same, %v", w.writes, err)
	}
	next := w.open()
	if _, err := next.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	few := map[string][]byte{"team.model-7_0badcafe": {2}}
	if err := next.Save(t.Context(), few); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(few, w.load(t)); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

func TestNothingIsMadeForNothing(t *testing.T) {
	w := newWorld(t)
	if err := w.open().Save(t.Context(), nil); err != nil || w.writes > 0 {
		t.Errorf("%d writes, %v", w.writes, err)
	}
}

func TestWhatIsNotOursIsLeftOut(t *testing.T) {
	const key = "team.model_0badcafe"
	shard, other := shardOf(key), (shardOf(key)+1)%Shards
	w := newWorld(t,
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "keda", Name: name(shard)},
			BinaryData: map[string][]byte{key: {1}, "long": make([]byte, MaxEntry+1)}, Data: map[string]string{"note": "by hand"},
		},
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "keda", Name: name(other)}, BinaryData: map[string][]byte{key: {2}},
		})
	if diff := cmp.Diff(map[string][]byte{key: {1}}, w.load(t)); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

// A ConfigMap never grows beyond what the API server takes.
func TestAShardIsBounded(t *testing.T) {
	w := newWorld(t)
	entries := map[string][]byte{strings.Repeat("k", maxKey+1): {1}, "huge": make([]byte, MaxEntry+1)}
	for i := range 1300 { // some 160 for each shard, of which it holds 112
		entries[fmt.Sprintf("team.model-%d_0badcafe", i)] = make([]byte, MaxEntry)
	}
	if err := w.open().Save(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	var list corev1.ConfigMapList
	if err := w.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	for _, object := range list.Items {
		total := 0
		for key, data := range object.BinaryData {
			total += len(key) + len(data)
		}
		if total > maxShard || len(object.BinaryData) < 100 {
			t.Errorf("%s has %d bytes in %d entries", object.Name, total, len(object.BinaryData))
		}
	}
}

func TestWhatCannotBeReadIsAnError(t *testing.T) {
	w := newWorld(t)
	w.broken = errors.New("no route to host")
	if _, err := w.open().Load(t.Context()); err == nil || !strings.Contains(err.Error(), "read ConfigMap keda/keda-kaito-scaler-learned-0") {
		t.Errorf("%v", err)
	}
}
