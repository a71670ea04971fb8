package certs

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
)

// Options say how certificates are kept.
type Options struct {
	Rules Rules
	// External leaves the three Secrets to somebody else, such as cert-manager:
	// the server's is loaded, and none is written but a copy of the client's in
	// KEDA's namespace, if that is another one.
	External bool
	// Source is what to load the server's certificate into; nil: a new one. It
	// may have served beside an earlier manager.
	Source *Source
	// Recorder tells of changes; nil: the manager's.
	Recorder events.EventRecorder
	// OnClientMaterial is told a digest of what KEDA is to present and to trust,
	// when it becomes known and when it changes; may be nil. It runs on the
	// leader only, and must not block.
	OnClientMaterial func(digest string)
	// OnClientProblem is told in words why the client's Secret isn't where KEDA
	// reads it, and "" once it is; may be nil. Like OnClientMaterial.
	OnClientProblem func(why string)
}

// AddToManager adds the loading of the server's certificate, which runs on every
// replica, and the keeping of the Secrets and of the
// ClusterTriggerAuthentication, which runs on the leader.
//
// It needs nothing of the manager's cache: every object is watched by name in a
// small cache of its own, because a watch is held to a name by RBAC only if it
// asks for this one name. The rights it needs are
//
//	secrets, in the namespace, resourceNames the CA's and the server's, and in
//	KEDA's namespace, resourceNames the client's:
//	  get list watch create patch update
//	clustertriggerauthentications.keda.sh, resourceNames the one:
//	  get list watch create patch
//	events.events.k8s.io, in both namespaces: create patch
//
// The creations are server-side applies, to which resourceNames do apply.
func AddToManager(mgr manager.Manager, o Options) (*Source, error) {
	if err := o.Rules.Validate(); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if err := registerMetrics(metrics.Registry); err != nil {
		return nil, err
	}
	deleteLeaderSeries()
	if o.Recorder == nil {
		o.Recorder = mgr.GetEventRecorder(kube.Name)
	}
	src := o.Source
	if src == nil {
		src = NewSource()
	}
	if err := addLoader(mgr, o, src); err != nil {
		return nil, fmt.Errorf("loading of certificates: %w", err)
	}
	add := addKeeper
	if o.External {
		add = addFollower
	}
	if err := add(mgr, o); err != nil {
		return nil, fmt.Errorf("keeping of certificates: %w", err)
	}
	if err := addTriggerAuth(mgr); err != nil {
		return nil, fmt.Errorf("keeping of the ClusterTriggerAuthentication: %w", err)
	}
	return src, nil
}

func addLoader(mgr manager.Manager, o Options, src *Source) error {
	key := o.Rules.Names.secret(ServerSecret)
	objects, err := watchSecret(mgr, key)
	if err != nil {
		return err
	}
	l := &loader{reader: objects, key: key, source: src, now: time.Now}
	return addController(mgr, "certificate-loader", controller.Options{Reconciler: l, NeedLeaderElection: new(false)},
		source.Kind[client.Object](objects, &corev1.Secret{}, enqueueSingle))
}

func addKeeper(mgr manager.Manager, o Options) error {
	var sources []source.Source
	for _, name := range []string{CASecret, ServerSecret, ClientSecret} {
		key := o.Rules.Names.secret(name)
		objects, err := watchSecret(mgr, key)
		if err != nil {
			return err
		}
		sources = append(sources, secretSource(objects, key.Namespace != o.Rules.Names.Namespace))
	}
	k := &Keeper{
		Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Rules: o.Rules,
		Recorder: o.Recorder, Now: time.Now, OnClientMaterial: o.OnClientMaterial, OnClientProblem: o.OnClientProblem,
	}
	return addController(mgr, "certificates", controller.Options{Reconciler: k}, sources...)
}

// addFollower tells of the client's Secret where somebody else writes it.
func addFollower(mgr manager.Manager, o Options) error {
	key := client.ObjectKey{Namespace: o.Rules.Names.Namespace, Name: ClientSecret}
	objects, err := watchSecret(mgr, key)
	if err != nil {
		return err
	}
	sources := []source.Source{secretSource(objects, false)}
	f := &follower{
		reader: objects, key: key, reportDigest: o.OnClientMaterial,
		copyTo: o.Rules.Names.secret(ClientSecret), live: mgr.GetAPIReader(), writer: writer{mgr.GetClient()}, onProblem: o.OnClientProblem,
	}
	if f.copyTo != key {
		copies, err := watchSecret(mgr, f.copyTo)
		if err != nil {
			return err
		}
		sources = append(sources, secretSource(copies, true))
	}
	return addController(mgr, "client-certificate", controller.Options{Reconciler: f}, sources...)
}

// secretSource tells of changes. What is in KEDA's namespace is not waited for: the
// namespace may be gone, or closed to us, and certificates are kept all the same.
func secretSource(objects cache.Cache, elsewhere bool) source.Source {
	if !elsewhere {
		return source.Kind[client.Object](objects, &corev1.Secret{}, enqueueSingle)
	}
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		informer, err := objects.GetInformer(ctx, &corev1.Secret{}, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching a Secret in KEDA's namespace: %w", err)
		}
		return (&source.Informer{Informer: informer, Handler: enqueueSingle}).Start(ctx, queue)
	})
}

func addTriggerAuth(mgr manager.Manager) error {
	if err := kedav1alpha1.AddToScheme(mgr.GetScheme()); err != nil {
		return err
	}
	objects, err := addCache(mgr, &kedav1alpha1.ClusterTriggerAuthentication{},
		cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", TriggerAuthentication)})
	if err != nil {
		return err
	}
	k := &TriggerAuthKeeper{Client: mgr.GetClient(), Reader: mgr.GetAPIReader()}
	return addController(mgr, "trigger-authentication", controller.Options{
		Reconciler: k,
		// KEDA may be installed after us: wait for its definitions for as long
		// as it takes, rather than end the process.
		CacheSyncTimeout: 10 * 365 * 24 * time.Hour,
	}, source.Kind[client.Object](objects, &kedav1alpha1.ClusterTriggerAuthentication{}, enqueueSingle))
}

// singleRequest is the only request: whatever happened, everything is looked at, and
// events that come together are dealt with together.
var singleRequest = reconcile.Request{NamespacedName: client.ObjectKey{Name: "all"}}

var enqueueSingle = handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
	return []reconcile.Request{singleRequest}
})

func addController(mgr manager.Manager, name string, o controller.Options, sources ...source.Source) error {
	// The request says nothing, so it has no place in the log.
	logger := mgr.GetLogger().WithName(name)
	o.LogConstructor = func(*reconcile.Request) logr.Logger { return logger }
	c, err := controller.New(name, mgr, o)
	if err != nil {
		return err
	}
	// Where there is no object there is no event, and that is the first case.
	first := source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queue.Add(singleRequest)
		return nil
	})
	for _, s := range append(sources, first) {
		if err := c.Watch(s); err != nil {
			return err
		}
	}
	return nil
}

func watchSecret(mgr manager.Manager, key client.ObjectKey) (cache.Cache, error) {
	return addCache(mgr, &corev1.Secret{}, cache.ByObject{Namespaces: map[string]cache.Config{
		key.Namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", key.Name)},
	}})
}

// addCache makes a cache for one object. It watches once somebody asks, so what
// only the leader asks for (the CA's key) is only on the leader.
func addCache(mgr manager.Manager, object client.Object, only cache.ByObject) (cache.Cache, error) {
	c, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(),
		Scheme:     mgr.GetScheme(),
		Mapper:     mgr.GetRESTMapper(),
		ByObject:   map[client.Object]cache.ByObject{object: only},
		// Nothing but this object may ever be watched through it.
		ReaderFailOnMissingInformer: true,
	})
	if err != nil {
		return nil, err
	}
	return c, mgr.Add(onEveryReplica{c})
}

// onEveryReplica starts a cache on replicas that don't lead, too.
type onEveryReplica struct{ cache.Cache }

func (onEveryReplica) NeedLeaderElection() bool { return false }
