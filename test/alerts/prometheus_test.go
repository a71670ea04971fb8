// Package alerts tests the chart's alerts with Prometheus' own engine, on what
// the scaler's registry says while a cluster lives through a story. It has
// nothing but tests.
package alerts

import (
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/template"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// scrapeEvery is how often targets are scraped and rules evaluated.
const scrapeEvery = 30 * time.Second

// server is as much of a Prometheus as alerts need: it labels what it
// scrapes, and marks series as stale that a target no longer has.
type server struct {
	series map[string]*series
	// seen are the series of each target's newest scrape.
	seen map[string]map[string]bool
	// honorLabels is as in a scrape configuration.
	honorLabels bool
	// keeps are the metrics that are stored: those that alerts select.
	keeps map[string]bool
}

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// point implements chunks.Sample.
type point struct {
	at    int64
	value float64
}

func (s point) T() int64                    { return s.at }
func (point) ST() int64                     { return 0 }
func (s point) F() float64                  { return s.value }
func (point) H() *histogram.Histogram       { return nil }
func (point) FH() *histogram.FloatHistogram { return nil }
func (point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s point) Copy() chunks.Sample         { return s }

func newServer(t *testing.T) *server {
	t.Helper()
	p := &server{series: map[string]*series{}, seen: map[string]map[string]bool{}, honorLabels: true, keeps: map[string]bool{}}
	for _, rule := range theAlerts(t) {
		for _, selector := range selectors(t, rule) {
			p.keeps[selector.Name] = true
		}
	}
	return p
}

// target are the labels that a ServiceMonitor's scrape adds for a pod.
func target(pod string) map[string]string {
	return map[string]string{
		"namespace": "keda", "pod": pod, "instance": pod + ":10451", "container": "keda-kaito-scaler",
		"endpoint": "metrics", "service": "keda-kaito-scaler-svc", "job": "keda-kaito-scaler-svc",
	}
}

// scrape stores a pod's page.
func (p *server) scrape(t *testing.T, pod string, at time.Time, page []*dto.MetricFamily) {
	t.Helper()
	page = slices.DeleteFunc(page, func(family *dto.MetricFamily) bool { return !p.keeps[family.GetName()] })
	samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{}, page...)
	if err != nil {
		t.Fatal(err)
	}
	now := map[string]bool{}
	for _, one := range samples {
		all := map[string]string{}
		maps.Copy(all, target(pod))
		for name, text := range one.Metric {
			switch own, conflicts := all[string(name)]; {
			case conflicts && own != string(text) && !p.honorLabels:
				all["exported_"+string(name)] = string(text)
			default:
				all[string(name)] = string(text)
			}
		}
		maps.DeleteFunc(all, func(_, text string) bool { return text == "" })
		now[p.add(all, at, float64(one.Value))] = true
	}
	p.ends(pod, at, now)
}

// gone is a target that isn't there any more.
func (p *server) gone(pod string, at time.Time) { p.ends(pod, at, nil) }

func (p *server) ends(pod string, at time.Time, now map[string]bool) {
	for key := range p.seen[pod] {
		if !now[key] {
			p.series[key].add(at, math.Float64frombits(value.StaleNaN))
		}
	}
	p.seen[pod] = now
}

func (p *server) add(all map[string]string, at time.Time, x float64) string {
	set := labels.FromMap(all)
	key := set.String()
	if p.series[key] == nil {
		p.series[key] = &series{labels: set}
	}
	p.series[key].add(at, x)
	return key
}

func (s *series) add(at time.Time, x float64) {
	s.samples = append(s.samples, point{at.UnixMilli(), x})
}

// selected is what a selector finds.
type selected struct {
	all []storage.Series
	i   int
}

func (s *selected) Next() bool                      { s.i++; return s.i <= len(s.all) }
func (s *selected) At() storage.Series              { return s.all[s.i-1] }
func (*selected) Err() error                        { return nil }
func (*selected) Warnings() annotations.Annotations { return nil }

func (p *server) find(sorted bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	found := &selected{}
	for _, s := range p.series {
		if slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			continue
		}
		found.all = append(found.all, storage.NewListSeries(s.labels, s.samples))
	}
	if sorted {
		slices.SortFunc(found.all, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	}
	return found
}

// firing is an alert as it is sent, with when it fired first and last.
type firing struct {
	name, summary, description string
	labels                     map[string]string
	first, last                time.Time
}

func (f firing) String() string { return f.name + ": " + f.summary }

// alerts evaluates a rule from one time to another, as rules.AlertingRule does:
// an element fires once it has been there at every evaluation for as long as
// the rule says. That package brings half of the cloud providers' clients with it.
func (p *server) alerts(t *testing.T, rule rulefmt.Rule, from, to time.Time) []firing {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 50_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parser.NewParser(parser.Options{}),
	})
	queryable := &storage.MockQueryable{MockQuerier: &storage.MockQuerier{SelectMockFunction: p.find}}
	query, err := engine.NewRangeQuery(t.Context(), queryable, nil, rule.Expr, from, to, scrapeEvery)
	if err != nil {
		t.Fatalf("%s: %v", rule.Alert, err)
	}
	defer query.Close()
	result := query.Exec(t.Context())
	matrix, err := result.Matrix()
	if err != nil {
		t.Fatalf("%s: %v", rule.Alert, err)
	}
	if len(result.Warnings) > 0 {
		t.Errorf("%s: %v", rule.Alert, result.Warnings)
	}
	var all []firing
	for _, element := range matrix {
		all = append(all, fires(t, rule, element)...)
	}
	return all
}

// fires is when an element of a rule's vector fires.
func fires(t *testing.T, rule rulefmt.Rule, element promql.Series) []firing {
	t.Helper()
	var all []firing
	var since, last time.Time
	open := false
	for _, point := range element.Floats {
		at := time.UnixMilli(point.T).UTC()
		if at.Sub(last) > scrapeEvery {
			since, open = at, false
		}
		last = at
		switch {
		case at.Sub(since) < time.Duration(rule.For):
		case open:
			all[len(all)-1].last = at
		default:
			open = true
			all = append(all, sent(t, rule, element.Metric, point.F, at))
		}
	}
	return all
}

// sent fills in what a rule has of templates.
func sent(t *testing.T, rule rulefmt.Rule, metric labels.Labels, x float64, at time.Time) firing {
	t.Helper()
	own := metric.Map()
	expand := func(text string) string {
		data := template.AlertTemplateData(own, nil, "", promql.Sample{F: x})
		text = "{{$labels := .Labels}}{{$value := .Value}}" + text
		// As Prometheus, but that an absent label is an error.
		out, err := template.NewTemplateExpander(t.Context(), text, rule.Alert, data, model.TimeFromUnixNano(at.UnixNano()),
			nil, nil, []string{"missingkey=error"}).Expand()
		if err != nil {
			t.Errorf("%s: %v", rule.Alert, err)
		}
		return out
	}
	f := firing{
		name: rule.Alert, first: at, last: at, labels: map[string]string{},
		summary: expand(rule.Annotations["summary"]), description: expand(rule.Annotations["description"]),
	}
	maps.Copy(f.labels, rule.Labels)
	maps.Copy(f.labels, own)
	return f
}

const root = "../../"

// rulesIn parses and checks rules as Prometheus does when it loads a file.
func rulesIn(t *testing.T, text []byte) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.Parse(text, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if len(errs) > 0 {
		t.FailNow()
	}
	var all []rulefmt.Rule
	for _, group := range groups.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

func text(all []firing) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "\n%s from %s to %s", f, f.first.Format(time.TimeOnly), f.last.Format(time.TimeOnly))
	}
	return b.String()
}
