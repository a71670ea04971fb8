package chart

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// object is the one of a kind in a render.
func object[T any](t *testing.T, render, kind string) T {
	t.Helper()
	var found T
	count := 0
	for document := range strings.SplitSeq(render, "\n---\n") {
		if !strings.Contains("\n"+document, "\nkind: "+kind+"\n") {
			continue
		}
		count++
		if err := yaml.UnmarshalStrict([]byte(document), &found); err != nil {
			t.Fatal(err)
		}
	}
	if count != 1 {
		t.Fatalf("%d of kind %s", count, kind)
	}
	return found
}

// What charts before 0.7.0 named so has the name still: Helm patches the objects
// in an upgrade and in a rollback, the Service finds old pods and new ones, and
// the account's rights are never gone. A selector can't be changed at all.
func TestNamesAreThoseOfEarlierCharts(t *testing.T) {
	for _, name := range []string{"default", "earlier"} {
		render := file(t, name+"/render.yaml")
		deployment := object[appsv1.Deployment](t, render, "Deployment")
		service := object[corev1.Service](t, render, "Service")
		binding := object[rbacv1.ClusterRoleBinding](t, render, "ClusterRoleBinding")

		selector := "app.kubernetes.io/instance: keda-kaito-scaler\napp.kubernetes.io/name: keda-kaito-scaler\n"
		want := map[string][2]string{
			"Deployment":         {deployment.Name, "keda-kaito-scaler"},
			"its selector":       {asYAML(t, deployment.Spec.Selector.MatchLabels), selector},
			"Service":            {service.Name, "keda-kaito-scaler-svc"},
			"Service's selector": {asYAML(t, service.Spec.Selector), selector},
			"account":            {deployment.Spec.Template.Spec.ServiceAccountName, "keda-kaito-scaler-sa"},
			"account made":       {object[corev1.ServiceAccount](t, render, "ServiceAccount").Name, "keda-kaito-scaler-sa"},
			"ClusterRole":        {object[rbacv1.ClusterRole](t, render, "ClusterRole").Name, "keda-kaito-scaler-clusterrole"},
			"role that is bound": {binding.RoleRef.Name, "keda-kaito-scaler-clusterrole"},
			"account with it":    {binding.Subjects[0].Name, "keda-kaito-scaler-sa"},
			"port of the Service": {
				asYAML(t, service.Spec.Ports[0]),
				asYAML(t, corev1.ServicePort{Name: "grpc", Port: 10450, TargetPort: intstr.FromString("grpc-server")}),
			},
		}
		for what, both := range want {
			if both[0] != both[1] {
				t.Errorf("%s: %s is %q, want %q", name, what, both[0], both[1])
			}
		}
		var ports []string
		for _, port := range deployment.Spec.Template.Spec.Containers[0].Ports {
			ports = append(ports, port.Name)
		}
		if got := strings.Join(ports, " "); got != "grpc-server metrics grpc-health" {
			t.Errorf("%s: the container's ports are %s", name, got)
		}
	}
}

func asYAML(t *testing.T, object any) string {
	t.Helper()
	text, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The pod of helm test is none of the Service's, or KEDA would call it.
func TestThePodOfHelmTestIsNoScaler(t *testing.T) {
	render := file(t, "default/render.yaml")
	pod := object[corev1.Pod](t, render, "Pod")
	service := object[corev1.Service](t, render, "Service")
	missing := 0
	for key, value := range service.Spec.Selector {
		if pod.Labels[key] != value {
			missing++
		}
	}
	if missing == 0 {
		t.Errorf("the Service selects %v, of which the pod has all: %v", service.Spec.Selector, pod.Labels)
	}
}
