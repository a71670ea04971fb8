package node

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What containerd is given is named, runs as nobody, and has a layer that its
// config vouches for.
func TestAnImageIsWhatContainerdImports(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("a static binary"), 0o600); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "image.tar")
	file, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	img := Image{Name: "node.test/program:dev", Program: program, Path: "/program"}
	if err := errors.Join(img.write(file), file.Close()); err != nil {
		t.Fatal(err)
	}
	names, err := Names(archive)
	if diff := cmp.Diff([]string{img.Name}, names); err != nil || diff != "" {
		t.Errorf("names: %v (-want +got):\n%s", err, diff)
	}
	parts := contents(t, archive)
	var config struct {
		Config struct {
			User       string
			Entrypoint []string
		} `json:"config"`
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(parts["config.json"], &config); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(parts["layer.tar"])
	if diff := cmp.Diff([]string{"sha256:" + hex.EncodeToString(sum[:])}, config.RootFS.DiffIDs); diff != "" {
		t.Errorf("the layer (-want +got):\n%s", diff)
	}
	if config.Config.User != nobody || !cmp.Equal(config.Config.Entrypoint, []string{"/program"}) {
		t.Errorf("it runs %v as %s", config.Config.Entrypoint, config.Config.User)
	}
}

func TestAnArchiveWithoutAListIsRefused(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.tar")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if names, err := Names(empty); err == nil {
		t.Errorf("names: %q, want an error", names)
	}
}

func contents(t *testing.T, archive string) map[string][]byte {
	t.Helper()
	file, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	out := map[string][]byte{}
	for r := tar.NewReader(file); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
