package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

const (
	// objectsEvery is how often the API server is asked: a person sees no
	// difference to a watch.
	objectsEvery = time.Second
	// publishedEvery is how often the metrics API is: each time, the scaler
	// answers as it does to the HPA. The pods are read every 5 s.
	publishedEvery = 5 * time.Second
	// requestsEvery is how often the replicas' pages are.
	requestsEvery = 500 * time.Millisecond
	// readTimeout bounds each look at something.
	readTimeout = 5 * time.Second
)

// observer looks at everything that a user could, as a user could.
type observer struct {
	stack *stack.Stack
	// kind and set name the InferenceSet, as its YAML does.
	kind schema.GroupVersionKind
	set  types.NamespacedName
	// start is when the YAML was applied, seats a replica's most running requests.
	start time.Time
	seats int
	// occupied says how many requests a replica has.
	occupied func(ctx context.Context, r kaito.Replica) (running, waiting int)

	// mu guards seen and requests.
	mu sync.Mutex
	// requests has what runs and waits on each replica, by Workspace.
	requests map[string][2]int
	// seen has what came over the network; the rest is filled in by scene.
	seen scene
}

// watch keeps looking until ctx ends.
func (o *observer) watch(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { repeat(ctx, objectsEvery, o.readObjects) })
	all.Go(func() { repeat(ctx, publishedEvery, o.readPublished) })
	all.Go(func() { repeat(ctx, requestsEvery, o.readRequests) })
	all.Wait()
}

func repeat(ctx context.Context, every time.Duration, read func(context.Context)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		one, cancel := context.WithTimeout(ctx, readTimeout)
		read(one)
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// scene is what is known now.
func (o *observer) scene() scene {
	o.mu.Lock()
	s, requests := o.seen, o.requests
	o.mu.Unlock()
	s.At = time.Since(o.start)
	s.Replicas = nil // never the slice of an earlier scene
	for _, r := range o.stack.KAITO.Replicas(o.set.Namespace, o.set.Name) {
		stage := r.Stage.String()
		if r.Stage == kaito.Ready && !r.Ready {
			stage = "not ready"
		}
		s.Replicas = append(s.Replicas, replica{
			Name: r.Workspace, Stage: stage, Counted: r.Stage == kaito.Ready, Ready: r.Ready,
			Running: requests[r.Workspace][0], Waiting: requests[r.Workspace][1], Seats: o.seats,
		})
	}
	return s
}

// readRequests reads what runs and waits on the replicas that have an engine, all at
// once: one that hangs delays no other by more than the timeout.
func (o *observer) readRequests(ctx context.Context) {
	var all sync.WaitGroup
	var mu sync.Mutex
	requests := map[string][2]int{}
	for _, r := range o.stack.KAITO.Replicas(o.set.Namespace, o.set.Name) {
		if r.Stage < kaito.Benchmarking {
			continue
		}
		all.Go(func() {
			running, waiting := o.occupied(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			requests[r.Workspace] = [2]int{running, waiting}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests = requests
}

// readObjects reads the InferenceSet, its ScaledObject, its HPA and its events.
func (o *observer) readObjects(ctx context.Context) {
	set, err1 := o.readSet(ctx)
	keda, err2 := o.readScaledObject(ctx)
	hpa, err3 := o.readHPA(ctx)
	events, err4 := o.readEvents(ctx)
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return // the demo is ending: that is no trouble
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen.Trouble = ""
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		o.seen.Trouble = err.Error() // what was seen before stays
		return
	}
	o.seen.Set, o.seen.KEDA, o.seen.HPA, o.seen.Events = set, keda, hpa, events
}

func (o *observer) readSet(ctx context.Context) (inferenceSet, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(o.kind)
	if err := o.stack.Client.Get(ctx, o.set, u); err != nil {
		return inferenceSet{}, err
	}
	wanted, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	ready, _, _ := unstructured.NestedInt64(u.Object, "status", "readyReplicas")
	return inferenceSet{Name: o.set.Name, Wanted: int32(wanted), Ready: int32(ready)}, nil
}

func (o *observer) readScaledObject(ctx context.Context) (scaledObject, error) {
	so := &kedav1alpha1.ScaledObject{}
	if err := o.stack.Client.Get(ctx, o.set, so); err != nil {
		return scaledObject{}, client.IgnoreNotFound(err)
	}
	ready, active := so.Status.Conditions.GetReadyCondition(), so.Status.Conditions.GetActiveCondition()
	return scaledObject{
		Exists: true,
		Ready:  cmp.Or(string(ready.Status), "Unknown"), Active: cmp.Or(string(active.Status), "Unknown"),
	}, nil
}

func (o *observer) readHPA(ctx context.Context) (autoscaler, error) {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	key := types.NamespacedName{Namespace: o.set.Namespace, Name: "keda-hpa-" + o.set.Name}
	if err := o.stack.Client.Get(ctx, key, hpa); err != nil {
		return autoscaler{}, client.IgnoreNotFound(err)
	}
	return autoscalerOf(hpa), nil
}

func (o *observer) readEvents(ctx context.Context) ([]event, error) {
	var list eventsv1.EventList
	if err := o.stack.Client.List(ctx, &list, client.InNamespace(o.set.Namespace)); err != nil {
		return nil, err
	}
	var events []event
	for i := range list.Items {
		e := &list.Items[i]
		if e.Regarding.Kind != "InferenceSet" || e.Regarding.Name != o.set.Name {
			continue
		}
		at := e.EventTime.Time
		if e.Series != nil {
			at = e.Series.LastObservedTime.Time
		}
		events = append(events, event{At: at.Sub(o.start), Reason: e.Reason, Note: e.Note, Warning: e.Type == "Warning"})
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.At, b.At) })
	return events, nil
}

// readPublished asks the external metrics API as the HPA does.
func (o *observer) readPublished(ctx context.Context) {
	published, err := o.external(ctx)
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	// Before there is an HPA the API knows no such metric, and later an error
	// is the scaler's way to say that it can't know: unknown, not trouble.
	o.seen.Published = reading{Value: published, Known: err == nil}
}

func (o *observer) external(ctx context.Context) (float64, error) {
	path := fmt.Sprintf("/apis/external.metrics.k8s.io/v1beta1/namespaces/%s/%s?labelSelector=%s", o.set.Namespace,
		url.PathEscape("s0-vllm:num_requests_waiting"), url.QueryEscape("scaledobject.keda.sh/name="+o.set.Name))
	raw, err := o.stack.Get(ctx, path, "")
	if err != nil {
		return 0, err
	}
	var list struct {
		Items []struct {
			Value resource.Quantity `json:"value"`
		} `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	if len(list.Items) != 1 {
		return 0, fmt.Errorf("%d values at %s", len(list.Items), path)
	}
	return list.Items[0].Value.AsApproximateFloat64(), nil
}

// annotate puts annotations on the InferenceSet, as kubectl annotate does.
func (o *observer) annotate(ctx context.Context, annotations []annotation) error {
	all := map[string]string{}
	for _, a := range annotations {
		all[a.Key] = a.Value
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": all}})
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(o.kind)
	u.SetNamespace(o.set.Namespace)
	u.SetName(o.set.Name)
	if err := o.stack.Client.Patch(ctx, u, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return fmt.Errorf("annotate InferenceSet %s: %w", o.set, err)
	}
	return nil
}
