package kaito

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

//go:embed manifests/inferencesets.yaml
var inferenceSetCRD []byte

//go:embed manifests/workspaces.yaml
var workspaceCRD []byte

// Versions says which of KAITO's API versions are installed.
type Versions int

const (
	// Both serves v1alpha1 and v1beta1 and stores v1beta1: KAITO 0.11 on.
	Both Versions = iota
	// OnlyV1alpha1 is KAITO 0.8 to 0.10.
	OnlyV1alpha1
)

// CRDs returns KAITO's CustomResourceDefinitions.
func CRDs(v Versions) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, manifest := range [][]byte{inferenceSetCRD, workspaceCRD} {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(manifest, crd); err != nil {
			return nil, fmt.Errorf("reading an embedded CRD: %w", err)
		}
		if v == OnlyV1alpha1 {
			crd.Spec.Versions = slices.DeleteFunc(crd.Spec.Versions,
				func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name != "v1alpha1" })
			crd.Spec.Versions[0].Storage = true
		}
		crds = append(crds, crd)
	}
	return crds, nil
}

// Manifests returns the same as YAML documents, for a control plane that is to
// have them from the start.
func Manifests(v Versions) ([][]byte, error) {
	crds, err := CRDs(v)
	if err != nil {
		return nil, err
	}
	var manifests [][]byte
	for _, crd := range crds {
		manifest, err := yaml.Marshal(crd)
		if err != nil {
			return nil, fmt.Errorf("writing CRD %s: %w", crd.Name, err)
		}
		manifests = append(manifests, manifest)
	}
	return manifests, nil
}

// Install applies KAITO's CRDs and waits until they are served.
func Install(ctx context.Context, cfg *rest.Config, v Versions) error {
	scheme := runtime.NewScheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		return err
	}
	cfg, err := private(cfg)
	if err != nil {
		return err
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("installing KAITO's CRDs: %w", err)
	}
	crds, err := CRDs(v)
	if err != nil {
		return err
	}
	for _, crd := range crds {
		if err := apply(ctx, c, crd); err != nil {
			return fmt.Errorf("applying CRD %s: %w", crd.Name, err)
		}
	}
	for _, crd := range crds {
		if err := awaitEstablished(ctx, c, crd.Name); err != nil {
			return err
		}
	}
	return nil
}

// apply creates a CRD, or brings it to another set of versions, as an upgrade of
// KAITO does.
func apply(ctx context.Context, c client.Client, crd *apiextensionsv1.CustomResourceDefinition) error {
	err := c.Create(ctx, crd.DeepCopy())
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		there := &apiextensionsv1.CustomResourceDefinition{}
		if err := c.Get(ctx, client.ObjectKeyFromObject(crd), there); err != nil {
			return err
		}
		there.Spec.Versions = crd.Spec.Versions
		return c.Update(ctx, there)
	})
}

func awaitEstablished(ctx context.Context, c client.Client, name string) error {
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := c.Get(ctx, client.ObjectKey{Name: name}, crd); err != nil {
			return false, err
		}
		for _, condition := range crd.Status.Conditions {
			if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for CRD %s to be established: %w", name, err)
	}
	return nil
}
