package kaito

import (
	"context"
	"fmt"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// AddToManager lets the Watcher read KAITO's API in that version from the
// manager's cache. A manager that it was added to before must have ended.
func (w *Watcher) AddToManager(ctx context.Context, mgr ctrl.Manager, version string) error {
	if err := Index(ctx, mgr.GetFieldIndexer(), version); err != nil {
		return err
	}
	v := fleetReconciler{w, mgr.GetClient(), version}
	if err := mgr.Add(initialSync{v}); err != nil {
		return fmt.Errorf("add the first look at the fleets: %w", err)
	}
	needLeaderElection := false
	return ctrl.NewControllerManagedBy(mgr).
		Named("fleets").
		WithOptions(controller.Options{NeedLeaderElection: &needLeaderElection, MaxConcurrentReconciles: 1}).
		For(Object(version, KindInferenceSet)).
		Watches(Object(version, KindWorkspace), handler.EnqueueRequestsFromMapFunc(Owner)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(Owner)).
		Watches(&kedav1alpha1.ScaledObject{}, handler.EnqueueRequestsFromMapFunc(Named), builder.WithPredicates(triggersChanged)).
		Complete(v)
}

// fleetReconciler is a Watcher on the cache of one manager.
type fleetReconciler struct {
	*Watcher
	client  client.Reader
	version string
}

// initialSync takes the first look at every InferenceSet, as soon as the cache has
// them: a process is ready only when it knows whom to read.
type initialSync struct{ fleetReconciler }

func (p initialSync) NeedLeaderElection() bool { return false }

func (p initialSync) Start(ctx context.Context) error {
	list := List(p.version, KindInferenceSet)
	if err := p.client.List(ctx, list); err != nil {
		return fmt.Errorf("list InferenceSets: %w", err)
	}
	there := make(map[types.NamespacedName]bool, len(list.Items))
	for i := range list.Items {
		key := client.ObjectKeyFromObject(&list.Items[i])
		there[key] = true
		if _, err := p.Reconcile(ctx, reconcile.Request{NamespacedName: key}); err != nil {
			return err
		}
	}
	for _, key := range p.noLongerThere(there) {
		if _, err := p.Reconcile(ctx, reconcile.Request{NamespacedName: key}); err != nil {
			return err
		}
	}
	p.synced.Store(true)
	return nil
}

// triggersChanged keeps out KEDA's writes to a ScaledObject's status, every 15 s for
// each.
var triggersChanged = predicate.Or(predicate.GenerationChangedPredicate{}, predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		old, fresh := metav1.GetControllerOfNoCopy(e.ObjectOld), metav1.GetControllerOfNoCopy(e.ObjectNew)
		return e.ObjectOld.GetUID() != e.ObjectNew.GetUID() || (old == nil) != (fresh == nil) || old != nil && old.UID != fresh.UID
	},
})

// Reconcile brings one fleet up to date. It reads nothing but the cache.
func (w fleetReconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := Object(w.version, KindInferenceSet)
	if err := w.client.Get(ctx, req.NamespacedName, u); err != nil {
		if apierrors.IsNotFound(err) {
			w.forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("read InferenceSet %s: %w", req.NamespacedName, err)
	}
	is := ReadInferenceSet(u)
	admission, err := Admit(ctx, w.client, is)
	if err != nil {
		return reconcile.Result{}, err
	}
	w.setAdmission(req.NamespacedName, admission)
	triggers := admission.Triggers
	if len(triggers) == 0 {
		w.forget(req.NamespacedName)
		return reconcile.Result{}, nil
	}
	workspaces, err := Workspaces(ctx, w.client, w.version, req.NamespacedName)
	if err != nil {
		return reconcile.Result{}, err
	}
	var pods corev1.PodList
	if err := w.client.List(ctx, &pods, client.InNamespace(req.Namespace),
		client.MatchingFields{indexInferenceSet: req.Name}); err != nil {
		return reconcile.Result{}, fmt.Errorf("list pods of %s: %w", req.NamespacedName, err)
	}
	now := w.now()
	replicas := w.correctPhases(req.NamespacedName, Replicas(workspaces, pods.Items, now, w.AllowHostNetwork))
	w.fleets.Set(req.NamespacedName, is.Replicas, replicas, policy.Readings(triggers))
	if w.observer != nil {
		w.observer.SetTriggers(req.NamespacedName, triggers)
	}
	return reconcile.Result{RequeueAfter: untilNextFault(replicas, now)}, nil
}

// untilNextFault is how long it is until a fault of a replica's is to be believed, 0
// if there is none: nobody tells when time passes.
func untilNextFault(replicas []Replica, now time.Time) (next time.Duration) {
	for i := range replicas {
		left := replicas[i].BelievedAt.Sub(now)
		if left > 0 && (next == 0 || left < next) {
			next = left
		}
	}
	return next
}
