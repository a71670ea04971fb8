package kaito

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Indexes of the cache: every lookup is by InferenceSet, so that 2 000 of them
// with 10 000 pods never cost a walk over all pods.
const (
	indexInferenceSet = "inferenceset"
	indexTrigger      = "trigger"
)

// Fleets is told who the replicas of an InferenceSet are and what is to be read
// of them, one Reading for each page, each time that changes.
type Fleets interface {
	Set(key types.NamespacedName, desired int32, replicas []Replica, readings []policy.Reading)
	Forget(key types.NamespacedName)
}

// Asked is told by which triggers a fleet is scaled, those of ScaledObjects
// first, each time that it is looked at; none once it isn't scaled any more.
type Asked interface {
	Ask(key types.NamespacedName, triggers []policy.Trigger)
}

// Watcher keeps Fleets up to date from the cache: with every InferenceSet that
// asks for scaling, and every one that a ScaledObject's trigger names. It runs
// on every process, leader or not, so that a standby knows as much. It outlives
// the managers whose caches it reads, one after the other.
type Watcher struct {
	fleets Fleets
	// asked may be nil.
	asked Asked
	now   func() time.Time
	// AllowHostNetwork lets pods on their node's network be read. It is set
	// before the Watcher is used.
	AllowHostNetwork bool
	// primed is set once every InferenceSet of the start has been looked at.
	primed atomic.Bool

	// mu guards served. It is held throughout a reconcile, which reads nothing
	// but memory.
	mu sync.Mutex
	// served remembers, for each fleet, the pods that have been seen Ready.
	served map[types.NamespacedName]map[types.UID]bool

	// admitting guards admissions, which KEDA's calls ask for. It is held for
	// moments.
	admitting sync.RWMutex
	// admissions are those of fleets of which some trigger is refused.
	admissions map[types.NamespacedName]Admission
}

// NewWatcher makes a Watcher, which watches nothing yet. Asked may be nil.
func NewWatcher(fleets Fleets, asked Asked) *Watcher {
	return &Watcher{
		fleets: fleets, asked: asked, now: time.Now, served: map[types.NamespacedName]map[types.UID]bool{},
		admissions: map[types.NamespacedName]Admission{},
	}
}

// AddToManager lets the Watcher read KAITO's API in that version from the
// manager's cache. A manager that it was added to before must have ended.
func (w *Watcher) AddToManager(ctx context.Context, mgr ctrl.Manager, version string) error {
	if err := Index(ctx, mgr.GetFieldIndexer(), version); err != nil {
		return err
	}
	v := view{w, mgr.GetClient(), version}
	if err := mgr.Add(primer{v}); err != nil {
		return fmt.Errorf("add the first look at the fleets: %w", err)
	}
	everywhere := false
	return ctrl.NewControllerManagedBy(mgr).
		Named("fleets").
		WithOptions(controller.Options{NeedLeaderElection: &everywhere, MaxConcurrentReconciles: 1}).
		For(Object(version, KindInferenceSet)).
		Watches(Object(version, KindWorkspace), handler.EnqueueRequestsFromMapFunc(Owner)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(Owner)).
		Watches(&kedav1alpha1.ScaledObject{}, handler.EnqueueRequestsFromMapFunc(Named), builder.WithPredicates(asksChanged)).
		Complete(v)
}

// view is a Watcher on the cache of one manager.
type view struct {
	*Watcher
	client  client.Reader
	version string
}

// primer takes the first look at every InferenceSet, as soon as the cache has
// them: a process is ready only when it knows whom to read.
type primer struct{ view }

func (p primer) NeedLeaderElection() bool { return false }

func (p primer) Start(ctx context.Context) error {
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
	for _, key := range p.others(there) {
		if _, err := p.Reconcile(ctx, reconcile.Request{NamespacedName: key}); err != nil {
			return err
		}
	}
	p.primed.Store(true)
	return nil
}

// others are the fleets that are known beside these. Some are gone since the last
// manager's time, some are newer than the list: a look at each tells.
func (w *Watcher) others(there map[types.NamespacedName]bool) []types.NamespacedName {
	w.mu.Lock()
	defer w.mu.Unlock()
	var others []types.NamespacedName
	for key := range w.served {
		if !there[key] {
			others = append(others, key)
		}
	}
	return others
}

// Primed tells whether every InferenceSet of the start has been looked at.
func (w *Watcher) Primed() bool { return w.primed.Load() }

// Index lets a cache find Workspaces, pods and ScaledObjects by InferenceSet.
// Watch sees to it for the manager's.
func Index(ctx context.Context, indexer client.FieldIndexer, version string) error {
	created := func(obj client.Object) []string { return []string{obj.GetLabels()[CreatedBy]} }
	for _, index := range []struct {
		object client.Object
		name   string
		values client.IndexerFunc
	}{
		{Object(version, KindWorkspace), indexInferenceSet, created},
		{&corev1.Pod{}, indexInferenceSet, created},
		{&kedav1alpha1.ScaledObject{}, indexTrigger, namesOf},
	} {
		if err := indexer.IndexField(ctx, index.object, index.name, index.values); err != nil {
			return fmt.Errorf("index %T by %s: %w", index.object, index.name, err)
		}
	}
	return nil
}

// Owner maps a Workspace or a pod to the InferenceSet on its label.
func Owner(_ context.Context, obj client.Object) []reconcile.Request {
	name := obj.GetLabels()[CreatedBy]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: name}}}
}

// Named maps a ScaledObject to the InferenceSets that its triggers name.
func Named(_ context.Context, obj client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, name := range namesOf(obj) {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{
			Namespace: obj.GetNamespace(), Name: name,
		}})
	}
	return requests
}

// namesOf are the InferenceSets that a ScaledObject's triggers name, each once.
func namesOf(obj client.Object) []string {
	names := make([]string, 0, 1)
	for _, t := range triggersOf(obj) {
		if !slices.Contains(names, t.InferenceSet) {
			names = append(names, t.InferenceSet)
		}
	}
	return names
}

// asksChanged keeps out KEDA's writes to a ScaledObject's status, every 15 s for
// each.
var asksChanged = predicate.Or(predicate.GenerationChangedPredicate{}, predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		old, fresh := metav1.GetControllerOfNoCopy(e.ObjectOld), metav1.GetControllerOfNoCopy(e.ObjectNew)
		return e.ObjectOld.GetUID() != e.ObjectNew.GetUID() || (old == nil) != (fresh == nil) || old != nil && old.UID != fresh.UID
	},
})

// triggersOf are the triggers of a ScaledObject that this scaler can answer.
func triggersOf(obj client.Object) []policy.Trigger {
	so, ok := obj.(*kedav1alpha1.ScaledObject)
	if !ok {
		return nil
	}
	var triggers []policy.Trigger
	for i := range so.Spec.Triggers {
		if trigger, ok := triggerOf(so, i); ok {
			triggers = append(triggers, trigger)
		}
	}
	return triggers
}

// Reconcile brings one fleet up to date. It reads nothing but the cache.
func (w view) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
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
	w.remembered(req.NamespacedName, admission)
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
	replicas := w.remember(req.NamespacedName, Replicas(workspaces, pods.Items, now, w.AllowHostNetwork))
	w.fleets.Set(req.NamespacedName, is.Replicas, replicas, policy.Readings(triggers))
	if w.asked != nil {
		w.asked.Ask(req.NamespacedName, triggers)
	}
	return reconcile.Result{RequeueAfter: nextDoubt(replicas, now)}, nil
}

// nextDoubt is how long it is until a fault of a replica's is to be believed, 0
// if there is none: nobody tells when time passes.
func nextDoubt(replicas []Replica, now time.Time) (next time.Duration) {
	for i := range replicas {
		left := replicas[i].Doubt.Sub(now)
		if left > 0 && (next == 0 || left < next) {
			next = left
		}
	}
	return next
}

// Workspaces lists an InferenceSet's Workspaces from the cache.
func Workspaces(ctx context.Context, c client.Reader, version string, key types.NamespacedName) ([]unstructured.Unstructured, error) {
	list := List(version, KindWorkspace)
	if err := c.List(ctx, list, client.InNamespace(key.Namespace),
		client.MatchingFields{indexInferenceSet: key.Name}); err != nil {
		return nil, fmt.Errorf("list Workspaces of %s: %w", key, err)
	}
	return list.Items, nil
}

// remembered keeps which triggers on a fleet are answered, if not all are.
func (w *Watcher) remembered(key types.NamespacedName, a Admission) {
	w.admitting.Lock()
	defer w.admitting.Unlock()
	if a.full() {
		w.admissions[key] = a
	} else {
		delete(w.admissions, key)
	}
}

// Refused says in words why a trigger isn't answered, "" if it is: one InferenceSet
// has so many at most.
func (w *Watcher) Refused(t policy.Trigger) string {
	w.admitting.RLock()
	a, full := w.admissions[types.NamespacedName{Namespace: t.Namespace, Name: t.InferenceSet}]
	w.admitting.RUnlock()
	if !full {
		return ""
	}
	return a.Refused(t)
}

// remember puts right, from what this process has seen, who serves though its
// pod isn't Ready. One that was Ready before serves: too busy to answer its
// probe within a second, it is full of load. One that came under the eyes of
// this process and has not been Ready since doesn't, whatever its Workspace's
// state says: that speaks of the pod before it, and KAITO's benchmark is still
// to come. Only of a fleet that is seen for the first time does the Workspace's
// word count. A pod that tells itself that it was Ready is believed, and one that
// has ended never serves again.
func (w *Watcher) remember(key types.NamespacedName, replicas []Replica) []Replica {
	before, seen := w.served[key]
	now := make(map[types.UID]bool, len(replicas))
	for i := range replicas {
		r := &replicas[i]
		switch {
		case r.UID == "":
			continue
		case before[r.UID] && !r.Ended && (r.Phase == sample.Starting || r.Phase == sample.Broken):
			// What KAITO says of a start isn't of this pod's.
			r.Phase, r.Why, r.Doubt = sample.Serving, "", time.Time{}
		case seen && !before[r.UID] && r.Phase == sample.Serving && !r.Ready && !r.WasReady:
			r.Phase = sample.Starting
		}
		if r.Phase == sample.Serving {
			now[r.UID] = true
		}
	}
	w.served[key] = now
	return replicas
}

func (w *Watcher) forget(key types.NamespacedName) {
	w.remembered(key, Admission{})
	delete(w.served, key)
	w.fleets.Forget(key)
	if w.asked != nil {
		w.asked.Ask(key, nil)
	}
}
