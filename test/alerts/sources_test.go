package alerts

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/yaml"
)

// prometheusRule is as much of one as is looked at here.
type prometheusRule struct {
	Spec struct {
		Groups []map[string]any `json:"groups"`
	} `json:"spec"`
}

// object is the one of a kind in a golden render.
func object(t *testing.T, render, kind string, into any) {
	t.Helper()
	text, err := os.ReadFile(root + "test/chart/" + render + "/render.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		if strings.Contains(document, "\nkind: "+kind+"\n") {
			if err := yaml.Unmarshal([]byte(document), into); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("the render %s has no %s", render, kind)
}

// rendered are the rules of a golden render.
func rendered(t *testing.T, render string) []rulefmt.Rule {
	t.Helper()
	var resource prometheusRule
	object(t, render, "PrometheusRule", &resource)
	text, err := yaml.Marshal(resource.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return rulesIn(t, text)
}

func byName(t *testing.T, rules []rulefmt.Rule) map[string]rulefmt.Rule {
	t.Helper()
	all := map[string]rulefmt.Rule{}
	for _, rule := range rules {
		name := rule.Alert + rule.Record
		if _, twice := all[name]; twice {
			t.Errorf("two rules are called %s", name)
		}
		all[name] = rule
	}
	return all
}

// theAlerts are those that the chart renders, by their names.
func theAlerts(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	return byName(t, rendered(t, "cert-manager"))
}

// file are the rules of the file that stands in the documents.
func file(t *testing.T) []rulefmt.Rule {
	t.Helper()
	text, err := os.ReadFile(root + "charts/keda-kaito-scaler/files/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return rulesIn(t, text)
}

// same compares what rules say, wherever they stand.
func same(t *testing.T, want, got map[string]rulefmt.Rule) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheChartRendersTheFile(t *testing.T) {
	same(t, byName(t, file(t)), theAlerts(t))
}

// With test/chart/everything one alert is left out and others are changed.
func TestSingleAlertsAreChangedAndLeftOut(t *testing.T) {
	want := theAlerts(t)
	delete(want, "InferenceSetAtItsLimit")
	for _, rule := range want {
		rule.Labels["team"] = "platform"
	}
	down := want["KEDAKaitoScalerDown"]
	down.For, down.KeepFiringFor = down.For/2, down.For/2
	down.Labels["severity"] = "page"
	down.Annotations["runbook_url"] = "https://runbooks.example.com/scaler"
	want["KEDAKaitoScalerDown"] = down
	missing := want["InferenceSetMetricMissing"]
	missing.Expr = "max by (namespace, inferenceset) (keda_kaito_scaler_missing_metrics) > 1"
	want["InferenceSetMetricMissing"] = missing
	want["namespace:gpu_replicas:sum"] = rulefmt.Rule{
		Record: "namespace:gpu_replicas:sum",
		Expr:   "sum by (namespace) (max by (namespace, inferenceset) (keda_kaito_scaler_desired_replicas))",
	}
	same(t, want, byName(t, rendered(t, "everything")))
}

// template are what a rule's text has of a series.
var templated = regexp.MustCompile(`\{\{ \$(?:labels\.)?(\w+)[^}]* \}\}`)

// docs/metrics.md has a table of the alerts that says what they say.
func TestTheDocumentHasTheAlerts(t *testing.T) {
	var want strings.Builder
	want.WriteString("| alert | severity | after | says |\n|---|---|---|---|\n")
	for _, rule := range file(t) {
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", rule.Alert, rule.Labels["severity"], rule.For,
			templated.ReplaceAllString(rule.Annotations["summary"], "‹$1›"))
	}
	text, err := os.ReadFile(root + "docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), want.String()) {
		t.Errorf("docs/metrics.md doesn't have this table:\n%s", want.String())
	}
}

// Each alert says how bad it is, what is wrong and what to do.
func TestEachAlertSaysWhatToDo(t *testing.T) {
	for _, rule := range file(t) {
		if !slices.Contains([]string{"critical", "warning", "info"}, rule.Labels["severity"]) {
			t.Errorf("%s has the severity %q", rule.Alert, rule.Labels["severity"])
		}
		if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			t.Errorf("%s lacks a summary or a description", rule.Alert)
		}
		if rule.For == 0 {
			t.Errorf("%s fires on one scrape", rule.Alert)
		}
	}
}

var (
	tableRow    = regexp.MustCompile("(?m)^\\| `(keda_kaito_scaler_[a-z_]+)` \\|([^|]*)\\|")
	description = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
)

// known are the metrics with their labels: those of docs/metrics.md, which its
// own test holds to the code, and those of controller-runtime.
func known(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	text, err := os.ReadFile(root + "docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range tableRow.FindAllStringSubmatch(string(text), -1) {
		all[row[1]] = strings.FieldsFunc(row[2], func(r rune) bool { return strings.ContainsRune("`, ", r) })
	}
	collector, is := metrics.Registry.(prometheus.Collector)
	if !is {
		t.Fatal("the registry of controller-runtime doesn't tell what is in it")
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		collector.Describe(descs)
	}()
	for desc := range descs {
		if found := description.FindStringSubmatch(desc.String()); found != nil {
			all[found[1]] = strings.Split(found[2], ",")
		}
	}
	if len(all) < 40 {
		t.Errorf("only %d metrics are known", len(all))
	}
	return all
}

// A metric or a label that is renamed takes its alerts with it.
func TestAlertsSelectMetricsThatExist(t *testing.T) {
	metrics := known(t)
	selected := 0
	for _, rule := range file(t) {
		for _, selector := range selectors(t, rule) {
			selected++
			for _, wrong := range strangers(metrics, selector) {
				t.Errorf("%s selects %s", rule.Alert, wrong)
			}
		}
	}
	if selected < len(file(t)) {
		t.Errorf("%d selectors in %d alerts", selected, len(file(t)))
	}
}

// selectors are those of a rule.
func selectors(t *testing.T, rule rulefmt.Rule) []*parser.VectorSelector {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr)
	if err != nil {
		t.Fatal(err)
	}
	var all []*parser.VectorSelector
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, is := node.(*parser.VectorSelector); is {
			all = append(all, selector)
		}
		return nil
	})
	return all
}

// strangers are what a selector has that no metric has.
func strangers(metrics map[string][]string, selector *parser.VectorSelector) []string {
	has, found := metrics[selector.Name]
	if !found {
		return []string{selector.Name + ", which isn't known"}
	}
	var all []string
	for _, matcher := range selector.LabelMatchers {
		if matcher.Name != model.MetricNameLabel && !slices.Contains(has, matcher.Name) {
			all = append(all, fmt.Sprintf("%s by %s, which has %q", selector.Name, matcher.Name, has))
		}
	}
	return all
}

func TestAStrangeMetricIsNoticed(t *testing.T) {
	metrics := known(t)
	for text, want := range map[string]int{
		`keda_kaito_scaler_recommendation{confidence="unknown"}`: 0,
		`keda_kaito_scaler_recommendation{confidance="unknown"}`: 1,
		`keda_kaito_scaler_recommendations`:                      1,
		`leader_election_master_status{name="keda"}`:             0,
		`leader_election_master_status{lease="keda",x="keda"}`:   2,
	} {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := strangers(metrics, expr.(*parser.VectorSelector)); len(got) != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// What the stories make up, because it is registered with a manager alone, is
// named as the real thing.
func TestWhatIsMadeUpExists(t *testing.T) {
	metrics := known(t)
	w := &world{certificates: map[string]life{"server": {}}}
	w.leader.set("a")
	for line := range strings.Lines(w.managed(&replica{pod: "a", calls: map[string]int{"OK": 1}})) {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(line[:strings.LastIndexByte(line, ' ')])
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range strangers(metrics, expr.(*parser.VectorSelector)) {
			t.Errorf("made up: %s", wrong)
		}
	}
}

// With the monitors' own labels in the place of the metric's, one InferenceSet of
// two with the same name stands for both, in the scaler's namespace.
func TestMonitorsKeepTheNamespaceOfTheInferenceSet(t *testing.T) {
	var monitor struct {
		Spec struct {
			Endpoints []struct {
				HonorLabels bool `json:"honorLabels"`
			} `json:"podMetricsEndpoints"`
		} `json:"spec"`
	}
	object(t, "cert-manager", "PodMonitor", &monitor)
	server, from, to := live(t, func(w *world) {
		w.honorLabels = monitor.Spec.Endpoints[0].HonorLabels
		usual(w)
		w.set(func() { w.teamA().hung = true })
		w.passes(20 * time.Minute)
	})
	got := map[string]bool{}
	for _, f := range server.alerts(t, theAlerts(t)["InferenceSetLoadUnknown"], from, to) {
		got[f.labels["namespace"]+"/"+f.labels["inferenceset"]] = true
	}
	if want := []string{"team-a/phi-4"}; !slices.Equal(want, slices.Sorted(maps.Keys(got))) {
		t.Errorf("fired for %v, want %v", got, want)
	}
}
