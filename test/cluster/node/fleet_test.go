//go:build node

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/await"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

// patience is how long a test waits for what should come within seconds: long
// enough for two busy cores.
const patience = 2 * time.Minute

// fleet is an InferenceSet in a namespace of its own.
type fleet struct {
	*testing.T
	types.NamespacedName
}

// newFleet makes an InferenceSet and waits until its pods are Ready. Only when so
// many requests wait in them does the scaler provide for it, at a test's pace:
// earlier, a fleet without load would shrink.
func newFleet(t *testing.T, namespace string, replicas int, waiting ...int) *fleet {
	t.Helper()
	f := unprovided(t, namespace, replicas, waiting...)
	f.annotate(map[string]string{
		"auto-provision": "true", "threshold": "10", "max-replicas": "4",
		"evaluationwindow": "0", "scaleupcooldown": "2", "scaledowncooldown": "2",
	})
	return f
}

// unprovided makes one that asks for nothing.
func unprovided(t *testing.T, namespace string, replicas int, waiting ...int) *fleet {
	t.Helper()
	f := &fleet{T: t, NamespacedName: types.NamespacedName{Namespace: namespace, Name: "phi-4"}}
	err := shared.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	if client.IgnoreAlreadyExists(err) != nil {
		t.Fatal(err)
	}
	u := kaito.NewInferenceSet("v1beta1", f.NamespacedName, replicas, nil)
	if err := shared.Client.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.remove)
	f.awaitReady(replicas)
	f.queue(waiting...)
	return f
}

func (f *fleet) object() *unstructured.Unstructured {
	return kaito.Object("v1beta1", "InferenceSet", f.NamespacedName)
}

// remove does what NOTES.txt tells to do first, deletes the InferenceSet, and
// waits until nothing of it is left.
func (f *fleet) remove() {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, object := range []client.Object{f.scaledObject(), f.object()} {
		if err := client.IgnoreNotFound(shared.Client.Delete(ctx, object)); err != nil {
			f.Error(err)
		}
	}
	eventually(f.T, "nothing is left of "+f.String(), func() error {
		if err := shared.Client.Get(ctx, f.NamespacedName, f.object()); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the InferenceSet: %w", err)
		}
		if n := len(f.pods(ctx)); n > 0 {
			return fmt.Errorf("%d pods are left", n)
		}
		return nil
	})
}

func (f *fleet) String() string { return f.NamespacedName.String() }

func (f *fleet) scaledObject() *kedav1alpha1.ScaledObject {
	so := &kedav1alpha1.ScaledObject{}
	so.Namespace, so.Name = f.Namespace, f.NamespacedName.Name
	return so
}

// annotate writes annotations of the InferenceSet.
func (f *fleet) annotate(annotations map[string]string) {
	f.Helper()
	before, after := f.object(), f.object()
	after.SetAnnotations(kaito.Annotations(annotations))
	if err := shared.Client.Patch(f.Context(), after, client.MergeFrom(before)); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) pods(ctx context.Context) []corev1.Pod {
	f.Helper()
	var list corev1.PodList
	err := shared.Client.List(ctx, &list, client.InNamespace(f.Namespace), client.MatchingLabels{kaito.LabelCreatedBy: f.NamespacedName.Name})
	if err != nil {
		f.Fatal(err)
	}
	return list.Items
}

func (f *fleet) awaitReady(n int) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	if err := shared.kaito.AwaitReady(ctx, f.Namespace, f.NamespacedName.Name, n); err != nil {
		f.Fatal(err)
	}
}

// queue lets so many requests wait in each of the first pods, and none in others.
func (f *fleet) queue(waiting ...int) {
	f.Helper()
	for i, pod := range f.pods(f.Context()) {
		if pod.DeletionTimestamp != nil || pod.Status.PodIP == "" {
			continue
		}
		n := 0
		if i < len(waiting) {
			n = waiting[i]
		}
		url := "http://" + net.JoinHostPort(pod.Status.PodIP, "5001") + "/waiting"
		request, err := http.NewRequestWithContext(f.Context(), http.MethodPut, url, strings.NewReader(strconv.Itoa(n)))
		if err != nil {
			f.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			f.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			f.Fatalf("PUT %s: %s", url, response.Status)
		}
	}
}

// desired is how many replicas are ordered.
func (f *fleet) desired() int64 {
	f.Helper()
	u := f.object()
	if err := shared.Client.Get(f.Context(), f.NamespacedName, u); err != nil {
		f.Fatal(err)
	}
	n, _, err := unstructured.NestedInt64(u.Object, "spec", "replicas")
	if err != nil {
		f.Fatal(err)
	}
	return n
}

func (f *fleet) wantDesired(n int64) {
	f.Helper()
	eventually(f.T, fmt.Sprintf("%d replicas desired", n), func() error {
		if got := f.desired(); got != n {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

// condition is that of the ScaledObject: KEDA's word on whether it reaches the
// scaler.
func (f *fleet) condition() (kedav1alpha1.Condition, error) {
	so := f.scaledObject()
	if err := shared.Client.Get(f.Context(), f.NamespacedName, so); err != nil {
		return kedav1alpha1.Condition{}, err
	}
	for _, c := range so.Status.Conditions {
		if c.Type == kedav1alpha1.ConditionReady {
			return c, nil
		}
	}
	return kedav1alpha1.Condition{}, errors.New("the ScaledObject has no condition Ready")
}

func (f *fleet) awaitScaledObject() {
	f.Helper()
	eventually(f.T, "the ScaledObject is Ready", func() error {
		c, err := f.condition()
		if err == nil && c.Status != metav1.ConditionTrue {
			err = fmt.Errorf("%s: %s: %s", c.Status, c.Reason, c.Message)
		}
		return err
	})
}

// eventually waits for a condition, which says in its error what it still lacks.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	await.Until(t, patience, what, condition)
}
