package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
)

// kedaManifests are KEDA's own of its Deployments, of its module's config/. What
// comes before them, controlplane.Start has applied.
var kedaManifests = []string{
	"manager/manager.yaml", "manager/service.yaml",
	"metrics-server/deployment.yaml", "metrics-server/service.yaml", "metrics-server/api_service.yaml",
	"webhooks/webhooks.yaml", "webhooks/service.yaml", "webhooks/validation_webhooks.yaml",
}

// StartKEDA runs KEDA in pods, as its manifests have it, and waits until all of
// it is ready and the external metrics API is available. Its images are made of
// the programs; it makes its own certificates. Nothing is changed but how often
// it tries to pull its images: never.
func (n *Node) StartKEDA(ctx context.Context, programs controlplane.Programs) error {
	for _, img := range []Image{
		{Name: "ghcr.io/kedacore/keda:latest", Program: programs.KEDAOperator, Path: "/keda"},
		{Name: "ghcr.io/kedacore/keda-metrics-apiserver:latest", Program: programs.KEDAAdapter, Path: "/keda-adapter"},
		{Name: "ghcr.io/kedacore/keda-admission-webhooks:latest", Program: programs.KEDAWebhooks, Path: "/keda-admission-webhooks"},
	} {
		if err := n.Import(ctx, img); err != nil {
			return err
		}
	}
	for _, file := range kedaManifests {
		manifest, err := os.ReadFile(filepath.Join(programs.KEDAConfig, filepath.FromSlash(file)))
		if err != nil {
			return err
		}
		manifest = bytes.ReplaceAll(manifest, []byte("imagePullPolicy: Always"), []byte("imagePullPolicy: Never"))
		if err := n.Apply(ctx, manifest); err != nil {
			return fmt.Errorf("KEDA's %s: %w", file, err)
		}
	}
	for _, deployment := range []string{"keda-operator", "keda-metrics-apiserver", "keda-admission"} {
		if err := n.Available(ctx, "keda", deployment); err != nil {
			return err
		}
	}
	if err := n.Await(ctx, nil, "the external metrics API", n.externalMetricsAvailable); err != nil {
		return err
	}
	n.say("KEDA runs in pods: its Deployments and the external metrics API are available")
	return nil
}

func (n *Node) externalMetricsAvailable(ctx context.Context) error {
	const group = "/apis/external.metrics.k8s.io/v1beta1"
	cluster, err := discovery.NewDiscoveryClientForConfig(n.Config())
	if err != nil {
		return err
	}
	_, err = cluster.RESTClient().Get().AbsPath(group).DoRaw(ctx)
	return err
}

// Available waits until all pods of a Deployment are.
func (n *Node) Available(ctx context.Context, namespace, name string) error {
	return n.Await(ctx, nil, "Deployment "+namespace+"/"+name, func(ctx context.Context) error {
		d := &appsv1.Deployment{}
		if err := n.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, d); err != nil {
			return err
		}
		want := *d.Spec.Replicas
		if s := d.Status; s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.AvailableReplicas != want || s.Replicas != want {
			return fmt.Errorf("of %d replicas %d are there, %d of the newest kind, %d available", want, s.Replicas, s.UpdatedReplicas, s.AvailableReplicas)
		}
		return nil
	})
}
