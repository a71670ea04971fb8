//go:build node

package node

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// assigned is what OpenShift's restricted-v2 does to pods: a user of the
// namespace's own range, where none is asked for. Those that ask for another are
// refused. The kind is what the chart knows OpenShift by.
const assigned = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: securitycontextconstraints.security.openshift.io }
spec:
  group: security.openshift.io
  names: { kind: SecurityContextConstraints, plural: securitycontextconstraints }
  scope: Cluster
  versions: [{ name: v1, served: true, storage: true, schema: { openAPIV3Schema: { type: object } } }]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: { name: openshift }
spec:
  matchConstraints:
    namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: openshift } }
    resourceRules: [{ apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods] }]
  validations:
    - expression: >-
        object.spec.securityContext.runAsUser == 1000680000 &&
        object.spec.containers.all(c, !has(c.securityContext.runAsUser) || c.securityContext.runAsUser == 1000680000)
      message: "runAsUser: must be in the ranges: [1000680000, 1000689999]"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: { name: openshift }
spec: { policyName: openshift, validationActions: [Deny] }
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: { name: openshift }
spec:
  matchConstraints:
    namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: openshift } }
    resourceRules: [{ apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods] }]
  matchConditions:
    - { name: none-given, expression: "!has(object.spec.securityContext.runAsUser)" }
  reinvocationPolicy: Never
  mutations:
    - patchType: ApplyConfiguration
      applyConfiguration:
        expression: >-
          Object{spec: Object.spec{securityContext: Object.spec.securityContext{runAsUser: 1000680000, fsGroup: 1000680000}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: { name: openshift }
spec: { policyName: openshift }
`

// Where the platform gives each namespace its users, the scaler runs as one of
// those, and the restricted standard admits it.
func TestWithoutAFixedUser(t *testing.T) {
	const namespace, user = "openshift", "1000680000"
	if err := shared.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	restricted(t, namespace)
	if err := shared.Apply(t.Context(), []byte(assigned)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, kind := range []string{"validatingadmissionpolicybinding", "validatingadmissionpolicy", "mutatingadmissionpolicybinding", "mutatingadmissionpolicy"} {
			shared.kubectl(t, "delete", kind, "openshift")
		}
		shared.kubectl(t, "delete", "crd", "securitycontextconstraints.security.openshift.io")
		shared.forget(t, "keda") // KEDA's certificate
	})
	eventually(t, "a user of nobody's choice is refused and none is given one", func() error {
		if err := tryUser(t, namespace, new(int64(65532))); err == nil {
			return errors.New("65532 is admitted")
		}
		return tryUser(t, namespace, nil)
	})
	install(t, namespace)
	wantPods(t, namespace)
	wantProcesses(t, user, "0")
}

// tryUser tells whether a pod is admitted that asks for a user, or for none.
func tryUser(t *testing.T, namespace string, user *int64) error {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "try"}, Spec: corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), RunAsUser: user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{{Name: "try", Image: vllmImage, SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}}},
	}}
	if err := shared.Client.Create(t.Context(), pod, client.DryRunAll); err != nil {
		return err
	}
	if got := pod.Spec.SecurityContext.RunAsUser; got == nil || *got != 1000680000 {
		return fmt.Errorf("it would run as %v", got)
	}
	return nil
}
