package stack

import (
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

// Account is the ServiceAccount that the chart makes. The roles of the tests have
// its name too.
const Account = "keda-kaito-scaler-sa"

// manifests are what has to be there first: KAITO's CRDs and the scaler's
// account with its rights.
func manifests(o Options) ([][]byte, error) {
	objects, err := rights(o)
	if err != nil {
		return nil, err
	}
	if !o.NoKAITO {
		crds, err := kaito.CRDs(o.Versions)
		if err != nil {
			return nil, err
		}
		for _, crd := range crds {
			objects = append(objects, crd)
		}
	}
	out := make([][]byte, 0, len(objects))
	for _, object := range objects {
		manifest, err := yaml.Marshal(object)
		if err != nil {
			return nil, fmt.Errorf("write a manifest: %w", err)
		}
		out = append(out, manifest)
	}
	return out, nil
}

// rights are the ServiceAccount and its roles, made of the very lists of rules
// that the chart's templates include.
func rights(o Options) ([]any, error) {
	clusterRules, err := rules("cluster-rules.yaml")
	if err != nil {
		return nil, err
	}
	namespaceRules, err := rules("namespace-rules.yaml")
	if err != nil {
		return nil, err
	}
	kedaRules, err := rules("keda-rules.yaml")
	if err != nil {
		return nil, err
	}
	kind := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: kind}
	}
	ref := func(kind, name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
	}
	at := func(name, namespace string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: namespace}
	}
	own := o.namespace()
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: Account, Namespace: own}}
	var all []any
	if own != Namespace {
		all = append(all, &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: at(own, "")})
	}
	all = append(
		all,
		&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: at(Account, own)},
		&rbacv1.ClusterRole{TypeMeta: kind("ClusterRole"), ObjectMeta: at(Account, ""), Rules: clusterRules},
		&rbacv1.ClusterRoleBinding{TypeMeta: kind("ClusterRoleBinding"), ObjectMeta: at(Account, ""), RoleRef: ref("ClusterRole", Account), Subjects: subjects},
	)
	const inKEDAs = Account + "-keda"
	for _, role := range []struct {
		metav1.ObjectMeta
		rules []rbacv1.PolicyRule
	}{{at(Account, own), namespaceRules}, {at(inKEDAs, Namespace), kedaRules}, {at(inKEDAs, own), kedaRules}} {
		// The scaler may be told that KEDA is beside it, rightly or not.
		all = append(
			all,
			&rbacv1.Role{TypeMeta: kind("Role"), ObjectMeta: role.ObjectMeta, Rules: role.rules},
			&rbacv1.RoleBinding{TypeMeta: kind("RoleBinding"), ObjectMeta: role.ObjectMeta, RoleRef: ref("Role", role.Name), Subjects: subjects},
		)
	}
	return all, nil
}

func rules(file string) ([]rbacv1.PolicyRule, error) {
	root, err := controlplane.Root()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(root, "charts", "keda-kaito-scaler", "files", file)
	data, err := os.ReadFile(path) //nolint:gosec // a file of this checkout
	if err != nil {
		return nil, fmt.Errorf("read the chart's rights: %w", err)
	}
	var list []rbacv1.PolicyRule
	if err := yaml.UnmarshalStrict(data, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return list, nil
}
