package chart

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// schema is as much of a JSON schema as tells what an object may hold.
type schema struct {
	Type       json.RawMessage   `json:"type"`
	Additional json.RawMessage   `json:"additionalProperties"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
}

// open are the objects in which anything is let through: types of Kubernetes,
// which the API server checks, and what Helm shares among charts.
var open = []string{
	"env[].valueFrom", "topologySpreadConstraints[].labelSelector", "global", "global.imagePullSecrets[]",
	"podSecurityContext", "securityContext", "extraObjects[]",
	"objects[]", // volumes, rules of a NetworkPolicy, terms of an affinity
	"placement.requiredDuringSchedulingIgnoredDuringExecution",
}

// A typo is refused wherever it is made, or this list says why not.
func TestEveryObjectOfTheSchemaIsClosed(t *testing.T) {
	text, err := os.ReadFile(root + "/charts/keda-kaito-scaler/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		schema
		Definitions map[string]schema `json:"definitions"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	var found []string
	walk("", all.schema, &found)
	for name, definition := range all.Definitions {
		walk(name, definition, &found)
	}
	slices.Sort(found)
	want := slices.Sorted(slices.Values(open))
	if !slices.Equal(found, want) {
		t.Errorf("objects that take anything: %q, want %q", found, want)
	}
}

// walk collects the paths of objects that don't say what they may hold.
func walk(path string, s schema, found *[]string) {
	var kinds []string
	if json.Unmarshal(s.Type, &kinds) != nil {
		kinds = []string{string(s.Type)}
	}
	isObject := slices.Contains(kinds, "object") || slices.Contains(kinds, `"object"`)
	if isObject && (len(s.Additional) == 0 || string(s.Additional) == "true") {
		*found = append(*found, path)
	}
	for name, property := range s.Properties {
		if path != "" {
			name = path + "." + name
		}
		walk(name, property, found)
	}
	if s.Items != nil {
		walk(path+"[]", *s.Items, found)
	}
}
