package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	program = "/keda-kaito-scaler"
	caRoots = "/etc/ssl/certs/ca-certificates.crt"
	// user is nobody's in particular, by number, so that the kubelet can tell
	// that it isn't root.
	user = "65532:65532"
)

// assemble makes an image of the program: what the Dockerfile makes.
func assemble(b *built) (v1.Image, error) {
	var layer bytes.Buffer
	if err := writeLayer(&layer, b); err != nil {
		return nil, err
	}
	content, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer),
	)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.Append(img, mutate.Addendum{
		Layer: content, History: v1.History{CreatedBy: "tools/release", Created: v1.Time{Time: b.created()}},
	})
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Variant = b.platform.OS, b.platform.Architecture, b.platform.Variant
	file.Created = v1.Time{Time: b.created()}
	file.Config = v1.Config{
		User:       user,
		Entrypoint: []string{program},
		// gRPC, metrics, health.
		ExposedPorts: map[string]struct{}{"10450/tcp": {}, "10451/tcp": {}, "10452/tcp": {}},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "keda-kaito-scaler",
			"org.opencontainers.image.source":   "https://github.com/kaito-project/keda-kaito-scaler",
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.version":  b.version(),
			"org.opencontainers.image.revision": b.setting("vcs.revision"),
		},
	}
	return mutate.ConfigFile(img, file)
}

func descriptor(b *built) v1.Descriptor { return v1.Descriptor{Platform: b.platform} }

// writeLayer writes the whole file system: two files and the folders above.
func writeLayer(to io.Writer, b *built) error {
	w := tar.NewWriter(to)
	for _, entry := range []struct {
		header  tar.Header
		content []byte
	}{
		{tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}, nil},
		{tar.Header{Name: "etc/ssl/", Typeflag: tar.TypeDir, Mode: 0o755}, nil},
		{tar.Header{Name: "etc/ssl/certs/", Typeflag: tar.TypeDir, Mode: 0o755}, nil},
		{tar.Header{Name: caRoots[1:], Typeflag: tar.TypeReg, Mode: 0o644}, roots()},
		{tar.Header{Name: program[1:], Typeflag: tar.TypeReg, Mode: 0o755}, b.binary},
	} {
		entry.header.Size = int64(len(entry.content))
		entry.header.ModTime = b.created()
		if err := w.WriteHeader(&entry.header); err != nil {
			return err
		}
		if _, err := w.Write(entry.content); err != nil {
			return err
		}
	}
	return w.Close()
}

// roots are Mozilla's, as Go's own module has them: the machine that builds
// doesn't matter. A root that is trusted with conditions is left out, because a
// file has no place for them.
func roots() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Buffer takes all
		}
	}
	return b.Bytes()
}
