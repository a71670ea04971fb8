package main

import (
	"testing"

	"github.com/go-logr/logr"
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
			o := defaults()
			o.watchNamespaces = tt.watched
			p := newProgram(o, nil, logr.Discard())
			if tt.filled {
				p.cached.become(filled, "v1beta1")
			}
			if got := p.absent(t.Context(), types.NamespacedName{Namespace: "default", Name: tt.key}); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
