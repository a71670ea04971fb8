package chart

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// cluster answers Helm as an API server that has these objects, by their paths,
// and nothing else. It takes no writes.
func cluster(t *testing.T, objects map[string]any) string {
	t.Helper()
	resource := func(name, kind string, namespaced bool) metav1.APIResource {
		return metav1.APIResource{Name: name, Kind: kind, Namespaced: namespaced, Verbs: metav1.Verbs{"get", "list", "create", "patch"}}
	}
	answers := map[string]any{
		"/version": map[string]string{"major": "1", "minor": "35", "gitVersion": "v1.35.0"},
		"/api":     metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: []string{"v1"}},
		"/apis": metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{
			group("apps"), group("rbac.authorization.k8s.io"), group("policy"),
		}},
		"/api/v1": resources("v1",
			resource("namespaces", "Namespace", false), resource("secrets", "Secret", true),
			resource("services", "Service", true), resource("serviceaccounts", "ServiceAccount", true)),
		"/apis/apps/v1": resources("apps/v1", resource("deployments", "Deployment", true)),
		"/apis/rbac.authorization.k8s.io/v1": resources("rbac.authorization.k8s.io/v1",
			resource("clusterroles", "ClusterRole", false), resource("clusterrolebindings", "ClusterRoleBinding", false),
			resource("roles", "Role", true), resource("rolebindings", "RoleBinding", true)),
		"/apis/policy/v1": resources("policy/v1", resource("poddisruptionbudgets", "PodDisruptionBudget", true)),
		// Helm keeps its releases in Secrets: there are none.
		"/api/v1/namespaces/keda/secrets": corev1.SecretList{TypeMeta: metav1.TypeMeta{Kind: "SecretList", APIVersion: "v1"}},
	}
	maps.Copy(answers, objects)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, found := answers[r.URL.Path]
		w.Header().Set("Content-Type", "application/json")
		if !found {
			w.WriteHeader(http.StatusNotFound)
			answer = metav1.Status{
				TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
				Status:   metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound,
			}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func group(name string) metav1.APIGroup {
	version := metav1.GroupVersionForDiscovery{GroupVersion: name + "/v1", Version: "v1"}
	return metav1.APIGroup{Name: name, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version}
}

func resources(version string, list ...metav1.APIResource) metav1.APIResourceList {
	return metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: version, APIResources: list}
}

// installInto is what helm install would print, and do, on a cluster.
func installInto(t *testing.T, address string, args ...string) string {
	t.Helper()
	out, err := helm(t, []string{"KUBECONFIG="}, append([]string{
		"install", "keda-kaito-scaler", "charts/keda-kaito-scaler", "-n", "keda", "--dry-run=server",
		"--kube-apiserver", address, "--disable-openapi-validation",
	}, args...)...)
	if err != nil {
		t.Fatalf("helm install %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// An earlier chart made the Secrets of the certificates. They stay the release's,
// or Helm would delete them in the upgrade and couldn't roll back; what is in them
// isn't the chart's. Nobody else's Secret becomes the release's.
func TestSecretsOfAnEarlierChartStay(t *testing.T) {
	secret := func(name, release string) corev1.Secret {
		s := corev1.Secret{TypeMeta: metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"}}
		s.Name, s.Namespace, s.Type = name, "keda", corev1.SecretTypeOpaque
		s.Data = map[string][]byte{"ca.crt": []byte("certificate")}
		if release != "" {
			s.Labels = map[string]string{"app.kubernetes.io/managed-by": "Helm"}
			s.Annotations = map[string]string{"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": "keda"}
		}
		return s
	}
	const server, client = "keda-kaito-scaler-server-certs", "keda-kaito-scaler-client-certs"
	const made = "---\n# Source: keda-kaito-scaler/templates/earlier-secrets.yaml\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: keda\ntype: Opaque\n"
	for _, tt := range []struct {
		story   string
		release string
		want    int
	}{
		{"of an earlier chart", "keda-kaito-scaler", 2},
		{"the scaler's own", "", 0},
		{"of another release", "other", 0},
	} {
		t.Run(tt.story, func(t *testing.T) {
			out := installInto(t, cluster(t, map[string]any{
				"/api/v1/namespaces/keda/secrets/" + server: secret(server, tt.release),
				"/api/v1/namespaces/keda/secrets/" + client: secret(client, tt.release),
			}))
			if got := strings.Count(out, "kind: Secret\n"); got != tt.want {
				t.Errorf("%d Secrets, want %d", got, tt.want)
			}
			for _, name := range []string{server, client} {
				if got := strings.Contains(out, strings.ReplaceAll(made, "%s", name)); got != (tt.want > 0) {
					t.Errorf("%s is in the release: %t, in\n%s", name, got, out)
				}
			}
		})
	}
}
