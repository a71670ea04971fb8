package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/kaito-project/keda-kaito-scaler/internal/archive"
	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/leader"
	"github.com/kaito-project/keda-kaito-scaler/internal/provision"
)

// generations runs one manager after another, each with KAITO's API in the
// version that the cluster then has, until the context ends. Watches are of one
// version for their whole life; what doesn't watch goes on meanwhile. A manager
// that fails is followed by another one too: a leader whose Lease could not be
// renewed must not write any more, but it has to go on answering.
func (p *program) generations(ctx context.Context, cluster discovery.DiscoveryInterface, version string) error {
	said := ""
	for {
		next, err := p.generation(ctx, cluster, version)
		switch {
		case ctx.Err() != nil:
			if err != nil { // whatever it was at, it was told to stop
				p.log.V(1).Info("stopped", "with", err.Error())
			}
			return nil
		case err == nil && next == "":
			return nil
		case err == nil:
			p.log.Info("KAITO's API is to be used in another version", "from", version, "to", next)
			said = ""
		default:
			if text := err.Error(); text != said {
				said = text
				p.log.Error(err, "watches and writes have ended and begin again; readings and answers go on")
			}
			if next = p.awaken(ctx, cluster); next == "" {
				return nil
			}
		}
		version = next
	}
}

// awaken waits for the API server, a second at least, and returns KAITO's
// version; "" if the context ends first.
func (p *program) awaken(ctx context.Context, cluster discovery.DiscoveryInterface) string {
	select {
	case <-ctx.Done():
		return ""
	case <-time.After(time.Second):
	}
	return awaitAPIs(ctx, cluster, p.log).kaito
}

// handover is how long a manager's last writes may take: before its Lease is given
// back, and, if that was lost, before the next manager begins.
const handover = 10 * time.Second

// rollout is how long after a start the scaler of an earlier version may still
// answer KEDA. In a rolling upgrade it ends some 6 s after its successor has
// started, when that is ready; the rest is for a slow second replica.
const rollout = 30 * time.Second

// generation is one manager's life. It ends with the context, when another replica
// has taken over the Lease, or when KAITO's API is to be used in another version,
// which is then next.
func (p *program) generation(ctx context.Context, cluster discovery.DiscoveryInterface, version string) (next string, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	mgr, leads, err := p.newManager(version, end)
	if err != nil {
		return "", err
	}
	if err := p.populate(ctx, mgr, version, leads); err != nil {
		return "", err
	}
	var looking sync.WaitGroup
	looking.Go(func() {
		next = awaitChange(ctx, cluster, version, p.log)
		end(nil)
	})
	err = mgr.Start(ctx)
	end(nil)
	looking.Wait()
	if left := mgr.Wait(handover); left != nil {
		p.log.Info("warning: some of what a manager ran hasn't ended, going on without waiting for it", "after", handover, "running", left)
	}
	if err == nil && errors.Is(context.Cause(ctx), leader.ErrLost) {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("run: %w", err)
	}
	return next, nil
}

// populate gives a manager all that watches.
func (p *program) populate(ctx context.Context, mgr manager.Manager, version string, leads func() bool) error {
	// Known anew to each manager: another replica may have led in between.
	credentials := provision.NewCredentials()
	_, err := certs.AddToManager(mgr, certs.Options{
		Rules:    certs.NewRules(p.options.names(), p.options.certDuration),
		External: p.options.certificates == certificatesExternal,
		Source:   p.source, OnClientMaterial: credentials.Set, OnClientTrouble: p.clientTrouble.set,
	})
	if err != nil {
		return fmt.Errorf("set up certificates: %w", err)
	}
	if err := p.watcher.AddToManager(ctx, mgr, version); err != nil {
		return fmt.Errorf("set up the watch of KAITO's objects: %w", err)
	}
	err = provision.AddToManager(ctx, mgr, provision.Settings{
		Version: version, Address: p.options.scalerAddress, Authentication: certs.TriggerAuthentication,
		Trust: p.source.Ready, Credentials: credentials, Registerer: metrics.Registry,
		Handover: func() time.Duration { return time.Until(p.began.Add(rollout)) },
	})
	if err != nil {
		return fmt.Errorf("set up provisioning: %w", err)
	}
	learned := &archive.Archive{
		Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(), Namespace: p.options.workingNamespace,
	}
	err = mgr.Add(everywhere(func(ctx context.Context) error {
		return p.judges.Keep(ctx, learned, leads)
	}))
	if err != nil {
		return fmt.Errorf("add what was learned to the manager: %w", err)
	}
	err = mgr.Add(everywhere(func(ctx context.Context) error {
		p.cached.become(mgr.GetClient(), version)
		<-ctx.Done()
		return nil
	}))
	if err != nil {
		return fmt.Errorf("add to the manager: %w", err)
	}
	return nil
}

func closed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// newManager also returns whether this replica leads now. Lost is told when another
// one does.
func (p *program) newManager(version string, lost func(error)) (_ *leader.Manager, leads func() bool, _ error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, nil, fmt.Errorf("register Kubernetes' types: %w", err)
	}
	if err := kedav1alpha1.AddToScheme(scheme); err != nil {
		return nil, nil, fmt.Errorf("register KEDA's types: %w", err)
	}
	objects := kaito.CacheObjects(version)
	maps.Copy(objects, provision.CacheObjects())
	var namespaces map[string]cache.Config // nil: all
	for _, namespace := range p.options.watchNamespaces {
		if namespaces == nil {
			namespaces = map[string]cache.Config{}
		}
		namespaces[namespace] = cache.Config{}
	}
	grace := handover
	settings := ctrl.Options{
		Scheme:                        scheme,
		Logger:                        p.log,
		GracefulShutdownTimeout:       &grace,
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
	}
	var lease *leader.Lease
	if p.options.leaderElect {
		var err error
		name := types.NamespacedName{Namespace: p.options.workingNamespace, Name: leaseName}
		if lease, err = leader.NewLease(p.config, name, lost); err != nil {
			return nil, nil, fmt.Errorf("set up the election of a leader: %w", err)
		}
		settings.LeaderElection, settings.LeaderElectionID = true, leaseName
		settings.LeaderElectionNamespace, settings.LeaderElectionResourceLockInterface = p.options.workingNamespace, lease
	}
	mgr, err := ctrl.NewManager(p.config, settings)
	if err != nil {
		return nil, nil, fmt.Errorf("make the manager: %w", err)
	}
	if lease == nil {
		leads = func() bool { return closed(mgr.Elected()) }
		p.elected.Store(&election{leads: leads, ledUntil: func() time.Time { return time.Time{} }})
		return leader.Track(mgr), leads, nil
	}
	p.elected.Store(&election{leads: lease.Held, ledUntil: lease.LedUntil})
	lease.RecordEvents(mgr.GetEventRecorderFor(lease.Identity())) //nolint:staticcheck // electors record events of the old API
	return leader.Track(mgr), lease.Held, nil
}

// election is what the newest manager knows of who leads.
type election struct {
	leads    func() bool
	ledUntil func() time.Time
}

// leads tells whether this replica leads now.
func (p *program) leads() bool {
	e := p.elected.Load()
	return e != nil && e.leads()
}

// ledUntil is until when another replica is known to have led.
func (p *program) ledUntil() time.Time {
	e := p.elected.Load()
	if e == nil {
		return time.Time{}
	}
	return e.ledUntil()
}

// everywhere runs on every replica, leader or not. The manager's caches have
// their first content by then.
type everywhere func(context.Context) error

func (e everywhere) Start(ctx context.Context) error { return e(ctx) }
func (everywhere) NeedLeaderElection() bool          { return false }

// cached answers from the newest cache that is filled: between two managers that
// is still the former's.
type cached struct {
	newest atomic.Pointer[view]
}

// view is a cache that holds KAITO's objects in one version of their API.
type view struct {
	client.Reader
	version string
}

func (c *cached) become(reader client.Reader, version string) {
	c.newest.Store(&view{reader, version})
}

// inferenceSet finds one in memory.
func (c *cached) inferenceSet(ctx context.Context, key types.NamespacedName) (runtime.Object, bool) {
	v := c.newest.Load()
	if v == nil {
		return nil, false
	}
	u := kaito.Object(v.version, kaito.KindInferenceSet)
	err := v.Get(ctx, key, u)
	return u, err == nil
}

// ScaledObject finds one in memory.
func (c *cached) ScaledObject(ctx context.Context, key types.NamespacedName) (*kedav1alpha1.ScaledObject, bool) {
	v := c.newest.Load()
	if v == nil {
		return nil, false
	}
	object := &kedav1alpha1.ScaledObject{}
	err := v.Get(ctx, key, object)
	return object, err == nil
}

// HPA finds one in memory.
func (c *cached) HPA(ctx context.Context, key types.NamespacedName) (*autoscalingv2.HorizontalPodAutoscaler, bool) {
	v := c.newest.Load()
	if v == nil {
		return nil, false
	}
	object := &autoscalingv2.HorizontalPodAutoscaler{}
	err := v.Get(ctx, key, object)
	return object, err == nil
}
