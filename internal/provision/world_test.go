package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/test/fakecache"
)

var settings = Settings{
	Version: "v1beta1", Address: "keda-kaito-scaler-svc.keda.svc:10450", Authentication: "keda-kaito-scaler-creds",
	Trust: func() error { return nil },
}

// recorder keeps events as "Warning ScalingRefused: note", with what they stand
// on and are related to.
type recorder struct {
	events    []string
	regarding []string
	related   []string
	// last is the newest event.
	last string
}

func (r *recorder) Eventf(regarding, related runtime.Object, kind, reason, _, note string, args ...any) {
	r.events = append(r.events, fmt.Sprintf("%s %s: %s", kind, reason, fmt.Sprintf(note, args...)))
	r.last = r.events[len(r.events)-1]
	r.regarding = append(r.regarding, reference(regarding))
	if related != nil {
		r.related = append(r.related, reference(related))
	}
}

func reference(object runtime.Object) string {
	named, ok := object.(metav1.Object)
	if !ok {
		return fmt.Sprintf("%T", object)
	}
	return named.GetNamespace() + "/" + named.GetName()
}

// world is a cluster in memory with a Controller, which is run by hand.
type world struct {
	*testing.T
	cluster    client.WithWatch
	controller *Controller
	recorder   *recorder
	metrics    *prometheus.Registry
	// writes are those of the Controller since it was last asked, such as
	// "apply phi-4".
	writes []string
	// refusal answers every write and failure every read of ScaledObjects,
	// unless nil.
	refusal, failure error
	// lists counts the Controller's lists.
	lists int
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	b := fakecache.NewBuilder(t, "v1beta1", objects...)
	if err := errors.Join(index(t.Context(), b), kaito.Index(t.Context(), b, "v1beta1")); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, cluster: b.Build(), recorder: &recorder{}}
	w.restart(settings)
	return w
}

// restart is another process with these settings, or another leader.
func (w *world) restart(settings Settings) {
	w.Helper()
	w.metrics = prometheus.NewRegistry()
	settings.Registerer = w.metrics
	var err error
	w.controller, err = newController(interceptor.NewClient(w.cluster, w.watching()), w.recorder, settings)
	if err != nil {
		w.Fatal(err)
	}
}

// watching notes the Controller's writes. Those of another kind fail the test.
func (w *world) watching() interceptor.Funcs {
	note := func(verb string, obj any) error {
		name := ""
		if named, ok := obj.(interface{ GetName() *string }); ok && named.GetName() != nil {
			name = *named.GetName()
		} else if object, ok := obj.(client.Object); ok {
			name = object.GetName()
		}
		w.writes = append(w.writes, verb+" "+name)
		return w.refusal
	}
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, ok := obj.(*kedav1alpha1.ScaledObject); ok && w.failure != nil {
				return w.failure
			}
			return c.Get(ctx, key, obj, opts...)
		},
		// A cache lists in the order of a map. Here every second list is reversed.
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := c.List(ctx, list, opts...); err != nil {
				return err
			}
			if w.lists++; w.lists%listsPerLook < listsPerLook/2 {
				return nil
			}
			items, err := meta.ExtractList(list)
			if err != nil {
				return err
			}
			slices.Reverse(items)
			return meta.SetList(list, items)
		},
		Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if err := note("apply", obj); err != nil {
				return err
			}
			return c.Apply(ctx, obj, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			if err := note("delete", obj); err != nil {
				return err
			}
			var given client.DeleteOptions
			given.ApplyOptions(opts)
			if given.Preconditions == nil || given.Preconditions.UID == nil || *given.Preconditions.UID != obj.GetUID() {
				w.Errorf("%s is deleted by its name alone, which may be a user's by now", obj.GetName())
			}
			return c.Delete(ctx, obj, opts...)
		},
		Create: func(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
			return note("create", obj)
		},
		Update: func(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.UpdateOption) error {
			return note("update", obj)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			if err := note("patch", obj); err != nil {
				return err
			}
			if data, err := patch.Data(obj); err != nil || !strings.Contains(string(data), `"resourceVersion"`) {
				w.Errorf("%s is patched whatever became of it meanwhile: %s, %v", obj.GetName(), data, err)
			}
			return c.Patch(ctx, obj, patch, opts...)
		},
	}
}

// listsPerLook is twice the lists of one reconcile.
const listsPerLook = 6

var phi4 = types.NamespacedName{Namespace: "default", Name: "phi-4"}

func (w *world) try(key types.NamespacedName) error {
	_, err := w.controller.Reconcile(w.Context(), reconcile.Request{NamespacedName: key})
	return err
}

// reconcile looks at phi-4 twice: what a look brings about must hold.
func (w *world) reconcile() {
	w.Helper()
	if err := w.try(phi4); err != nil {
		w.Fatal(err)
	}
	before := len(w.writes)
	if err := w.try(phi4); err != nil {
		w.Fatal(err)
	}
	if again := w.writes[before:]; len(again) > 0 {
		w.Errorf("a second look at the same wrote again: %q", again)
	}
}

func (w *world) scaledObject(name string) (*kedav1alpha1.ScaledObject, bool) {
	w.Helper()
	var so kedav1alpha1.ScaledObject
	err := w.cluster.Get(w.Context(), types.NamespacedName{Namespace: "default", Name: name}, &so)
	if client.IgnoreNotFound(err) != nil {
		w.Fatal(err)
	}
	return &so, !apierrors.IsNotFound(err)
}

// change edits an object as a user would.
func change[T client.Object](w *world, name string, obj T, edit func(T)) {
	w.Helper()
	if err := w.cluster.Get(w.Context(), types.NamespacedName{Namespace: "default", Name: name}, obj); err != nil {
		w.Fatal(err)
	}
	edit(obj)
	if err := w.cluster.Update(w.Context(), obj); err != nil {
		w.Fatal(err)
	}
}

// annotate sets annotations of phi-4, given without their prefix.
func (w *world) annotate(pairs ...string) {
	w.Helper()
	change(w, "phi-4", kaito.Object("v1beta1", kaito.KindInferenceSet), func(u *unstructured.Unstructured) {
		annotations := u.GetAnnotations()
		maps.Copy(annotations, prefixed(pairs...))
		u.SetAnnotations(annotations)
	})
}

func (w *world) create(obj client.Object) {
	w.Helper()
	if err := w.cluster.Create(w.Context(), obj); err != nil {
		w.Fatal(err)
	}
}

// read is an object as it stands in the cluster.
func (w *world) read(obj client.Object) client.Object {
	w.Helper()
	now := obj.DeepCopyObject().(client.Object)
	if err := w.cluster.Get(w.Context(), client.ObjectKeyFromObject(obj), now); err != nil {
		w.Fatal(err)
	}
	return now
}

func (w *world) delete(obj client.Object) {
	w.Helper()
	if err := w.cluster.Delete(w.Context(), obj); err != nil {
		w.Fatal(err)
	}
}

func (w *world) wantWrites(want ...string) {
	w.Helper()
	if diff := cmp.Diff(want, w.writes); diff != "" {
		w.Errorf("writes (-want +got):\n%s", diff)
	}
	w.writes = nil
}

// wantEvents checks the events since it was last asked: each must begin with
// what is wanted.
func (w *world) wantEvents(want ...string) {
	w.Helper()
	got := w.recorder.events
	w.recorder.events = nil
	if len(got) != len(want) {
		w.Errorf("%d events, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
		return
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			w.Errorf("event %d:\n%s\nwant it to begin with\n%s", i, got[i], want[i])
		}
	}
}

// wantState checks as which the metric counts phi-4, the only InferenceSet; ""
// for none.
func (w *world) wantState(want string) {
	w.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.Fatal(err)
	}
	var got []string
	for _, family := range families {
		if family.GetName() != "keda_kaito_scaler_provision_inferencesets" {
			continue
		}
		for _, metric := range family.GetMetric() {
			if n := metric.GetGauge().GetValue(); n != 0 {
				got = append(got, fmt.Sprintf("%g %s", n, metric.GetLabel()[0].GetValue()))
			}
		}
	}
	if want != "" {
		want = "1 " + want
	}
	if have := strings.Join(got, ", "); have != want {
		w.Errorf("the metric counts %q, want %q", have, want)
	}
}

func prefixed(pairs ...string) map[string]string {
	annotations := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		annotations[policy.Prefix+pairs[i]] = pairs[i+1]
	}
	return annotations
}

// inferenceSet is default/phi-4 of the quick start, with these annotations
// too, given without their prefix.
func inferenceSet(pairs ...string) *unstructured.Unstructured {
	u := kaito.Object("v1beta1", kaito.KindInferenceSet)
	u.SetNamespace("default")
	u.SetName("phi-4")
	u.SetUID("uid-of-phi-4")
	annotations := prefixed("auto-provision", "true", "threshold", "10", "max-replicas", "5")
	maps.Copy(annotations, prefixed(pairs...))
	u.SetAnnotations(annotations)
	u.Object["spec"] = map[string]any{"replicas": int64(1), "nodeCountLimit": int64(10)}
	return u
}

// autoscaler is a HorizontalPodAutoscaler, a user's own or made by the
// ScaledObject owner.
func autoscaler(name, apiVersion, kind, target, owner string) *autoscalingv2.HorizontalPodAutoscaler {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	hpa.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: apiVersion, Kind: kind, Name: target}
	if owner != "" {
		hpa.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject", Name: owner, UID: "uid-of-" + types.UID(owner), Controller: new(true),
		}}
	}
	return hpa
}

// foreign is a user's own ScaledObject.
func foreign(name, apiVersion, kind, target string) *kedav1alpha1.ScaledObject {
	return &kedav1alpha1.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"team": "a"}},
		Spec: kedav1alpha1.ScaledObjectSpec{
			ScaleTargetRef: &kedav1alpha1.ScaleTarget{APIVersion: apiVersion, Kind: kind, Name: target},
		},
	}
}
