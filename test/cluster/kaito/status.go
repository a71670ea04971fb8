package kaito

import (
	"context"
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// peakMetric is what a Workspace's benchmark measured.
const peakMetric = "peakTokensPerMinute"

// The states of a Workspace.
const (
	statePending  = "Pending"
	stateReady    = "Ready"
	stateNotReady = "NotReady"
)

// succeeded says whether KAITO counts a Workspace as a ready replica. One that
// is being deleted keeps its condition, and is counted.
func succeeded(ws *Workspace) bool {
	return meta.IsStatusConditionTrue(ws.Status.Conditions, "WorkspaceSucceeded")
}

// syncWorkspaces writes the Workspaces' status and lets the deleted ones go.
// Their pods outlive them by their grace period.
func (k *KAITO) syncWorkspaces(ctx context.Context, w *world) error {
	kept := w.workspaces[:0]
	for i := range w.workspaces {
		ws := &w.workspaces[i]
		if ws.DeletionTimestamp == nil {
			if err := k.writeWorkspaceStatus(ctx, ws); err != nil {
				return err
			}
			kept = append(kept, *ws)
			continue
		}
		before := ws.deepCopy()
		if controllerutil.RemoveFinalizer(ws, workspaceFinalizer) {
			if err := client.IgnoreNotFound(k.client.Patch(ctx, ws, client.MergeFrom(before))); err != nil {
				return fmt.Errorf("letting Workspace %s go: %w", ws.Name, err)
			}
		}
	}
	w.workspaces = kept
	return nil
}

func (k *KAITO) writeWorkspaceStatus(ctx context.Context, ws *Workspace) error {
	k.mu.Lock()
	r := k.replicas[ws.UID]
	if r == nil {
		k.mu.Unlock()
		return nil
	}
	before := ws.deepCopy()
	ws.Status.TargetNodeCount = int32(r.nodes)
	ws.Status.State = state(r)
	for _, c := range workspaceConditions(r) {
		c.ObservedGeneration = ws.Generation
		meta.SetStatusCondition(&ws.Status.Conditions, c)
	}
	if r.benchmarked {
		ws.Status.Performance = &Performance{Metrics: map[string]Measure{
			peakMetric: {Value: strconv.Itoa(k.peakTokensPerMinute(r))},
		}}
	}
	k.mu.Unlock()
	if equality.Semantic.DeepEqual(before.Status, ws.Status) {
		return nil
	}
	if err := k.client.Status().Patch(ctx, ws, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("writing the status of Workspace %s: %w", ws.Name, err)
	}
	return nil
}

// peakTokensPerMinute is what the benchmark measures, 2048 in and 256 out, of
// all engines of a pod. Caller holds mu.
func (k *KAITO) peakTokensPerMinute(r *replica) int {
	if r.engines != nil {
		return int(r.peak)
	}
	o := k.optionsOf(r.set)
	return int(o.Model.PeakTokensPerMinute(2048, 256)) * max(o.EnginesPerPod, 1)
}

func state(r *replica) string {
	switch {
	case r.ready():
		return stateReady
	case r.wasReady:
		return stateNotReady
	}
	return statePending
}

func workspaceConditions(r *replica) []metav1.Condition {
	node, inference := nodeCondition(r), inferenceCondition(r)
	conditions := []metav1.Condition{node, inference}
	if node.Status == metav1.ConditionTrue {
		conditions = append(conditions,
			condition("NodesReady", true, "NodesReady", "Enough Nodes are ready"),
			condition("ResourceReady", true, "workspaceResourceStatusSuccess", "workspace resource is ready"))
	} else {
		conditions = append(conditions,
			condition("NodesReady", false, "NodesNotReady", "Not enough Nodes are ready"),
			condition("ResourceReady", false, "workspaceResourceStatusNotReady", "workspace resource is not ready"))
	}
	if r.benchmarked {
		conditions = append(conditions, condition("BenchmarkCompleted", true, "BenchmarkCompleted", "the benchmark has completed"))
	}
	if r.ready() {
		return append(conditions, condition("WorkspaceSucceeded", true, "workspaceSucceeded", "workspace succeeds"))
	}
	return append(conditions, condition("WorkspaceSucceeded", false, "workspacePending", "workspace is not ready"))
}

func nodeCondition(r *replica) metav1.Condition {
	switch {
	case r.trouble != nil && *r.trouble == Quota:
		return condition("NodeClaimReady", false, "NodeClaimLaunchFailed",
			"creating the instance: quota exceeded for family standardNCADSA100v4Family")
	case r.stage == AwaitingNode:
		return condition("NodeClaimReady", false, "NodeClaimNotReady", "waiting for the node to be ready")
	}
	return condition("NodeClaimReady", true, "NodeClaimsReady", "the node is ready")
}

func inferenceCondition(r *replica) metav1.Condition {
	if r.trouble != nil {
		switch *r.trouble {
		case Crash:
			return condition("InferenceReady", false, "ContainerCrashLoopBackOff", "back-off restarting the failed container")
		case ImagePull:
			return condition("InferenceReady", false, "ImagePullError", "the image can't be pulled")
		default:
		}
	}
	if r.ready() {
		return condition("InferenceReady", true, "WorkspaceInferenceStatusSuccess", "Inference has been deployed successfully")
	}
	return condition("InferenceReady", false, "WorkspaceInferenceStatusPending", "the inference pod is not ready")
}

func condition(kind string, yes bool, reason, message string) metav1.Condition {
	status := metav1.ConditionFalse
	if yes {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

// syncSet writes the InferenceSet's status, or lets it go.
func (k *KAITO) syncSet(ctx context.Context, w *world) error {
	if w.set == nil {
		return nil
	}
	if w.set.DeletionTimestamp != nil && len(w.workspaces) == 0 {
		before := w.set.deepCopy()
		if !controllerutil.RemoveFinalizer(w.set, inferenceSetFinalizer) {
			return nil
		}
		return client.IgnoreNotFound(k.client.Patch(ctx, w.set, client.MergeFrom(before)))
	}
	before := w.set.deepCopy()
	k.fillSetStatus(w)
	if equality.Semantic.DeepEqual(before.Status, w.set.Status) {
		return nil
	}
	if err := k.client.Status().Patch(ctx, w.set, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	return nil
}

func (k *KAITO) fillSetStatus(w *world) {
	status := &w.set.Status
	status.Replicas = w.set.Spec.Replicas
	status.Selector = LabelCreatedBy + "=" + w.name.Name
	status.ReadyReplicas = 0
	benchmarked, peak := 0, 0
	for i := range w.workspaces {
		if succeeded(&w.workspaces[i]) {
			status.ReadyReplicas++
		}
		if w.workspaces[i].Status.Performance != nil {
			benchmarked++
			measured, _ := strconv.Atoi(w.workspaces[i].Status.Performance.Metrics[peakMetric].Value) // ours
			peak += measured
		}
	}
	c := condition("InferenceSetReady", false, "inferencesetNotReady", "not all replicas are ready")
	if status.ReadyReplicas == w.set.Spec.Replicas {
		c = condition("InferenceSetReady", true, "inferencesetReady", "inferenceset is ready")
	}
	c.ObservedGeneration = w.set.Generation
	meta.SetStatusCondition(&status.Conditions, c)
	if w.set.DeletionTimestamp != nil {
		meta.SetStatusCondition(&status.Conditions,
			condition("InferenceSetDeleting", true, "inferencesetDeleting", "the InferenceSet is being deleted"))
	}
	if benchmarked > 0 {
		meta.SetStatusCondition(&status.Conditions,
			condition("BenchmarkCompleted", true, "BenchmarkCompleted", "the benchmark has completed"))
		status.Performance = &Performance{Metrics: map[string]Measure{
			"aggregatedPeakTokensPerMinute": {Value: strconv.Itoa(peak)},
		}}
	}
}
