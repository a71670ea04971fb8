// Command image makes the scaler's container image without a container engine:
// from scratch, with the static binary and the CA roots, for several platforms,
// as an OCI layout and as tarballs for docker load and ctr images import. Beside
// them it writes an SBOM for each platform.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	root := flag.String("root", ".", "the checkout of keda-kaito-scaler")
	into := flag.String("into", "build/image", "the folder to write to; what is in it goes")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64", "for which platforms, with commas")
	flag.Parse()
	err := run(ctx, *root, *into, strings.Split(*platforms, ","))
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

// repository is how the image is called in the tarballs.
const repository = "ghcr.io/kaito-project/keda-kaito-scaler"

// run writes into/oci, into/keda-kaito-scaler-<arch>.tar and
// into/keda-kaito-scaler-<arch>.spdx.json.
func run(ctx context.Context, root, into string, platforms []string) error {
	if err := os.RemoveAll(into); err != nil {
		return err
	}
	if err := os.MkdirAll(into, 0o755); err != nil { //nolint:gosec // To be published.
		return err
	}
	oci, err := layout.Write(filepath.Join(into, "oci"), empty.Index)
	if err != nil {
		return fmt.Errorf("begin an OCI layout: %w", err)
	}
	index := mutate.IndexMediaType(empty.Index, "application/vnd.oci.image.index.v1+json")
	for _, text := range platforms {
		built, err := build(ctx, root, text)
		if err != nil {
			return fmt.Errorf("build for %s: %w", text, err)
		}
		img, err := assemble(built)
		if err != nil {
			return fmt.Errorf("assemble the image for %s: %w", text, err)
		}
		base := filepath.Join(into, "keda-kaito-scaler-"+built.platform.Architecture)
		tag, err := name.NewTag(repository + ":" + built.tag())
		if err != nil {
			return err
		}
		if err := tarball.WriteToFile(base+".tar", tag, img); err != nil {
			return fmt.Errorf("write %s.tar: %w", base, err)
		}
		bill, err := sbom(built)
		if err != nil {
			return fmt.Errorf("list what is in the image for %s: %w", text, err)
		}
		if err := os.WriteFile(base+".spdx.json", bill, 0o644); err != nil { //nolint:gosec // To be published.
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: descriptor(built)})
		fmt.Printf("%s.tar: %s, %s, %.1f MB\n", base, tag, text, float64(len(built.binary))/1e6)
	}
	if err := oci.AppendIndex(index); err != nil {
		return fmt.Errorf("write the OCI layout: %w", err)
	}
	return nil
}
