// Package chart tests the Helm chart with Helm itself, pinned in tools/helm:
// the first use builds it, which takes minutes.
package chart

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

const root = "../.."

// run runs a command at the root of the checkout.
func run(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	if testing.Short() {
		t.Skip("building Helm takes minutes: not with -short")
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = root
	// Like the Makefile: Helm needs no C compiler, and no workspace of the user's.
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off"), env...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	return out.String() + problems.String(), err
}

func helm(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	helmProgram.build.Do(func() {
		out, err := run(t, nil, "go", "build", "-modfile=tools/helm/go.mod", "-o", helmProgram.folder, "helm.sh/helm/v4/cmd/helm")
		if err != nil {
			t.Fatalf("building Helm: %v\n%s", err, out)
		}
	})
	return run(t, env, filepath.Join(helmProgram.folder, "helm"), args...)
}

// helmProgram is built once: go tool would look at its sources each time, and
// these tests run it hundreds of times.
var helmProgram struct {
	build  sync.Once
	folder string
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		folder, err := os.MkdirTemp("", "helm")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(folder) }()
		helmProgram.folder = folder + "/"
		return m.Run()
	}())
}

func TestWrongValuesAreRefused(t *testing.T) {
	for _, tt := range []struct{ story, set, want string }{
		{"a typo", "replicaCuont=2", "'replicaCuont'"},
		{"a typo beside the values of 0.6.2", "nameOverrider=,ports.healthProb=1", "'healthProb'"},
		{"a typo inside", "image.tagg=1", "'tagg'"},
		{"a typo of a monitor", "serviceMonitor.enable=true", "'enable'"},
		{"a typo two deep", "scrape.caConfigMap.nmae=ca", "'nmae'"},
		{"a typo in a list", "env[0].name=A,env[0].vaule=1", "'vaule'"},
		{"a typo of Kubernetes' words", "affinity.podAntiAffinity.prefered=1", "'prefered'"},
		{"text for a number", "replicaCount=two", "got string, want null or integer"},
		{"a number for text", "image.tag=7", "got number, want null or string"},
		{"text for a boolean", "networkPolicy.enabled=maybe", "got string, want null or boolean"},
		{"a time without a unit", "scrape.interval=5", "got number, want null or string"},
		{"a time in days", "certDuration=365d", "does not match pattern"},
		{"a port out of range", "ports.grpc=70000", "ports/grpc"},
		{"a pull policy that isn't one", "image.pullPolicy=Sometimes", "value must be one of 'Always', 'IfNotPresent', 'Never'"},
		{"a flag without dashes", "extraArgs={v=1}", "does not match pattern"},
		{"a typo of an alert", "prometheusRule.enabled=true,prometheusRule.alerts.ScalerDown.enabled=false", "prometheusRule.alerts.ScalerDown: there is no such alert, there are KEDAKaitoScalerDown, "},
		{"a typo in an alert", "prometheusRule.alerts.KEDADoesNotAsk.fro=5m", "'fro'"},
		{"no port to monitor", "podMonitor.enabled=true,ports.metrics=0", "need ports.metrics"},
		{"both monitors", "podMonitor.enabled=true,serviceMonitor.enabled=true", "would read each pod twice"},
		{"a token that a PodMonitor can't send", "podMonitor.enabled=true,metricsSecure=true", "use the serviceMonitor"},
		{"a CA for pods, and any certificate will do", "scrape.caConfigMap.name=ca,scrape.insecureSkipVerify=true", "set one"},
		{"an account from nowhere", "serviceAccount.create=false", "give serviceAccount.name"},
		{"an issuer without a name", "certManager.enabled=true,certManager.issuerRef.kind=Issuer", "certManager.issuerRef needs a name"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			out, err := helm(t, nil, "template", "charts/keda-kaito-scaler", "--set", tt.set)
			if err == nil {
				t.Fatalf("%s was accepted", tt.set)
			}
			if !strings.Contains(out, tt.want) {
				t.Errorf("%s was refused without %q: %v\n%s", tt.set, tt.want, err, out)
			}
		})
	}
}

// Whatever is set, the chart makes no Secret: an upgrade would put an empty one
// over the certificates that the scaler has written.
func TestTheChartMakesNoSecret(t *testing.T) {
	renders, err := filepath.Glob("*/render.yaml")
	if err != nil || len(renders) < 5 {
		t.Fatalf("renders %q: %v", renders, err)
	}
	for _, name := range renders {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`(?m)^kind: Secret$`).Match(text) {
			t.Errorf("%s has a Secret", name)
		}
	}
}

// The chart installs from the files that make chart-package writes, whoever
// serves them.
func TestTheChartInstallsFromAStaticWebServer(t *testing.T) {
	served := t.TempDir()
	if out, err := run(t, nil, "hack/chart.sh", "package", served); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(served)))
	t.Cleanup(server.Close)

	home := t.TempDir()
	env := []string{"HELM_CONFIG_HOME=" + home + "/config", "HELM_CACHE_HOME=" + home + "/cache", "HELM_DATA_HOME=" + home + "/data"}
	for _, args := range [][]string{
		{"repo", "add", "keda-kaito-scaler", server.URL},
		{"repo", "update"},
		{"install", "keda-kaito-scaler", "keda-kaito-scaler/keda-kaito-scaler", "-n", "keda", "--dry-run=client"},
	} {
		if out, err := helm(t, env, args...); err != nil {
			t.Fatalf("helm %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	got, err := helm(t, env, "template", "keda-kaito-scaler", "keda-kaito-scaler/keda-kaito-scaler", "-n", "keda")
	if err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	want, err := os.ReadFile("default/render.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Error("the packaged chart renders something else than the folder does")
	}
}
