package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
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

var errCredentials = errors.New("what KEDA is to present is not known yet")

// trust says what is still missing before KEDA can be sent to the scaler.
func (c *Controller) trust() error {
	if err := c.settings.Trust(); err != nil {
		return err
	}
	if c.settings.Credentials != nil && c.settings.Credentials.digestOf() == "" {
		return errCredentials
	}
	return nil
}

// all are the InferenceSets that there are.
func (c *Controller) all(ctx context.Context, _ client.Object) []reconcile.Request {
	list := kaito.List(c.settings.Version, kaito.KindInferenceSet)
	if err := c.client.List(ctx, list); err != nil {
		log.FromContext(ctx).Error(err, "can't list InferenceSets for renewed credentials")
		return nil
	}
	requests := make([]reconcile.Request, len(list.Items))
	for i := range list.Items {
		requests[i].NamespacedName = types.NamespacedName{Namespace: list.Items[i].GetNamespace(), Name: list.Items[i].GetName()}
	}
	return requests
}
