package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// push puts the one image of an OCI layout, for all its platforms, into a
// registry, with the credentials of docker login.
func push(ctx context.Context, dir, to string) error {
	ref, err := name.NewTag(to, name.StrictValidation)
	if err != nil {
		return err
	}
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return fmt.Errorf("read the OCI layout: %w", err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		return fmt.Errorf("%s: want the layout of one image: %w", dir, err)
	}
	index, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		return err
	}
	if err := remote.WriteIndex(ref, index, access(ctx)...); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	fmt.Println(manifest.Manifests[0].Digest)
	return nil
}

func access(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
}

// printDigest asks a registry, by name and tag, for the whole or for the image of
// one platform.
func printDigest(ctx context.Context, of, platform string) error {
	ref, err := name.ParseReference(of, name.StrictValidation)
	if err != nil {
		return err
	}
	if platform == "" {
		got, err := remote.Head(ref, access(ctx)...)
		if err != nil {
			return fmt.Errorf("look for %s: %w", ref, err)
		}
		fmt.Println(got.Digest)
		return nil
	}
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		return err
	}
	img, err := remote.Image(ref, append(access(ctx), remote.WithPlatform(*p))...)
	if err != nil {
		return fmt.Errorf("look for %s of %s: %w", ref, platform, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	fmt.Println(digest)
	return nil
}

// pagesAt is where GitHub Pages has the branch gh-pages, so that what follows
// the host is the address that users know.
const pagesAt = "/keda-kaito-scaler/"

// serve serves dir/pages as GitHub Pages does, and a registry with nothing in it,
// at one address on loopback: until the context ends, or while a command runs,
// which finds the address in RELEASE_ADDRESS.
func serve(ctx context.Context, dir string, command []string) error {
	address, stop, err := listen(ctx, dir)
	if err != nil {
		return err
	}
	defer stop()
	if len(command) == 0 {
		fmt.Println(address)
		<-ctx.Done()
		return nil
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // the caller's
	cmd.Env = append(os.Environ(), "RELEASE_ADDRESS="+address)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", command[0], errors.Join(err, ctx.Err()))
	}
	return nil
}

// listen serves until it is stopped.
func listen(ctx context.Context, dir string) (address string, stop func(), err error) {
	pages := filepath.Join(dir, "pages")
	if _, err := os.Stat(pages); err != nil { //nolint:gosec // the caller's folder
		return "", nil, fmt.Errorf("nothing to serve: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: site(pages), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return listener.Addr().String(), func() {
		_ = server.Close()
		<-ended
	}, nil
}

func site(pages string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v2/", registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	mux.Handle(pagesAt, http.StripPrefix(pagesAt, http.FileServer(http.Dir(pages))))
	return mux
}
