package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kaito-project/keda-kaito-scaler/test/cache"
)

// BuildScaler builds keda-kaito-scaler of this checkout and returns its path.
// Each checkout has its own, so that two of them don't swap programs. race adds
// the race detector, which needs a C compiler.
func BuildScaler(ctx context.Context, out io.Writer, race bool) (string, error) {
	if race {
		return buildOf(ctx, out, ".", "./cmd/keda-kaito-scaler", "keda-kaito-scaler-race", "CGO_ENABLED=1", "-race")
	}
	return buildOf(ctx, out, ".", "./cmd/keda-kaito-scaler", "keda-kaito-scaler", "CGO_ENABLED=0")
}

// BuildEarlier builds what plays the scaler of 0.6, and returns its path.
func BuildEarlier(ctx context.Context, out io.Writer) (string, error) {
	return buildOf(ctx, out, "test/cluster", "./earlier", "earlier", "CGO_ENABLED=0")
}

// buildOf builds a program of one of this checkout's modules.
func buildOf(ctx context.Context, out io.Writer, module, program, name, cgo string, flags ...string) (string, error) {
	root, dir, err := scalerDir()
	if err != nil {
		return "", err
	}
	// Built beside and moved: another test may be running the one that is there.
	unfinished, err := os.MkdirTemp(dir, name+".unfinished-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(unfinished) }()
	fresh := filepath.Join(unfinished, name)
	flags = append([]string{"-trimpath", "-buildvcs=false", "-o", fresh}, flags...)
	if err := goBuild(ctx, cache.NewProgress(out), filepath.Join(root, module), []string{cgo}, append(flags, program)...); err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	path := filepath.Join(dir, name)
	return path, os.Rename(fresh, path)
}

// scalerDir is where this checkout is, and where its programs are kept.
func scalerDir() (root, dir string, err error) {
	if root, err = Root(); err != nil {
		return "", "", err
	}
	folder, err := cache.Dir()
	if err != nil {
		return "", "", err
	}
	checkout := sha256.Sum256([]byte(root))
	dir = filepath.Join(folder, "scaler-"+hex.EncodeToString(checkout[:])[:12])
	return root, dir, os.MkdirAll(dir, 0o755) //nolint:gosec // A program built from public source.
}

// ScalerOptions say how to run keda-kaito-scaler.
type ScalerOptions struct {
	// Binary is what BuildScaler returned.
	Binary string
	// Kubeconfig is passed as --kubeconfig.
	Kubeconfig string
	// Args are further arguments.
	Args []string
	// Env is added to the components' environment, which has nothing of ours.
	Env []string
	// Name tells several scalers apart in messages and logs; "" is "scaler".
	Name string
}

// StartScaler runs keda-kaito-scaler beside the cluster. Stop of the cluster
// ends it first. That it is ready is for the caller to await, who knows its
// ports. A scaler that ends by itself is reported by Failed like every
// component; use the Process's Stop and Kill to end one on purpose.
func (c *Cluster) StartScaler(ctx context.Context, o ScalerOptions) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name := o.Name
	if name == "" {
		name = "scaler"
	}
	return c.run(name, o.Binary, o.Env, append([]string{"--kubeconfig=" + o.Kubeconfig}, o.Args...)...)
}

// StartCertManager runs the cert-manager that BuildCertManager returned, as an
// administrator: its own rights are none of our business. Its CRDs must be
// there.
func (c *Cluster) StartCertManager(program string) (*Process, error) {
	return c.run("cert-manager", program, nil, "--kubeconfig="+c.Kubeconfig())
}
