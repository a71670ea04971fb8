package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

// patience is how long a test waits for what should come within seconds: long
// enough for two busy cores.
const patience = 90 * time.Second

// set is an InferenceSet of a test, in a namespace of its own.
type set struct {
	*testing.T
	ctx       context.Context
	namespace string
	name      string
}

// apply makes a namespace with one InferenceSet of these annotations (without
// prefix), changed before it is written, and takes it away at the end.
func apply(t *testing.T, annotations map[string]string, changes ...change) *set {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}
	if err := shared.Client.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	s := &set{T: t, ctx: t.Context(), namespace: namespace.Name, name: "phi-4"}
	u := kaito.NewInferenceSet("v1alpha1", s.key(), 1, annotations)
	for _, f := range changes {
		f(u)
	}
	s.name = u.GetName()
	if err := shared.Client.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	return s
}

// change is what apply does to an InferenceSet before it is written.
type change = func(*unstructured.Unstructured)

// named gives it another name.
func named(name string) change {
	return func(u *unstructured.Unstructured) { u.SetName(name) }
}

// version writes it in that version of KAITO's API.
func version(v string) change {
	return func(u *unstructured.Unstructured) { u.SetAPIVersion("kaito.sh/" + v) }
}

// replicas has it begin with so many.
func replicas(n int64) change { return spec("replicas", n) }

// nodeCountLimit gives it one.
func nodeCountLimit(n int64) change { return spec("nodeCountLimit", n) }

func spec(field string, value any) change {
	return func(u *unstructured.Unstructured) { u.Object["spec"].(map[string]any)[field] = value }
}

// adapted lets the stand-in for KAITO treat it in a way of its own.
func adapted(how func(*kaito.Options)) change {
	return func(u *unstructured.Unstructured) { shared.KAITO.Adapt(u.GetNamespace(), u.GetName(), how) }
}

// nodes makes its replicas of n nodes each.
func nodes(n int) change {
	return adapted(func(o *kaito.Options) { o.NodesPerReplica = n })
}

// remove takes the InferenceSet away and waits for its end.
func (s *set) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := client.IgnoreNotFound(shared.Client.Delete(ctx, s.object())); err != nil {
		s.Error(err)
	}
	err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		return apierrors.IsNotFound(shared.Client.Get(ctx, s.key(), s.object())), nil
	})
	if err != nil {
		s.Errorf("InferenceSet %s is still there: %v", s.key(), err)
	}
}

func (s *set) key() types.NamespacedName {
	return types.NamespacedName{Namespace: s.namespace, Name: s.name}
}

func (s *set) object() *unstructured.Unstructured {
	return kaito.Object("v1alpha1", "InferenceSet", s.key())
}

// eventually waits for a condition, which says in its error what it still
// lacks.
func (s *set) eventually(what string, condition func() error) {
	s.Helper()
	s.within(patience, what, condition)
}

// within does so for another time.
func (s *set) within(d time.Duration, what string, condition func() error) {
	s.Helper()
	last := errors.New("not looked at")
	err := wait.PollUntilContextTimeout(s.ctx, 100*time.Millisecond, d, true, func(context.Context) (bool, error) {
		last = condition()
		return last == nil, nil
	})
	if err != nil {
		s.Fatalf("%s: not within %s: %v\nevents:\n%s", what, d, last, s.events())
	}
}

// always checks a condition for a while.
func (s *set) always(what string, d time.Duration, condition func() error) {
	s.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := condition(); err != nil {
			s.Fatalf("%s: %v\nevents:\n%s", what, err, s.events())
		}
		select {
		case <-s.ctx.Done():
			s.Fatal(s.ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stays checks for a while that n replicas are desired.
func (s *set) stays(why string, n int64, d time.Duration) {
	s.Helper()
	s.always(why, d, func() error {
		if got := s.desired(); got != n {
			return fmt.Errorf("%d replicas are desired, want %d", got, n)
		}
		return nil
	})
}

func (s *set) annotate(key string, value any) {
	s.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"scaledobject.kaito.sh/%s":%q}}}`, key, value)
	if value == nil {
		patch = fmt.Sprintf(`{"metadata":{"annotations":{"scaledobject.kaito.sh/%s":null}}}`, key)
	}
	if err := shared.Client.Patch(s.ctx, s.object(), client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		s.Fatal(err)
	}
}

// scale sets the replicas as "kubectl scale" does.
func (s *set) scale(n int) {
	s.Helper()
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n))
	if err := shared.Client.SubResource("scale").Patch(s.ctx, s.object(), patch); err != nil {
		s.Fatal(err)
	}
}

func (s *set) desired() int64 {
	s.Helper()
	u := s.object()
	if err := shared.Client.Get(s.ctx, s.key(), u); err != nil {
		s.Fatal(err)
	}
	n, _, err := unstructured.NestedInt64(u.Object, "spec", "replicas")
	if err != nil {
		s.Fatal(err)
	}
	return n
}

// awaitReady waits until the stand-in has n replicas Ready.
func (s *set) awaitReady(n int) []kaito.Replica {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if err := shared.KAITO.AwaitReady(ctx, s.namespace, s.name, n); err != nil {
		s.Fatal(err)
	}
	return shared.KAITO.Replicas(s.namespace, s.name)
}

// queue pins the queues of the Ready replicas, eldest first; those beyond the
// last number have none. The pods are read one after another: what must not be
// taken for less (or more) on the way is only raised (or only lowered) at once.
func (s *set) queue(waiting ...int) {
	for i, pod := range shared.KAITO.Serving(s.namespace, s.name) {
		n := 0
		if i < len(waiting) {
			n = waiting[i]
		}
		pod.SetWaiting(n)
	}
}

// queueEach pins the queues of all Ready replicas at one length.
func (s *set) queueEach(waiting int) {
	for _, pod := range shared.KAITO.Serving(s.namespace, s.name) {
		pod.SetWaiting(waiting)
	}
}

// cacheEach pins their KV caches' usage.
func (s *set) cacheEach(usage float64) {
	for _, pod := range shared.KAITO.Serving(s.namespace, s.name) {
		pod.SetKVUsage(usage)
	}
}

func (s *set) scaledObject() (*kedav1alpha1.ScaledObject, error) {
	so := &kedav1alpha1.ScaledObject{}
	err := shared.Client.Get(s.ctx, s.key(), so)
	return so, err
}

func (s *set) hpa() (*autoscalingv2.HorizontalPodAutoscaler, error) {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	key := s.key()
	key.Name = "keda-hpa-" + key.Name
	err := shared.Client.Get(s.ctx, key, hpa)
	return hpa, err
}

// published waits until the HPA has seen a total of requests that wait.
func (s *set) published(total string) {
	s.Helper()
	s.eventually("HPA sees a total of "+total, func() error {
		got, err := s.total()
		if err == nil && got != total {
			err = fmt.Errorf("it is %s", got)
		}
		return err
	})
}

// settles waits until so many replicas are desired and Ready, and HPA sees what
// is told of them.
func (s *set) settles(n int, total string) {
	s.Helper()
	s.eventually(fmt.Sprintf("%d replicas, of which HPA sees %s", n, total), func() error {
		desired, ready := s.desired(), len(shared.KAITO.Serving(s.namespace, s.name))
		got, err := s.total()
		if err == nil && (desired != int64(n) || ready != n || got != total) {
			err = fmt.Errorf("%d are desired, %d are Ready, HPA sees %s", desired, ready, got)
		}
		return err
	})
}

// total is that of the requests that wait, as KEDA's external metrics API serves
// it.
func (s *set) total() (string, error) { return s.value("vllm:num_requests_waiting") }

// value is a metric's as KEDA's external metrics API serves it.
func (s *set) value(metric string) (string, error) {
	list := &unstructured.Unstructured{}
	list.SetAPIVersion("external.metrics.k8s.io/v1beta1")
	raw, err := shared.Get(s.ctx, fmt.Sprintf(
		"/apis/external.metrics.k8s.io/v1beta1/namespaces/%s/s0-%s?labelSelector=scaledobject.keda.sh%%2Fname%%3D%s",
		s.namespace, metric, s.name), "")
	if err != nil {
		return "", err
	}
	if err := list.UnmarshalJSON(raw); err != nil {
		return "", err
	}
	items, _, _ := unstructured.NestedSlice(list.Object, "items")
	if len(items) != 1 {
		return "", fmt.Errorf("%d values", len(items))
	}
	value, _, err := unstructured.NestedString(items[0].(map[string]any), "value")
	return value, err
}

// told waits for an event on the InferenceSet whose reason begins so.
func (s *set) told(reason, part string) {
	s.Helper()
	s.eventually(fmt.Sprintf("event %s with %q", reason, part), func() error {
		list, err := s.eventList()
		if err != nil {
			return err
		}
		for i := range list {
			if strings.HasPrefix(list[i].Reason, reason) && strings.Contains(list[i].Note, part) {
				return nil
			}
		}
		return errors.New("no such event")
	})
}

func (s *set) eventList() ([]eventsv1.Event, error) {
	var list eventsv1.EventList
	err := shared.Client.List(s.ctx, &list, client.InNamespace(s.namespace))
	var on []eventsv1.Event
	for i := range list.Items {
		if list.Items[i].Regarding.Kind == "InferenceSet" && list.Items[i].Regarding.Name == s.name {
			on = append(on, list.Items[i])
		}
	}
	return on, err
}

func (s *set) events() string {
	list, err := s.eventList()
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for i := range list {
		fmt.Fprintf(&b, "  %s %s %s: %s\n", list[i].EventTime.Format("15:04:05"), list[i].Type, list[i].Reason, list[i].Note)
	}
	return b.String()
}
