package node

import (
	"context"
	_ "embed"
	"fmt"
	"net"
)

const corednsImage = "node.test/coredns:dev"

//go:embed manifests/coredns.yaml
var coredns []byte

// Resolver asks the cluster's DNS.
func Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(dnsIP, "53"))
	}}
}

func (n *Node) startDNS(ctx context.Context) error {
	if err := n.Apply(ctx, coredns); err != nil {
		return fmt.Errorf("CoreDNS: %w", err)
	}
	err := n.Await(ctx, nil, "the cluster's DNS", func(ctx context.Context) error {
		const name, want = "kubernetes.default.svc.cluster.local.", "10.0.0.1"
		found, err := Resolver().LookupHost(ctx, name)
		if err != nil {
			return err
		}
		if len(found) != 1 || found[0] != want {
			return fmt.Errorf("%s is at %v, want %s", name, found, want)
		}
		return nil
	})
	if err != nil {
		return err
	}
	n.say("the cluster's DNS answers: Services and pods work")
	return nil
}
