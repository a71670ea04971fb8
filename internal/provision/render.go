package provision

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// Render is the ScaledObject of an InferenceSet as it is applied: with our
// fields alone. The owner's UID is left out while the cluster has given none.
func Render(is kaito.InferenceSet, p policy.Policy, s Settings) (*unstructured.Unstructured, error) {
	u, err := applied(ScaledObject(is, p, s))
	if err != nil {
		return nil, err
	}
	owners, _, err := unstructured.NestedSlice(u.Object, "metadata", "ownerReferences")
	if err != nil || is.UID != "" {
		return u, err
	}
	for _, owner := range owners {
		if fields, ok := owner.(map[string]any); ok {
			delete(fields, "uid")
		}
	}
	return u, unstructured.SetNestedSlice(u.Object, owners, "metadata", "ownerReferences")
}
