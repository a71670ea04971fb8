package controlplane

import (
	"cmp"
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// disabledControllers would undo what whoever plays the nodes does. The
// endpoint controllers refuse pods with loopback addresses in a stream of
// events; node lifecycle marks nodes without a kubelet as dead; pod garbage
// collection deletes pods whose node isn't there. (This is not the garbage
// collector of owner references, which stays on.)
var disabledControllers = []string{
	"endpoints-controller",
	"endpointslice-controller",
	"endpointslice-mirroring-controller",
	"node-lifecycle-controller",
	"pod-garbage-collector-controller",
}

// controllers are those that run.
func (c *Cluster) controllers() string {
	if c.options.NodeIP != "" {
		return "*"
	}
	return "*,-" + strings.Join(disabledControllers, ",-")
}

func (c *Cluster) issueCertificates() error {
	return errors.Join(
		c.ca.issue("apiserver", pkix.Name{CommonName: "kube-apiserver"}, c.apiServerHosts()...),
		c.ca.issue("admin", pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}),
		c.ca.issue("controller-manager", pkix.Name{CommonName: "system:kube-controller-manager"}, "localhost"),
		c.ca.issue("front-proxy", pkix.Name{CommonName: "front-proxy-client"}),
		c.ca.newSigningKey("service-account"),
	)
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	clientPort, err := freePort()
	if err != nil {
		return err
	}
	peerPort, err := freePort()
	if err != nil {
		return err
	}
	c.etcdURL = "http://" + loopback + ":" + clientPort
	peerURL := "http://" + loopback + ":" + peerPort
	p, err := c.run("etcd", c.options.Programs.Etcd, nil,
		"--data-dir="+c.file("etcd"),
		"--listen-client-urls="+c.etcdURL, "--advertise-client-urls="+c.etcdURL,
		"--listen-peer-urls="+peerURL, "--initial-advertise-peer-urls="+peerURL,
		"--initial-cluster=default="+peerURL,
		"--unsafe-no-fsync", // the data is thrown away
		"--log-level=warn",
	)
	if err != nil {
		return err
	}
	if err := c.await(ctx, p, "etcd", c.answersOK(c.etcdURL+"/health")); err != nil {
		return err
	}
	c.say.Say("etcd is ready")
	return nil
}

func (c *Cluster) startAPIServer(ctx context.Context) error {
	port, args, err := c.apiServerReach()
	if err != nil {
		return err
	}
	c.apiURL = "https://" + loopback + ":" + port
	args = append(args,
		"--etcd-servers="+c.etcdURL,
		"--secure-port="+port,
		"--tls-cert-file="+c.ca.file("apiserver.crt"), "--tls-private-key-file="+c.ca.file("apiserver.key"),
		"--client-ca-file="+c.ca.file("ca.crt"),
		"--service-account-key-file="+c.ca.file("service-account.pub"),
		"--service-account-signing-key-file="+c.ca.file("service-account.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--authorization-mode=RBAC,Node",
		"--service-cluster-ip-range=10.0.0.0/24",
		// As on OpenShift: who sets an owner needs a right for it.
		"--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
		// The front proxy: how the API server introduces a user to KEDA's adapter.
		"--requestheader-client-ca-file="+c.ca.file("ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+c.ca.file("front-proxy.crt"),
		"--proxy-client-key-file="+c.ca.file("front-proxy.key"),
	)
	if c.options.AuditLog != "" {
		policy := cmp.Or(c.options.AuditPolicy, auditPolicy)
		if err := os.WriteFile(c.file("audit-policy.yaml"), []byte(policy), 0o600); err != nil {
			return err
		}
		args = append(args, "--audit-policy-file="+c.file("audit-policy.yaml"), "--audit-log-path="+c.options.AuditLog)
	}
	p, err := c.run("kube-apiserver", c.options.Programs.APIServer, nil, append(args, c.emulation()...)...)
	if err != nil {
		return err
	}
	if err := c.await(ctx, p, "kube-apiserver", c.answersOK(c.apiURL+"/readyz")); err != nil {
		return err
	}
	c.say.Say("kube-apiserver is ready")
	_, err = c.certKubeconfig("admin")
	return err
}

// apiServerReach says where the API server listens and what it tells others of
// that. With a node that is a fixed port: the namespace is the node's own.
func (c *Cluster) apiServerReach() (port string, args []string, err error) {
	if c.options.NodeIP == "" {
		port, err = freePort()
		return port, []string{
			"--bind-address=" + loopback, "--advertise-address=" + loopback,
			"--endpoint-reconciler-type=none", // it would try in vain to publish a loopback address
		}, err
	}
	return nodePort, []string{
		"--bind-address=0.0.0.0", "--advertise-address=" + c.options.NodeIP,
		// How it reads pods' logs from the kubelet.
		"--kubelet-client-certificate=" + c.ca.file("admin.crt"),
		"--kubelet-client-key=" + c.ca.file("admin.key"),
		"--kubelet-certificate-authority=" + c.ca.file("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP",
	}, nil
}

// emulation is the flag for Options.EmulatedVersion.
func (c *Cluster) emulation() []string {
	if c.options.EmulatedVersion == "" {
		return nil
	}
	return []string{"--emulated-version=" + c.options.EmulatedVersion}
}

// nodePort is the API server's usual one.
const nodePort = "6443"

// apiServerHosts are how the API server is called: from outside, by pods in
// words, by pods in the address that the Service kubernetes has.
func (c *Cluster) apiServerHosts() []string {
	hosts := []string{"localhost", "kubernetes.default.svc"}
	if c.options.NodeIP != "" {
		hosts = append(hosts, "kubernetes", "kubernetes.default", "kubernetes.default.svc.cluster.local", serviceIP, c.options.NodeIP)
	}
	return hosts
}

// serviceIP is the first of the Services' addresses, which kubernetes takes.
const serviceIP = "10.0.0.1"

// auditPolicy records who changed what, without the contents of Secrets and
// tokens. Events and leases are noise.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  resources:
  - group: ""
    resources: [events]
  - group: events.k8s.io
    resources: [events]
  - group: coordination.k8s.io
    resources: [leases]
- level: Metadata
  resources:
  - group: ""
    resources: [secrets, serviceaccounts/token]
  - group: authentication.k8s.io
- level: RequestResponse
  verbs: [create, update, patch, delete, deletecollection]
`

func (c *Cluster) startControllerManager(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	kubeconfig, err := c.certKubeconfig("controller-manager")
	if err != nil {
		return err
	}
	p, err := c.run("kube-controller-manager", c.options.Programs.ControllerManager, nil, append(c.emulation(),
		"--kubeconfig="+kubeconfig,
		"--authentication-kubeconfig="+kubeconfig,
		"--authorization-kubeconfig="+kubeconfig,
		"--bind-address="+loopback, "--secure-port="+port,
		"--tls-cert-file="+c.ca.file("controller-manager.crt"),
		"--tls-private-key-file="+c.ca.file("controller-manager.key"),
		"--service-account-private-key-file="+c.ca.file("service-account.key"),
		"--root-ca-file="+c.ca.file("ca.crt"),
		"--use-service-account-credentials=true",
		"--leader-elect=false",
		// It makes an account for each of its controllers before it starts them;
		// with its usual 20 requests a second that is half of the start.
		"--kube-api-qps=1000", "--kube-api-burst=1000",
		"--horizontal-pod-autoscaler-sync-period="+c.options.HPASync.String(),
		"--controllers="+c.controllers(),
	)...)
	if err != nil {
		return err
	}
	if err := c.await(ctx, p, "kube-controller-manager", c.answersOK("https://"+loopback+":"+port+"/healthz")); err != nil {
		return err
	}
	c.say.Say("kube-controller-manager is ready")
	// Without this account the API server refuses every pod in the namespace.
	return c.await(ctx, p, "the ServiceAccount default/default", func(ctx context.Context) error {
		err := c.admin.Get(ctx, client.ObjectKey{Namespace: "default", Name: "default"}, &corev1.ServiceAccount{})
		if err != nil {
			return fmt.Errorf("reading it: %w", err)
		}
		return nil
	})
}
