package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The fields of one metric in a metric list, in the order of documentation.
const (
	fieldName     = "name"
	fieldType     = "type"
	fieldSource   = "source"
	fieldUp       = "upthreshold"
	fieldDown     = "downthreshold"
	fieldWindow   = "metriccachewindow"
	fieldQuantile = "quantile"
	fieldHow      = "aggregation"
)

var itemFields = []string{fieldName, fieldType, fieldSource, fieldUp, fieldDown, fieldWindow, fieldQuantile, fieldHow}

// Words of the fields, in any case.
const (
	typeGauge      = "gauge"
	typeHistogram  = "histogram"
	typeCounter    = "counter"
	sourceModelPod = "modelpod"
	combineAnd     = "AND"
	combineOr      = "OR"
)

const (
	// maxMetrics bounds the work of a verdict, and of reading for it.
	maxMetrics = 16
	// maxListBytes is far beyond 16 metrics with comments, and far below the
	// 256 KiB that annotations may have.
	maxListBytes = 16 << 10
	// DefaultMetricWindow is how far back a metric of a list looks unless it
	// says otherwise.
	DefaultMetricWindow = time.Minute
	minMetricWindow     = time.Second
	maxMetricWindow     = time.Hour
)

// list reads a metric list from its key and from that of the rule that combines
// the metrics. Cooldowns are the caller's.
func (p *parser) list(key, combine string) *List {
	list := &List{Metrics: p.metrics(key)}
	if p.oneOf(combine, combineAnd, combineOr) == combineOr {
		list.Combine = Or
	}
	return list
}

func (p *parser) metrics(key string) []Metric {
	text, _ := p.get(key)
	list, err := items(text)
	if err != nil {
		p.refuse(key, text, err.Error())
		return nil
	}
	metrics := make([]Metric, 0, len(list))
	for i, it := range list {
		path := fmt.Sprintf("%s[%d]", key, i)
		metric, sound := p.item(path, it)
		first := slices.IndexFunc(metrics, func(m Metric) bool {
			return current(m.Name) == current(metric.Name) && m.Quantile == metric.Quantile
		})
		if sound && first >= 0 {
			p.refuse(path+"."+fieldName, metric.Name,
				fmt.Sprintf("must not be there twice: it is %s[%d] too, with the same quantile", key, first))
		}
		metrics = append(metrics, metric)
	}
	return metrics
}

// item reads one metric of a list; sound if nothing is wrong with it.
func (p *parser) item(path string, it item) (m Metric, sound bool) {
	if !it.object {
		p.refuse(path, it.text, "must be an object with "+strings.Join(itemFields, ", "))
		return Metric{}, false
	}
	sub := p.fields(path, it.fields)
	sub.fill(&m)
	p.problems = append(p.problems, sub.problems...)
	p.notes = append(p.notes, sub.notes...)
	return m, len(sub.problems) == 0
}

// fields are an object's, for a parser that calls them by their whole path.
// KAITO's own reader took them in any case, so there may be upThreshold.
func (p *parser) fields(path string, fields []field) *parser {
	sub := &parser{values: make(map[string]string, len(itemFields)), prefix: p.prefix + path + "."}
	for _, f := range fields {
		name := strings.ToLower(f.name)
		_, twice := sub.values[sub.prefix+name]
		switch {
		case !slices.Contains(itemFields, name):
			problem := Problem{Key: sub.prefix + shorten(f.name), Value: f.value, Rule: "no such field"}
			problem.Nearest, _ = Nearest(name, itemFields)
			sub.problems = append(sub.problems, problem)
		case twice:
			sub.refuse(name, f.value, "must not be given twice")
		case f.nested:
			sub.refuse(name, "", "must be a single value")
			sub.values[sub.prefix+name] = "" // given, if wrongly
		case !f.null:
			sub.values[sub.prefix+name] = f.value
		}
	}
	return sub
}

// fill reads the metric from its fields.
func (p *parser) fill(m *Metric) {
	wrong := len(p.problems)
	if p.has(fieldName, "the metric's name, such as "+DefaultMetric) {
		m.Name = p.metric(fieldName)
	}
	m.Kind = p.kind()
	p.oneOf(fieldSource, sourceModelPod)
	m.Up = p.bound(fieldUp, "such as 10")
	m.Down = p.bound(fieldDown, "such as 1")
	m.Window = DefaultMetricWindow
	if window, given := p.seconds(fieldWindow, minMetricWindow, maxMetricWindow, ""); given {
		m.Window = window
	}
	m.Quantile = p.quantile(m.Kind)
	if len(p.problems) == wrong {
		p.together(*m)
	}
}

// kind reads how a metric is measured. Only the rate of a counter is compared, so
// the aggregation says the type as well, and the type alone is half of it.
func (p *parser) kind() Kind {
	how, given := p.get(fieldHow)
	if given && p.oneOf(fieldHow, Rate.String()) == Rate.String() {
		if word, typed := p.get(fieldType); typed && !strings.EqualFold(word, typeCounter) {
			p.refuse(fieldHow, how, "must be left out unless the type is "+typeCounter+": only a counter has a rate")
		}
		return Counter
	}
	if !p.has(fieldType, either([]string{typeGauge, typeHistogram, typeCounter})) {
		return Gauge
	}
	switch p.oneOf(fieldType, typeGauge, typeHistogram, typeCounter) {
	case typeHistogram:
		return Histogram
	case typeCounter:
		p.refuse(fieldHow, "", "required for a "+typeCounter+", which only grows: "+Rate.String()+" compares what it gains a second")
		return Counter
	}
	return Gauge
}

// has tells whether a required field is there.
func (p *parser) has(field, what string) bool {
	_, given := p.values[p.prefix+field]
	if !given {
		p.refuse(field, "", "required: "+what)
	}
	return given
}

// bound reads a required threshold.
func (p *parser) bound(field, such string) float64 {
	if !p.has(field, "a number, "+such) {
		return 0
	}
	value, _ := p.get(field)
	x, err := finite(value)
	if err != nil {
		p.refuse(field, value, err.Error()+", "+such)
	}
	return x
}

func (p *parser) quantile(kind Kind) float64 {
	value, given := p.get(fieldQuantile)
	if !given {
		return 0
	}
	q, err := finite(value)
	switch {
	case err != nil || q <= 0 || q > 1:
		p.refuse(fieldQuantile, value, "must be above 0 and at most 1, such as 0.95")
	case kind != Histogram:
		p.refuse(fieldQuantile, value, "must be left out unless the type is "+typeHistogram)
	default:
		return q
	}
	return 0
}

// together checks what only makes sense together, and notes what may be meant
// otherwise.
func (p *parser) together(m Metric) {
	if m.Up < m.Down {
		p.refuse(fieldUp, number(m.Up), "must not be below "+fieldDown+" "+number(m.Down))
	}
	if m.Kind == Histogram {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if stem, found := strings.CutSuffix(m.Name, suffix); found {
				p.problems = append(p.problems, Problem{
					Key: p.prefix + fieldName, Value: m.Name, Nearest: stem,
					Rule: "must be the histogram's own name, without " + suffix,
				})
			}
		}
	}
	p.noteMetric(m.Name, m.Up, m.Kind)
	if m.Kind != Histogram && m.Down <= 0 {
		p.note("%s is never below %s, so it never lets replicas go", m.Name, number(m.Down))
	}
}

// metricText is one metric as canonical JSON.
type metricText struct {
	Name     string  `json:"name"`
	Type     string  `json:"type"`
	Source   string  `json:"source"`
	Up       float64 `json:"upthreshold"`
	Down     float64 `json:"downthreshold"`
	Quantile float64 `json:"quantile,omitempty"`
	// Window is in seconds.
	Window int64  `json:"metriccachewindow"`
	How    string `json:"aggregation,omitempty"`
}

// text is the list's metrics as metrics reads them.
func (l *List) text() string {
	texts := make([]metricText, len(l.Metrics))
	for i, m := range l.Metrics {
		texts[i] = metricText{
			Name: m.Name, Type: m.Kind.String(), Source: sourceModelPod,
			Up: m.Up, Down: m.Down, Quantile: m.Quantile, Window: int64(m.Window / time.Second),
		}
		if m.Kind == Counter {
			texts[i].How = Rate.String()
		}
	}
	text, err := json.Marshal(texts)
	if err != nil {
		// Thresholds are finite, which is all that could go wrong.
		panic(fmt.Sprintf("write metric list: %v", err))
	}
	return string(text)
}

func (k Kind) String() string {
	switch k {
	case Histogram:
		return typeHistogram
	case Counter:
		return typeCounter
	case Gauge:
	}
	return typeGauge
}

func (c Combine) String() string {
	if c == Or {
		return combineOr
	}
	return combineAnd
}

func wholeSeconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }
