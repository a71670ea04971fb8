package provision

import (
	"context"
	"fmt"
	"maps"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

const (
	// trustInterval is how often a reconcile looks again while the certificates
	// of a new installation are being made, which takes a second.
	trustInterval = time.Second
	// staleInterval is how long the cache is given to catch up with what a write
	// was refused for.
	staleInterval = time.Second
)

// Controller keeps one ScaledObject for each InferenceSet that asks for it.
type Controller struct {
	client   client.Client
	recorder events.EventRecorder
	settings Settings
	reported *eventDedup
	metrics  *metrics
}

func newController(c client.Client, recorder events.EventRecorder, settings Settings) (*Controller, error) {
	m, err := newMetrics(settings.Registerer)
	if err != nil {
		return nil, err
	}
	return &Controller{client: c, recorder: recorder, settings: settings, reported: newEventDedup(), metrics: m}, nil
}

// AddToManager adds the Controller, to run on the leader.
func AddToManager(ctx context.Context, mgr ctrl.Manager, settings Settings) error {
	if err := index(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	c, err := newController(mgr.GetClient(), mgr.GetEventRecorder(kube.Name), settings)
	if err != nil {
		return err
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("scaledobjects").
		For(kaito.Object(settings.Version, kaito.KindInferenceSet), builder.WithPredicates(asksChanged)).
		Watches(&kedav1alpha1.ScaledObject{}, handler.EnqueueRequestsFromMapFunc(affected),
			builder.WithPredicates(scaledObjectChanged)).
		Watches(&kedav1alpha1.ScaledObject{}, handler.EnqueueRequestsFromMapFunc(kaito.Named),
			builder.WithPredicates(scaledObjectChanged)).
		Watches(&autoscalingv2.HorizontalPodAutoscaler{}, handler.EnqueueRequestsFromMapFunc(affectedByAutoscaler),
			builder.WithPredicates(autoscalerChanged)).
		Watches(kaito.Object(settings.Version, kaito.KindWorkspace), handler.EnqueueRequestsFromMapFunc(kaito.Owner),
			builder.WithPredicates(nodesChanged))
	if settings.Credentials != nil {
		b = b.WatchesRawSource(source.Channel(settings.Credentials.renewed, handler.EnqueueRequestsFromMapFunc(c.all)))
	}
	return b.Complete(c)
}

// asksChanged lets an InferenceSet through when it asks for something else.
// KAITO writes its status, and the HPA its replicas, much more often.
var asksChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	old, ok1 := e.ObjectOld.(*unstructured.Unstructured)
	fresh, ok2 := e.ObjectNew.(*unstructured.Unstructured)
	if !ok1 || !ok2 {
		return true
	}
	before, after := kaito.ReadInferenceSet(old), kaito.ReadInferenceSet(fresh)
	return before.UID != after.UID || before.Deleting != after.Deleting ||
		!maps.Equal(before.Annotations, after.Annotations) || !same(before.NodeCountLimit, after.NodeCountLimit)
}}

func same[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// scaledObjectChanged keeps out KEDA's writes to the status.
var scaledObjectChanged = predicate.Or(predicate.GenerationChangedPredicate{},
	predicate.AnnotationChangedPredicate{}, ownersChanged, endBegins)

// ownersChanged lets a change of owner references through, which changes
// neither the generation nor the annotations.
var ownersChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return e.ObjectOld.GetUID() != e.ObjectNew.GetUID() ||
		!sameOwners(e.ObjectOld.GetOwnerReferences(), e.ObjectNew.GetOwnerReferences())
}}

// endBegins lets an object through that is about to be deleted.
var endBegins = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return (e.ObjectOld.GetDeletionTimestamp() == nil) != (e.ObjectNew.GetDeletionTimestamp() == nil)
}}

func sameOwners(a, b []metav1.OwnerReference) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].UID != b[i].UID || a[i].APIVersion != b[i].APIVersion || !same(a[i].Controller, b[i].Controller) {
			return false
		}
	}
	return true
}

// nodesChanged lets a Workspace through when it tells another number of nodes.
var nodesChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok1 := e.ObjectOld.(*unstructured.Unstructured)
	after, ok2 := e.ObjectNew.(*unstructured.Unstructured)
	return !ok1 || !ok2 || kaito.NodesPerReplica([]unstructured.Unstructured{*before}) !=
		kaito.NodesPerReplica([]unstructured.Unstructured{*after})
}}

// Reconcile brings one InferenceSet's ScaledObject in line with its
// annotations.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if err := c.trust(); err != nil {
		log.FromContext(ctx).V(1).Info("waiting for certificates", "why", err.Error())
		return reconcile.Result{RequeueAfter: trustInterval}, nil
	}
	did, err := c.reconcile(ctx, req.NamespacedName)
	if err != nil && ctx.Err() != nil {
		return reconcile.Result{}, nil //nolint:nilerr // we were told to stop: the next leader looks
	}
	if err != nil {
		did = failed
	}
	c.metrics.countReconcile(did)
	if state, known := did.state(); known {
		c.metrics.moveState(c.reported.setState(req.NamespacedName, state))
	}
	switch did {
	case stale:
		return reconcile.Result{RequeueAfter: staleInterval}, nil
	case waiting:
		return reconcile.Result{RequeueAfter: c.handover()}, nil // 0 is for an event
	default:
		return reconcile.Result{}, err
	}
}

// handover is how much longer ScaledObjects of earlier versions are left alone.
func (c *Controller) handover() time.Duration {
	if c.settings.Handover == nil {
		return 0
	}
	return max(0, c.settings.Handover())
}

// reconcile is Reconcile without its measuring.
func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (result, error) {
	u := kaito.Object(c.settings.Version, kaito.KindInferenceSet)
	if err := c.client.Get(ctx, key, u); err != nil {
		if apierrors.IsNotFound(err) {
			c.reported.forget(key) // the garbage collector sees to its ScaledObject
			return ignored, nil
		}
		return failed, fmt.Errorf("read InferenceSet %s: %w", key, err)
	}
	is := kaito.ReadInferenceSet(u)
	if err := c.emitRefusedTriggers(ctx, u, is); err != nil {
		return failed, err
	}
	wanted, err := policy.Wanted(is.Annotations)
	switch {
	case err != nil:
		return c.refuse(ctx, u, is, err)
	case !wanted || is.Deleting:
		return c.switchOff(ctx, u, is)
	}
	return c.ensure(ctx, u, is)
}

// ensure sees to it that the InferenceSet has the ScaledObject it asks for.
// What it can't understand leaves everything as it is.
func (c *Controller) ensure(ctx context.Context, u *unstructured.Unstructured, is kaito.InferenceSet) (result, error) {
	workspaces, err := kaito.Workspaces(ctx, c.client, c.settings.Version, is.NamespacedName)
	if err != nil {
		return failed, err
	}
	nodes, sized := kaito.Sized(workspaces)
	p, notes, err := policy.Parse(policy.Request{
		Name:            is.Name,
		Annotations:     is.Annotations,
		NodeCountLimit:  is.NodeCountLimit,
		NodesPerReplica: nodes,
	})
	if err != nil {
		return c.refuse(ctx, u, is, err)
	}
	conflicts, err := c.conflicts(ctx, is)
	if err != nil {
		return failed, err
	}
	if len(conflicts) > 0 {
		return c.yieldTo(ctx, u, is, conflicts)
	}
	did, err := c.write(ctx, u, is, ScaledObject(is, p, c.settings))
	if err == nil && did.inForce() {
		c.emitWarnings(ctx, u, sized, notes, did != unchanged)
	}
	return did, err
}
