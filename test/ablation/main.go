// Command ablation plays automatic mode without one of its mechanisms after another, for
// make sim-report: each is a program of its own, built with a line of the policy changed
// (go build -overlay), that plays the part "ablation" of the report into a folder of its
// name. The tree isn't touched. What was played goes on where it was interrupted.
//
// A mechanism whose text isn't in the code any more is an error: it has to be written
// anew, or is gone.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	into := flag.String("into", "build/ablation", "folder to play into")
	traces := flag.String("traces", "", "folder with Azure's traces")
	seeds := flag.Int("seeds", 2, "how many seeds")
	only := flag.String("run", "", "only the mechanisms whose name matches this regular expression")
	check := flag.Bool("check", false, "only tell whether every mechanism's text is still in the code")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *into, *traces, *seeds, *only, *check)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ablation:", err)
		os.Exit(1)
	}
}

// mechanism is a part of the policy that can be left out.
type mechanism struct {
	// name is of its folder, and of its line in the report.
	name string
	// file is below internal. Its text from, which it has once, becomes to.
	file, from, to string
}

func run(ctx context.Context, into, traces string, seeds int, only string, check bool) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	var stale []error
	for _, m := range mechanisms {
		if _, err := m.without(); err != nil {
			stale = append(stale, err)
		}
	}
	if len(stale) > 0 || check {
		return errors.Join(stale...)
	}
	for i, m := range mechanisms {
		if !wanted.MatchString(m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "without %s (%d of %d)\n", m.name, i+1, len(mechanisms))
		if err := m.play(ctx, filepath.Join(into, m.name), traces, seeds); err != nil {
			return fmt.Errorf("without %s: %w", m.name, err)
		}
	}
	return nil
}

// path is its file's.
func (m mechanism) path() (string, error) {
	return filepath.Abs(filepath.Join("internal", filepath.FromSlash(m.file)))
}

// without is its file without it.
func (m mechanism) without() (string, error) {
	if m.file == "" {
		return "", nil
	}
	path, err := m.path()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path) //nolint:gosec // a file of this checkout
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), m.from); n != 1 {
		return "", fmt.Errorf("%s: %s has %d times %q, want once", m.name, m.file, n, m.from)
	}
	return strings.Replace(string(text), m.from, m.to, 1), nil
}

// play builds the program without it and runs that.
func (m mechanism) play(ctx context.Context, folder, traces string, seeds int) error {
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // a report for everybody
		return err
	}
	program := filepath.Join(folder, "simulate")
	build := []string{"build", "-trimpath", "-buildvcs=false", "-o", program}
	if m.file != "" {
		overlay, err := m.overlay(folder)
		if err != nil {
			return err
		}
		build = append(build, "-overlay", overlay)
	}
	if err := command(ctx, "go", append(build, "./cmd/keda-kaito-scaler")...); err != nil {
		return err
	}
	args := []string{"simulate", "report", "--parts", "ablation", "--into", folder, "--seeds", strconv.Itoa(seeds)}
	if traces != "" {
		args = append(args, "--traces", traces)
	}
	return command(ctx, program, args...)
}

// overlay writes the changed file and what go build needs to take it.
func (m mechanism) overlay(folder string) (string, error) {
	text, err := m.without()
	if err != nil {
		return "", err
	}
	path, err := m.path()
	if err != nil {
		return "", err
	}
	file, err := filepath.Abs(filepath.Join(folder, filepath.Base(m.file)+".txt"))
	if err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: file}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(folder, "overlay.json")
	return overlay, errors.Join(os.WriteFile(file, []byte(text), 0o600), os.WriteFile(overlay, replace, 0o600))
}

// command runs a program, whose figures are of no use here.
func command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // go, or what it built
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd.Run()
}
