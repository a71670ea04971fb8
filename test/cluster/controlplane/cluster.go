package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cache"
)

// Options say which control plane to start. Only Programs must be given.
type Options struct {
	// Programs are what Build returned.
	Programs Programs
	// HPASync is how often the HPA controller looks; 0 is Kubernetes' 15 s.
	HPASync time.Duration
	// EmulatedVersion, such as "1.34", has the API server and the controller
	// manager do what that version of Kubernetes does; "" is their own.
	EmulatedVersion string
	// The parts of KEDA run unless they are switched off. Its CRDs and its RBAC
	// are always there.
	NoKEDAOperator, NoKEDAAdapter, NoKEDAWebhooks bool
	// NoControllers leaves etcd and the API server alone: no object follows from
	// another, and no namespace has its ServiceAccount.
	NoControllers bool
	// Manifests are YAML documents, CRDs above all, to apply before the
	// controller manager and KEDA start. The garbage collector learns of kinds
	// that come later only every 30 s, and until then doesn't follow their owners.
	Manifests [][]byte
	// AuditLog is a file to write to, one JSON line per request that changes
	// something ("" for none).
	AuditLog string
	// AuditPolicy is what goes into it, instead of who changed what.
	AuditPolicy string
	// NodeIP is the address of this machine at which a node's pods find the API
	// server, on port 6443. Without one it is to be found on loopback alone, and
	// the controllers that want nodes are off.
	NodeIP string
	// Keep keeps the folder with logs, data and kubeconfigs after Stop. Setting
	// the environment variable KEEP does the same.
	Keep bool
	// Out is told in plain lines what is going on; nil for silence.
	Out io.Writer
}

// Cluster is a running control plane.
type Cluster struct {
	options Options
	say     *cache.Progress
	dir     string
	// releaseDir gives dir up, removing it unless it is to be kept.
	releaseDir func(keep bool) error
	ca         *authority
	apiURL     string
	etcdURL    string
	config     *rest.Config // of a cluster administrator
	admin      client.Client

	watchers sync.WaitGroup
	failed   chan struct{} // closed when err is set

	stopOnce sync.Once
	stopErr  error

	// mu guards what follows.
	mu        sync.Mutex
	processes []*Process // in the order in which they were started
	err       error      // the first component that ended by itself
	stopped   bool
}

// attempts bounds how often Start tries when somebody else takes one of the
// ports that it has chosen before the component binds it.
const attempts = 3

// Start starts a control plane and waits until every part of it is ready:
// the API server answers, the external metrics API is available, KEDA's
// admission refuses a bad ScaledObject. ctx bounds the start only; Stop ends
// the cluster. When Start returns an error, no process is left behind; after a
// failure, not after a cancellation, the logs are kept.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.HPASync == 0 {
		o.HPASync = 15 * time.Second
	}
	for attempt := 1; ; attempt++ {
		c, err := boot(ctx, o)
		if err == nil {
			return c, nil
		}
		if c == nil {
			return nil, err
		}
		retry := attempt < attempts && ctx.Err() == nil && c.portTaken()
		// After a failure, and only then, somebody will want to read all logs.
		keep := c.wantsKept() || (!retry && ctx.Err() == nil)
		err = errors.Join(err, c.stop(keep))
		if !retry {
			return nil, err
		}
		c.say.Say("a port was taken by another program; starting again with others")
	}
}

// boot returns the cluster also with an error, to be stopped.
func boot(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{options: o, say: cache.NewProgress(o.Out), failed: make(chan struct{})}
	var err error
	if c.dir, c.releaseDir, err = newRunDir(); err != nil {
		return nil, err
	}
	if c.ca, err = newAuthority(c.dir); err != nil {
		return c, fmt.Errorf("making the certificates: %w", err)
	}
	if err := c.issueCertificates(); err != nil {
		return c, fmt.Errorf("making the certificates: %w", err)
	}
	if err := c.startEtcd(ctx); err != nil {
		return c, err
	}
	if err := c.startAPIServer(ctx); err != nil {
		return c, err
	}
	if err := c.makeClient(); err != nil {
		return c, fmt.Errorf("making a client: %w", err)
	}
	if err := c.applyKEDAManifests(ctx); err != nil {
		return c, err
	}
	for _, manifest := range o.Manifests {
		if err := c.Apply(ctx, manifest); err != nil {
			return c, err
		}
	}
	parts, ctx := errgroup.WithContext(ctx)
	if !o.NoControllers {
		parts.Go(func() error { return c.startControllerManager(ctx) })
	}
	parts.Go(func() error { return c.startKEDA(ctx) })
	return c, parts.Wait()
}

func (c *Cluster) makeClient() (err error) {
	if c.config, err = c.adminConfig(); err != nil {
		return err
	}
	// Its own silent logger: the program that starts us may have none, of which
	// controller-runtime would complain.
	quiet := logr.FromSlogHandler(slog.DiscardHandler)
	c.admin, err = client.New(c.config, client.Options{Log: quiet})
	return err
}

// Stop ends all processes, last started first, and removes the cluster's
// folder, unless Options.Keep or a component that ended by itself keeps it. It
// returns an error if a process had to be killed. Stopping twice is harmless.
func (c *Cluster) Stop() error { return c.stop(c.wantsKept() || c.Err() != nil) }

func (c *Cluster) wantsKept() bool { return c.options.Keep || os.Getenv("KEEP") != "" }

func (c *Cluster) stop(keep bool) error {
	c.stopOnce.Do(func() {
		c.mu.Lock()
		c.stopped = true // no component starts from here on
		processes := slices.Clone(c.processes)
		c.mu.Unlock()
		var errs []error
		for _, p := range slices.Backward(processes) {
			errs = append(errs, p.Stop(stopGrace))
		}
		c.watchers.Wait()
		errs = append(errs, c.releaseDir(keep))
		if keep {
			c.say.Say("logs and data of the cluster are kept in %s", c.dir)
		}
		c.stopErr = errors.Join(errs...)
	})
	return c.stopErr
}

// stopGrace is how long a process may take to end after SIGTERM. KEDA's adapter and the
// API server let requests under way end, for a minute at most (ShutdownTimeout of
// Kubernetes' generic API server); they take a second as a rule.
const stopGrace = 75 * time.Second

// Kubeconfig is the path of a cluster administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.file("admin.kubeconfig") }

// Config is a cluster administrator's client configuration, without client-side
// throttling; a copy, for the caller to change.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Dir is the cluster's own folder, which Stop removes: for files that should go
// with it.
func (c *Cluster) Dir() string { return c.dir }

// Failed is closed when a component has ended by itself. Err then says which.
func (c *Cluster) Failed() <-chan struct{} { return c.failed }

// Err names the first component that ended by itself, with the end of its log,
// or is nil.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Processes are the processes that were started, ended ones included.
func (c *Cluster) Processes() []*Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.processes)
}

// Tail returns the last n lines of a component's log: "etcd", "kube-apiserver",
// "kube-controller-manager", "keda-operator", "keda-adapter", "keda-webhooks",
// "scaler" or what ScalerOptions.Name says.
func (c *Cluster) Tail(component string, n int) string {
	processes := c.Processes()
	for _, p := range slices.Backward(processes) {
		if p.name == component {
			return p.Tail(n)
		}
	}
	return fmt.Sprintf("(%s was never started)", component)
}

// DumpLogs writes the last n lines of every component's log, for a test that
// has failed.
func (c *Cluster) DumpLogs(w io.Writer, n int) {
	for _, p := range c.Processes() {
		_, _ = fmt.Fprintf(w, "--- %s (the end of %s)\n%s\n", p.name, p.log, p.Tail(n))
	}
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

// run starts a component and watches over it. Its environment is small and our
// own: the user's KUBECONFIG, proxies or in-cluster variables must not reach it.
func (c *Cluster) run(name, program string, env []string, args ...string) (*Process, error) {
	all := []string{"HOME=" + c.dir, "TMPDIR=" + c.dir, "PATH=" + os.Getenv("PATH")}
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		all = append(all, "GOCOVERDIR="+dir)
	}
	return c.start(Command{
		Name: name, Path: program, Args: args, Env: append(all, env...), Dir: c.dir, Log: c.file(name + ".log"),
	})
}

func (c *Cluster) start(command Command) (*Process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil, fmt.Errorf("starting %s: the cluster was stopped", command.Name)
	}
	p, err := StartProcess(command)
	if err != nil {
		return nil, err
	}
	c.processes = append(c.processes, p)
	c.watchers.Go(func() { c.watch(p) })
	return p, nil
}

func (c *Cluster) watch(p *Process) {
	<-p.Done()
	if p.Err() == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && !c.stopped {
		c.err = p.Err()
		close(c.failed)
	}
}

// portTaken reports whether a component has ended for want of its port.
func (c *Cluster) portTaken() bool {
	return slices.ContainsFunc(c.Processes(), func(p *Process) bool {
		return p.Err() != nil && strings.Contains(p.Tail(tailOnFailure), "address already in use")
	})
}
