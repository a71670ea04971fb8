// Command mutants asks whether the tests of policy and decision would notice a
// mistake: it makes thirty of them, one after another, one for each rule, and
// runs the tests of both packages on each. The tree isn't touched, for the
// mutated file is an overlay (go test -overlay). It ends with the line
// "figure mutants_survived N", and fails if more than two survive.
//
// A mutant whose text isn't in the code any more, or that doesn't compile, is an
// error: it says nothing about the tests, and has to be written anew.
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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/overlay"
)

// mayLive is how many mutants may survive: the line between a mistake and another
// way of saying the same isn't always sharp.
const mayLive = 2

func main() {
	only := flag.String("run", "", "only the mutants whose rule matches this regular expression")
	check := flag.Bool("check", false, "only tell whether every mutant's text is still in the code")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	survived, err := run(ctx, *only, *check)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	case survived > mayLive:
		fmt.Fprintf(os.Stderr, "mutants: %d survived, want %d at most\n", survived, mayLive)
		os.Exit(1)
	}
}

// mutant is one mistake.
type mutant struct {
	// rule says what it breaks, in words.
	rule string
	// file is below internal. Its text from, which it has once, becomes to.
	file, from, to string
}

func run(ctx context.Context, only string, check bool) (survived int, err error) {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return 0, fmt.Errorf("-run: %w", err)
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var stale []error
	all := slices.Concat(mutants, automaticMutants)
	for _, m := range all {
		if _, err := m.mutated(); err != nil {
			stale = append(stale, err)
		}
	}
	if len(stale) > 0 || check {
		return 0, errors.Join(stale...)
	}
	if out, err := tests(ctx, ""); err != nil {
		return 0, fmt.Errorf("the tests fail without a mutant: %w\n%s", err, out)
	}
	tried := 0
	for _, m := range all {
		if !wanted.MatchString(m.rule) {
			continue
		}
		tried++
		killer, err := m.try(ctx, dir)
		if err != nil {
			return survived, err
		}
		if killer == "" {
			survived++
			fmt.Printf("SURVIVED  %-16s %s\n", filepath.Base(m.file), m.rule)
			continue
		}
		fmt.Printf("killed    %-16s %s (%s)\n", filepath.Base(m.file), m.rule, killer)
	}
	fmt.Printf("figure mutants %d\nfigure mutants_survived %d\n", tried, survived)
	return survived, nil
}

func (m mutant) path() string {
	return filepath.Join("internal", filepath.FromSlash(m.file))
}

// mutated is the file with its mistake.
func (m mutant) mutated() (string, error) {
	text, err := overlay.Edit(m.path(), overlay.Change{From: m.from, To: m.to})
	if err != nil {
		return "", fmt.Errorf("%s: %w: write the mutant anew", m.rule, err)
	}
	return text, nil
}

// try runs the tests on the mutant and returns who killed it, "" if it survives.
func (m mutant) try(ctx context.Context, dir string) (killer string, err error) {
	text, err := m.mutated()
	if err != nil {
		return "", err
	}
	overlaid, err := overlay.Write(dir, map[string]string{m.path(): text})
	if err != nil {
		return "", err
	}
	if out, err := goTool(ctx, append([]string{"vet", "-overlay=" + overlaid}, tested...)...); err != nil {
		return "", fmt.Errorf("%s: the mutant doesn't compile: %w\n%s", m.rule, err, out)
	}
	out, err := tests(ctx, overlaid)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err == nil {
		return "", nil
	}
	return killers(out), nil
}

// tested are the packages that have mutants.
var tested = []string{
	"./internal/policy", "./internal/sample", "./internal/hpa", "./internal/aggregate", "./internal/decision", "./internal/capacity", "./internal/forecast", "./internal/automatic",
}

// patience is how long the tests of a mutant may take: one that never ends is
// noticed too.
const patience = 5 * time.Minute

func tests(ctx context.Context, overlaid string) (string, error) {
	args := []string{"test", "-short", "-failfast", "-timeout=" + patience.String()}
	if overlaid != "" {
		args = append(args, "-overlay="+overlaid)
	}
	return goTool(ctx, append(args, tested...)...)
}

func goTool(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "go", args...) //nolint:gosec // arguments of ours
	out, err := command.CombinedOutput()
	return string(out), err
}

var failed = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)

// killers are the tests that failed.
func killers(out string) string {
	var names []string
	for _, match := range failed.FindAllStringSubmatch(out, -1) {
		names = append(names, match[1])
	}
	if len(names) == 0 {
		return "panic or time-out"
	}
	return strings.Join(names, ", ")
}
