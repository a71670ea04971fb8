package chart

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

// fleet is an InferenceSet with two replicas, whose load is between its
// thresholds.
type fleet struct {
	*upgrade
	types.NamespacedName
	hpa types.UID
}

const (
	waitingEach = 5 // of 1 to 10
	cacheEach   = 0.5
	replicasNow = 2
)

// asked is what users of 0.6 wrote, at the pace of a test.
var asked = map[string]string{
	"auto-provision": "true", "max-replicas": "4", "combinepolicy": "AND",
	"metrics": `[{"name": "vllm:num_requests_waiting", "type": "gauge", "source": "modelpod", "upthreshold": "10", "downthreshold": "1"},
		{"name": "vllm:kv_cache_usage_perc", "type": "gauge", "source": "modelpod", "upthreshold": "0.8", "downthreshold": "0.2"}]`,
	"evaluationwindow": "1", "scaleupcooldown": "5", "scaledowncooldown": "5",
}

func (u *upgrade) fleet(namespace string) *fleet {
	u.Helper()
	if err := u.stack.Client.Create(u.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		u.Fatal(err)
	}
	f := &fleet{upgrade: u, NamespacedName: types.NamespacedName{Namespace: namespace, Name: "phi-4"}}
	object := kaito.NewInferenceSet("v1beta1", f.NamespacedName, replicasNow, nil)
	if err := u.stack.Client.Create(u.Context(), object); err != nil {
		u.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(u.Context(), patience)
	defer cancel()
	if err := u.stack.KAITO.AwaitReady(ctx, f.Namespace, f.NamespacedName.Name, replicasNow); err != nil {
		u.Fatal(err)
	}
	f.load(waitingEach, cacheEach)
	return f
}

func (f *fleet) object() *unstructured.Unstructured {
	return kaito.Object("v1beta1", "InferenceSet", f.NamespacedName)
}

// load is what each replica's page shows.
func (f *fleet) load(waiting int, cache float64) {
	for _, pod := range f.stack.KAITO.Serving(f.Namespace, f.NamespacedName.Name) {
		pod.SetWaiting(waiting)
		pod.SetKVUsage(cache)
	}
}

// annotate asks for a ScaledObject.
func (f *fleet) annotate() {
	f.Helper()
	object := f.object()
	before := object.DeepCopy()
	object.SetAnnotations(kaito.Annotations(asked))
	if err := f.stack.Client.Patch(f.Context(), object, client.MergeFrom(before)); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) scaledObject(ctx context.Context) (*kedav1alpha1.ScaledObject, error) {
	so := &kedav1alpha1.ScaledObject{}
	return so, f.stack.Client.Get(ctx, f.NamespacedName, so)
}

// copyScaledObject does what users did: what 0.6 had written, with other names.
func (f *fleet) copyScaledObject(from *fleet) {
	f.Helper()
	so, err := from.scaledObject(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	mine := &kedav1alpha1.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.Namespace, Name: f.NamespacedName.Name},
		Spec:       *so.Spec.DeepCopy(),
	}
	for i := range mine.Spec.Triggers {
		mine.Spec.Triggers[i].Metadata["inferenceSetNamespace"] = f.Namespace
	}
	if err := f.stack.Client.Create(f.Context(), mine); err != nil {
		f.Fatal(err)
	}
}

// ref is how KEDA asks about the first trigger of what 0.6 wrote.
func (f *fleet) ref() *pb.ScaledObjectRef {
	f.Helper()
	so, err := f.scaledObject(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return &pb.ScaledObjectRef{Namespace: f.Namespace, Name: f.NamespacedName.Name, ScalerMetadata: maps.Clone(so.Spec.Triggers[0].Metadata)}
}

// awaitScaledObject waits until KEDA and the HPA work with it, and remembers the
// HPA.
func (f *fleet) awaitScaledObject() {
	f.Helper()
	eventually(f.T, "the HPA of "+f.String()+" has its metric", func(ctx context.Context) error {
		hpa, err := f.active(ctx)
		if err == nil {
			f.hpa = hpa.UID
		}
		return err
	})
}

func (f *fleet) String() string { return f.NamespacedName.String() }

// active is the HPA, once it scales by what it is told.
func (f *fleet) active(ctx context.Context) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	key := types.NamespacedName{Namespace: f.Namespace, Name: "keda-hpa-" + f.NamespacedName.Name}
	if err := f.stack.Client.Get(ctx, key, hpa); err != nil {
		return nil, err
	}
	for _, c := range hpa.Status.Conditions {
		if c.Type == autoscalingv2.ScalingActive && c.Status == corev1.ConditionTrue {
			return hpa, nil
		}
	}
	return hpa, fmt.Errorf("it is not active: %+v", hpa.Status.Conditions)
}

// wantSameHPA wants the HPA at work, and the one that it was.
func (f *fleet) wantSameHPA() {
	f.Helper()
	eventually(f.T, "the HPA of "+f.String()+" has its metric", func(ctx context.Context) error {
		hpa, err := f.active(ctx)
		if err == nil && hpa.UID != f.hpa {
			f.Errorf("the HPA of %s was made anew", f)
		}
		return err
	})
}

// wantFormula waits for the ScaledObject that 0.6 writes, or for ours.
func (f *fleet) wantFormula(want bool) {
	f.Helper()
	eventually(f.T, "the ScaledObject is rewritten", func(ctx context.Context) error {
		so, err := f.scaledObject(ctx)
		if err != nil {
			return err
		}
		formula := so.Spec.Advanced.ScalingModifiers.Formula
		if want != (formula != "") || want == (so.Spec.Triggers[0].Name == policy.TriggerName) {
			return fmt.Errorf("its formula is %q, its first trigger %q", formula, so.Spec.Triggers[0].Name)
		}
		return nil
	})
}

func (f *fleet) desired(ctx context.Context) (int64, error) {
	object := f.object()
	if err := f.stack.Client.Get(ctx, f.NamespacedName, object); err != nil {
		return 0, err
	}
	n, _, err := unstructured.NestedInt64(object.Object, "spec", "replicas")
	return n, err
}

// still watches that as many replicas stay desired as are, until the returned
// function is called.
func (f *fleet) still() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if n, err := f.desired(ctx); err == nil && n != replicasNow {
				f.Errorf("%s: %d replicas are desired of %s, whose load is between its thresholds", time.Now().Format(time.TimeOnly), n, f)
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		watching.Wait()
	})
}

// wantGrowth puts load on the fleet, and wants a replica more.
func (f *fleet) wantGrowth() {
	f.Helper()
	f.load(20, 0.95)
	eventually(f.T, f.String()+" grows", func(ctx context.Context) error {
		n, err := f.desired(ctx)
		if err == nil && n <= replicasNow {
			err = errors.New("it has not")
		}
		return err
	})
}
