package node

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"time"
)

// Image is one static program in an image from scratch.
type Image struct {
	// Name is its whole reference, as pods name it.
	Name string
	// Program is a path on this machine, Path the one in the image.
	Program, Path string
}

// nobody is given by number, so that the kubelet can tell that it isn't root.
const nobody = "65532:65532"

// Import gives an image to containerd.
func (n *Node) Import(ctx context.Context, img Image) error {
	archive, err := os.CreateTemp(n.place.Dir, "image-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(archive.Name()) }()
	err = img.write(archive)
	if closeErr := archive.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("writing image %s: %w", img.Name, err)
	}
	return n.ImportFile(ctx, archive.Name())
}

// ImportFile gives the images of an archive to containerd: docker's format or an
// OCI layout.
func (n *Node) ImportFile(ctx context.Context, archive string) error {
	return n.ctr(ctx, "images", "import", archive)
}

// Names are how an archive in docker's format calls its first image.
func Names(archive string) ([]string, error) {
	file, err := os.Open(archive) //nolint:gosec // built by this project
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	for r := tar.NewReader(file); ; {
		header, err := r.Next()
		if err != nil {
			return nil, fmt.Errorf("no manifest.json in %s: %w", archive, err)
		}
		if header.Name != "manifest.json" {
			continue
		}
		var list []struct{ RepoTags []string }
		if err := json.NewDecoder(r).Decode(&list); err != nil {
			return nil, fmt.Errorf("the manifest of %s: %w", archive, err)
		}
		if len(list) == 0 || len(list[0].RepoTags) == 0 {
			return nil, fmt.Errorf("%s has no name for its image", archive)
		}
		return list[0].RepoTags, nil
	}
}

// Tag gives an image another name.
func (n *Node) Tag(ctx context.Context, name, also string) error {
	return n.ctr(ctx, "images", "tag", "--force", name, also)
}

func (n *Node) ctr(ctx context.Context, args ...string) error {
	args = append([]string{"--address", containerdSocket, "--namespace", "k8s.io"}, args...)
	cmd := exec.CommandContext(ctx, "ctr", args...) //nolint:gosec // the arguments are our own
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ctr %v: %w\n%s", args[4:], err, out)
	}
	return nil
}

// write writes an archive as docker save does: the layer, what to run, and a
// list of both.
func (img Image) write(to io.Writer) error {
	layer, err := img.layer()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{img.Path}, "User": nobody},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{
		{"Config": "config.json", "RepoTags": []string{img.Name}, "Layers": []string{"layer.tar"}},
	})
	if err != nil {
		return err
	}
	w := tar.NewWriter(to)
	for _, file := range []struct {
		name    string
		content []byte
	}{{"layer.tar", layer}, {"config.json", config}, {"manifest.json", manifest}} {
		if err := add(w, file.name, 0o644, file.content); err != nil {
			return err
		}
	}
	return w.Close()
}

func (img Image) layer() ([]byte, error) {
	program, err := os.ReadFile(img.Program)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := add(w, path.Clean(img.Path)[1:], 0o755, program); err != nil {
		return nil, err
	}
	return layer.Bytes(), w.Close()
}

func add(w *tar.Writer, name string, mode int64, content []byte) error {
	header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(content)), ModTime: time.Unix(0, 0)}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}
