// Package lifecycle runs one manager after another: each watches KAITO's API in the
// version that the cluster has then. It waits for the APIs, keeps the watches alive,
// and answers from the newest cache, whatever becomes of a manager.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
	"github.com/kaito-project/keda-kaito-scaler/internal/leader"
)

// Settings are those of all managers.
type Settings struct {
	Config *rest.Config
	Log    logr.Logger
	// WorkingNamespace has the Lease that replicas elect the leader by.
	WorkingNamespace string
	// WatchNamespaces are those whose objects are watched; none for all.
	WatchNamespaces []string
	// LeaderElect is false for a single replica, which leads.
	LeaderElect bool
	// CacheObjects are cached beside those of KAITO.
	CacheObjects map[client.Object]cache.ByObject
	// AddTo gives a manager its controllers. Leads tells whether this replica leads.
	AddTo func(ctx context.Context, mgr manager.Manager, kaitoVersion string, leads func() bool) error
}

// Managers run one after another.
type Managers struct {
	Settings
	// Cache is the newest manager's that is filled.
	Cache Cache
	// election is set by each manager.
	election atomic.Pointer[election]
}

// shutdownTimeout is how long a manager's last writes may take: before its Lease is
// given back, and, if that was lost, before the next manager begins.
const shutdownTimeout = 10 * time.Second

// Run runs one manager after another, the first for the given version of KAITO's
// API, until the context ends. A watch is of one version for its whole life. A
// manager that fails is followed by another one too: a leader whose Lease could not
// be renewed must not write any more, but it goes on answering.
func (m *Managers) Run(ctx context.Context, cluster discovery.DiscoveryInterface, version string) error {
	lastLogged := ""
	for {
		next, err := m.runOne(ctx, cluster, version)
		switch {
		case ctx.Err() != nil:
			if err != nil { // whatever it was at, it was told to stop
				m.Log.V(1).Info("stopped", "with", err.Error())
			}
			return nil
		case err == nil && next == "":
			return nil
		case err == nil:
			m.Log.Info("KAITO's API is to be used in another version", "from", version, "to", next)
			lastLogged = ""
		default:
			if text := err.Error(); text != lastLogged {
				lastLogged = text
				m.Log.Error(err, "watches and writes have ended and begin again; readings and answers go on")
			}
			if next = m.waitForAPIServer(ctx, cluster); next == "" {
				return nil
			}
		}
		version = next
	}
}

// waitForAPIServer waits for it, a second at least, and returns KAITO's version; ""
// if the context ends first.
func (m *Managers) waitForAPIServer(ctx context.Context, cluster discovery.DiscoveryInterface) string {
	select {
	case <-ctx.Done():
		return ""
	case <-time.After(time.Second):
	}
	return WaitForAPIs(ctx, cluster, m.Log).KAITO
}

// runOne runs one manager. It ends with the context, when another replica has taken
// over the Lease, or when KAITO's API is to be used in another version, which is
// then next.
func (m *Managers) runOne(ctx context.Context, cluster discovery.DiscoveryInterface, version string) (next string, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	mgr, err := m.newManager(version, end)
	if err != nil {
		return "", err
	}
	leads := m.election.Load().leads
	if err := m.AddTo(ctx, mgr, version, leads); err != nil {
		return "", err
	}
	err = mgr.Add(OnEveryReplica(func(ctx context.Context) error {
		m.Cache.set(mgr.GetClient(), version)
		<-ctx.Done()
		return nil
	}))
	if err != nil {
		return "", fmt.Errorf("add to the manager: %w", err)
	}
	var discovering sync.WaitGroup
	discovering.Go(func() {
		next = waitForOtherVersion(ctx, cluster, version, m.Log)
		end(nil)
	})
	err = mgr.Start(ctx)
	end(nil)
	discovering.Wait()
	if left := mgr.Wait(shutdownTimeout); left != nil {
		m.Log.Info("warning: some of what a manager ran hasn't ended, going on without waiting for it", "after", shutdownTimeout, "running", left)
	}
	if err == nil && errors.Is(context.Cause(ctx), leader.ErrLost) {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("run: %w", err)
	}
	return next, nil
}

// newManager makes a manager and sets the election. Lost is told when another
// replica leads.
func (m *Managers) newManager(version string, lost func(error)) (*leader.Manager, error) {
	options, err := m.managerOptions(version)
	if err != nil {
		return nil, err
	}
	var lease *leader.Lease
	if m.LeaderElect {
		name := types.NamespacedName{Namespace: m.WorkingNamespace, Name: kube.Name}
		if lease, err = leader.NewLease(m.Config, name, lost); err != nil {
			return nil, fmt.Errorf("set up the election of a leader: %w", err)
		}
		options.LeaderElection, options.LeaderElectionID = true, kube.Name
		options.LeaderElectionNamespace, options.LeaderElectionResourceLockInterface = m.WorkingNamespace, lease
	}
	mgr, err := ctrl.NewManager(m.Config, options)
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	if lease == nil {
		m.election.Store(&election{
			leads:    func() bool { return closed(mgr.Elected()) },
			ledUntil: func() time.Time { return time.Time{} },
		})
		return leader.Track(mgr), nil
	}
	m.election.Store(&election{leads: lease.Held, ledUntil: lease.LedUntil})
	lease.RecordEvents(mgr.GetEventRecorderFor(lease.Identity())) //nolint:staticcheck // electors record events of the old API
	return leader.Track(mgr), nil
}

func (m *Managers) managerOptions(version string) (ctrl.Options, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return ctrl.Options{}, fmt.Errorf("register Kubernetes' types: %w", err)
	}
	if err := kedav1alpha1.AddToScheme(scheme); err != nil {
		return ctrl.Options{}, fmt.Errorf("register KEDA's types: %w", err)
	}
	objects := kaito.CacheObjects(version)
	maps.Copy(objects, m.CacheObjects)
	var namespaces map[string]cache.Config // nil: all
	for _, namespace := range m.WatchNamespaces {
		if namespaces == nil {
			namespaces = map[string]cache.Config{}
		}
		namespaces[namespace] = cache.Config{}
	}
	timeout := shutdownTimeout
	return ctrl.Options{
		Scheme:                        scheme,
		Logger:                        m.Log,
		GracefulShutdownTimeout:       &timeout,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: "0"}, // served beside all managers
		HealthProbeBindAddress:        "0",                                     // gRPC health probes instead
		Cache: cache.Options{
			DefaultNamespaces: namespaces,
			DefaultTransform:  cache.TransformStripManagedFields(),
			ByObject:          objects,
		},
		// KAITO's objects are unstructured, and read from the cache alone.
		Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		// A controller has its name from manager to manager: its metrics go on.
		Controller: config.Controller{SkipNameValidation: new(true)},
	}, nil
}

// election is what the newest manager knows of who leads.
type election struct {
	leads    func() bool
	ledUntil func() time.Time
}

// Leads tells whether this replica leads now.
func (m *Managers) Leads() bool {
	e := m.election.Load()
	return e != nil && e.leads()
}

// LedUntil is until when another replica is known to have led.
func (m *Managers) LedUntil() time.Time {
	e := m.election.Load()
	if e == nil {
		return time.Time{}
	}
	return e.ledUntil()
}

func closed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// OnEveryReplica runs on every replica, leader or not. The manager's caches have
// their first content by then.
type OnEveryReplica func(context.Context) error

// Start implements manager.Runnable.
func (f OnEveryReplica) Start(ctx context.Context) error { return f(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (OnEveryReplica) NeedLeaderElection() bool { return false }

// WhyNotRead says in words why nothing is read of an InferenceSet that a trigger
// names.
func (m *Managers) WhyNotRead(ctx context.Context, key types.NamespacedName) string {
	if watched := m.WatchNamespaces; len(watched) > 0 && !slices.Contains(watched, key.Namespace) {
		return fmt.Sprintf("nothing is read in namespace %s: --watch-namespaces names %s", key.Namespace, strings.Join(watched, ", "))
	}
	if _, found := m.Cache.InferenceSet(ctx, key); !found {
		return fmt.Sprintf("InferenceSet %s does not exist, or was made just now", key)
	}
	return fmt.Sprintf("InferenceSet %s exists, but no ScaledObject of its namespace is known to have this trigger, so that its pods are not read for it: "+
		"if the ScaledObject was made or changed just now, they are in a moment", key)
}
