package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	eventsv1 "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/internal/checkpoint"
	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
	"github.com/kaito-project/keda-kaito-scaler/internal/lifecycle"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/ports"
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

// run is the program: health first, then the wait for the APIs, then the rest,
// until the context ends.
func run(ctx context.Context, o *options) error {
	log := zap.New(zap.Level(zapcore.Level(-o.verbosity)))
	ctrl.SetLogger(log)
	log.Info("starting", "version", version(), "workingNamespace", o.workingNamespace, "kedaNamespace", o.kedaNamespace, "scalerAddress", o.scalerAddress)

	config, err := restConfig(o.kubeconfig)
	if err != nil {
		return err
	}
	cluster, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("make a discovery client: %w", err)
	}
	roots, err := o.scrapeRoots()
	if err != nil {
		return err
	}
	if o.scrapeSkipVerify {
		log.Info("warning: certificates of pods read over https are not verified", "flag", "--scrape-insecure-skip-verify")
	}
	if o.allowHostNetwork {
		log.Info("warning: a trigger's port reaches whatever listens on the nodes of pods that use the host's network", "flag", "--allow-host-network")
	}
	p := newProgram(o, config, log)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return scaler.ServeHealth(ctx, o.listen(o.healthPort), p.readiness.Ready, &p.watchdog, log.WithName("health"))
	})
	group.Go(func() error {
		found := lifecycle.WaitForAPIs(ctx, cluster, log)
		if found.KAITO == "" {
			return nil
		}
		return p.run(ctx, cluster, found, roots)
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

// program is what lives for as long as the process does, whatever becomes of
// KAITO's API: the readings and the answers, and what is known of certificates.
type program struct {
	options *options
	config  *rest.Config
	log     logr.Logger
	source  *certs.Source
	// began is the process's start.
	began time.Time
	// watches tell whether the InferenceSets in the cache are the newest.
	watches *lifecycle.Watches
	// watcher, evaluation and managers are set by run.
	watcher    *kaito.Watcher
	evaluation *scaler.EvaluationLoop
	managers   *lifecycle.Managers
	// clientProblem is why KEDA's client certificate isn't where KEDA reads it.
	clientProblem problem
	readiness     scaler.Readiness
	watchdog      scaler.Watchdog
}

func newProgram(o *options, config *rest.Config, log logr.Logger) *program {
	return &program{
		options: o, config: config, log: log, source: certs.NewSource(), began: time.Now(),
		watches: lifecycle.NewWatches(len(o.watchNamespaces), log),
	}
}

// run wires the parts together and runs them until the context ends.
func (p *program) run(ctx context.Context, cluster discovery.DiscoveryInterface, found lifecycle.APIs, roots *x509.CertPool) error {
	o, log := p.options, p.log
	p.config = rest.CopyConfig(p.config)
	p.config.Wrap(p.watches.Wrap)
	p.managers = &lifecycle.Managers{Settings: lifecycle.Settings{
		Config: p.config, Log: log, WorkingNamespace: o.workingNamespace, WatchNamespaces: o.watchNamespaces, LeaderElect: o.leaderElect,
		CacheObjects: provision.CacheObjects(), AddTo: p.addTo,
	}}
	cache := &p.managers.Cache
	reader := scrape.New(scrape.Config{
		Interval: o.scrapeInterval, Timeout: o.scrapeTimeout, MaxBytes: o.scrapeMaxBytes, Grace: o.unreadableGrace,
		NoTolerance: found.NoTolerance, Roots: roots, SkipVerify: o.scrapeSkipVerify,
		Log: log.WithName("scrape"), Registerer: metrics.Registry,
	})
	started := func() bool { return p.watcher.Synced() && reader.Swept() }
	p.evaluation = scaler.NewEvaluationLoop(reader, started, log.WithName("evaluation"))
	measured := scaler.NewMetrics(metrics.Registry, reader)
	p.evaluation.Metrics = measured
	group, ctx := errgroup.WithContext(ctx)
	answering, stopAnswering := lifecycle.GraceContext(ctx, drain)
	defer stopAnswering()
	// An event is written in full, although the program was told to stop.
	recorder, stop, err := p.recorder(answering)
	if err != nil {
		return err
	}
	defer stop()
	notifier := &scaler.Notifier{
		Lookup: func(key types.NamespacedName) (runtime.Object, bool) {
			return cache.InferenceSet(ctx, key)
		},
		Recorder: recorder, Log: log.WithName("scaler"), Metrics: measured,
		Leads: p.managers.Leads, LedUntil: p.managers.LedUntil,
	}
	// What isn't watched may have been scaled, and no event could be written.
	observer := scaler.NewObserver(reader, p.evaluation, cache, notifier, measured, func() bool {
		return started() && p.watches.Blind().IsZero()
	})
	handshakes := &scaler.Handshakes{}
	observer.KEDA = scaler.KEDA{
		Namespace: o.kedaNamespace, Secret: certs.ClientSecret, Authentication: certs.TriggerAuthentication, Trouble: p.clientProblem.text, Handshakes: handshakes,
	}
	metrics.Registry.MustRegister(observer.UnpolledMetric())
	p.watcher = kaito.NewWatcher(reader, triggerObservers{p.evaluation, observer, measured})
	p.watcher.AllowHostNetwork = o.allowHostNetwork
	p.readiness.Set(func() bool { return started() && p.source.Ready() == nil })
	service := &scaler.Service{
		Fleets: reader, Started: started, Recommender: p.evaluation, Observer: observer,
		OnCall:        observer.OnCall,
		Handshakes:    handshakes,
		Metrics:       measured,
		ScaledObjects: cache,
		Refused:       p.watcher.Refused,
		Absent:        p.managers.WhyNotRead,
		StaleSince:    p.watches.Blind,
	}
	p.watchdog.Add("scrape loop", func() bool { return reader.OnTime(time.Now()) })
	p.watchdog.Add("evaluation loop", p.evaluation.OnTime)
	p.watchdog.Add("event loop", observer.OnTime)
	group.Go(func() error { return reader.Run(answering) })
	group.Go(func() error { return p.evaluation.Run(answering) })
	group.Go(func() error { return observer.Run(answering) })
	group.Go(func() error {
		return scaler.Serve(answering, o.listen(o.grpcPort), p.source.TLSConfig(), o.connectionAge, service, &p.watchdog)
	})
	group.Go(func() error { return p.serveMetrics(ctx) })
	if o.pprofAddress != "" {
		group.Go(func() error { return ports.ServeProfiles(ctx, o.pprofAddress, log) })
	}
	group.Go(func() error { return p.managers.Run(ctx, cluster, found.KAITO) })
	return group.Wait()
}

// problem is in words, "" for none.
type problem struct{ words atomic.Pointer[string] }

func (t *problem) set(words string) { t.words.Store(&words) }

func (t *problem) text() string {
	if words := t.words.Load(); words != nil {
		return *words
	}
	return ""
}

// triggerObservers are all who want to know by which triggers a fleet is scaled.
type triggerObservers []kaito.TriggerObserver

func (a triggerObservers) SetTriggers(key types.NamespacedName, triggers []policy.Trigger) {
	for _, each := range a {
		each.SetTriggers(key, triggers)
	}
}

// drain is how long KEDA is still answered after the program was told to stop.
// Health says "not serving" at once, and the Service's endpoints follow within a
// second or two; until then KEDA may come back here.
const drain = 3 * time.Second

// recorder tells of verdicts, which go on between two managers. What it was told
// is written until the context ends or it is stopped.
func (p *program) recorder(ctx context.Context) (_ events.EventRecorder, stop func(), _ error) {
	sink, err := eventsv1.NewForConfig(p.config)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client for events: %w", err)
	}
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: sink})
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("record events: %w", err)
	}
	return broadcaster.NewRecorder(clientgoscheme.Scheme, kube.Name), broadcaster.Shutdown, nil
}

func (p *program) serveMetrics(ctx context.Context) error {
	if p.options.metricsPort == 0 {
		return nil
	}
	log := p.log.WithName("metrics")
	var authorizer *ports.Authorizer
	if p.options.metricsSecure {
		// With a certificate that the port makes for itself: Prometheus shows a
		// token here, and the certificates for KEDA are none of its business.
		var err error
		if authorizer, err = ports.NewAuthorizer(p.config, log); err != nil {
			return err //nolint:wrapcheck // it says what for
		}
	}
	return ports.ServeMetrics(ctx, p.options.listen(p.options.metricsPort), metrics.Registry, authorizer, log) //nolint:wrapcheck // it names the address
}

// rollout is how long after a start the scaler of an earlier version may still
// answer KEDA. In a rolling upgrade it ends some 6 s after its successor has
// started, when that is ready; the rest is for a slow second replica.
const rollout = 30 * time.Second

// addTo gives a manager all that watches.
func (p *program) addTo(ctx context.Context, mgr manager.Manager, version string, leads func() bool) error {
	// Known anew to each manager: another replica may have led in between.
	credentials := provision.NewCredentials()
	_, err := certs.AddToManager(mgr, certs.Options{
		Rules:    certs.NewRules(p.options.names(), p.options.certDuration),
		External: p.options.certificates == certificatesExternal,
		Source:   p.source, OnClientMaterial: credentials.Set, OnClientProblem: p.clientProblem.set,
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
	learned := &checkpoint.Store{
		Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(), Namespace: p.options.workingNamespace,
	}
	err = mgr.Add(lifecycle.OnEveryReplica(func(ctx context.Context) error {
		return p.evaluation.RunCheckpoints(ctx, learned, leads)
	}))
	if err != nil {
		return fmt.Errorf("add what was learned to the manager: %w", err)
	}
	return nil
}
