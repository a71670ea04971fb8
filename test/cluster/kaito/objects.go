package kaito

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// Object is one of KAITO's with nothing but its name, to be read or deleted.
func Object(version, kind string, key types.NamespacedName) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(Group + "/" + version)
	u.SetKind(kind)
	u.SetNamespace(key.Namespace)
	u.SetName(key.Name)
	return u
}

// NewInferenceSet is one of phi-4-mini on an A100, to be created. The annotations are
// the scaler's, without their prefix.
func NewInferenceSet(version string, key types.NamespacedName, replicas int, annotations map[string]string) *unstructured.Unstructured {
	u := Object(version, "InferenceSet", key)
	u.SetAnnotations(Annotations(annotations))
	u.Object["spec"] = map[string]any{
		"replicas":      int64(replicas),
		"labelSelector": map[string]any{"matchLabels": map[string]any{"apps": key.Name}},
		"template": map[string]any{
			"inference": map[string]any{"preset": map[string]any{"accessMode": "public", "name": "phi-4-mini-instruct"}},
			"resource":  map[string]any{"instanceType": "Standard_NC24ads_A100_v4"},
		},
	}
	return u
}

// Annotations are the scaler's, given without their prefix.
func Annotations(short map[string]string) map[string]string {
	long := map[string]string{}
	for key, value := range short {
		long[policy.Prefix+key] = value
	}
	return long
}
