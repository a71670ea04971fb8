package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// built is the program for a platform.
type built struct {
	platform *v1.Platform
	binary   []byte
	info     *debug.BuildInfo
	// release is the version that it was told to be, "" if nobody told.
	release string
}

// build compiles the program as make build does. A release's version is given,
// as 0.7.0; without one the program says what Go made of the commit.
func build(ctx context.Context, root, platform, release string) (*built, error) {
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "keda-kaito-scaler")
	ldflags := "-s -w"
	if release != "" {
		ldflags += " -X main.release=" + release
	}
	// Go stamps version and commit into the program, whatever GOFLAGS says.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=auto", "-ldflags", ldflags, "-o", file, "./cmd/keda-kaito-scaler") //nolint:gosec // a folder of our own
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOOS="+p.OS, "GOARCH="+p.Architecture)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	binary, err := os.ReadFile(file) //nolint:gosec // what was just built
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return nil, fmt.Errorf("read the program's build info: %w", err)
	}
	return &built{platform: p, binary: binary, info: info, release: release}, nil
}

func (b *built) setting(key string) string {
	for _, s := range b.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// version is the release's, or the module's as Go stamped it; "devel" outside of
// a clone.
func (b *built) version() string {
	if b.release != "" && b.setting("vcs.modified") == "true" {
		return b.release + "+dirty"
	}
	if b.release != "" {
		return b.release
	}
	return strings.Trim(strings.TrimPrefix(b.info.Main.Version, "v"), "()")
}

// tag is the version in the characters of a tag.
func (b *built) tag() string { return strings.ReplaceAll(b.version(), "+", "-") }

// created is the time of the commit, so that the same source gives the same
// image; the beginning of time outside of a clone.
func (b *built) created() time.Time {
	at, err := time.Parse(time.RFC3339, b.setting("vcs.time"))
	if err != nil {
		return time.Unix(0, 0).UTC()
	}
	return at.UTC()
}
