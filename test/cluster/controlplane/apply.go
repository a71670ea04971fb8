package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var crdKind = apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition")

// fieldOwner owns what the harness applies.
const fieldOwner = client.FieldOwner("controlplane")

// Apply applies YAML documents by server-side apply as a cluster administrator,
// in their order, and waits until CRDs among them are served.
func (c *Cluster) Apply(ctx context.Context, manifest []byte) error {
	objects, err := decode(manifest)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := c.applyObject(ctx, object); err != nil {
			return err
		}
	}
	for _, object := range objects {
		if object.GroupVersionKind() == crdKind {
			if err := c.awaitEstablished(ctx, object.GetName()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cluster) applyObject(ctx context.Context, object *unstructured.Unstructured) error {
	err := c.admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("applying %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

func decode(manifest []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading document %d of a manifest: %w", len(objects)+1, err)
		}
		if len(object.Object) > 0 { // a document of nothing but comments
			objects = append(objects, object)
		}
	}
}

func (c *Cluster) awaitEstablished(ctx context.Context, name string) error {
	return c.await(ctx, nil, "CRD "+name, func(ctx context.Context) error {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(crdKind)
		if err := c.admin.Get(ctx, client.ObjectKey{Name: name}, object); err != nil {
			return err
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, crd); err != nil {
			return err
		}
		for _, condition := range crd.Status.Conditions {
			if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
				return nil
			}
		}
		return errors.New("it is not established yet")
	})
}
