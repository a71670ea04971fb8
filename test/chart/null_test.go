package chart

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// keys are the paths of all keys of the values, such as [image tag].
func keys(values map[string]any, prefix ...string) [][]string {
	var out [][]string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		path := append(slices.Clone(prefix), key)
		out = append(out, path)
		if inner, ok := values[key].(map[string]any); ok {
			out = append(out, keys(inner, path...)...)
		}
	}
	return out
}

// nulled are the values with null at a path.
func nulled(t *testing.T, text string, path []string) string {
	t.Helper()
	values := parse(t, text)
	at := values
	for _, key := range path[:len(path)-1] {
		inner, ok := at[key].(map[string]any)
		if !ok {
			inner = map[string]any{}
			at[key] = inner
		}
		at = inner
	}
	at[path[len(path)-1]] = nil
	out, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var values map[string]any
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// refusals are of keys without which others that are given mean nothing: there
// the chart says what is missing.
var refusals = map[string]string{"scrape.caConfigMap.name": "scrape.caConfigMap needs a name"}

// Whatever is null or missing, the chart renders: with its own defaults, with
// everything enabled, and with no defaults at all, where Helm leaves null as it is.
func TestWhateverIsNullTheChartRenders(t *testing.T) {
	everything := file(t, "everything/values.yaml")
	bare := chartWith(t, "{}\n")
	paths := keys(parse(t, file(t, root+"/charts/keda-kaito-scaler/values.yaml")))
	for _, path := range keys(parse(t, everything)) {
		if !slices.ContainsFunc(paths, func(known []string) bool { return slices.Equal(known, path) }) {
			paths = append(paths, path)
		}
	}
	if len(paths) < 90 {
		t.Fatalf("%d keys: %q", len(paths), paths)
	}
	for _, path := range paths {
		name := strings.Join(path, ".")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, tt := range []struct{ story, chart, values string }{
				{"its defaults", "charts/keda-kaito-scaler", nulled(t, "{}", path)},
				{"everything enabled", "charts/keda-kaito-scaler", nulled(t, everything, path)},
				{"no defaults, everything enabled", bare, nulled(t, everything, path)},
			} {
				values := filepath.Join(t.TempDir(), "values.yaml")
				if err := os.WriteFile(values, []byte(tt.values), 0o600); err != nil {
					t.Fatal(err)
				}
				out, err := helm(t, nil, "template", "keda-kaito-scaler", tt.chart, "-n", "keda", "--values", values)
				if err != nil && (refusals[name] == "" || !strings.Contains(out, refusals[name])) {
					t.Errorf("%s, and %s null: %v\n%s", tt.story, name, err, out)
				}
				if strings.Contains(out, "<no value>") || strings.Contains(out, "<nil>") {
					t.Errorf("%s, and %s null:\n%s", tt.story, name, out)
				}
				if err == nil {
					valid(t, out)
				}
			}
		})
	}
}

// A value that is missing means what it does by default.
func TestWithoutAnyDefaultTheChartIsTheSame(t *testing.T) {
	out, err := helm(t, nil, "template", "keda-kaito-scaler", chartWith(t, "{}\n"), "-n", "keda")
	if err != nil {
		t.Fatal(err)
	}
	if out != file(t, "default/render.yaml") {
		t.Errorf("without values the chart renders\n%s", out)
	}
}
