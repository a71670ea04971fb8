package chart

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// ours is the chart of this checkout, where helm runs.
const ours = "charts/keda-kaito-scaler"

// helm runs it as a user would, and returns what it prints.
func helm(t *testing.T, s *stack.Stack, args ...string) string {
	t.Helper()
	out, err := tryHelm(t, s, args...)
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// tryHelm returns what it prints, complaints included.
func tryHelm(t *testing.T, s *stack.Stack, args ...string) (string, error) {
	t.Helper()
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool", "-modfile=tools/helm/go.mod", "helm"}, args...)...)
	cmd.Dir = root
	home := filepath.Join(s.Dir(), "helm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "KUBECONFIG="+s.Kubeconfig(),
		"HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// earlierValues are the files of values of the earlier releases, by version.
func earlierValues(t *testing.T) map[string]string {
	t.Helper()
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "test", "chart", "testdata", "earlier", "values-v*.yaml"))
	if err != nil || len(files) != 6 {
		t.Fatalf("values %q: %v, want those of six releases", files, err)
	}
	all := map[string]string{}
	for _, file := range files {
		version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "values-v"), ".yaml")
		all[version] = file
	}
	return all
}

// earlierChart is the chart of the old shape with that release's values.
func earlierChart(t *testing.T, version string) string {
	t.Helper()
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), release)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "test", "cluster", "earlier", "chart"))); err != nil {
		t.Fatal(err)
	}
	rewrite(t, filepath.Join(dir, "Chart.yaml"), func(text []byte) []byte {
		return bytes.ReplaceAll(text, []byte("0.6.2"), []byte(version))
	})
	values, err := os.ReadFile(earlierValues(t)[version])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "values.yaml"), values, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func rewrite(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, change(text), fs.FileMode(0o600)); err != nil {
		t.Fatal(err)
	}
}

// appVersion is what the chart of this checkout installs.
func appVersion(t *testing.T) string {
	t.Helper()
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, ours, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if version, found := strings.CutPrefix(line, "appVersion:"); found {
			return strings.Trim(strings.TrimSpace(version), `"`)
		}
	}
	t.Fatal("the chart has no appVersion")
	return ""
}

func deployment(t *testing.T, s *stack.Stack, namespace string) *appsv1.Deployment {
	t.Helper()
	d := &appsv1.Deployment{}
	if err := s.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: release}, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// image is what a Deployment's pods run, without the registry.
func image(d *appsv1.Deployment) string {
	return strings.TrimPrefix(d.Spec.Template.Spec.Containers[0].Image, "ghcr.io/kaito-project/")
}
