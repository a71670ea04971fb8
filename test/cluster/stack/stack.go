// Package stack runs everything together, as a user has it: a real Kubernetes
// and KEDA, the stand-in for KAITO, and keda-kaito-scaler under the rights that
// its chart gives it. The end-to-end tests and the demo share it.
package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

// Namespace is where KEDA is installed, and the scaler unless Options say otherwise.
const Namespace = "keda"

// Options say what to run. The zero value builds what is needed and runs it
// with Kubernetes' own timing.
type Options struct {
	// HPASync is how often the HPA controller looks; 0 is Kubernetes' 15 s.
	HPASync time.Duration
	// Versions of KAITO's API to install.
	Versions kaito.Versions
	// KAITO is how the stand-in behaves.
	KAITO kaito.Options
	// ScalerNamespace is where the scaler is installed; "" is KEDA's.
	ScalerNamespace string
	// ScalerArgs are further flags of the scaler.
	ScalerArgs []string
	// Race builds the scaler with the race detector, which needs a C compiler.
	Race bool
	// Oldest runs the oldest KEDA that is promised to work, and Kubernetes as
	// 1.34, whose HPA has no tolerance in its behaviour.
	Oldest bool
	// NoScaler leaves the scaler to StartScaler.
	NoScaler bool
	// NoKAITO installs neither KAITO's CRDs nor the stand-in.
	NoKAITO bool
	// NoKEDAProcesses installs KEDA's CRDs alone.
	NoKEDAProcesses bool
	// Bare is etcd and the API server with all CRDs, and nothing else but the
	// scaler: no controllers, no processes of KEDA's, no stand-in for KAITO.
	Bare bool
	// Binary is a scaler that was built already; "" builds one.
	Binary string
	// AuditLog and AuditPolicy: see controlplane.Options.
	AuditLog, AuditPolicy string
	// Out is told in plain lines what is going on; nil for silence.
	Out io.Writer
}

func (o Options) namespace() string { return cmp.Or(o.ScalerNamespace, Namespace) }

// Stack is everything, running.
type Stack struct {
	*controlplane.Cluster
	// KAITO is the stand-in.
	KAITO *kaito.KAITO
	// Client acts as the cluster's administrator. It reads live.
	Client client.Client
	// Scaler is the first scaler process, nil with NoScaler.
	Scaler *Scaler

	binary    string
	namespace string
	args      []string
}

// Scaler is a scaler process and where it listens.
type Scaler struct {
	*controlplane.Process
	// GRPC is where KEDA calls it, Metrics and Health where it tells of itself.
	GRPC, Metrics, Health string
}

// Start builds and starts everything and waits until all of it is ready. When
// it returns an error, nothing is left behind.
func Start(ctx context.Context, o Options) (*Stack, error) {
	if o.Out == nil {
		o.Out = io.Discard
	}
	// The stand-in for KAITO runs in this process on controller-runtime, which
	// complains if nobody has said where to log. The components have files.
	ctrllog.SetLogger(logr.Discard())
	build, emulated := controlplane.Build, ""
	switch {
	case o.Bare:
		build = controlplane.BuildBare
	case o.Oldest:
		build, emulated = controlplane.BuildOldest, "1.34"
	}
	programs, err := build(ctx, o.Out)
	if err != nil {
		return nil, fmt.Errorf("build the control plane: %w", err)
	}
	binary := o.Binary
	if binary == "" {
		if binary, err = controlplane.BuildScaler(ctx, o.Out, o.Race); err != nil {
			return nil, err
		}
	}
	manifests, err := manifests(o)
	if err != nil {
		return nil, err
	}
	noKEDA := o.NoKEDAProcesses || o.Bare
	cluster, err := controlplane.Start(ctx, controlplane.Options{
		Programs: programs, HPASync: o.HPASync, Manifests: manifests, Out: o.Out,
		AuditLog: o.AuditLog, AuditPolicy: o.AuditPolicy, EmulatedVersion: emulated,
		NoControllers:  o.Bare,
		NoKEDAOperator: noKEDA, NoKEDAAdapter: noKEDA, NoKEDAWebhooks: noKEDA,
	})
	if err != nil {
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	s := &Stack{Cluster: cluster, binary: binary, namespace: o.namespace(), args: o.ScalerArgs}
	if err := s.start(ctx, o); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, o Options) error {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return fmt.Errorf("register Kubernetes' types: %w", err)
	}
	if err := kedav1alpha1.AddToScheme(scheme); err != nil {
		return fmt.Errorf("register KEDA's types: %w", err)
	}
	var err error
	if s.Client, err = client.New(s.Config(), client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	if !o.NoKAITO && !o.Bare {
		if s.KAITO, err = kaito.Start(ctx, s.Config(), o.KAITO); err != nil {
			return err
		}
	}
	if o.NoScaler {
		return nil
	}
	if s.Scaler, err = s.StartScaler(ctx, "scaler"); err != nil {
		return err
	}
	return s.AwaitReady(ctx, s.Scaler)
}

// Stop ends everything. Stopping twice is harmless.
func (s *Stack) Stop() error {
	var err error
	if s.KAITO != nil {
		err = s.KAITO.Stop()
	}
	return errors.Join(err, s.Cluster.Stop())
}

// StartScaler starts a scaler process with the chart's ServiceAccount, on ports
// of its own. It isn't ready yet when this returns.
func (s *Stack) StartScaler(ctx context.Context, name string, args ...string) (*Scaler, error) {
	return s.StartScalerOf(ctx, "", name, args...)
}

// StartScalerOf does so with another build of the program; "" is the usual one.
func (s *Stack) StartScalerOf(ctx context.Context, binary, name string, args ...string) (*Scaler, error) {
	return s.startScaler(ctx, binary, name, append(slices.Clone(s.args), args...))
}

// StartOwnScaler does so with these flags alone, without Options.ScalerArgs: with
// the timing that users have.
func (s *Stack) StartOwnScaler(ctx context.Context, name string, args ...string) (*Scaler, error) {
	return s.startScaler(ctx, "", name, args)
}

func (s *Stack) startScaler(ctx context.Context, binary, name string, args []string) (*Scaler, error) {
	kubeconfig, err := s.ServiceAccountKubeconfig(ctx, s.namespace, Account)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(ctx, 3)
	if err != nil {
		return nil, err
	}
	at := func(i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[i])) }
	scaler := &Scaler{GRPC: at(0), Metrics: at(1), Health: at(2)}
	all := []string{
		"--working-namespace=" + s.namespace,
		"--bind-address=127.0.0.1",
		"--grpc-port=" + strconv.Itoa(ports[0]),
		"--metrics-port=" + strconv.Itoa(ports[1]),
		"--grpc-health-port=" + strconv.Itoa(ports[2]),
		"--scaler-address=" + scaler.GRPC,
		"--allow-host-network", // simulated pods have loopback addresses
	}
	all = append(all, args...)
	scaler.Process, err = s.Cluster.StartScaler(ctx, controlplane.ScalerOptions{
		Name: name, Binary: cmp.Or(binary, s.binary), Kubeconfig: kubeconfig, Args: all,
	})
	if err != nil {
		return nil, err
	}
	return scaler, nil
}

// AwaitReady waits until a scaler is ready, as a kubelet's probe would see it.
func (s *Stack) AwaitReady(ctx context.Context, scaler *Scaler) error {
	connection, err := grpc.NewClient(scaler.Health, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to the scaler's health port: %w", err)
	}
	defer func() { _ = connection.Close() }()
	probe := healthgrpc.NewHealthClient(connection)
	const patience = time.Minute
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		select {
		case <-scaler.Done():
			return false, fmt.Errorf("the scaler ended: %w", scaler.Err())
		default:
		}
		answer, err := probe.Check(ctx, &healthgrpc.HealthCheckRequest{})
		return err == nil && answer.GetStatus() == healthgrpc.HealthCheckResponse_SERVING, nil
	})
	if err != nil {
		return fmt.Errorf("the scaler did not become ready within %s: %w\n%s", patience, err, scaler.Tail(30))
	}
	return nil
}

// freePorts finds ports on loopback that nobody listens on.
func freePorts(ctx context.Context, n int) ([]int, error) {
	var config net.ListenConfig
	ports := make([]int, n)
	for i := range ports {
		listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		// Kept until all are chosen, so that they differ.
		defer func() { _ = listener.Close() }()
		_, text, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		if ports[i], err = strconv.Atoi(text); err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
	}
	return ports, nil
}
