//go:build node

package node

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const release = "keda-kaito-scaler"

// next is another tag of the scaler's image: a rollout replaces pods for it.
const next = "next"

// helm runs it as a user would, and returns what it prints.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, shared.made("helm"), args...)
	cmd.Dir = shared.root
	cmd.Env = append(os.Environ(), "KUBECONFIG="+shared.Kubeconfig(),
		"HELM_CACHE_HOME="+filepath.Join(shared.place.Dir, "helm"), "HELM_CONFIG_HOME="+filepath.Join(shared.place.Dir, "helm"))
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm %s: %v\n%s%s", strings.Join(args, " "), err, out, problems.String())
	}
	return string(out)
}

// chart is how each install and upgrade names the chart and its image, which is
// on the node already; values are further ones, or flags.
func chart(namespace, tag string, values ...string) []string {
	args := []string{
		release, "charts/keda-kaito-scaler", "--namespace", namespace, "--wait", "--timeout", "3m",
		"--set", "image.pullPolicy=Never", "--set", "image.tag=" + tag,
		// The pace of a test.
		"--set", "scrape.interval=1s", "--set", "scrape.timeout=900ms",
	}
	for _, value := range values {
		if strings.HasPrefix(value, "--") {
			args = append(args, value)
			continue
		}
		args = append(args, "--set", value)
	}
	return args
}

// install installs the chart and returns its notes. It is gone with the test.
func install(t *testing.T, namespace string, values ...string) string {
	t.Helper()
	notes := helm(t, append([]string{"install"}, chart(namespace, shared.tag, values...)...)...)
	t.Cleanup(func() { uninstall(t, namespace) })
	return notes
}

// uninstall is what NOTES.txt tells to do, but for the InferenceSets.
func uninstall(t *testing.T, namespace string) {
	t.Helper()
	helm(t, "uninstall", release, "--namespace", namespace, "--wait", "--ignore-not-found")
	shared.forget(t, namespace)
}
