package controlplane

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/kaito-project/keda-kaito-scaler/test/overlay"
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
	overlaid, err := jumpy(goRoot, root, filepath.Join(dir, "jumpy"))
	if err != nil {
		return "", fmt.Errorf("making a clock that jumps: %w", err)
	}
	return buildOf(ctx, out, ".", "./cmd/keda-kaito-scaler", "keda-kaito-scaler-jumpy", "CGO_ENABLED=0", "-overlay="+overlaid)
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
	clock := filepath.Join(goRoot, "src", "time", "time.go")
	source, err := overlay.Edit(clock, overlay.Change{From: clockImport, To: jumpImport}, overlay.Change{From: clockNow, To: jumpNow})
	if err != nil {
		return "", fmt.Errorf("go reads the clock otherwise than it did: %w", err)
	}
	return overlay.Write(dir, map[string]string{clock: source, filepath.Join(root, "cmd", "keda-kaito-scaler", "jump.go"): jumpSource})
}
