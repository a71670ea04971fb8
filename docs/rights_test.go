package docs

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// verbs are those of RBAC that a table may name.
var verbs = []string{"get", "list", "watch", "create", "patch", "update", "delete", "deletecollection", "bind", "escalate", "impersonate"}

// toldRights are the rights in the tables of a text, as "verb resource", and as
// "resource of name" what a right is limited to.
func toldRights(markdown string) []string {
	told := map[string]bool{}
	for line := range strings.Lines(markdown) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		named, what, found := strings.Cut(cell, ":")
		if !strings.HasPrefix(line, "| `") || !found {
			continue
		}
		for _, resource := range codeIn(named) {
			for _, word := range strings.FieldsFunc(what, func(r rune) bool { return strings.ContainsRune(" ,;", r) }) {
				if slices.Contains(verbs, word) {
					told[word+" "+resource] = true
				}
			}
			for _, name := range codeIn(what) {
				told[resource+" of "+name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(told))
}

// grantedRights are those of the chart's lists, in the same words.
func grantedRights(repository fs.FS, files ...string) ([]string, error) {
	granted := map[string]bool{}
	for _, file := range files {
		text, err := fs.ReadFile(repository, "charts/keda-kaito-scaler/files/"+file)
		if err != nil {
			return nil, err
		}
		var rules []rbacv1.PolicyRule
		if err := yaml.UnmarshalStrict(text, &rules); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, rule := range rules {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					granted[verb+" "+resource] = true
				}
				for _, name := range rule.ResourceNames {
					granted[resource+" of "+name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(granted)), nil
}

// Whoever reads docs/security.md reads what the chart grants.
func TestTheRightsAreToldAsTheyAreGranted(t *testing.T) {
	repository := os.DirFS("..")
	text, err := fs.ReadFile(repository, "docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	granted, err := grantedRights(repository, "cluster-rules.yaml", "namespace-rules.yaml", "keda-rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if told := toldRights(section(string(text), "Rights")); !slices.Equal(told, granted) {
		t.Errorf("docs/security.md tells of\n%q\nand the chart grants\n%q", told, granted)
	}
	if got := toldRights("| `a`, `b`: get; of `c` alone | `d`: list |\n"); !slices.Equal(got, []string{"a of c", "b of c", "get a", "get b"}) {
		t.Errorf("a row is read as %q", got)
	}
}
