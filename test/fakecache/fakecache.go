// Package fakecache makes caches of Kubernetes', KEDA's and KAITO's objects for
// tests.
package fakecache

import (
	"context"
	"errors"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// Builder takes indexes as a manager's cache does.
type Builder struct{ *fake.ClientBuilder }

// NewBuilder makes one for KAITO's API in that version.
func NewBuilder(t *testing.T, kaitoVersion string, objects ...client.Object) Builder {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), kedav1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"InferenceSet", "Workspace"} {
		gvk := schema.GroupVersionKind{Group: "kaito.sh", Version: kaitoVersion, Kind: kind}
		scheme.AddKnownTypeWithName(gvk, &unstructured.Unstructured{})
		gvk.Kind += "List"
		scheme.AddKnownTypeWithName(gvk, &unstructured.UnstructuredList{})
	}
	return Builder{fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...)}
}

// IndexField implements client.FieldIndexer.
func (b Builder) IndexField(_ context.Context, obj client.Object, field string, extract client.IndexerFunc) error {
	b.WithIndex(obj, field, extract)
	return nil
}
