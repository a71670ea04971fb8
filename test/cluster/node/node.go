package node

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
)

// Name is the Node's.
const Name = "node"

const (
	pauseImage = "node.test/pause:dev"
	// dnsIP is CoreDNS's among the Services' addresses.
	dnsIP = "10.0.0.10"
)

// Options say what the node is made of.
type Options struct {
	// Programs are what controlplane.BuildNode returned.
	Programs controlplane.NodePrograms
	// Pause is the program that holds a pod's namespaces.
	Pause string
	// Place is where the node is.
	Place Place
	// Out is told in plain lines what is going on; nil for silence.
	Out io.Writer
}

// Node is a running node of a cluster.
type Node struct {
	*controlplane.Cluster
	// Client acts as the cluster's administrator.
	Client client.Client

	programs controlplane.NodePrograms
	place    Place
	out      io.Writer
}

// Start makes this machine a node of the cluster, which was started with the
// place's address for NodeIP, and waits until the node is Ready and resolves
// Services' names. Stop ends the node's processes and the cluster's; the place
// ends the pods.
func Start(ctx context.Context, cluster *controlplane.Cluster, o Options) (*Node, error) {
	n := &Node{Cluster: cluster, programs: o.Programs, place: o.Place, out: o.Out}
	if n.out == nil {
		n.out = io.Discard
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), kedav1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register types: %w", err)
	}
	var err error
	if n.Client, err = client.New(cluster.Config(), client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if err := n.startContainerd(ctx); err != nil {
		return nil, err
	}
	for _, img := range []Image{
		{Name: pauseImage, Program: o.Pause, Path: "/pause"},
		{Name: corednsImage, Program: o.Programs.CoreDNS, Path: "/coredns"},
	} {
		if err := n.Import(ctx, img); err != nil {
			return nil, err
		}
	}
	for _, start := range []func(context.Context) error{n.startKubelet, n.startScheduler, n.startProxy, n.startDNS} {
		if err := start(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Stop ends all but the pods. They hold on to the API server, which would wait
// for them longer than it may: it is killed.
func (n *Node) Stop() error {
	var err error
	if p := n.Process("kube-apiserver"); p != nil {
		err = p.Kill()
	}
	return errors.Join(err, n.Cluster.Stop())
}

func (n *Node) say(format string, args ...any) {
	_, _ = fmt.Fprintf(n.out, format+"\n", args...)
}

// lookPath finds a program of the machine's. Not everybody's PATH has sbin.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := filepath.Join("/usr/sbin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not installed: hack/node.sh packages installs it", name)
	}
	return path, nil
}

// kubeletConfig: evictions would make the test's outcome depend on how full the
// machine's disk is, and so would the images that are collected.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: %[1]q } }
authorization: { mode: Webhook }
tlsCertFile: %[2]q
tlsPrivateKeyFile: %[3]q
containerRuntimeEndpoint: unix://` + containerdSocket + `
cgroupDriver: cgroupfs
cgroupRoot: %[4]q
failCgroupV1: false
failSwapOn: false
protectKernelDefaults: true
oomScoreAdj: 0
clusterDNS: [` + dnsIP + `]
clusterDomain: cluster.local
resolvConf: %[5]q
syncFrequency: 5s
imageGCHighThresholdPercent: 100
evictionHard: { memory.available: 50Mi, nodefs.available: "0%%", imagefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.inodesFree: "0%%" }
`

func (n *Node) startKubelet(ctx context.Context) error {
	cert, key, err := n.Certificate("kubelet", pkix.Name{
		CommonName: "system:node:" + Name, Organization: []string{"system:nodes"},
	}, Name, n.place.IP)
	if err != nil {
		return err
	}
	kubeconfig, err := n.CertificateKubeconfig("kubelet")
	if err != nil {
		return err
	}
	// The machine's resolver is out of reach from here.
	resolv := filepath.Join(n.place.Dir, "resolv.conf")
	if err := os.WriteFile(resolv, nil, 0o600); err != nil {
		return err
	}
	config := filepath.Join(n.place.Dir, "kubelet.yaml")
	text := fmt.Sprintf(kubeletConfig, n.CAFile(), cert, key, n.place.Cgroup, resolv)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	p, err := n.Run("kubelet", n.programs.Kubelet,
		"--config="+config, "--kubeconfig="+kubeconfig,
		"--hostname-override="+Name, "--node-ip="+n.place.IP,
		"--root-dir="+filepath.Join(n.place.Dir, "kubelet"),
	)
	if err != nil {
		return err
	}
	if err := n.Await(ctx, p, "the node", n.ready); err != nil {
		return err
	}
	n.say("the node is Ready")
	return nil
}

func (n *Node) ready(ctx context.Context) error {
	node := &corev1.Node{}
	if err := n.Client.Get(ctx, client.ObjectKey{Name: Name}, node); err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		if condition.Status == corev1.ConditionTrue {
			return nil
		}
		return fmt.Errorf("it is not Ready: %s", condition.Message)
	}
	return errors.New("the kubelet has told nothing of it yet")
}

// startScheduler needs no waiting for: pods that come earlier wait for it.
func (n *Node) startScheduler(context.Context) error {
	if _, _, err := n.Certificate("scheduler", pkix.Name{CommonName: "system:kube-scheduler"}); err != nil {
		return err
	}
	kubeconfig, err := n.CertificateKubeconfig("scheduler")
	if err != nil {
		return err
	}
	_, err = n.Run("kube-scheduler", n.programs.Scheduler,
		"--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--leader-elect=false", "--bind-address=127.0.0.1",
	)
	return err
}

// startProxy needs no waiting for either. What it may not touch is the whole
// machine's: the size of the connection table, and its own weight.
func (n *Node) startProxy(context.Context) error {
	if _, _, err := n.Certificate("proxy", pkix.Name{CommonName: "system:kube-proxy"}); err != nil {
		return err
	}
	kubeconfig, err := n.CertificateKubeconfig("proxy")
	if err != nil {
		return err
	}
	_, err = n.Run("kube-proxy", n.programs.Proxy,
		"--kubeconfig="+kubeconfig, "--hostname-override="+Name, "--bind-address="+n.place.IP,
		"--proxy-mode=iptables", "--cluster-cidr="+podNetwork,
		"--conntrack-max-per-core=0", "--conntrack-min=0",
		"--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
		"--iptables-min-sync-period=1s", "--oom-score-adj=0",
		"--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249",
	)
	return err
}
