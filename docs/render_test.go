package docs

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// example is what an InferenceSet of examples asks for.
func example(t *testing.T, file string) policy.Policy {
	t.Helper()
	var u unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(read(t, "examples/"+file)), &u.Object); err != nil {
		t.Fatal(err)
	}
	p, _, err := policy.Parse(policy.Request{Name: u.GetName(), Annotations: u.GetAnnotations()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What pages show of render --explain is what it prints.
func TestExplanationsAreThoseOfRender(t *testing.T) {
	for file, page := range map[string]string{
		"phi-4.yaml": "docs/configuration.md", automaticExample: "docs/automatic-mode.md",
	} {
		want := fmt.Sprintf("$ keda-kaito-scaler render --explain -f examples/%s\n# %s\n", file,
			strings.Join(policy.Explain(example(t, file)), "\n# "))
		if !strings.Contains(read(t, page), "\n```console\n"+want) {
			t.Errorf("%s doesn't show what render prints:\n%s", page, want)
		}
	}
}

// The defaults of the SLO stand in tables.
func TestTheSLOOfThePagesIsTheDefault(t *testing.T) {
	text := read(t, "docs/configuration.md")
	for _, row := range []string{
		fmt.Sprintf("| `ttft-slo` | `\"%s\"` |", policy.DefaultTTFT),
		fmt.Sprintf("| `itl-slo` | `\"%s\"` |", policy.DefaultITL),
		fmt.Sprintf("| `ttftSLO`, `itlSLO` | `%s`, `%s` |", policy.DefaultTTFT, policy.DefaultITL),
	} {
		if !strings.Contains(text, row) {
			t.Errorf("docs/configuration.md has no row that begins %s", row)
		}
	}
}

const automaticExample = "saturation.yaml"
