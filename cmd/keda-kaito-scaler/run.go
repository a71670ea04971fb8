package main

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/provision"
	"github.com/kaito-project/keda-kaito-scaler/internal/scaler"
	"github.com/kaito-project/keda-kaito-scaler/internal/scrape"
)

// Writes of 1 000 ScaledObjects after an upgrade take 20 s at this rate; the
// API server's own priority and fairness bounds the rest.
const (
	clientQPS   = 50
	clientBurst = 100
)

// leaseName is the Lease that replicas elect the leader by.
const leaseName = "keda-kaito-scaler"

// run is the program: health first, then the wait for the APIs, then the rest,
// until the context ends.
func run(ctx context.Context, o *options) error {
	log := zap.New(zap.Level(zapcore.Level(-o.verbosity)))
	ctrl.SetLogger(log)
	log.Info("starting", "version", version(), "workingNamespace", o.workingNamespace, "scalerAddress", o.scalerAddress)

	config, err := restConfig(o.kubeconfig)
	if err != nil {
		return err
	}
	p := program{options: o, config: config, log: log}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return scaler.ServeHealth(ctx, o.listen(o.healthPort), p.ready, log.WithName("health"))
	})
	group.Go(func() error {
		cluster, err := discovery.NewDiscoveryClientForConfig(config)
		if err != nil {
			return fmt.Errorf("make a discovery client: %w", err)
		}
		version, err := awaitAPIs(ctx, cluster, log)
		if err != nil || version == "" {
			return err
		}
		return p.run(ctx, version)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err == nil {
			return tune(config), nil
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the API server, neither in a pod nor by kubeconfig: %w", err)
	}
	return tune(config), nil
}

func tune(config *rest.Config) *rest.Config {
	config.QPS, config.Burst = clientQPS, clientBurst
	// KEDA's admission has a remark on the pollingInterval at every write, which
	// nobody can do anything about.
	config.WarningHandler = rest.NoWarnings{}
	return config
}

// awaitAPIs waits for KEDA's and KAITO's APIs to be installed, says which are
// missing whenever that changes, and returns KAITO's version to use; "" if the context ends first.
func awaitAPIs(ctx context.Context, cluster discovery.DiscoveryInterface, log logr.Logger) (string, error) {
	const every = 2 * time.Second
	keda := kaito.API{
		GroupVersion: kedav1alpha1.SchemeGroupVersion.String(),
		Resources:    []string{"scaledobjects", "clustertriggerauthentications"},
	}
	said := ""
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		version, missing, err := kaito.Discover(cluster)
		if err == nil {
			var more []string
			more, err = keda.Missing(cluster)
			missing = append(missing, more...)
		}
		switch text := fmt.Sprint(missing, err); {
		case err == nil && len(missing) == 0:
			log.Info("APIs found", "kaito", kaito.Group+"/"+version, "keda", keda.GroupVersion)
			return version, nil
		case text == said:
		case err != nil:
			log.Info("cannot reach the API server, trying again", "error", err.Error())
			said = text
		default:
			log.Info("waiting for APIs that the cluster doesn't serve: install KEDA and KAITO", "missing", missing)
			said = text
		}
		select {
		case <-ctx.Done():
			return "", nil
		case <-ticker.C:
		}
	}
}

// program is what the parts are made from, and whether they are ready.
type program struct {
	options *options
	config  *rest.Config
	log     logr.Logger
	readiness
}

// run wires the parts together, reading KAITO's API in that version, and runs
// them until the context ends.
func (p *program) run(ctx context.Context, version string) error {
	o, log := p.options, p.log
	mgr, err := p.newManager(version)
	if err != nil {
		return err
	}
	credentials := provision.NewCredentials()
	source, err := certs.AddToManager(mgr, certs.Options{
		Rules: certs.NewRules(o.names(), o.certDuration), External: o.certificates == certificatesExternal,
		OnClientMaterial: credentials.Set,
	})
	if err != nil {
		return fmt.Errorf("set up certificates: %w", err)
	}
	reader := scrape.New(scrape.Config{
		Interval: o.scrapeInterval, Timeout: o.scrapeTimeout, MaxBytes: o.scrapeMaxBytes, Grace: o.unreadableGrace,
		Log: log.WithName("scrape"), Registerer: metrics.Registry,
	})
	watcher, err := kaito.Watch(ctx, mgr, version, reader)
	if err != nil {
		return fmt.Errorf("set up the watch of KAITO's objects: %w", err)
	}
	err = provision.AddToManager(ctx, mgr, provision.Settings{
		Version: version, Address: o.scalerAddress, Authentication: certs.TriggerAuthentication,
		Trust: source.Ready, Credentials: credentials,
	})
	if err != nil {
		return fmt.Errorf("set up provisioning: %w", err)
	}
	started := func() bool { return watcher.Primed() && reader.Swept() }
	service := &scaler.Service{Fleets: reader, Started: started, Audience: &scaler.Teller{
		Lookup:   lookup(ctx, mgr.GetClient(), version),
		Recorder: mgr.GetEventRecorder(provision.Manager),
		Log:      log.WithName("scaler"),
	}}
	for _, runnable := range []everywhere{
		reader.Run,
		func(ctx context.Context) error {
			return scaler.Serve(ctx, o.listen(o.grpcPort), source.TLSConfig(), o.connectionAge, service)
		},
	} {
		if err := mgr.Add(runnable); err != nil {
			return fmt.Errorf("add to the manager: %w", err)
		}
	}
	p.set(func() bool { return started() && source.Ready() == nil })
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

func (p *program) newManager(version string) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register Kubernetes' types: %w", err)
	}
	if err := kedav1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register KEDA's types: %w", err)
	}
	metricsAddress := "0"
	if p.options.metricsPort != 0 {
		metricsAddress = p.options.listen(p.options.metricsPort)
	}
	mgr, err := ctrl.NewManager(p.config, ctrl.Options{
		Scheme:                        scheme,
		Logger:                        p.log,
		LeaderElection:                p.options.leaderElect,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       p.options.workingNamespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: metricsAddress},
		HealthProbeBindAddress:        "0", // gRPC health probes instead
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject:         kaito.CacheObjects(version),
		},
		// KAITO's objects are unstructured, and read from the cache alone.
		Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}},
	})
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	return mgr, nil
}

// everywhere runs on every replica, leader or not.
type everywhere func(context.Context) error

func (e everywhere) Start(ctx context.Context) error { return e(ctx) }
func (everywhere) NeedLeaderElection() bool          { return false }

// lookup finds an InferenceSet in the cache, which answers from memory.
func lookup(ctx context.Context, c client.Reader, version string) func(types.NamespacedName) (runtime.Object, bool) {
	return func(key types.NamespacedName) (runtime.Object, bool) {
		u := kaito.Object(version, kaito.KindInferenceSet)
		err := c.Get(ctx, key, u)
		return u, err == nil
	}
}
