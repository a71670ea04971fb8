package chart

import (
	"bufio"
	"bytes"
	"context"
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

// Both commands of the README, but for their hosts, install what the release
// workflow would publish of this checkout. Whoever goes over from one place to
// the other changes nothing.
func TestAReleaseInstallsFromWhereItIsPublished(t *testing.T) {
	s := start(t, stack.Options{Bare: true})
	version := chartVersion(t)
	address := serveRelease(t, version)
	helm := func(args ...string) {
		t.Helper()
		inRoot(t, []string{
			"KUBECONFIG=" + s.Kubeconfig(), "HELM_CACHE_HOME=" + s.Dir() + "/helm", "HELM_CONFIG_HOME=" + s.Dir() + "/helm",
		}, "go", append([]string{"tool", "-modfile=tools/helm/go.mod", "helm"}, args...)...)
	}
	helm("repo", "add", release, "http://"+address+"/keda-kaito-scaler/charts/kaito-project")
	var first *appsv1.Deployment
	for _, from := range []string{"keda-kaito-scaler/keda-kaito-scaler", "oci://" + address + "/kaito-project/charts/keda-kaito-scaler"} {
		args := []string{"upgrade", "--install", release, from, "--namespace", stack.Namespace}
		if strings.HasPrefix(from, "oci:") {
			args = append(args, "--plain-http")
		}
		helm(args...)
		d := &appsv1.Deployment{}
		if err := s.Client.Get(t.Context(), client.ObjectKey{Namespace: stack.Namespace, Name: release}, d); err != nil {
			t.Fatal(err)
		}
		want := "ghcr.io/kaito-project/keda-kaito-scaler:" + version
		if got := d.Spec.Template.Spec.Containers[0].Image; got != want {
			t.Errorf("from %s: the image is %s, want %s", from, got, want)
		}
		if first == nil {
			first = d
		}
		if d.UID != first.UID || d.Generation != first.Generation {
			t.Errorf("from %s: the Deployment isn't the one from the chart repository", from)
		}
	}
	helm("uninstall", release, "--namespace", stack.Namespace)
}

// chartVersion is that of this checkout's chart, and so of its release.
func chartVersion(t *testing.T) string {
	t.Helper()
	text := inRoot(t, nil, "cat", "charts/keda-kaito-scaler/Chart.yaml")
	for line := range strings.Lines(text) {
		if version, found := strings.CutPrefix(line, "version: "); found {
			return strings.TrimSpace(version)
		}
	}
	t.Fatal("the chart has no version")
	return ""
}

// serveRelease makes the chart repository of a release of this checkout, serves
// it and a registry with the chart, and returns their address.
func serveRelease(t *testing.T, version string) string {
	t.Helper()
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "release")
	env := []string{"DRY_RUN=1", "RELEASE_DIR=" + dir, "PREVIOUS=tools/release/testdata/index.yaml"}
	inRoot(t, env, "hack/release.sh", "chart", version)

	// It is stopped below: the test's context ends before that.
	server := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(root, "bin", "release"), "serve", dir)
	var problems bytes.Buffer
	server.Stderr = &problems
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(out).ReadString('\n')
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt)
		if err := server.Wait(); err != nil {
			t.Errorf("the server ended with %v: %s", err, problems.String())
		}
	})
	if readErr != nil {
		t.Fatalf("no address: %v", readErr)
	}
	address := strings.TrimSpace(line)
	inRoot(t, env, "hack/release.sh", "push-chart", address+"/kaito-project")
	return address
}

// inRoot runs a command at the root of the checkout and returns what it prints.
func inRoot(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = root
	// The race detector's compiler is none of Helm's business.
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off"), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
