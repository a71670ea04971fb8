package chart

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// registered is an API server where external metrics come from that Service; ""
// for nobody's.
func registered(name, namespace string) map[string]any {
	objects := map[string]any{
		"/apis": metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{
			group("apps"), group("rbac.authorization.k8s.io"), group("policy"), group("apiregistration.k8s.io"),
		}},
		"/apis/apiregistration.k8s.io/v1": resources("apiregistration.k8s.io/v1",
			metav1.APIResource{Name: "apiservices", Kind: "APIService", Verbs: metav1.Verbs{"get"}}),
		"/api/v1/namespaces/kube-system": corev1.Namespace{
			TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "kube-system"},
		},
	}
	if name != "" {
		objects["/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"] = map[string]any{
			"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": "v1beta1.external.metrics.k8s.io"},
			"spec": map[string]any{"service": map[string]any{"name": name, "namespace": namespace}},
		}
	}
	return objects
}

// Helm finds KEDA by itself where it may look, and the notes say the truth. The
// release is in namespace keda, as installInto has it.
func TestKEDAIsFoundWhereItIs(t *testing.T) {
	const warning, elsewhere = "WARNING: KEDA was not found in this cluster", "KEDA is in namespace keda-system, where the scaler keeps"
	for _, tt := range []struct {
		story           string
		name, namespace string
		args            []string
		// flag is that of the program, "" for none; says is in the notes.
		flag, says string
	}{
		{"beside the scaler", "keda-operator-metrics-apiserver", "keda", nil, "", ""},
		{"elsewhere", "keda-operator-metrics-apiserver", "keda-system", nil, "--keda-namespace=keda-system", elsewhere},
		{"elsewhere, as KEDA's own manifests name it", "keda-metrics-apiserver", "keda-system", nil, "--keda-namespace=keda-system", elsewhere},
		{"nowhere yet", "", "", nil, "", warning},
		{"somebody else's metrics", "datadog-metrics", "datadog", nil, "", warning},
		{"given, and found elsewhere", "keda-metrics-apiserver", "third", []string{"--set", "keda.namespace=keda-system"}, "--keda-namespace=keda-system", elsewhere},
		{"given, and not found", "", "", []string{"--set", "keda.namespace=keda"}, "", ""},
	} {
		t.Run(tt.story, func(t *testing.T) {
			out := installInto(t, cluster(t, registered(tt.name, tt.namespace)), tt.args...)
			if got := strings.Contains(out, "--keda-namespace="); got != (tt.flag != "") || !strings.Contains(out, tt.flag) {
				t.Errorf("--keda-namespace is rendered: %t, want %q", got, tt.flag)
			}
			role := "kind: Role\nmetadata:\n  name: keda-kaito-scaler-keda\n  namespace: keda-system\n"
			if got := strings.Contains(out, role); got != (tt.flag != "") {
				t.Errorf("a Role in KEDA's namespace: %t", got)
			}
			for _, note := range []string{warning, elsewhere} {
				if got := strings.Contains(out, note); got != (note == tt.says) {
					t.Errorf("the notes say %q: %t", note, got)
				}
			}
		})
	}
}

// Each Secret is in one Role: KEDA's in KEDA's namespace, the others in ours.
func TestTheRightToKEDAsSecretIsWhereKEDAIs(t *testing.T) {
	for values, want := range map[string]map[string]string{
		"": {"keda-kaito-scaler": "keda-kaito-scaler-ca keda-kaito-scaler-server-certs keda-kaito-scaler-client-certs"},
		"keda.namespace=elsewhere": {
			"keda-kaito-scaler": "keda-kaito-scaler-ca keda-kaito-scaler-server-certs", "keda-kaito-scaler-keda": "keda-kaito-scaler-client-certs",
		},
		"keda.namespace=elsewhere,certManager.enabled=true": {
			"keda-kaito-scaler": "keda-kaito-scaler-server-certs keda-kaito-scaler-client-certs", "keda-kaito-scaler-keda": "keda-kaito-scaler-client-certs",
		},
	} {
		out, err := helm(t, nil, "template", "keda-kaito-scaler", "charts/keda-kaito-scaler", "-n", "keda", "--set", values)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got := map[string]string{}
		for document := range strings.SplitSeq(out, "\n---\n") {
			if !strings.Contains(document, "\nkind: Role\n") {
				continue
			}
			_, after, _ := strings.Cut(document, "\n  name: ")
			name := strings.Fields(after)[0]
			for _, secret := range []string{"keda-kaito-scaler-ca", "keda-kaito-scaler-server-certs", "keda-kaito-scaler-client-certs"} {
				if strings.Contains(document, secret) {
					got[name] = strings.TrimSpace(got[name] + " " + secret)
				}
			}
		}
		if len(got) != len(want) {
			t.Errorf("%q: Secrets by Role are %v, want %v", values, got, want)
		}
		for role, secrets := range want {
			if got[role] != secrets {
				t.Errorf("%q: Role %s has %q, want %q", values, role, got[role], secrets)
			}
		}
	}
}
