package lifecycle

import (
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
)

func TestWhyNothingIsReadOfAnInferenceSet(t *testing.T) {
	is := kaito.Object("v1beta1", kaito.KindInferenceSet)
	is.SetNamespace("default")
	is.SetName("phi-4")
	scheme := runtime.NewScheme()
	scheme.AddKnownTypeWithName(is.GroupVersionKind(), &unstructured.Unstructured{})
	filled := fake.NewClientBuilder().WithScheme(scheme).WithObjects(is).Build()
	for _, tt := range []struct {
		name    string
		watched []string
		filled  bool
		key     string
		want    string
	}{
		{"before the cache has anything", nil, false, "phi-4", "InferenceSet default/phi-4 does not exist, or was made just now"},
		{"none of the name", nil, true, "phi-5", "InferenceSet default/phi-5 does not exist, or was made just now"},
		{
			"nobody asks for it", nil, true, "phi-4",
			"InferenceSet default/phi-4 exists, but no ScaledObject of its namespace is known to have this trigger, so that its pods are not read for it: " +
				"if the ScaledObject was made or changed just now, they are in a moment",
		},
		{
			"in a namespace that isn't watched",
			[]string{"team-a", "team-b"},
			true, "phi-4",
			"nothing is read in namespace default: --watch-namespaces names team-a, team-b",
		},
		{"in one that is", []string{"team-a", "default"}, true, "phi-5", "InferenceSet default/phi-5 does not exist, or was made just now"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &Managers{Settings: Settings{WatchNamespaces: tt.watched}}
			if tt.filled {
				m.Cache.set(filled, "v1beta1")
			}
			if got := m.WhyNotRead(t.Context(), types.NamespacedName{Namespace: "default", Name: tt.key}); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// How the HPA uses a number is in the ScaledObject, read from memory.
func TestScaledObjectsAreFoundInTheNewestCache(t *testing.T) {
	var c Cache
	key := types.NamespacedName{Namespace: "default", Name: "phi-4"}
	if _, found := c.ScaledObject(t.Context(), key); found {
		t.Error("found a ScaledObject before there was a cache")
	}
	scheme := runtime.NewScheme()
	if err := kedav1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	so := &kedav1alpha1.ScaledObject{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "phi-4", UID: "uid"}}
	c.set(fake.NewClientBuilder().WithScheme(scheme).WithObjects(so).Build(), "v1beta1")
	if got, found := c.ScaledObject(t.Context(), key); !found || got.UID != "uid" {
		t.Errorf("%v, %t; want the ScaledObject", got, found)
	}
	if _, found := c.ScaledObject(t.Context(), types.NamespacedName{Namespace: "default", Name: "phi-5"}); found {
		t.Error("found a ScaledObject that isn't there")
	}
}

// Between two managers the former's cache still answers.
func TestInferenceSetsAreFoundInTheNewestCache(t *testing.T) {
	var c Cache
	key := types.NamespacedName{Namespace: "default", Name: "phi-4"}
	if _, found := c.InferenceSet(t.Context(), key); found {
		t.Error("found an InferenceSet before there was a cache")
	}
	for _, version := range []string{"v1alpha1", "v1beta1"} {
		is := kaito.Object(version, kaito.KindInferenceSet)
		is.SetNamespace("default")
		is.SetName("phi-4")
		c.set(fake.NewClientBuilder().WithObjects(is).Build(), version)
		object, found := c.InferenceSet(t.Context(), key)
		if u, ok := object.(*unstructured.Unstructured); !found || !ok || u.GroupVersionKind().Version != version {
			t.Errorf("%v, %t; want the InferenceSet in %s", object, found, version)
		}
	}
	if _, found := c.InferenceSet(t.Context(), types.NamespacedName{Namespace: "default", Name: "phi-5"}); found {
		t.Error("found an InferenceSet that isn't there")
	}
}
