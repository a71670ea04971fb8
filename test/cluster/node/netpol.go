package node

import (
	"context"
	_ "embed"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

//go:embed manifests/netpol.yaml
var netpol []byte

// EnforcePolicies has NetworkPolicies enforced from now on, and waits until they
// are.
func (n *Node) EnforcePolicies(ctx context.Context) error {
	img := Image{
		Name: "node.test/kube-network-policies:dev", Program: n.programs.NetworkPolicies,
		Path: "/netpol", User: "0:0", // it writes the node's firewall
	}
	if err := n.Import(ctx, img); err != nil {
		return err
	}
	if err := n.Apply(ctx, netpol); err != nil {
		return fmt.Errorf("kube-network-policies: %w", err)
	}
	return n.Await(ctx, nil, "kube-network-policies", func(ctx context.Context) error {
		d := &appsv1.DaemonSet{}
		if err := n.Client.Get(ctx, client.ObjectKey{Namespace: "kube-system", Name: "kube-network-policies"}, d); err != nil {
			return err
		}
		if d.Status.NumberReady != 1 {
			return fmt.Errorf("%d of its pods are ready, want 1", d.Status.NumberReady)
		}
		return nil
	})
}
