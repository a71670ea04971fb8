// Package kaito stands in for KAITO's controller. On a real API server it does
// to InferenceSets what KAITO does, with simulated vLLM pods in place of GPUs:
// Workspaces, pods, their status, slow starts, scale-down order, and the
// failures that a test asks for. Where there are no nodes and no kubelet, it
// plays these too.
package kaito

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// Options of the stand-in. In the zero value replicas are Ready at once.
type Options struct {
	// Startup is how long new replicas take for each stage.
	Startup Stages
	// Termination is how long a deleted pod lives on and answers. Real ones
	// have up to 30 s.
	Termination time.Duration
	// NodesPerReplica is the number of pods of a replica, 1 if 0. Only the
	// first has metrics.
	NodesPerReplica int
	// Model is the engines' model; phi-4-mini on A100 if its name is empty.
	Model vllm.Model
	// SlowPage is how the page of a loaded replica comes; prompt in the zero value.
	SlowPage vllm.SlowPage
	// EnginesPerPod is the data parallelism in each first pod, 1 if 0.
	EnginesPerPod int
	// Engines starts a real engine at a loopback address, instead of a simulated one:
	// one for each replica. A start takes as long as the engine's then, and a deleted
	// one is asked to end and has until Termination. nil for simulated ones.
	Engines func(ip string) (Engine, error)
	// Image is that of a simulated vLLM (test/cluster/node/vllm), where there is
	// a real node: each Workspace gets a StatefulSet of it, as with KAITO, and
	// the stand-in plays neither pods nor kubelet. The options above are of no
	// use then, but for NodesPerReplica; Replica.VLLM is nil. Without a node: "".
	Image string
	// Seed decides which of several equal replicas a scale-down takes.
	Seed uint64
	// Log is silent if zero.
	Log logr.Logger
}

// KAITO is a running stand-in.
type KAITO struct {
	client client.Client // reads live: what was just written must be seen
	log    logr.Logger

	cancel  context.CancelFunc
	stopped <-chan struct{}
	failed  error // of the manager; read after stopped
	changed chan event.TypedGenericEvent[types.NamespacedName]

	// mu guards what follows, the replicas' fields included. It is not held
	// while the API server or a simulated pod is talked to.
	mu      sync.Mutex
	options Options
	// own are the options of InferenceSets that have some of their own.
	own      map[types.NamespacedName]Options
	random   *rand.Rand
	replicas map[types.UID]*replica // by Workspace
	surging  map[types.NamespacedName]bool
	// dying holds since when each deleted pod has been seen to be.
	dying map[types.UID]time.Time
}

// Start runs the stand-in until Stop; ctx bounds the start only. KAITO's CRDs
// must be installed; the newest version that they serve is spoken.
func Start(ctx context.Context, cfg *rest.Config, o Options) (*KAITO, error) {
	cfg, err := private(cfg)
	if err != nil {
		return nil, err
	}
	version, err := servedVersion(cfg)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	addTypes(scheme, version)
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	live, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("starting the stand-in for KAITO: %w", err)
	}
	k := newKAITO(live, o)
	manager, err := k.manager(cfg, scheme)
	if err != nil {
		return nil, fmt.Errorf("starting the stand-in for KAITO: %w", err)
	}
	var run context.Context
	run, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	ctx, failed := context.WithCancel(ctx)
	stopped := make(chan struct{})
	k.stopped = stopped
	go func() {
		defer close(stopped)
		defer failed() // a manager that ends early won't sync any more
		k.failed = manager.Start(run)
	}()
	if !manager.GetCache().WaitForCacheSync(ctx) {
		return nil, errors.Join(errors.New("the stand-in for KAITO saw no objects"), k.Stop())
	}
	return k, nil
}

func newKAITO(c client.Client, o Options) *KAITO {
	if o.Model.Name == "" {
		o.Model = vllm.Phi4MiniA100()
	}
	o.NodesPerReplica = max(o.NodesPerReplica, 1)
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	return &KAITO{
		client:   c,
		log:      o.Log,
		options:  o,
		cancel:   func() {},
		own:      map[types.NamespacedName]Options{},
		random:   rand.New(rand.NewPCG(o.Seed, 0x6b6169746f)),
		changed:  make(chan event.TypedGenericEvent[types.NamespacedName], 64),
		replicas: map[types.UID]*replica{},
		surging:  map[types.NamespacedName]bool{},
		dying:    map[types.UID]time.Time{},
	}
}

// private copies a config for connections that can be ended with their owner:
// given certificate files, client-go watches them in a goroutine for ever.
func private(cfg *rest.Config) (*rest.Config, error) {
	cfg = rest.CopyConfig(cfg)
	if err := rest.LoadTLSFiles(cfg); err != nil {
		return nil, fmt.Errorf("reading the client's certificate: %w", err)
	}
	cfg.CAFile, cfg.CertFile, cfg.KeyFile = "", "", ""
	cfg.QPS = -1 // a stand-in for many controllers isn't to be the slow one
	return cfg, nil
}

// servedVersion finds KAITO's newest served version.
func servedVersion(cfg *rest.Config) (string, error) {
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return "", err
	}
	groups, err := d.ServerGroups()
	if err != nil {
		return "", fmt.Errorf("looking for KAITO's API: %w", err)
	}
	var served []string
	for _, g := range groups.Groups {
		if g.Name == Group {
			for _, v := range g.Versions {
				served = append(served, v.Version)
			}
		}
	}
	for _, v := range []string{"v1beta1", "v1alpha1"} {
		if slices.Contains(served, v) {
			return v, nil
		}
	}
	return "", fmt.Errorf("group %s is not served: install the CRDs first", Group)
}

func (k *KAITO) manager(cfg *rest.Config, scheme *runtime.Scheme) (ctrl.Manager, error) {
	m, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:  scheme,
		Logger:  k.log,
		Metrics: server.Options{BindAddress: "0"},
	})
	if err != nil {
		return nil, err
	}
	// Several stand-ins may run in one process, one after another.
	unchecked := true
	byLabel := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		name := o.GetLabels()[LabelCreatedBy]
		if name == "" {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
	})
	asked := handler.TypedFuncs[types.NamespacedName, reconcile.Request]{GenericFunc: func(_ context.Context,
		e event.TypedGenericEvent[types.NamespacedName], q workqueue.TypedRateLimitingInterface[reconcile.Request],
	) {
		q.Add(reconcile.Request{NamespacedName: e.Object})
	}}
	return m, ctrl.NewControllerManagedBy(m).
		Named("kaito").
		For(&InferenceSet{}).
		Watches(&Workspace{}, byLabel).
		Watches(&corev1.Pod{}, byLabel).
		WatchesRawSource(source.TypedChannel(k.changed, asked)).
		// Hundreds of InferenceSets at once would wait for a minute for one.
		WithOptions(controller.Options{SkipNameValidation: &unchecked, MaxConcurrentReconciles: 8}).
		Complete(k)
}

// Stop ends the stand-in and every simulated pod, and joins them. The objects
// stay in the API server.
func (k *KAITO) Stop() error {
	k.cancel()
	if k.stopped != nil {
		<-k.stopped
	}
	k.mu.Lock()
	left := k.replicas
	k.replicas = map[types.UID]*replica{}
	k.mu.Unlock()
	for _, r := range left {
		r.close()
	}
	if errors.Is(k.failed, context.Canceled) {
		return nil
	}
	return k.failed
}

// look makes the controller look at an InferenceSet again.
func (k *KAITO) look(set types.NamespacedName) {
	select {
	case k.changed <- event.TypedGenericEvent[types.NamespacedName]{Object: set}:
	case <-k.stopped:
	}
}

// Adapt gives an InferenceSet options of its own, made of those that it has:
// for replicas made from now on, and for deletions. They go with the
// InferenceSet.
func (k *KAITO) Adapt(namespace, name string, change func(*Options)) {
	set := types.NamespacedName{Namespace: namespace, Name: name}
	k.mu.Lock()
	defer k.mu.Unlock()
	o := k.optionsOf(set)
	change(&o)
	o.NodesPerReplica = max(o.NodesPerReplica, 1)
	k.own[set] = o
}

// optionsOf are an InferenceSet's. Caller holds mu.
func (k *KAITO) optionsOf(set types.NamespacedName) Options {
	if o, own := k.own[set]; own {
		return o
	}
	return k.options
}

// Surge begins or ends an upgrade: while on, the InferenceSet has one
// Workspace more than its spec says.
func (k *KAITO) Surge(namespace, name string, on bool) {
	set := types.NamespacedName{Namespace: namespace, Name: name}
	k.mu.Lock()
	k.surging[set] = on
	k.mu.Unlock()
	k.look(set)
}

// Replicas returns an InferenceSet's replicas, terminating ones included, in
// the order in which they were made.
func (k *KAITO) Replicas(namespace, name string) []Replica {
	set := types.NamespacedName{Namespace: namespace, Name: name}
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []Replica
	for _, r := range k.replicas {
		if r.set == set {
			out = append(out, r.view(k))
		}
	}
	slices.SortFunc(out, func(a, b Replica) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.Workspace, b.Workspace)
	})
	return out
}

// Serving returns the pods that a Service would send requests to: started, known
// as such to the API server, and not terminating. One that fails its probes is
// among them, for KAITO's Services publish addresses that aren't ready.
func (k *KAITO) Serving(namespace, name string) []*vllm.Pod {
	var pods []*vllm.Pod
	for _, r := range k.Replicas(namespace, name) {
		if r.Served {
			pods = append(pods, r.VLLM)
		}
	}
	return pods
}

// AwaitReady waits until an InferenceSet has n replicas, all of them Ready, known as
// such to the API server, and none on its way out: Serving has them then.
func (k *KAITO) AwaitReady(ctx context.Context, namespace, name string, n int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		replicas := k.Replicas(namespace, name)
		ready := 0
		for _, r := range replicas {
			if r.Ready && r.Served {
				ready++
			}
		}
		if ready == n && len(replicas) == n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d ready replicas of %s/%s, have %d of %d: %w",
				n, namespace, name, ready, len(replicas), ctx.Err())
		case <-tick.C:
		}
	}
}
