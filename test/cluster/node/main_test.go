//go:build node

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

// What make test-node has built for this checkout, below its root.
const made = "build/node"

const (
	vllmImage = "node.test/vllm:dev"
	// repository is how tools/release calls the scaler's image.
	repository = "ghcr.io/kaito-project/keda-kaito-scaler"
)

// world is what the tests share: a control plane with a node, KEDA in pods, the
// stand-in for KAITO.
type world struct {
	*Node
	kaito *kaito.KAITO
	root  string
	// tag is that of the scaler's image, which follows from the commit.
	tag string
	// appVersion is the tag that the chart names by itself.
	appVersion string
}

var shared *world

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	// The stand-in for KAITO runs on controller-runtime, which complains if
	// nobody has said where to log.
	ctrllog.SetLogger(logr.Discard())
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	began := time.Now()
	w, err := newWorld(ctx)
	if err != nil {
		fmt.Fprintf(os.Stderr, "node: %v\n", err)
		return 1
	}
	fmt.Fprintf(os.Stderr, "control plane, node and KEDA are ready after %s\n", time.Since(began).Round(time.Second))
	shared = w
	code := m.Run()
	if err := w.Err(); err != nil {
		fmt.Fprintf(os.Stderr, "node: a component ended: %v\n", err)
		code = 1
	}
	if code != 0 {
		w.dump(ctx)
	}
	if err := w.stop(); err != nil {
		fmt.Fprintf(os.Stderr, "node: stop: %v\n", err)
		code = 1
	}
	return code
}

func newWorld(ctx context.Context) (*world, error) {
	place, err := Here()
	if err != nil {
		return nil, err
	}
	root, err := controlplane.Root()
	if err != nil {
		return nil, err
	}
	// make test-node has built all of it: there is no network here.
	programs, err := controlplane.Build(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	nodePrograms, err := controlplane.BuildNode(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	crds, err := kaito.Manifests(kaito.Both)
	if err != nil {
		return nil, err
	}
	cluster, err := controlplane.Start(ctx, controlplane.Options{
		Programs: programs, NodeIP: place.IP, HPASync: 2 * time.Second, Manifests: crds, Out: os.Stderr,
		NoKEDAOperator: true, NoKEDAAdapter: true, NoKEDAWebhooks: true,
	})
	if err != nil {
		return nil, err
	}
	w := &world{root: root, Node: &Node{Cluster: cluster}}
	if err := w.start(ctx, place, programs, nodePrograms); err != nil {
		if w.Client != nil {
			w.dump(ctx)
		}
		w.DumpLogs(os.Stderr, 30)
		_ = w.stop()
		return nil, err
	}
	return w, nil
}

func (w *world) start(ctx context.Context, place Place, programs controlplane.Programs, nodePrograms controlplane.NodePrograms) error {
	n, err := Start(ctx, w.Cluster, Options{Programs: nodePrograms, Pause: w.made("pause"), Place: place, Out: os.Stderr})
	if err != nil {
		return err
	}
	w.Node = n
	if err := w.importScaler(ctx); err != nil {
		return err
	}
	if err := n.Import(ctx, Image{Name: vllmImage, Program: w.made("vllm"), Path: "/vllm"}); err != nil {
		return err
	}
	if err := n.Import(ctx, Image{Name: repository + ":" + earlier, Program: w.made("earlier"), Path: "/earlier"}); err != nil {
		return err
	}
	if err := n.StartKEDA(ctx, programs); err != nil {
		return err
	}
	w.kaito, err = kaito.Start(ctx, w.Config(), kaito.Options{Image: vllmImage})
	return err
}

// importScaler gives the node what make image has made, under three tags.
func (w *world) importScaler(ctx context.Context) error {
	archive := w.made("image/keda-kaito-scaler-" + runtime.GOARCH + ".tar")
	names, err := Names(archive)
	if err != nil {
		return err
	}
	if err := w.ImportFile(ctx, archive); err != nil {
		return err
	}
	w.tag = strings.TrimPrefix(names[0], repository+":")
	if w.appVersion, err = appVersion(w.root); err != nil {
		return err
	}
	return errors.Join(w.Tag(ctx, names[0], repository+":"+next), w.Tag(ctx, names[0], repository+":"+w.appVersion))
}

// appVersion is the release that the chart installs.
func appVersion(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "charts", release, "Chart.yaml"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if version, found := strings.CutPrefix(line, "appVersion:"); found {
			return strings.Trim(strings.TrimSpace(version), `"`), nil
		}
	}
	return "", errors.New("the chart has no appVersion")
}

func (w *world) made(name string) string { return filepath.Join(w.root, made, name) }

func (w *world) stop() error {
	if w.kaito != nil {
		if err := w.kaito.Stop(); err != nil {
			return err
		}
	}
	return w.Stop()
}
