package docs

import (
	"go/ast"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/scaler"
	"github.com/kaito-project/keda-kaito-scaler/internal/scrape"
)

// catalogue notes each metric that is registered, with its labels.
type catalogue map[string]string

var description = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)

func (c catalogue) Register(collector prometheus.Collector) error {
	c.note(collector)
	return nil
}

func (c catalogue) note(collector prometheus.Collector) {
	descs := make(chan *prometheus.Desc, 100)
	collector.Describe(descs)
	close(descs)
	for desc := range descs {
		found := description.FindStringSubmatch(desc.String())
		c[found[1]] = found[2]
	}
}

func (c catalogue) MustRegister(collectors ...prometheus.Collector) {
	for _, collector := range collectors {
		c.note(collector)
	}
}

func (catalogue) Unregister(prometheus.Collector) bool { return false }

// nowhere is a reader of no fleets.
type nowhere struct{}

func (nowhere) Fleet(types.NamespacedName, policy.Page) (sample.Fleet, bool) {
	return sample.Fleet{}, false
}

// documented are the metrics in the tables of docs/metrics.md, with their labels.
func documented(text string) catalogue {
	metrics := catalogue{}
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		if name := codeIn(cells[1]); len(name) == 1 && strings.HasPrefix(name[0], "keda_kaito_scaler_") {
			metrics[name[0]] = strings.Join(codeIn(cells[2]), ",")
		}
	}
	return metrics
}

func TestMetricsAreThoseDocumented(t *testing.T) {
	registered := catalogue{}
	scrape.New(scrape.Config{Registerer: registered})
	scaler.NewMetrics(registered, nowhere{})
	registered.MustRegister((&scaler.Observer{}).UnpolledMetric())
	text := documented(read(t, "docs/metrics.md"))
	// The certificates' are registered with a manager only: the code has their
	// names, as it has any that are registered elsewhere.
	written := map[string]bool{}
	whole := regexp.MustCompile(`^keda_kaito_scaler_[a-z_]*[a-z]$`)
	err := eachFile(repository(), []string{"cmd", "internal"}, 0, func(name string, file *ast.File) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if expr, ok := node.(ast.Expr); ok {
				if name, ok := literal(expr); ok && whole.MatchString(name) {
					written[name] = true
				}
			}
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(written)), slices.Sorted(maps.Keys(text))); diff != "" {
		t.Errorf("metrics of docs/metrics.md (-code +document):\n%s", diff)
	}
	for name, labels := range registered {
		if text[name] != labels {
			t.Errorf("docs/metrics.md: labels of %s are %q, registered with %q", name, text[name], labels)
		}
	}
	if len(registered) < 15 {
		t.Errorf("only %d metrics were registered", len(registered))
	}
}

// Queries and alerts may name no series that there isn't.
func TestQueriesNameMetricsThatExist(t *testing.T) {
	text := read(t, "docs/metrics.md")
	known := documented(text)
	for _, name := range regexp.MustCompile(`keda_kaito_scaler_[a-z_]+`).FindAllString(text, -1) {
		if _, found := known[strings.TrimSuffix(name, "_bucket")]; !found {
			t.Errorf("docs/metrics.md names %s, which no table has", name)
		}
	}
}
