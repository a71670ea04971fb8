package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// BuildJumpyScaler builds keda-kaito-scaler with a wall clock that jumps: an hour
// ahead at each SIGUSR1, an hour back at each SIGUSR2. The monotonic clock goes
// on as it did, as on a machine whose clock is set. Nothing of ours is changed
// for it: package time is compiled from a copy (go build -overlay), and so is
// all that imports it, which takes minutes the first time.
func BuildJumpyScaler(ctx context.Context, out io.Writer) (string, error) {
	root, dir, err := scalerDir()
	if err != nil {
		return "", err
	}
	goRoot, err := goOutput(ctx, root, "env", "GOROOT")
	if err != nil {
		return "", err
	}
	overlay, err := jumpy(goRoot, root, filepath.Join(dir, "jumpy"))
	if err != nil {
		return "", fmt.Errorf("making a clock that jumps: %w", err)
	}
	return buildOf(ctx, out, ".", "./cmd/keda-kaito-scaler", "keda-kaito-scaler-jumpy", "CGO_ENABLED=0", "-overlay="+overlay)
}

// jumpSource is added to the program.
const jumpSource = `package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

func init() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range signals {
			if s == syscall.SIGUSR1 {
				time.Jump.Add(3600)
			} else {
				time.Jump.Add(-3600)
			}
		}
	}()
}
`

// How time.Now begins, and how it begins in the copy.
const (
	clockImport = "\nimport (\n"
	clockNow    = "\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	jumpImport  = clockImport + "\t\"sync/atomic\"\n"
	jumpNow     = "\n// Jump is how many seconds the wall clock is ahead.\nvar Jump atomic.Int64\n" + clockNow + "\tsec += Jump.Load()\n"
)

// jumpy writes the copies into dir and returns the file for -overlay.
func jumpy(goRoot, root, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // Public source.
		return "", err
	}
	original := filepath.Join(goRoot, "src", "time", "time.go")
	text, err := os.ReadFile(original) //nolint:gosec // Go's own source.
	if err != nil {
		return "", err
	}
	source := string(text)
	for _, change := range []struct{ from, to string }{{clockImport, jumpImport}, {clockNow, jumpNow}} {
		if strings.Count(source, change.from) != 1 {
			return "", fmt.Errorf("%s has no %q: Go reads the clock otherwise than it did", original, change.from)
		}
		source = strings.Replace(source, change.from, change.to, 1)
	}

	for name, content := range map[string]string{"time.go": source, "jump.go": jumpSource} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil { //nolint:gosec // Public source.
			return "", err
		}
	}
	replace := map[string]map[string]string{"Replace": {
		original: filepath.Join(dir, "time.go"),
		filepath.Join(root, "cmd", "keda-kaito-scaler", "jump.go"): filepath.Join(dir, "jump.go"),
	}}
	text, err = json.Marshal(replace)
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o644) //nolint:gosec // Public source.
}
