package controlplane

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"path/filepath"

	"github.com/kaito-project/keda-kaito-scaler/test/cache"
)

// NodePrograms are the paths of what a node needs beside a control plane.
// containerd, runc and the CNI plugins are the machine's.
type NodePrograms struct {
	Kubelet, Proxy, Scheduler, CoreDNS string
	// Kubectl is for the one who tests.
	Kubectl string
}

var (
	kubeletModule = pinned{
		folder: "kubelet", title: "Kubernetes' node", module: "k8s.io/kubernetes",
		commands: map[string]string{
			"kubelet":        "k8s.io/kubernetes/cmd/kubelet",
			"kube-proxy":     "k8s.io/kubernetes/cmd/kube-proxy",
			"kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
			"kubectl":        "k8s.io/kubernetes/cmd/kubectl",
		},
		takes: "2 to 5 minutes", stamp: kubernetesStamp,
	}
	corednsModule = pinned{
		folder: "coredns", title: "CoreDNS", module: "github.com/coredns/coredns",
		commands: map[string]string{"coredns": "github.com/coredns/coredns"},
		takes:    "3 minutes",
		stamp:    func(_, _ string) []string { return nil }, // its version is a constant in its source
	}
)

// BuildNode is Build for a node's programs, which only the test on a node needs.
func BuildNode(ctx context.Context, out io.Writer) (NodePrograms, error) {
	cluster, err := clusterDir()
	if err != nil {
		return NodePrograms{}, err
	}
	folder, err := cache.Dir()
	if err != nil {
		return NodePrograms{}, err
	}
	p := cache.NewProgress(out)
	paths := map[string]string{}
	for _, m := range []pinned{kubeletModule, corednsModule} {
		dir, err := m.entry(ctx, p, filepath.Join(cluster, m.folder), folder)
		if err != nil {
			return NodePrograms{}, fmt.Errorf("building %s: %w", m.title, err)
		}
		for name := range m.commands {
			paths[name] = filepath.Join(dir, name)
		}
	}
	return NodePrograms{
		Kubelet: paths["kubelet"], Proxy: paths["kube-proxy"], Scheduler: paths["kube-scheduler"],
		CoreDNS: paths["coredns"], Kubectl: paths["kubectl"],
	}, nil
}

// Run starts a further component and watches over it as over those of the
// control plane: one that ends by itself is reported by Failed, and Stop ends
// it before those that were started earlier.
func (c *Cluster) Run(name, program string, args ...string) (*Process, error) {
	return c.run(name, program, nil, args...)
}

// Await waits until ready returns nil, for a minute and a half at most. It gives
// up when a component ends. p is the process that is waited for, or nil.
func (c *Cluster) Await(ctx context.Context, p *Process, what string, ready func(context.Context) error) error {
	return c.await(ctx, p, what, ready)
}

// Certificate signs a certificate for a client that is called subject, and for a
// server at these hosts if any. It returns the paths of certificate and key.
func (c *Cluster) Certificate(name string, subject pkix.Name, hosts ...string) (cert, key string, err error) {
	if err := c.ca.issue(name, subject, hosts...); err != nil {
		return "", "", err
	}
	return c.ca.file(name + ".crt"), c.ca.file(name + ".key"), nil
}

// CertificateKubeconfig writes a kubeconfig for what Certificate has signed, and
// returns its path.
func (c *Cluster) CertificateKubeconfig(name string) (string, error) { return c.certKubeconfig(name) }

// CAFile is the path of the certificate of the cluster's CA.
func (c *Cluster) CAFile() string { return c.ca.file("ca.crt") }
