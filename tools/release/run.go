package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// imageOptions say what of which version is made, and where it goes.
type imageOptions struct {
	root, into, bin, version string
	// platforms are such as linux/amd64. Those of another system than linux have
	// a program alone, and no image.
	platforms []string
}

// repository is how the image is called in the tarballs.
const repository = "ghcr.io/kaito-project/keda-kaito-scaler"

// run writes into/oci, into/keda-kaito-scaler-<arch>.tar and
// into/keda-kaito-scaler-<arch>.spdx.json, and with a folder for programs
// bin/keda-kaito-scaler-<os>-<arch> with its .spdx.json.
func run(ctx context.Context, o imageOptions) error {
	for _, folder := range []string{o.into, o.bin} {
		if folder == "" {
			continue
		}
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
		if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // To be published.
			return err
		}
	}
	oci, err := layout.Write(filepath.Join(o.into, "oci"), empty.Index)
	if err != nil {
		return fmt.Errorf("begin an OCI layout: %w", err)
	}
	index := mutate.IndexMediaType(empty.Index, "application/vnd.oci.image.index.v1+json")
	for _, platform := range o.platforms {
		built, err := build(ctx, o.root, platform, o.version)
		if err != nil {
			return fmt.Errorf("build for %s: %w", platform, err)
		}
		if o.bin != "" {
			if err := writeProgram(filepath.Join(o.bin, "keda-kaito-scaler-"+built.platform.OS+"-"+built.platform.Architecture), built); err != nil {
				return err
			}
		}
		if built.platform.OS != "linux" {
			continue
		}
		img, err := writeImage(filepath.Join(o.into, "keda-kaito-scaler-"+built.platform.Architecture), built)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: descriptor(built)})
	}
	if err := oci.AppendIndex(index); err != nil {
		return fmt.Errorf("write the OCI layout: %w", err)
	}
	return nil
}

func writeProgram(file string, built *built) error {
	if err := os.WriteFile(file, built.binary, 0o755); err != nil { //nolint:gosec // To be run.
		return err
	}
	fmt.Printf("%s: %.1f MB\n", file, float64(len(built.binary))/1e6)
	return writeSBOM(file, built)
}

func writeImage(base string, built *built) (v1.Image, error) {
	img, err := assemble(built)
	if err != nil {
		return nil, fmt.Errorf("assemble %s: %w", base, err)
	}
	tag, err := name.NewTag(repository + ":" + built.tag())
	if err != nil {
		return nil, err
	}
	if err := tarball.WriteToFile(base+".tar", tag, img); err != nil {
		return nil, fmt.Errorf("write %s.tar: %w", base, err)
	}
	fmt.Printf("%s.tar: %s, %s, %.1f MB\n", base, tag, built.platform, float64(len(built.binary))/1e6)
	return img, writeSBOM(base, built)
}

func writeSBOM(base string, built *built) error {
	bill, err := sbom(built)
	if err != nil {
		return fmt.Errorf("list what is in %s: %w", base, err)
	}
	return os.WriteFile(base+".spdx.json", bill, 0o644) //nolint:gosec // To be published.
}
