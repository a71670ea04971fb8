package kaito

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/test/fakecache"
)

// known is what Fleets were last told of one.
type known struct {
	Desired  int32
	Replicas []string // "ws-0 serving"
	Want     []string
}

// fleets records what it is told.
type fleets struct {
	now map[types.NamespacedName]known
	// forgotten counts by key.
	forgotten map[types.NamespacedName]int
	// asked is by what each is scaled.
	asked map[types.NamespacedName][]policy.Trigger
}

func (f *fleets) SetTriggers(key types.NamespacedName, triggers []policy.Trigger) {
	f.asked[key] = triggers
}

func (f *fleets) Set(key types.NamespacedName, desired int32, replicas []Replica, readings []policy.Reading) {
	k := known{Desired: desired}
	for _, r := range readings {
		k.Want = append(k.Want, r.Families...)
	}
	for _, r := range replicas {
		name := r.Pod
		if name == "" {
			name = r.Workspace
		}
		k.Replicas = append(k.Replicas, fmt.Sprintf("%s %s", name, r.Phase))
	}
	f.now[key] = k
}

func (f *fleets) Forget(key types.NamespacedName) {
	delete(f.now, key)
	f.forgotten[key]++
}

// story is a Watcher of a cache that changes step by step.
type story struct {
	*testing.T
	cache   client.WithWatch
	fleets  *fleets
	watcher fleetReconciler
	// broken is the kind that the cache can't be asked for, "" for none.
	broken string
	// meanwhile happens once, after InferenceSets were next listed; nil for nothing.
	meanwhile func()
}

func tell(t *testing.T, objects ...client.Object) *story {
	t.Helper()
	s := &story{T: t, fleets: &fleets{map[types.NamespacedName]known{}, map[types.NamespacedName]int{}, map[types.NamespacedName][]policy.Trigger{}}}
	b := fakecache.NewBuilder(t, "v1beta1", objects...)
	b.WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if s.broken == "Get" {
				return errBroken
			}
			return c.Get(ctx, key, obj, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if s.broken != "" && strings.Contains(fmt.Sprintf("%T %s", list, list.GetObjectKind().GroupVersionKind().Kind), s.broken) {
				return errBroken
			}
			err := c.List(ctx, list, opts...)
			if list.GetObjectKind().GroupVersionKind().Kind == KindInferenceSet+"List" && s.meanwhile != nil {
				now := s.meanwhile
				s.meanwhile = nil
				now()
			}
			return err
		},
	})
	if err := Index(t.Context(), b, "v1beta1"); err != nil {
		t.Fatal(err)
	}
	s.cache = b.Build()
	s.watcher = fleetReconciler{NewWatcher(s.fleets, s.fleets), s.cache, "v1beta1"}
	return s
}

var errBroken = errors.New("the cache is broken")

var phi4 = types.NamespacedName{Namespace: "default", Name: "phi-4"}

func (s *story) reconcile() {
	s.Helper()
	if _, err := s.watcher.Reconcile(s.Context(), reconcile.Request{NamespacedName: phi4}); err != nil {
		s.Fatal(err)
	}
}

// becomes puts objects into the cache in place of what was there, and lets the
// Watcher look.
func (s *story) becomes(objects ...client.Object) {
	s.Helper()
	for _, obj := range objects {
		if err := client.IgnoreNotFound(s.cache.Delete(s.Context(), obj)); err != nil {
			s.Fatal(err)
		}
		obj.SetResourceVersion("")
		if err := s.cache.Create(s.Context(), obj); err != nil {
			s.Fatal(err)
		}
	}
	s.reconcile()
}

// ends takes objects out of the cache, and lets the Watcher look.
func (s *story) ends(objects ...client.Object) {
	s.Helper()
	for _, obj := range objects {
		if err := s.cache.Delete(s.Context(), obj); err != nil {
			s.Fatal(err)
		}
	}
	s.reconcile()
}

func (s *story) wantFleet(want known) {
	s.Helper()
	got, found := s.fleets.now[phi4]
	if !found {
		s.Fatalf("the fleet is not read, want %+v", want)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("fleet (-want +got):\n%s", diff)
	}
}

func (s *story) wantReplicas(want ...string) {
	s.Helper()
	if diff := cmp.Diff(want, s.fleets.now[phi4].Replicas); diff != "" {
		s.Errorf("replicas (-want +got):\n%s", diff)
	}
}

func (s *story) wantForgotten() {
	s.Helper()
	if got, found := s.fleets.now[phi4]; found {
		s.Errorf("the fleet is still read: %+v", got)
	}
	if s.fleets.forgotten[phi4] == 0 {
		s.Error("nobody was told to forget the fleet")
	}
	if len(s.watcher.served) > 0 {
		s.Errorf("still remembered: %v", s.watcher.served)
	}
}

const waiting, running = "vllm:num_requests_waiting", "vllm:num_requests_running"

// asking are a threshold's annotations, by themselves: without what a guard
// learns from.
func asking(metric string) map[string]string {
	annotations := map[string]string{"auto-provision": "true", "threshold": "10", "max-replicas": "5", "downguard": "false"}
	if metric != "" {
		annotations["metricName"] = metric
	}
	return annotations
}

// scaledObject has a trigger for each of the InferenceSets, on that metric.
func scaledObject(name, kind, metric string, inferenceSets ...string) *kedav1alpha1.ScaledObject {
	so := &kedav1alpha1.ScaledObject{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	for _, is := range inferenceSets {
		so.Spec.Triggers = append(so.Spec.Triggers, kedav1alpha1.ScaleTriggers{Type: kind, Metadata: map[string]string{
			"scalerAddress": "scaler:10450", "inferenceSetName": is, "metricName": metric, "threshold": "10",
		}})
	}
	return so
}
