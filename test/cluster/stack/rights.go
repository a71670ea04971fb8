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

// account is the ServiceAccount that the chart makes.
const account = "keda-kaito-scaler"

// manifests are what has to be there first: KAITO's CRDs and the scaler's
// account with its rights.
func manifests(o Options) ([][]byte, error) {
	objects, err := rights()
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
func rights() ([]any, error) {
	clusterRules, err := rules("cluster-rules.yaml")
	if err != nil {
		return nil, err
	}
	namespaceRules, err := rules("namespace-rules.yaml")
	if err != nil {
		return nil, err
	}
	meta := metav1.ObjectMeta{Name: account}
	local := metav1.ObjectMeta{Name: account, Namespace: Namespace}
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account, Namespace: Namespace}}
	kind := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: kind}
	}
	role := func(kind string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: account}
	}
	return []any{
		&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: local},
		&rbacv1.ClusterRole{TypeMeta: kind("ClusterRole"), ObjectMeta: meta, Rules: clusterRules},
		&rbacv1.ClusterRoleBinding{TypeMeta: kind("ClusterRoleBinding"), ObjectMeta: meta, RoleRef: role("ClusterRole"), Subjects: subjects},
		&rbacv1.Role{TypeMeta: kind("Role"), ObjectMeta: local, Rules: namespaceRules},
		&rbacv1.RoleBinding{TypeMeta: kind("RoleBinding"), ObjectMeta: local, RoleRef: role("Role"), Subjects: subjects},
	}, nil
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
