package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cache"
)

const (
	rootModule    = "github.com/kaito-project/keda-kaito-scaler"
	clusterModule = rootModule + "/test/cluster"
)

// clusterDir finds the folder of this module's source by walking up from the
// working directory. The path compiled into the binary would not do: -trimpath
// removes it, and a checkout may move.
func clusterDir() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		for _, candidate := range []string{dir, filepath.Join(dir, "test", "cluster")} {
			mod, err := os.ReadFile(filepath.Join(candidate, "go.mod")) //nolint:gosec // Reading a go.mod.
			if err == nil && bytes.HasPrefix(mod, []byte("module "+clusterModule+"\n")) {
				return candidate, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no module %s above %s: run this inside a checkout of keda-kaito-scaler", clusterModule, start)
		}
	}
}

// goEnv is the environment of the go command: programs for this machine,
// whatever the user has set for cross-compiling or workspaces.
func goEnv(extra ...string) []string {
	return append(append(os.Environ(), "GOWORK=off", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH), extra...)
}

// goOutput runs a short go command in dir and returns what it prints.
func goOutput(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // The arguments are our own.
	cmd.Dir = dir
	cmd.Env = goEnv()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w\n%s", strings.Join(args, " "), dir, err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// goBuild runs `go build -v` in dir. While it runs it tells p how far it is.
// Cancelling ctx ends the go command with all compilers it started.
func goBuild(ctx context.Context, p *cache.Progress, dir string, env []string, args ...string) error {
	output := &buildOutput{}
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-v"}, args...)...) //nolint:gosec // The arguments are our own.
	cmd.Dir = dir
	cmd.Env = goEnv(env...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = sysProcAttr()
	// SIGINT lets go remove its work folder; what ignores it is killed below.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second

	end := p.During(output.status)
	err := runOnOneThread(cmd)
	end()
	if ctx.Err() != nil {
		return fmt.Errorf("the build was cancelled: %w", ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", dir, err, output.tail())
	}
	return nil
}

// runOnOneThread is cmd.Run for a command with sysProcAttr: the thread that
// starts it must live as long as it does, see Process.run.
func runOnOneThread(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	if err != nil {
		// The group outlives its leader while a compiler of it still runs.
		if killErr := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); killErr != nil && !errors.Is(killErr, syscall.ESRCH) {
			return errors.Join(err, killErr)
		}
	}
	return err
}

// keptLines is how much of a failed build's output goes into the error.
const keptLines = 40

// buildOutput follows the output of go build -v: one line per module that is
// downloaded or package that is compiled, and the errors at the end.
type buildOutput struct {
	mu       sync.Mutex
	partial  string
	last     []string // at most keptLines
	compiled int
}

func (b *buildOutput) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := strings.Split(b.partial+string(data), "\n")
	b.partial = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		if !strings.HasPrefix(line, "go: ") {
			b.compiled++
		}
		b.last = append(b.last, line)
	}
	if extra := len(b.last) - keptLines; extra > 0 {
		b.last = append([]string{}, b.last[extra:]...)
	}
	return len(data), nil
}

func (b *buildOutput) status() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(b.last) == 0:
		return "collecting what was compiled before, linking"
	case strings.HasPrefix(b.last[len(b.last)-1], "go: "):
		return strings.TrimPrefix(b.last[len(b.last)-1], "go: ")
	default:
		return fmt.Sprintf("%d packages compiled, now %s", b.compiled, b.last[len(b.last)-1])
	}
}

func (b *buildOutput) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(append(append([]string{}, b.last...), b.partial), "\n")
}
