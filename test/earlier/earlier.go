// Package earlier has objects of earlier generations for tests: what versions 0.3 to
// 0.6 wrote, what their users wrote, and what the charts of KAITO's production stack
// write. Their bytes stay as they are.
package earlier

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

//go:embed objects
var objects embed.FS

// names are the files that begin so, sorted.
func names(t *testing.T, prefixes ...string) []string {
	t.Helper()
	var found []string
	for _, prefix := range prefixes {
		files, err := fs.Glob(objects, "objects/"+prefix+"*.yaml")
		if err != nil || len(files) == 0 {
			t.Fatalf("no objects %s: %v", prefix, err)
		}
		for _, file := range files {
			found = append(found, strings.TrimPrefix(file, "objects/"))
		}
	}
	return found
}

// ScaledObjects are the names of all those that there are.
func ScaledObjects(t *testing.T) []string { t.Helper(); return names(t, "scaledobject-") }

// InferenceSets are the names of all those that there are.
func InferenceSets(t *testing.T) []string {
	t.Helper()
	return names(t, "inferenceset-", "modeldeployment-")
}

// ScaledObject is the one of that name, anew each time.
func ScaledObject(t *testing.T, name string) *kedav1alpha1.ScaledObject {
	t.Helper()
	so := &kedav1alpha1.ScaledObject{}
	if err := yaml.UnmarshalStrict(text(t, name), so); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", name, err))
	}
	return so
}

// InferenceSet is the one of that name, anew each time.
func InferenceSet(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text(t, name), &u.Object); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", name, err))
	}
	return u
}

func text(t *testing.T, name string) []byte {
	t.Helper()
	text, err := objects.ReadFile("objects/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
