//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

// hostile is the namespace of the tenant who attacks, and the InferenceSet there
// with the pods that do.
const hostile = "hostile"

const kaitoAPI = "kaito.sh/v1beta1"

// world writes the objects that KAITO and its users would.
type world struct {
	client client.Client
	// scaler is where KEDA would reach the scaler.
	scaler string
}

func (w world) namespace(ctx context.Context, name string) error {
	if err := w.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		return fmt.Errorf("make namespace %s: %w", name, err)
	}
	// No controller makes it here, and the API server wants it for a pod.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}}
	if err := w.client.Create(ctx, account); err != nil {
		return fmt.Errorf("make the account of namespace %s: %w", name, err)
	}
	return nil
}

func object(kind, namespace, name string) *unstructured.Unstructured {
	return kaito.Object("v1beta1", kind, types.NamespacedName{Namespace: namespace, Name: name})
}

// inferenceSet makes one without replicas yet, which has these annotations.
func (w world) inferenceSet(ctx context.Context, namespace, name string, replicas int, annotations map[string]string) error {
	u := kaito.NewInferenceSet("v1beta1", types.NamespacedName{Namespace: namespace, Name: name}, replicas, nil)
	u.SetAnnotations(annotations)
	if err := w.client.Create(ctx, u); err != nil {
		return fmt.Errorf("make InferenceSet %s/%s: %w", namespace, name, err)
	}
	return nil
}

// replica makes one that is Ready: a Workspace, and its pod at that
// address and port.
func (w world) replica(ctx context.Context, namespace, name string, i int, ip string, port int) error {
	workspace := name + "-" + strconv.Itoa(i)
	u := object("Workspace", namespace, workspace)
	u.SetLabels(map[string]string{kaito.LabelCreatedBy: name})
	u.Object["resource"] = map[string]any{"labelSelector": map[string]any{"matchLabels": map[string]any{"apps": name}}}
	if err := w.client.Create(ctx, u); err != nil {
		return fmt.Errorf("make Workspace %s/%s: %w", namespace, workspace, err)
	}
	u.Object["status"] = map[string]any{"state": "Ready", "targetNodeCount": int64(1)}
	if err := w.client.Status().Update(ctx, u); err != nil {
		return fmt.Errorf("write the status of Workspace %s/%s: %w", namespace, workspace, err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: workspace + "-0",
			Labels: map[string]string{kaito.LabelCreatedBy: name, kaito.LabelWorkspace: workspace},
			// In KAITO a StatefulSet of the Workspace's name stands between.
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(u, u.GroupVersionKind())},
		},
		Spec: corev1.PodSpec{
			NodeName: "gpu-" + workspace, AutomountServiceAccountToken: new(false),
			Containers: []corev1.Container{{
				Name: "vllm", Image: "/kaito-base:0.5.0",
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: int32(port)}},
			}},
		},
	}
	if err := w.client.Create(ctx, pod); err != nil {
		return fmt.Errorf("make pod %s/%s: %w", namespace, pod.Name, err)
	}
	now := metav1.NewTime(time.Now())
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, StartTime: &now,
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "vllm", Image: "/kaito-base:0.5.0", Ready: true, Started: new(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}},
	}
	if err := w.client.Status().Update(ctx, pod); err != nil {
		return fmt.Errorf("write the status of pod %s/%s: %w", namespace, pod.Name, err)
	}
	return nil
}

// metadata is a trigger's for an InferenceSet, with more of it.
func (w world) metadata(namespace, inferenceSet string, more map[string]string) map[string]string {
	all := map[string]string{
		"scalerAddress": w.scaler, "enableTLS": "true", "scalerName": "keda-kaito-scaler",
		"inferenceSetName": inferenceSet, "inferenceSetNamespace": namespace,
	}
	maps.Copy(all, more)
	return all
}

// scaledObject makes one with these triggers.
func (w world) scaledObject(ctx context.Context, namespace, name, inferenceSet string, triggers ...map[string]string) error {
	so := &kedav1alpha1.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: kedav1alpha1.ScaledObjectSpec{
			ScaleTargetRef:  &kedav1alpha1.ScaleTarget{APIVersion: kaitoAPI, Kind: "InferenceSet", Name: inferenceSet},
			MinReplicaCount: new(int32(1)), MaxReplicaCount: new(int32(10)),
		},
	}
	for i, trigger := range triggers {
		so.Spec.Triggers = append(so.Spec.Triggers, kedav1alpha1.ScaleTriggers{
			Type: "external", Name: "t" + strconv.Itoa(i), Metadata: w.metadata(namespace, inferenceSet, trigger),
			AuthenticationRef: &kedav1alpha1.AuthenticationRef{Kind: "ClusterTriggerAuthentication", Name: "keda-kaito-scaler-creds"},
		})
	}
	if err := w.client.Create(ctx, so); err != nil {
		return fmt.Errorf("make ScaledObject %s/%s: %w", namespace, name, err)
	}
	return nil
}

func (w world) deleteScaledObject(ctx context.Context, namespace, name string) error {
	so := &kedav1alpha1.ScaledObject{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	return client.IgnoreNotFound(w.client.Delete(ctx, so))
}

// secret is KEDA's certificate, which the scaler makes when it leads.
func (w world) secret(ctx context.Context, namespace string) (map[string][]byte, error) {
	secret := &corev1.Secret{}
	key := types.NamespacedName{Namespace: namespace, Name: "keda-kaito-scaler-client-certs"}
	err := eventually(ctx, "KEDA's certificate", func(ctx context.Context) error {
		err := w.client.Get(ctx, key, secret)
		if err == nil && len(secret.Data["tls.crt"]) == 0 {
			err = fmt.Errorf("the Secret %s is empty", key)
		}
		return err
	})
	return secret.Data, err
}

// provisioned waits until the scaler has made an InferenceSet's ScaledObject, and
// returns its trigger's metadata.
func (w world) provisioned(ctx context.Context, namespace, name string) (map[string]string, error) {
	so := &kedav1alpha1.ScaledObject{}
	err := eventually(ctx, "the ScaledObject of "+namespace+"/"+name, func(ctx context.Context) error {
		err := w.client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, so)
		if err == nil && len(so.Spec.Triggers) != 1 {
			err = fmt.Errorf("it has %d triggers", len(so.Spec.Triggers))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return so.Spec.Triggers[0].Metadata, nil
}

// patience is for what takes seconds on an idle machine.
const patience = 45 * time.Second

// eventually waits for a condition.
func eventually(ctx context.Context, what string, condition func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		last = condition(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%s: not within %s: %w (%w)", what, patience, err, last)
	}
	return nil
}
