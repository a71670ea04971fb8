package provision

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// maxName is the longest name that KEDA takes: its HPA is keda-hpa-<name>, and
// the name stands in a label of 63 characters.
const maxName = 54

// trustInterval is how often a reconcile looks again while the certificates of
// a new installation are being made, which takes a second.
const trustInterval = time.Second

// Controller keeps one ScaledObject for each InferenceSet that asks for it.
type Controller struct {
	client   client.Client
	recorder events.EventRecorder
	settings Settings

	// mu guards told.
	mu sync.Mutex
	// told is what each InferenceSet's owner was told last, so that an event
	// and a log line come once for each transition.
	told map[types.NamespacedName]string
}

// AddToManager adds the Controller, to run on the leader.
func AddToManager(ctx context.Context, mgr ctrl.Manager, settings Settings) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &kedav1alpha1.ScaledObject{}, indexConcerned, names)
	if err != nil {
		return fmt.Errorf("index ScaledObjects by %s: %w", indexConcerned, err)
	}
	c := &Controller{
		client:   mgr.GetClient(),
		recorder: mgr.GetEventRecorder(Manager),
		settings: settings,
		told:     map[types.NamespacedName]string{},
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("scaledobjects").
		For(kaito.Object(settings.Version, kaito.KindInferenceSet)).
		Watches(&kedav1alpha1.ScaledObject{}, handler.EnqueueRequestsFromMapFunc(concerned),
			builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{},
				predicate.AnnotationChangedPredicate{}, ownersChanged))).
		Watches(kaito.Object(settings.Version, kaito.KindWorkspace), handler.EnqueueRequestsFromMapFunc(kaito.Owner),
			builder.WithPredicates(nodesChanged))
	if settings.Credentials != nil {
		b = b.WatchesRawSource(source.Channel(settings.Credentials.renewed, handler.EnqueueRequestsFromMapFunc(c.all)))
	}
	return b.Complete(c)
}

// ownersChanged lets a change of owner references through, which changes
// neither the generation nor the annotations.
var ownersChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return len(e.ObjectOld.GetOwnerReferences()) != len(e.ObjectNew.GetOwnerReferences())
}}

// nodesChanged lets a Workspace through when it tells another number of nodes.
var nodesChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok1 := e.ObjectOld.(*unstructured.Unstructured)
	after, ok2 := e.ObjectNew.(*unstructured.Unstructured)
	return !ok1 || !ok2 || kaito.NodesPerReplica([]unstructured.Unstructured{*before}) !=
		kaito.NodesPerReplica([]unstructured.Unstructured{*after})
}}

// indexConcerned finds ScaledObjects by the InferenceSets that they concern.
const indexConcerned = "concerned"

// names are the InferenceSets that a ScaledObject may be of, or in the way of:
// the one of its name and the one it scales.
func names(obj client.Object) []string {
	out := []string{obj.GetName()}
	if so, ok := obj.(*kedav1alpha1.ScaledObject); ok {
		if target, ok := scales(so); ok && target != so.Name {
			out = append(out, target)
		}
	}
	return out
}

func concerned(_ context.Context, obj client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, name := range names(obj) {
		requests = append(requests, reconcile.Request{
			NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: name},
		})
	}
	return requests
}

// scales is the InferenceSet that a ScaledObject scales, in whatever version of
// the API it names it.
func scales(so *kedav1alpha1.ScaledObject) (string, bool) {
	ref := so.Spec.ScaleTargetRef
	if ref == nil || ref.Kind != kaito.KindInferenceSet {
		return "", false
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	return ref.Name, err == nil && gv.Group == kaito.Group
}

// Reconcile brings one InferenceSet's ScaledObject in line with its
// annotations.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if err := c.trust(); err != nil {
		log.FromContext(ctx).V(1).Info("waiting for certificates", "why", err.Error())
		return reconcile.Result{RequeueAfter: trustInterval}, nil
	}
	u := kaito.Object(c.settings.Version, kaito.KindInferenceSet)
	if err := c.client.Get(ctx, req.NamespacedName, u); err != nil {
		if apierrors.IsNotFound(err) {
			c.forget(req.NamespacedName) // the garbage collector sees to its ScaledObject
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("read InferenceSet %s: %w", req.NamespacedName, err)
	}
	is := kaito.ReadInferenceSet(u)
	wanted, err := policy.Wanted(is.Annotations)
	switch {
	case err != nil:
		c.tell(ctx, u, refused(err))
		return reconcile.Result{}, nil
	case !wanted || is.Deleting:
		return reconcile.Result{}, c.withdraw(ctx, u, notice{})
	}
	return reconcile.Result{}, c.provide(ctx, u, is)
}

// provide sees to it that the InferenceSet has the ScaledObject it asks for.
// What it can't understand leaves everything as it is.
func (c *Controller) provide(ctx context.Context, u *unstructured.Unstructured, is kaito.InferenceSet) error {
	workspaces, err := kaito.Workspaces(ctx, c.client, c.settings.Version, is.NamespacedName)
	if err != nil {
		return err
	}
	p, notes, err := policy.Parse(policy.Request{
		Annotations:     is.Annotations,
		NodeCountLimit:  is.NodeCountLimit,
		NodesPerReplica: kaito.NodesPerReplica(workspaces),
	})
	if err == nil && len(is.Name) > maxName {
		err = policy.RefusalError{{Key: "metadata.name", Value: is.Name, Rule: fmt.Sprintf(
			"must have at most %d characters to be scaled by KEDA", maxName)}}
	}
	if err != nil {
		c.tell(ctx, u, refused(err))
		return nil
	}
	rivals, err := c.rivals(ctx, is)
	if err != nil {
		return err
	}
	if len(rivals) > 0 {
		return c.withdraw(ctx, u, conflict(&rivals[0]))
	}
	return c.apply(ctx, u, ScaledObject(is, p, c.settings), notes)
}

// rivals are somebody else's ScaledObjects on the same InferenceSet or with the
// name that ours would have. Theirs stay.
func (c *Controller) rivals(ctx context.Context, is kaito.InferenceSet) ([]kedav1alpha1.ScaledObject, error) {
	var list kedav1alpha1.ScaledObjectList
	if err := c.client.List(ctx, &list, client.InNamespace(is.Namespace),
		client.MatchingFields{indexConcerned: is.Name}); err != nil {
		return nil, fmt.Errorf("list ScaledObjects that concern %s: %w", is.NamespacedName, err)
	}
	return slices.DeleteFunc(list.Items, func(so kedav1alpha1.ScaledObject) bool {
		return ours(&so, is.UID) || leftOver(&so, is)
	}), nil
}

// ours tells whether a ScaledObject is this InferenceSet's own, made by us.
func ours(so *kedav1alpha1.ScaledObject, owner types.UID) bool {
	controller := metav1.GetControllerOf(so)
	return controller != nil && controller.UID == owner && so.Annotations[policy.ManagedBy] == Manager
}

// leftOver tells whether a ScaledObject is of an InferenceSet of the same name
// that is gone: the garbage collector is on its way to it.
func leftOver(so *kedav1alpha1.ScaledObject, is kaito.InferenceSet) bool {
	controller := metav1.GetControllerOf(so)
	return controller != nil && controller.Kind == kaito.KindInferenceSet && controller.Name == is.Name &&
		controller.UID != is.UID && so.Name == is.Name && so.Annotations[policy.ManagedBy] == Manager
}

// apply writes the ScaledObject if that would change anything.
func (c *Controller) apply(ctx context.Context, u *unstructured.Unstructured, desired *kedav1alpha1.ScaledObject, notes []string) error {
	var existing kedav1alpha1.ScaledObject
	err := c.client.Get(ctx, client.ObjectKeyFromObject(desired), &existing)
	found := err == nil
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read ScaledObject %s/%s: %w", desired.Namespace, desired.Name, err)
	}
	if found && (existing.DeletionTimestamp != nil || !ours(&existing, u.GetUID())) {
		return nil // its end is an event, and then it is made anew
	}
	object, err := applied(desired)
	if err != nil {
		return err
	}
	if found {
		changes, err := differs(&existing, object)
		if err != nil {
			return err
		}
		if !changes {
			c.settle(u, desired, notes)
			return nil
		}
	}
	err = c.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object),
		client.FieldOwner(Manager), client.ForceOwnership)
	switch {
	case err == nil:
		c.tell(ctx, u, provided(desired, found, notes))
		return nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	default:
		c.tell(ctx, u, failed(err))
		return fmt.Errorf("apply ScaledObject %s/%s: %w", desired.Namespace, desired.Name, err)
	}
}

// withdraw takes away the ScaledObject that we made, if there is one, and says
// why if it is for a reason that the owner may not know.
func (c *Controller) withdraw(ctx context.Context, u *unstructured.Unstructured, why notice) error {
	if why != (notice{}) {
		c.tell(ctx, u, why)
	}
	var so kedav1alpha1.ScaledObject
	err := c.client.Get(ctx, client.ObjectKeyFromObject(u), &so)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read ScaledObject %s/%s: %w", u.GetNamespace(), u.GetName(), err)
	}
	if err != nil || !ours(&so, u.GetUID()) {
		if why == (notice{}) {
			// Nothing is asked for and nothing is there: what is refused when
			// scaling is asked for again is news.
			c.forget(client.ObjectKeyFromObject(u))
		}
		return nil
	}
	if so.DeletionTimestamp != nil {
		return nil
	}
	err = c.client.Delete(ctx, &so, client.Preconditions{UID: &so.UID})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete ScaledObject %s/%s: %w", so.Namespace, so.Name, err)
	}
	log.FromContext(ctx).Info("withdrew the ScaledObject")
	if why == (notice{}) && u.GetDeletionTimestamp() == nil {
		c.tell(ctx, u, withdrawn())
	}
	return nil
}
