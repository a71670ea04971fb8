package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
func (w *world) open() *Store { return &Store{Reader: w, Writer: w, Namespace: "keda"} }

func (w *world) load(t *testing.T) map[string][]byte {
	t.Helper()
	entries, err := w.open().Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// save saves entries in the order of their keys.
func save(t *testing.T, a *Store, entries map[string][]byte) (left []string) {
	t.Helper()
	left, err := a.Save(t.Context(), entries, slices.Sorted(maps.Keys(entries)))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	w := newWorld(t)
	want := map[string][]byte{}
	for i := range 100 {
		want[fmt.Sprintf("team.model-%d_0badcafe", i)] = []byte{1, byte(i), 0xff}
	}
	a := w.open()
	save(t, a, want)
	if diff := cmp.Diff(want, w.load(t)); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
	var list corev1.ConfigMapList
	if err := w.List(t.Context(), &list, client.InNamespace("keda")); err != nil || len(list.Items) != Shards {
		t.Errorf("%d ConfigMaps, %v", len(list.Items), err)
	}

	// What is there already isn't written, and what is gone goes.
	w.writes = 0
	if save(t, a, want); w.writes > 0 {
		t.Errorf("%d writes of the same", w.writes)
	}
	next := w.open()
	if _, err := next.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	few := map[string][]byte{"team.model-7_0badcafe": {2}}
	save(t, next, few)
	if diff := cmp.Diff(few, w.load(t)); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

func TestNothingIsMadeForNothing(t *testing.T) {
	w := newWorld(t)
	if save(t, w.open(), nil); w.writes > 0 {
		t.Errorf("%d writes", w.writes)
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
	left := save(t, w.open(), entries)
	var list corev1.ConfigMapList
	if err := w.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	if kept := len(w.load(t)); kept+len(left) != len(entries) || len(left) < 300 {
		t.Errorf("of %d entries %d are kept and %d are said to be left out", len(entries), kept, len(left))
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

// Whoever fills the ConfigMaps evicts nobody else: namespaces share them, and in
// a namespace InferenceSets do. Whose names come first in the alphabet is nothing.
func TestConfigMapsAreSharedFairly(t *testing.T) {
	w := newWorld(t)
	entries := map[string][]byte{}
	add := func(n int, key func(i int) string) {
		for i := range n {
			entries[key(i)] = make([]byte, MaxEntry)
		}
	}
	add(3000, func(i int) string { return fmt.Sprintf("aaa.model-%d_0badcafe", i) }) // a tenant with very many
	add(4000, func(i int) string { return fmt.Sprintf("bbb.greedy_%08x", i) })       // one InferenceSet with as many
	add(50, func(i int) string { return fmt.Sprintf("bbb.modest-%d_0badcafe", i) })  // and its neighbours
	add(100, func(i int) string { return fmt.Sprintf("zzz.model-%d_0badcafe", i) })  // another tenant
	a := w.open()
	left := save(t, a, entries)
	kept := map[string]int{}
	for key := range w.load(t) {
		switch {
		case strings.HasPrefix(key, "bbb.modest"):
			kept["modest"]++
		default:
			kept[key[:3]]++
		}
	}
	if kept["zzz"] != 100 || kept["modest"] != 50 {
		t.Errorf("%v: those who keep to their share must lose nothing", kept)
	}
	if few, many := kept["bbb"], kept["aaa"]; few < 300 || many < 300 || many > few+120 {
		t.Errorf("%v: the rest is shared by halves", kept)
	}
	if len(left)+len(w.load(t)) != len(entries) {
		t.Errorf("%d are said to be left out of %d", len(left), len(entries))
	}
	// The same stay the next time.
	w.writes = 0
	if save(t, a, entries); w.writes > 0 {
		t.Errorf("%d writes of the same", w.writes)
	}
}

// Of one InferenceSet what is first in the order is kept.
func TestTheFirstInTheOrderIsKept(t *testing.T) {
	var keys []string
	for i := range 10 {
		keys = append(keys, fmt.Sprintf("team.model_%08x", 9-i))
	}
	kept, left := share(keys, func(string) int { return 10 }, 45)
	if diff := cmp.Diff(keys[:4], kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(keys[4:], left); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
}
