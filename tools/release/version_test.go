package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// Whoever builds it, and however: --version says what it is.
func TestEveryBuildKnowsItsVersion(t *testing.T) {
	tagged := checkout(t)
	sha := strings.TrimSpace(shell(t, tagged, nil, "git", "rev-parse", "HEAD"))
	changed := checkout(t)
	appendTo(t, filepath.Join(changed, "go.mod"), "// changed\n")
	shell(t, changed, nil, "git", "commit", "-q", "-a", "-m", "after the release")
	after := strings.TrimSpace(shell(t, changed, nil, "git", "rev-parse", "HEAD"))
	appendTo(t, filepath.Join(changed, "go.mod"), "// and not committed\n")

	for _, tt := range []struct {
		story string
		build func(t *testing.T, into string)
		want  string
	}{
		{"go build of the tag", func(t *testing.T, into string) {
			shell(t, tagged, nil, "go", "build", "-o", into, "./cmd/keda-kaito-scaler")
		}, "0.7.0 " + sha},
		// Packagers switch stamping off for the sake of other projects.
		{"make build, whatever GOFLAGS says", func(t *testing.T, into string) {
			shell(t, tagged, []string{"GOFLAGS=-buildvcs=false"}, "make", "build", "BIN="+filepath.Dir(into))
		}, "0.7.0 " + sha},
		{"make build of a change that isn't committed", func(t *testing.T, into string) {
			shell(t, changed, nil, "make", "build", "BIN="+filepath.Dir(into))
		}, `0\.7\.1-0\.\d{14}-` + after[:12] + `\+dirty ` + after},
		{"the release's builder", func(t *testing.T, into string) { builder(t, tagged, "0.7.0", into) }, "0.7.0 " + sha},
		{"the release's builder, of a change that isn't committed", func(t *testing.T, into string) {
			builder(t, changed, "0.7.0", into)
		}, `0\.7\.0\+dirty ` + after},
		{"make image", func(t *testing.T, into string) { builder(t, tagged, "", into) }, "0.7.0 " + sha},
		{"the Dockerfile with VERSION", func(t *testing.T, into string) { dockerfile(t, "v0.7.0", into) }, "0.7.0"},
		// There is no .git for Go to ask: better nothing than the last release's.
		{"the Dockerfile without", func(t *testing.T, into string) { dockerfile(t, "", into) }, "devel"},
		{"go install of the tag", func(t *testing.T, into string) { goInstall(t, tagged, into) }, "0.7.0"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			into := filepath.Join(t.TempDir(), "keda-kaito-scaler")
			tt.build(t, into)
			got := strings.TrimSpace(shell(t, "", nil, into, "--version"))
			want := regexp.MustCompile(`^keda-kaito-scaler version ` + tt.want + ` ` + runtime.Version() + `$`)
			if !want.MatchString(got) {
				t.Errorf("got %q, want %s", got, want)
			}
		})
	}
}

// checkout is what the program is built of, as it is now, committed and tagged.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name := range strings.SplitSeq(shell(t, root, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard",
		"Makefile", "Dockerfile", "go.mod", "go.sum", "cmd", "internal"), "\x00") {
		text, err := os.ReadFile(filepath.Join(root, name))
		if name == "" || errors.Is(err, fs.ErrNotExist) { // removed, and not yet committed
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	shell(t, dir, nil, "git", "init", "-q")
	shell(t, dir, nil, "git", "add", "-A")
	shell(t, dir, nil, "git", "commit", "-q", "-m", "a release")
	shell(t, dir, nil, "git", "tag", "v0.7.0")
	return dir
}

func builder(t *testing.T, dir, version, into string) {
	t.Helper()
	b, err := build(t.Context(), dir, runtime.GOOS+"/"+runtime.GOARCH, version)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(into, b.binary, 0o755); err != nil {
		t.Fatal(err)
	}
}

// dockerfile does what the Dockerfile's first stage does, with what .dockerignore
// lets through. A version of "" isn't given.
func dockerfile(t *testing.T, version, into string) {
	t.Helper()
	text, err := os.ReadFile(root + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stage, _, _ := strings.Cut(strings.ReplaceAll(string(text), "\\\n", " "), "FROM scratch")
	src, env := t.TempDir(), []string{"TARGETOS=" + runtime.GOOS, "TARGETARCH=" + runtime.GOARCH}
	for line := range strings.Lines(stage) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch words := strings.Fields(rest); instruction {
		case "ARG":
			name, value, given := strings.Cut(words[0], "=")
			if version != "" && name == "VERSION" {
				value = version
			}
			if given {
				env = append(env, name+"="+value)
			}
		case "COPY":
			for _, name := range words[:len(words)-1] {
				shell(t, root, nil, "cp", "-R", name, filepath.Join(src, words[len(words)-1]))
			}
		case "RUN":
			if !strings.Contains(rest, "go mod download") {
				shell(t, src, env, "sh", "-c", strings.ReplaceAll(rest, "-o "+program, "-o "+into))
			}
		}
	}
}

// goInstall gets the module from a proxy, as users do. The proxy is a folder, and
// what Go keeps of modules goes into another, so that this "v0.7.0" is nobody's.
func goInstall(t *testing.T, dir, into string) {
	t.Helper()
	const module = "github.com/kaito-project/keda-kaito-scaler"
	proxy := t.TempDir()
	versions := filepath.Join(proxy, module, "@v")
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(versions, "v0.7.0.mod"), string(mod))
	write(t, filepath.Join(versions, "v0.7.0.info"), `{"Version":"v0.7.0"}`)
	write(t, filepath.Join(versions, "list"), "v0.7.0\n")
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name := range strings.SplitSeq(strings.TrimSpace(shell(t, dir, nil, "git", "ls-files")), "\n") {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f, err := w.Create(module + "@v0.7.0/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(versions, "v0.7.0.zip"), b.String())

	downloaded := strings.TrimSpace(shell(t, root, nil, "go", "env", "GOMODCACHE")) + "/cache/download"
	shell(t, t.TempDir(), []string{
		"GOBIN=" + filepath.Dir(into), "GOMODCACHE=" + t.TempDir(), "GOFLAGS=-buildvcs=auto -modcacherw -trimpath",
		"GONOSUMDB=" + module, "GOPROXY=file://" + proxy + ",file://" + downloaded + "," + strings.TrimSpace(shell(t, root, nil, "go", "env", "GOPROXY")),
	}, "go", "install", module+"/cmd/keda-kaito-scaler@v0.7.0")
}

// shell runs a command as on a user's machine: stamping versions as Go does unless
// told otherwise, and without this machine's configuration of git.
func shell(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=auto", "GOWORK=off", "CGO_ENABLED=0", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	cmd.Env = append(cmd.Env, env...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, problems.String())
	}
	return string(out)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, name, text string) {
	t.Helper()
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, string(before)+text)
}
