// Command ablation plays automatic mode without one of its mechanisms after another, for
// make sim-report: each is a program of its own, built with a line of the policy changed
// (go build -overlay), that plays the part "ablation" of the report into a folder of its
// name. The tree isn't touched. What was played goes on where it was interrupted.
//
// A mechanism whose text isn't in the code any more is left out, and told: it has to be
// written anew, or is gone.
package main

import (
	"context"
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

	"github.com/kaito-project/keda-kaito-scaler/test/overlay"
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
	// pkg is below internal. The text from, which one of its files has once, becomes to.
	pkg, from, to string
}

func run(ctx context.Context, into, traces string, seeds int, only string, check bool) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	var stale []error
	for i, m := range mechanisms {
		if _, _, err := m.without(); err != nil {
			stale = append(stale, err)
			fmt.Fprintf(os.Stderr, "left out: %v\n", err)
			continue
		}
		if check || !wanted.MatchString(m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "without %s (%d of %d)\n", m.name, i+1, len(mechanisms))
		if err := m.play(ctx, filepath.Join(into, m.name), traces, seeds); err != nil {
			return fmt.Errorf("without %s: %w", m.name, err)
		}
	}
	if check {
		return errors.Join(stale...)
	}
	return nil
}

// without is the file that has it, and its text without.
func (m mechanism) without() (file, text string, err error) {
	if m.pkg == "" {
		return "", "", nil
	}
	files, err := filepath.Glob(filepath.Join("internal", m.pkg, "*.go"))
	if err != nil {
		return "", "", err
	}
	var with []string
	for _, name := range files {
		data, err := os.ReadFile(name) //nolint:gosec // a file of this checkout
		if err != nil {
			return "", "", err
		}
		if strings.Contains(string(data), m.from) && !strings.HasSuffix(name, "_test.go") {
			with = append(with, name)
		}
	}
	if len(with) != 1 {
		return "", "", fmt.Errorf("%s: %d files of internal/%s have %q, want one", m.name, len(with), m.pkg, m.from)
	}
	if text, err = overlay.Edit(with[0], overlay.Change{From: m.from, To: m.to}); err != nil {
		return "", "", fmt.Errorf("%s: %w", m.name, err)
	}
	return with[0], text, nil
}

// play builds the program without it and runs that.
func (m mechanism) play(ctx context.Context, folder, traces string, seeds int) error {
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // a report for everybody
		return err
	}
	program := filepath.Join(folder, "simulate")
	build := []string{"build", "-trimpath", "-buildvcs=false", "-o", program}
	if m.pkg != "" {
		file, text, err := m.without()
		if err != nil {
			return err
		}
		overlaid, err := overlay.Write(folder, map[string]string{file: text})
		if err != nil {
			return err
		}
		build = append(build, "-overlay", overlaid)
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

// command runs a program, whose figures are of no use here.
func command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // go, or what it built
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd.Run()
}
