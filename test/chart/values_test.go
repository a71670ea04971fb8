package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// template is what the chart renders with these arguments of Helm's, which is valid.
func template(t *testing.T, args ...string) string {
	t.Helper()
	out, err := helm(t, nil, append([]string{"template", "keda-kaito-scaler", "charts/keda-kaito-scaler", "-n", "keda"}, args...)...)
	if err != nil {
		t.Fatalf("helm template %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	valid(t, out)
	return out
}

func TestValuesDoWhatTheySay(t *testing.T) {
	const userID, group = "runAsUser:", "runAsGroup:"
	for _, tt := range []struct {
		story    string
		args     []string
		has, not []string
	}{
		{
			"a user is fixed", nil,
			[]string{"runAsUser: 65532", "runAsNonRoot: true"},
			nil,
		},
		{
			"none is on OpenShift",
			[]string{"--api-versions", "security.openshift.io/v1"},
			[]string{"runAsNonRoot: true", "type: RuntimeDefault"},
			[]string{userID, group},
		},
		{
			"one is, if it shall be",
			[]string{"--api-versions", "security.openshift.io/v1", "--set", "global.compatibility.openshift.adaptSecurityContext=disabled"},
			[]string{"runAsUser: 65532"},
			nil,
		},
		{
			"or if it is taken out",
			[]string{"--set", "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null"},
			[]string{"runAsNonRoot: true", "type: RuntimeDefault"},
			[]string{userID, group},
		},
		{
			"a right of the container's",
			[]string{"--set", "securityContext.readOnlyRootFilesystem=null"},
			[]string{"allowPrivilegeEscalation: false"},
			[]string{"readOnlyRootFilesystem"},
		},
		{
			"no Roles",
			[]string{"--set", "rbac.create=false"},
			[]string{"kind: ServiceAccount"},
			[]string{"kind: Role", "kind: ClusterRole"},
		},
		{
			"no account",
			[]string{"--set", "serviceAccount.create=false,serviceAccount.name=mine"},
			[]string{"serviceAccountName: mine"},
			[]string{"kind: ServiceAccount\nmetadata"},
		},
		{
			"a label everywhere, that can't replace the chart's",
			[]string{"--set", "commonLabels.team=platform", "--set", `commonLabels.app\.kubernetes\.io/name=other`},
			[]string{"team: \"platform\""},
			[]string{"name: other", "name: \"other\""},
		},
		{
			"a label of the pods goes before one of all objects",
			[]string{"--set", "commonLabels.team=platform,podLabels.team=pods"},
			[]string{"        team: \"pods\"", "    team: \"platform\""},
			[]string{"        team: \"platform\""},
		},
		{
			"a label of a monitor too",
			[]string{"--set", "commonLabels.release=all,serviceMonitor.enabled=true,serviceMonitor.labels.release=prometheus,prometheusRule.enabled=true,prometheusRule.labels.release=rules"},
			[]string{"release: \"prometheus\"\n", "release: \"rules\"\n", "release: \"all\"\n"},
			nil,
		},
		{
			"available instead of unavailable",
			[]string{"--set", "podDisruptionBudget.minAvailable=1"},
			[]string{"minAvailable: 1"},
			[]string{"maxUnavailable: 1"},
		},
		{
			"none needs to be available",
			[]string{"--set", "podDisruptionBudget.minAvailable=0"},
			[]string{"minAvailable: 0"},
			[]string{"maxUnavailable: 1"},
		},
		{
			"a registry for all charts",
			[]string{"--set", "global.imageRegistry=mirror.example.com,image.registry=elsewhere.example.com"},
			[]string{"image: mirror.example.com/kaito-project/"},
			[]string{"elsewhere.example.com", "ghcr.io"},
		},
		{
			"no registry at all",
			[]string{"--set", "image.registry="},
			[]string{"image: kaito-project/keda-kaito-scaler:"},
			nil,
		},
		{
			"a name of all objects, and the label stays",
			[]string{"--set", "fullnameOverride=scaler"},
			[]string{"name: scaler-svc", "name: scaler-sa", "--scaler-service-name=scaler-svc", "app.kubernetes.io/name: keda-kaito-scaler\n"},
			nil,
		},
		{
			"another namespace",
			[]string{"--set", "namespaceOverride=elsewhere"},
			[]string{"namespace: elsewhere", "--working-namespace=elsewhere"},
			[]string{"namespace: keda\n"},
		},
		{
			"any address at the API server's ports, as no other is known",
			[]string{"--set", "networkPolicy.enabled=true"},
			[]string{"        - port: 443\n        - port: 6443\n    # Inference"},
			nil,
		},
		{
			"the API server's addresses",
			[]string{"--set", "networkPolicy.enabled=true,networkPolicy.apiServerCIDRs={192.0.2.1/32}"},
			[]string{"        - port: 6443\n      to:\n        - ipBlock:\n            cidr: 192.0.2.1/32\n    # Inference"},
			nil,
		},
		{
			"a tag that is a number of a build",
			[]string{"--set-string", "image.tag=20261127"},
			[]string{"keda-kaito-scaler:20261127\n"},
			nil,
		},
	} {
		t.Run(tt.story, func(t *testing.T) {
			out := template(t, tt.args...)
			for _, line := range tt.has {
				if !strings.Contains(out, line) {
					t.Errorf("no %q in\n%s", line, out)
				}
			}
			for _, line := range tt.not {
				if strings.Contains(out, line) {
					t.Errorf("%q is in\n%s", line, out)
				}
			}
		})
	}
}

// umbrella is what a chart around this one renders with these values in it.
func umbrella(t *testing.T, values string) (string, error) {
	t.Helper()
	folder := t.TempDir()
	if err := os.CopyFS(filepath.Join(folder, "charts", "keda-kaito-scaler"), os.DirFS(root+"/charts/keda-kaito-scaler")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"Chart.yaml": file(t, "umbrella/Chart.yaml"), "values.yaml": values} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return helm(t, nil, "template", "production-stack", folder, "-n", "kaito-workspace")
}

// A chart around this one says whether it is there, where, and which values are
// for all charts.
func TestAsASubchart(t *testing.T) {
	for _, tt := range []struct{ story, values, want string }{
		{"it is there by default", "{}", "namespace: kaito-workspace\n"},
		{"it is there if it is wanted", "keda-kaito-scaler: {enabled: true, namespaceOverride: keda}", "name: keda-kaito-scaler\n  namespace: keda\n"},
		{"its values are null inside", "keda-kaito-scaler: {scrape: null, image: {tag: null}}", "--scrape-interval=5s\n"},
		{"global is null", "global: null", "image: ghcr.io/"},
		{"no user is fixed", "global: {compatibility: {openshift: {adaptSecurityContext: force}}}", "securityContext:\n        runAsNonRoot: true\n        seccompProfile:"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			out, err := umbrella(t, tt.values)
			if err != nil || !strings.Contains(out, tt.want) {
				t.Errorf("no %q in %v\n%s", tt.want, err, out)
			}
		})
	}
	t.Run("it isn't if it isn't wanted", func(t *testing.T) {
		if out, err := umbrella(t, "keda-kaito-scaler: {enabled: false}"); err != nil || strings.Contains(out, "kind:") {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("a typo is refused by name", func(t *testing.T) {
		if out, err := umbrella(t, "keda-kaito-scaler: {replicaCuont: 2}"); err == nil || !strings.Contains(out, "'replicaCuont'") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
