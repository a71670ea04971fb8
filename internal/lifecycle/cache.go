package lifecycle

import (
	"context"
	"sync/atomic"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
)

// Cache answers from the newest manager's cache that is filled: between two managers
// that is still the former's.
type Cache struct {
	newest atomic.Pointer[versionedReader]
}

// versionedReader reads KAITO's objects in one version of their API.
type versionedReader struct {
	client.Reader
	version string
}

func (c *Cache) set(reader client.Reader, version string) {
	c.newest.Store(&versionedReader{reader, version})
}

// InferenceSet finds one in memory.
func (c *Cache) InferenceSet(ctx context.Context, key types.NamespacedName) (runtime.Object, bool) {
	reader := c.newest.Load()
	if reader == nil {
		return nil, false
	}
	u := kaito.Object(reader.version, kaito.KindInferenceSet)
	err := reader.Get(ctx, key, u)
	return u, err == nil
}

// ScaledObject finds one in memory.
func (c *Cache) ScaledObject(ctx context.Context, key types.NamespacedName) (*kedav1alpha1.ScaledObject, bool) {
	object := &kedav1alpha1.ScaledObject{}
	return object, c.get(ctx, key, object)
}

// HPA finds one in memory.
func (c *Cache) HPA(ctx context.Context, key types.NamespacedName) (*autoscalingv2.HorizontalPodAutoscaler, bool) {
	object := &autoscalingv2.HorizontalPodAutoscaler{}
	return object, c.get(ctx, key, object)
}

func (c *Cache) get(ctx context.Context, key types.NamespacedName, into client.Object) bool {
	reader := c.newest.Load()
	return reader != nil && reader.Get(ctx, key, into) == nil
}
