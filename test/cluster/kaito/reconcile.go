package kaito

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// world is an InferenceSet with all that belongs to it, as just read.
type world struct {
	name types.NamespacedName
	// set is nil once the InferenceSet is gone.
	set        *InferenceSet
	workspaces []Workspace
	pods       []corev1.Pod
	// next is when something is due; zero for never.
	next time.Time
}

// due asks for another look at that time.
func (w *world) due(at time.Time) {
	if !at.IsZero() && (w.next.IsZero() || at.Before(w.next)) {
		w.next = at
	}
}

// Reconcile brings one InferenceSet's objects and simulated pods a step on.
func (k *KAITO) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	w, err := k.read(ctx, req.NamespacedName)
	if err != nil {
		return ctrl.Result{}, err
	}
	steps := []func(context.Context, *world) error{
		k.scale, k.advance, k.syncPods, k.bury, k.syncWorkspaces, k.syncSet,
	}
	if k.real() {
		steps = []func(context.Context, *world) error{k.scale, k.syncStatefulSets, k.bury, k.syncWorkspaces, k.syncSet}
	}
	for _, step := range steps {
		if err := step(ctx, w); err != nil {
			if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
				// Somebody changed or deleted what was read. Look again.
				return ctrl.Result{RequeueAfter: 10 * time.Millisecond}, nil
			}
			return ctrl.Result{}, fmt.Errorf("InferenceSet %s: %w", req.NamespacedName, err)
		}
	}
	if w.next.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(time.Until(w.next), time.Millisecond)}, nil
}

func (k *KAITO) read(ctx context.Context, name types.NamespacedName) (*world, error) {
	w := &world{name: name, set: &InferenceSet{}}
	if err := k.client.Get(ctx, name, w.set); apierrors.IsNotFound(err) {
		w.set = nil
	} else if err != nil {
		return nil, err
	}
	mine := []client.ListOption{client.InNamespace(name.Namespace), client.MatchingLabels{LabelCreatedBy: name.Name}}
	var workspaces WorkspaceList
	if err := k.client.List(ctx, &workspaces, mine...); err != nil {
		return nil, err
	}
	var pods corev1.PodList
	if err := k.client.List(ctx, &pods, mine...); err != nil {
		return nil, err
	}
	w.workspaces, w.pods = workspaces.Items, pods.Items
	return w, nil
}

// scale makes the missing Workspaces, all at once, and deletes the excess ones.
func (k *KAITO) scale(ctx context.Context, w *world) error {
	var alive []*Workspace
	for i := range w.workspaces {
		if w.workspaces[i].DeletionTimestamp == nil {
			alive = append(alive, &w.workspaces[i])
		}
	}
	want := 0
	if w.set != nil && w.set.DeletionTimestamp == nil {
		before := w.set.deepCopy()
		if controllerutil.AddFinalizer(w.set, inferenceSetFinalizer) {
			// A patch: an update would drop the fields not known here.
			if err := k.client.Patch(ctx, w.set, client.MergeFrom(before)); err != nil {
				return fmt.Errorf("adding the finalizer: %w", err)
			}
		}
		k.mu.Lock()
		want = int(w.set.Spec.Replicas)
		if k.surging[w.name] {
			want++
		}
		k.mu.Unlock()
	}
	for range want - len(alive) {
		if err := k.newWorkspace(ctx, w); err != nil {
			return fmt.Errorf("creating a Workspace: %w", err)
		}
	}
	for _, ws := range k.excess(alive, len(alive)-want) {
		if err := client.IgnoreNotFound(k.client.Delete(ctx, ws)); err != nil {
			return fmt.Errorf("deleting Workspace %s: %w", ws.Name, err)
		}
		now := metav1.Now()
		ws.DeletionTimestamp = &now // what the next steps are to see
	}
	return nil
}

// excess picks n Workspaces to delete: those that aren't ready first. Which of
// equals goes is left open by KAITO, so here it is left to chance.
func (k *KAITO) excess(alive []*Workspace, n int) []*Workspace {
	if n <= 0 {
		return nil
	}
	k.mu.Lock()
	k.random.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	k.mu.Unlock()
	rank := func(ws *Workspace) int {
		if succeeded(ws) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(alive, func(a, b *Workspace) int { return cmp.Compare(rank(a), rank(b)) })
	return alive[:min(n, len(alive))]
}

func (k *KAITO) newWorkspace(ctx context.Context, w *world) error {
	k.mu.Lock()
	nodes := k.optionsOf(w.name).NodesPerReplica
	k.mu.Unlock()
	ws := &Workspace{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: w.name.Name + "-",
			Namespace:    w.name.Namespace,
			Labels:       map[string]string{LabelCreatedBy: w.name.Name},
			Finalizers:   []string{workspaceFinalizer},
		},
		Resource: Resource{
			Count:         nodes,
			InstanceType:  w.set.Spec.Template.Resource.InstanceType,
			LabelSelector: w.set.Spec.LabelSelector.DeepCopy(),
		},
		Inference: w.set.Spec.Template.Inference.DeepCopy(),
	}
	if err := controllerutil.SetControllerReference(w.set, ws, k.client.Scheme()); err != nil {
		return err
	}
	if err := k.client.Create(ctx, ws); err != nil {
		return err
	}
	w.workspaces = append(w.workspaces, *ws)
	return nil
}

// advance gives every Workspace its simulated replica and moves these on.
func (k *KAITO) advance(_ context.Context, w *world) error {
	now := time.Now()
	for i := range w.workspaces {
		ws := &w.workspaces[i]
		r, err := k.replicaOf(w, ws, now)
		if err != nil {
			return err
		}
		if r == nil {
			continue // deleted before it began
		}
		k.mu.Lock()
		if ws.DeletionTimestamp != nil {
			r.dying = true
		}
		due := r.advance(now)
		k.mu.Unlock()
		w.due(due)
		if err := k.adjust(r); err != nil {
			return err
		}
	}
	return nil
}

func (k *KAITO) replicaOf(w *world, ws *Workspace, now time.Time) (*replica, error) {
	k.mu.Lock()
	r, options := k.replicas[ws.UID], k.optionsOf(w.name)
	k.mu.Unlock()
	if r != nil || ws.DeletionTimestamp != nil {
		return r, nil
	}
	r = &replica{
		set:       w.name,
		uid:       ws.UID,
		workspace: ws.Name,
		created:   now,
		nodes:     max(ws.Resource.Count, 1),
		startup:   options.Startup,
		since:     now,
	}
	if err := r.boot(options); err != nil {
		return nil, fmt.Errorf("starting a simulated pod: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.replicas[ws.UID] = r
	return r, nil
}

// bury ends the simulated replicas whose Workspace and pods are all gone.
func (k *KAITO) bury(_ context.Context, w *world) error {
	needed := map[string]bool{}
	for i := range w.workspaces {
		needed[w.workspaces[i].Name] = true
	}
	for i := range w.pods {
		needed[w.pods[i].Labels[LabelWorkspace]] = true
	}
	k.mu.Lock()
	var gone []*replica
	for uid, r := range k.replicas {
		if r.set == w.name && !needed[r.workspace] {
			gone = append(gone, r)
			delete(k.replicas, uid)
		}
	}
	if w.set == nil && len(w.pods) == 0 {
		delete(k.surging, w.name)
		delete(k.own, w.name)
	}
	k.mu.Unlock()
	for _, r := range gone {
		r.close()
	}
	return nil
}
