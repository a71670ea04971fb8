package engine

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kaito-project/keda-kaito-scaler/test/cache"
)

// machine is a machine to install on: a Python that is a shell script, so that no
// test downloads anything, and a record of what was run.
type machine struct {
	t   *testing.T
	bin string // the only folder on the path
	log string
	installer
	out *bytes.Buffer
}

// fakePython acts as python, and as pip and uv of the environments that it makes.
// $VERSION is Python's; $FAILS is what fails and $SAYS what it says then.
const fakePython = `#!/bin/sh
name=${0##*/}
echo "$name $*" >> "$LOG"
case "$name $*" in *"$FAILS"*) [ -z "$FAILS" ] || { echo "$SAYS" >&2; exit 1; } ;; esac
case "$*" in
*sys.version_info*) echo "$VERSION" ;;
"-m venv "*) /bin/mkdir -p "$3/bin"; for p in python uv; do /bin/cp "$0" "$3/bin/$p"; done ;;
*get_path*) echo "${0%/bin/python}/site-packages" ;;
esac
if [ "$name" = uv ]; then
    [ -z "$SLOW" ] || { : > "$SLOW"; exec /bin/sleep 60; }
    for last; do :; done
    [ ! -f "$last" ] || /bin/grep -c '==' "$last" >> "$LOG"
fi
exit 0
`

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, bin: t.TempDir(), out: &bytes.Buffer{}}
	m.log = filepath.Join(t.TempDir(), "log")
	m.installer = installer{
		cache: t.TempDir(), torchIndex: "http://127.0.0.1:1/nothing-listens-here",
		free:     func(string) (int64, error) { return 40e9, nil },
		progress: cache.NewProgress(m.out),
	}
	t.Setenv("PATH", m.bin)
	t.Setenv("LOG", m.log)
	t.Setenv("FAILS", "")
	t.Setenv("SLOW", "")
	m.python("3.11")
	return m
}

func (m *machine) python(version string) {
	m.t.Helper()
	m.t.Setenv("VERSION", version)
	if err := os.WriteFile(filepath.Join(m.bin, "python3"), []byte(fakePython), 0o700); err != nil {
		m.t.Fatal(err)
	}
}

// fail makes a command fail, in whose line what stands, with words of its own.
func (m *machine) fail(what, says string) {
	m.t.Setenv("FAILS", what)
	m.t.Setenv("SAYS", says)
}

func (m *machine) ran() string {
	content, err := os.ReadFile(m.log)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(content)
}

// wantNothingLeft sees that no part of an installation is in the cache.
func (m *machine) wantNothingLeft() {
	m.t.Helper()
	left, err := filepath.Glob(filepath.Join(m.cache, "engine*"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, path := range left {
		if filepath.Base(path) != "engine.lock" {
			m.t.Errorf("%s is left", filepath.Base(path))
		}
	}
}

func TestAVLLMIsInstalledOnceAndFoundAgain(t *testing.T) {
	m := newMachine(t)
	first, err := m.install(t.Context(), DefaultVersion)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first.Python); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"5.3 GB of disk, and 1.0 GB more meanwhile", "installed vLLM 0.25.1"} {
		if !strings.Contains(m.out.String(), want) {
			t.Errorf("%q isn't said:\n%s", want, m.out)
		}
	}
	metadata, err := os.ReadFile(filepath.Join(filepath.Dir(first.Python), "..", "site-packages", "vllm-0.25.1+cpu.dist-info", "METADATA"))
	if err != nil || !strings.Contains(string(metadata), "Name: vllm\n") {
		t.Errorf("vLLM doesn't find its own version: %s %v", metadata, err)
	}
	if !strings.Contains(m.ran(), "--require-hashes") {
		t.Errorf("hashes aren't checked:\n%s", m.ran())
	}
	before := m.ran()
	again, err := m.install(t.Context(), DefaultVersion)
	if err != nil || again != first {
		t.Errorf("the second time %v, %v", again, err)
	}
	if rest := strings.TrimPrefix(m.ran(), before); strings.Contains(rest, "install") {
		t.Errorf("it is installed again:\n%s", rest)
	}
}

func TestEachVersionIsAnInstallationOfItsOwn(t *testing.T) {
	m := newMachine(t)
	pythons := map[string]bool{}
	for _, version := range Versions() {
		i, err := m.install(t.Context(), version)
		if err != nil {
			t.Fatal(err)
		}
		pythons[i.Python] = true
	}
	if len(pythons) != len(Versions()) || len(pythons) < 4 {
		t.Errorf("%d installations of %v", len(pythons), Versions())
	}
}

func TestWhatPreventsAnInstallationIsSaidInOneLine(t *testing.T) {
	const offline = "WARNING: Retrying … NewConnectionError('…: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')\n" +
		"ERROR: Could not find a version that satisfies the requirement uv==0.13.9 (from versions: none)"
	for _, c := range []struct {
		name    string
		version string
		given   func(m *machine)
		want    string
	}{
		{"an unknown version", "0.9.2", func(*machine) {}, `vLLM "0.9.2" is not known: there are 0.12.0, 0.17.1, 0.25.1, 0.32.0`},
		{"the lock of uv is no version", "uv", func(*machine) {}, `vLLM "uv" is not known`},
		{"no Python", "", func(m *machine) { _ = os.Remove(filepath.Join(m.bin, "python3")) }, "vLLM 0.25.1 needs Python 3.10 to 3.13: there is none on the path"},
		{"too old a Python", "", func(m *machine) { m.python("3.9") }, "needs Python 3.10 to 3.13: python3 is 3.9"},
		{"too old for the newest", "0.32.0", func(m *machine) { m.python("3.10") }, "needs Python 3.11 to 3.13: python3 is 3.10"},
		{"too new a Python", "", func(m *machine) { m.python("3.14") }, "needs Python 3.10 to 3.13: python3 is 3.14"},
		{"a Python without venv", "", func(m *machine) { m.fail("-m venv", "ensurepip is not available") }, "apt install python3-venv): ensurepip is not available"},
		{"no disk space", "", func(m *machine) { m.free = func(string) (int64, error) { return 3.1e9, nil } }, "needs 6.3 GB of disk in"},
		{"no disk space for the newest", "0.32.0", func(m *machine) { m.free = func(string) (int64, error) { return 6.35e9, nil } }, "needs 6.4 GB of disk in"},
		{"a disk that fills up", "", func(m *machine) {
			m.fail("uv pip install", "error: failed to write: No space left on device (os error 28)")
		}, "the disk is full"},
		{"no network for uv itself", "", func(m *machine) { m.fail("-m pip install", offline) }, "PyPI can't be reached"},
		{"no network for vLLM", "", func(m *machine) {
			m.fail("uv pip install", "error: Request failed\n  Caused by: dns error: failed to lookup")
		}, "PyPI can't be reached"},
		{"a hash that is another", "", func(m *machine) { m.fail("uv pip install", "× Failed\nHash mismatch for torch==2.11.0") }, "Hash mismatch for torch"},
		{"a package that isn't there after all", "", func(m *machine) { m.fail("importlib.metadata", "PackageNotFoundError: torch") }, "something is missing after the installation: PackageNotFoundError: torch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			c.given(m)
			version := c.version
			if version == "" {
				version = DefaultVersion
			}
			_, err := m.install(t.Context(), version)
			if err == nil {
				t.Fatal("it was installed")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			m.wantNothingLeft()
		})
	}
}

func TestTorchComesWithoutCUDAWhereItCan(t *testing.T) {
	index := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/cpu/torch/" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer index.Close()

	m := newMachine(t)
	m.torchIndex = index.URL + "/cpu"
	if _, err := m.install(t.Context(), DefaultVersion); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.ran(), "--default-index "+index.URL+"/cpu torch==2.11.0+cpu torchvision==0.26.0+cpu") {
		t.Errorf("torch wasn't asked for there:\n%s", m.ran())
	}
	r, err := findRelease(DefaultVersion)
	if err != nil {
		t.Fatal(err)
	}
	rest := r.lockWithoutTorch()
	for _, name := range []string{"torch", "torchvision", "nvidia-cublas", "cuda-bindings"} {
		if strings.Contains(rest, "\n"+name+"==") || !strings.Contains(r.lock, "\n"+name+"==") {
			t.Errorf("%s is in the rest, or not in the lock", name)
		}
	}
	// Every package that is left has its hashes.
	for line := range strings.SplitSeq(rest, "\n") {
		if strings.Contains(line, "==") && !strings.HasPrefix(line, " ") && !strings.HasSuffix(line, "\\") {
			t.Errorf("no hash: %s", line)
		}
	}
	packages := 0
	for line := range strings.SplitSeq(rest, "\n") {
		if strings.Contains(line, "==") {
			packages++
		}
	}
	if packages < 100 || !strings.Contains(m.ran(), fmt.Sprintf("\n%d\n", packages)) {
		t.Errorf("the rest, %d packages, wasn't installed:\n%s", packages, m.ran())
	}

	// An index that answers and doesn't have it.
	m = newMachine(t)
	m.torchIndex = index.URL + "/cpu"
	m.fail("torch==2.11.0+cpu", "× No solution found")
	if _, err := m.install(t.Context(), DefaultVersion); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.out.String(), "it comes from PyPI") {
		t.Errorf("nobody is told:\n%s", m.out)
	}
}

func TestTwoProcessesInstallOnce(t *testing.T) {
	m := newMachine(t)
	var outs [2]bytes.Buffer
	var got [2]Installation
	var wg sync.WaitGroup
	for i := range got {
		each := m.installer
		each.progress = cache.NewProgress(&outs[i])
		wg.Go(func() {
			var err error
			if got[i], err = each.install(t.Context(), DefaultVersion); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got[0] != got[1] {
		t.Errorf("two places for one version: %v", got)
	}
	if n := strings.Count(outs[0].String()+outs[1].String(), "installed vLLM"); n != 1 {
		t.Errorf("installed %d times:\n%s%s", n, &outs[0], &outs[1])
	}
}

func TestAnInterruptedInstallationLeavesNothing(t *testing.T) {
	m := newMachine(t)
	running := filepath.Join(t.TempDir(), "running")
	t.Setenv("SLOW", running)
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := m.install(ctx, DefaultVersion)
		done <- err
	}()
	for {
		if _, err := os.Stat(running); err == nil {
			break
		}
		select {
		case err := <-done:
			t.Fatalf("it ended by itself: %v", err)
		default:
		}
	}
	interrupt()
	if err := <-done; err == nil || err.Error() != "installing vLLM 0.25.1: interrupted, nothing is left of it" {
		t.Errorf("got %v", err)
	}
	m.wantNothingLeft()
}

func TestWhatAKilledInstallationLeftIsRemovedAndNeverUsed(t *testing.T) {
	m := newMachine(t)
	half := filepath.Join(m.cache, "engine.unfinished-123")
	if err := os.MkdirAll(filepath.Join(half, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	i, err := m.install(t.Context(), DefaultVersion)
	if err != nil || strings.HasPrefix(i.Python, half) {
		t.Errorf("got %v, %v", i, err)
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("the half installation is still there")
	}
	removed, err := cache.Clean(t.Context(), m.cache, cacheKind, func() {})
	if err != nil || len(removed) != 1 {
		t.Errorf("cleaning removed %v, %v", removed, err)
	}
	m.wantNothingLeft()
}
