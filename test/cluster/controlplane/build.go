package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cache"
)

// Programs are the paths of a control plane's programs.
type Programs struct {
	Etcd              string
	APIServer         string
	ControllerManager string
	KEDAOperator      string
	KEDAAdapter       string
	KEDAWebhooks      string
	// KEDAConfig is the folder with KEDA's own manifests (its config/).
	KEDAConfig string
}

// pinned is a module under test/cluster that exists to pin the version of
// programs, so that they can be built by name.
type pinned struct {
	folder string // under test/cluster; also names the cache entry
	title  string // for people
	module string // the module whose version the programs carry
	// commands maps the file name of a program to its package.
	commands map[string]string
	// takes is how long a first build takes, for people.
	takes string
	// stamp gives the linker's -X values for a version and its date (RFC 3339).
	stamp func(version, date string) []string
	// keeps is a folder of the module's that is kept beside the programs, under
	// its last name; "" for none.
	keeps string
}

var (
	etcdModule = pinned{
		folder: "etcd", title: "etcd", module: "go.etcd.io/etcd/server/v3",
		commands: map[string]string{"etcd": "go.etcd.io/etcd/server/v3"},
		takes:    "about half a minute",
		stamp:    func(_, _ string) []string { return nil }, // its version is a constant in its source
	}
	kubernetesModule = pinned{
		folder: "kubernetes", title: "Kubernetes", module: "k8s.io/kubernetes",
		commands: map[string]string{
			"kube-apiserver":          "k8s.io/kubernetes/cmd/kube-apiserver",
			"kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
		},
		takes: "4 to 6 minutes", stamp: kubernetesStamp,
	}
	kedaModule = kedaPinnedIn("keda")
	// oldestKEDAModule is the oldest that README.md promises.
	oldestKEDAModule = kedaPinnedIn("keda218")
	// cert-manager's own program can't be had by name: its module is called
	// otherwise than its folder. So the folder has a program of ours, made of
	// cert-manager's controllers.
	certManagerModule = pinned{
		folder: "certmanager", title: "cert-manager", module: "github.com/cert-manager/cert-manager",
		commands: map[string]string{"cert-manager": clusterModule + "/certmanager"},
		takes:    "2 to 4 minutes", keeps: "deploy/crds",
		stamp: func(_, _ string) []string { return nil },
	}
)

// kedaPinnedIn is KEDA in the version that a folder pins.
func kedaPinnedIn(folder string) pinned {
	return pinned{
		folder: folder, title: "KEDA", module: "github.com/kedacore/keda/v2",
		commands: map[string]string{
			"operator": "github.com/kedacore/keda/v2/cmd/operator",
			"adapter":  "github.com/kedacore/keda/v2/cmd/adapter",
			"webhooks": "github.com/kedacore/keda/v2/cmd/webhooks",
		},
		takes: "5 to 9 minutes", keeps: "config",
		stamp: func(version, _ string) []string {
			return []string{"github.com/kedacore/keda/v2/version.Version=" + strings.TrimPrefix(version, "v")}
		},
	}
}

// kubernetesStamp does what hack/lib/version.sh does. Without it the API server
// says v0.0.0-master, and whoever looks at the version takes a wrong turn.
func kubernetesStamp(version, date string) []string {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	var flags []string
	for _, pkg := range []string{"k8s.io/client-go/pkg/version", "k8s.io/component-base/version"} {
		flags = append(flags,
			pkg+".gitVersion="+version, pkg+".gitMajor="+major, pkg+".gitMinor="+minor,
			pkg+".gitTreeState=clean", pkg+".gitCommit=", pkg+".buildDate="+date)
	}
	return flags
}

// Build returns the control plane's programs. What was not built before on this
// machine is built from Go modules into the user's cache folder, which takes up
// to a quarter of an hour on two cores; out (nil for silence) is told what is
// being built, how long that takes and how far it is. A later call with the
// same pins returns at once. Two processes that call it at the same time build
// once. Cancelling ctx ends a build and leaves nothing half done.
//
// If the folder KUBEBUILDER_ASSETS holds kube-apiserver and etcd, as for
// envtest, these two are taken from there; a kube-controller-manager in it is
// taken too.
func Build(ctx context.Context, out io.Writer) (Programs, error) {
	return buildAll(ctx, out, etcdModule, kubernetesModule, kedaModule)
}

// BuildOldest does the same with the oldest KEDA that is promised to work, which
// only the test of that wants. Options.EmulatedVersion makes an older Kubernetes.
func BuildOldest(ctx context.Context, out io.Writer) (Programs, error) {
	return buildAll(ctx, out, etcdModule, kubernetesModule, oldestKEDAModule)
}

// BuildBare does the same for a control plane that runs nothing of KEDA's: its
// manifests are taken from its module, and what takes longest is not built.
func BuildBare(ctx context.Context, out io.Writer) (Programs, error) {
	programs, err := buildAll(ctx, out, etcdModule, kubernetesModule)
	if err != nil {
		return Programs{}, err
	}
	cluster, err := clusterDir()
	if err != nil {
		return Programs{}, err
	}
	_, dir, _, err := kedaModule.facts(ctx, filepath.Join(cluster, kedaModule.folder))
	if err != nil {
		return Programs{}, fmt.Errorf("finding KEDA's manifests: %w", err)
	}
	programs.KEDAConfig = filepath.Join(dir, filepath.FromSlash(kedaModule.keeps))
	return programs, nil
}

func buildAll(ctx context.Context, out io.Writer, modules ...pinned) (Programs, error) {
	cluster, err := clusterDir()
	if err != nil {
		return Programs{}, err
	}
	folder, err := cache.Dir()
	if err != nil {
		return Programs{}, err
	}
	p := cache.NewProgress(out)
	assets := newAssets(os.Getenv("KUBEBUILDER_ASSETS"))
	programs := Programs{}
	for _, m := range modules {
		m.commands = assets.without(m.commands)
		dir, err := m.entry(ctx, p, filepath.Join(cluster, m.folder), folder)
		if err != nil {
			return Programs{}, fmt.Errorf("building %s: %w", m.title, err)
		}
		for name := range m.commands {
			programs.set(name, filepath.Join(dir, name))
		}
		if m.keeps != "" {
			programs.KEDAConfig = filepath.Join(dir, filepath.Base(m.keeps))
		}
	}
	for name, path := range assets {
		programs.set(name, path)
	}
	return programs, nil
}

// BuildCertManager does the same for cert-manager, which only tests of the
// chart's certManager.enabled want. crds is the folder with its CRDs.
func BuildCertManager(ctx context.Context, out io.Writer) (program, crds string, err error) {
	cluster, err := clusterDir()
	if err != nil {
		return "", "", err
	}
	folder, err := cache.Dir()
	if err != nil {
		return "", "", err
	}
	m := certManagerModule
	dir, err := m.entry(ctx, cache.NewProgress(out), filepath.Join(cluster, m.folder), folder)
	if err != nil {
		return "", "", fmt.Errorf("building %s: %w", m.title, err)
	}
	return filepath.Join(dir, "cert-manager"), filepath.Join(dir, filepath.Base(m.keeps)), nil
}

func (p *Programs) set(name, path string) {
	switch name {
	case "etcd":
		p.Etcd = path
	case "kube-apiserver":
		p.APIServer = path
	case "kube-controller-manager":
		p.ControllerManager = path
	case "operator":
		p.KEDAOperator = path
	case "adapter":
		p.KEDAAdapter = path
	case "webhooks":
		p.KEDAWebhooks = path
	}
}

// assets are programs that the user has already, by name.
type assets map[string]string

func newAssets(dir string) assets {
	found := assets{}
	if dir == "" {
		return found
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() { //nolint:gosec // The user's own choice of programs.
			found[name] = path
		}
	}
	if found["etcd"] == "" || found["kube-apiserver"] == "" {
		return assets{} // only the pair was tried together
	}
	return found
}

func (a assets) without(commands map[string]string) map[string]string {
	rest := map[string]string{}
	for name, pkg := range commands {
		if _, ok := a[name]; !ok {
			rest[name] = pkg
		}
	}
	return rest
}

// entry returns the cache folder with the module's programs, building it first
// where there is none.
func (m pinned) entry(ctx context.Context, p *cache.Progress, source, folder string) (string, error) {
	if len(m.commands) == 0 {
		return "", nil
	}
	key, err := m.key(ctx, source)
	if err != nil {
		return "", err
	}
	return cache.Entry{
		Cache: folder, Kind: m.folder, Name: m.folder + "-" + key,
		Waiting: func() { p.Say("%s is being built by another process; waiting for it", m.title) },
		Make:    func(ctx context.Context, into string) error { return m.build(ctx, p, source, into) },
	}.Path(ctx)
}

// key names a build: the same key means the same programs.
func (m pinned) key(ctx context.Context, source string) (string, error) {
	goVersion, err := goOutput(ctx, source, "env", "GOVERSION")
	if err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(source, "*.go"))
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	for _, file := range append([]string{filepath.Join(source, "go.mod"), filepath.Join(source, "go.sum")}, files...) {
		content, err := os.ReadFile(file) //nolint:gosec // Reading our own go.mod and sources.
		if err != nil {
			return "", err
		}
		_, _ = hash.Write(content)
	}
	packages := slices.Sorted(maps.Values(m.commands))
	// The stamp's values follow from go.mod; with fixed arguments the key still
	// changes when the way of stamping does.
	_, _ = fmt.Fprintln(hash, packages, m.flags("v0.0.0", ""), goVersion, runtime.GOOS, runtime.GOARCH)
	return hex.EncodeToString(hash.Sum(nil))[:12], nil
}

// flags are those of go build. Symbol tables are left out (-s -w): they are a
// third of the size, and nobody debugs these programs.
func (m pinned) flags(version, date string) []string {
	link := []string{"-s", "-w"}
	for _, value := range m.stamp(version, date) {
		link = append(link, "-X", value)
	}
	return []string{"-trimpath", "-buildvcs=false", "-ldflags=" + strings.Join(link, " ")}
}

func (m pinned) build(ctx context.Context, p *cache.Progress, source, into string) error {
	version, dir, date, err := m.facts(ctx, source)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(m.commands))
	p.Say("building %s %s (%s): %s on two cores the first time, then kept in the cache",
		m.title, version, strings.Join(names, ", "), m.takes)

	begin := time.Now()
	target := into + string(filepath.Separator)
	if len(names) == 1 { // go would call it after its package, which for etcd is "server"
		target += names[0]
	}
	args := append(m.flags(version, date), "-o", target)
	for _, name := range names {
		args = append(args, m.commands[name])
	}
	if err := goBuild(ctx, p, source, []string{"CGO_ENABLED=0"}, args...); err != nil {
		return err
	}
	if m.keeps != "" {
		if err := os.CopyFS(filepath.Join(into, filepath.Base(m.keeps)), os.DirFS(filepath.Join(dir, filepath.FromSlash(m.keeps)))); err != nil {
			return fmt.Errorf("keeping the manifests of %s: %w", m.title, err)
		}
	}
	p.Say("built %s %s in %s", m.title, version, time.Since(begin).Round(time.Second))
	return nil
}

// facts are the module's version, its folder in the module cache and its date. A
// module that isn't in the cache is downloaded.
func (m pinned) facts(ctx context.Context, source string) (version, dir, date string, err error) {
	if _, err := goOutput(ctx, source, "mod", "download", m.module); err != nil {
		return "", "", "", err
	}
	facts, err := goOutput(ctx, source, "list", "-m", "-f", `{{.Version}} {{.Dir}}{{with .Time}} {{.Format "2006-01-02T15:04:05Z07:00"}}{{end}}`, m.module)
	if err != nil {
		return "", "", "", err
	}
	version, dir, date = splitFacts(facts)
	return version, dir, date, nil
}

// splitFacts takes apart "version dir date"; a date is missing where the module
// cache has none.
func splitFacts(facts string) (version, dir, date string) {
	version, dir, _ = strings.Cut(facts, " ")
	if i := strings.LastIndex(dir, " "); i >= 0 {
		return version, dir[:i], dir[i+1:]
	}
	return version, dir, "1970-01-01T00:00:00Z"
}
