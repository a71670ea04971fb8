package policy

import (
	"cmp"
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
	fieldWake     = "activationthreshold"
	fieldSleep    = "deactivationthreshold"
)

var itemFields = []string{
	fieldName, fieldType, fieldSource, fieldUp, fieldDown, fieldWindow, fieldQuantile, fieldHow, fieldWake, fieldSleep,
}

// itemsOfOurs are so many of them that this version goes by.
const itemsOfOurs = 8

// Words of the fields, in any case.
const (
	typeGauge      = "gauge"
	typeHistogram  = "histogram"
	typeCounter    = "counter"
	sourceModelPod = "modelpod"
	sourceEPP      = "epp"
	combineAnd     = "AND"
	combineOr      = "OR"
)

const (
	// maxMetrics bounds the work of a verdict, and of reading for it.
	maxMetrics = 16
	// maxListBytes is far beyond 16 metrics with comments, and far below the
	// 256 KiB that annotations may have.
	maxListBytes = 16 << 10
	// DefaultMetricWindow is how far back a mean or a quantile looks unless it says
	// otherwise, as in version 0.6.
	DefaultMetricWindow = 5 * time.Minute
	// DefaultRateWindow is the same of a rate.
	DefaultRateWindow = time.Minute
	minMetricWindow   = time.Second
	maxMetricWindow   = time.Hour
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
	var places []int
	for i, it := range list {
		path := fmt.Sprintf("%s[%d]", key, i)
		if !it.object {
			p.refuse(path, it.text, "must be an object with "+strings.Join(itemFields[:itemsOfOurs], ", "))
			continue
		}
		metric, use := p.item(path, it)
		if use == leftOut {
			continue
		}
		first := slices.IndexFunc(metrics, func(m Metric) bool {
			return current(m.Name) == current(metric.Name) && m.Quantile == metric.Quantile
		})
		if use == sound && first >= 0 {
			p.refuse(path+"."+fieldName, metric.Name,
				fmt.Sprintf("must not be there twice: it is %s[%d] too, with the same quantile", key, places[first]))
		}
		metrics, places = append(metrics, metric), append(places, i)
	}
	if len(metrics) == 0 && len(p.problems) == 0 {
		p.refuse(key, "", "must have a metric with "+fieldUp+" and "+fieldDown+": "+noZero)
	}
	return metrics
}

// use is what becomes of an item of a list.
type use uint8

const (
	sound use = iota
	faulty
	leftOut
)

// item reads one metric of a list.
func (p *parser) item(path string, it item) (m Metric, is use) {
	sub := p.fields(path, it.fields)
	if sub.any(fieldWake, fieldSleep) && !sub.any(fieldUp, fieldDown) {
		name, _ := sub.get(fieldName)
		sub.note("%s is left out, because %s", cmp.Or(shorten(name), path), noZero)
		is = leftOut
	} else {
		sub.fill(&m)
	}
	p.problems = append(p.problems, sub.problems...)
	p.notes = append(p.notes, sub.notes...)
	if is != leftOut && len(sub.problems) > 0 {
		is = faulty
	}
	return m, is
}

// fields are an object's, for a parser that calls them by their whole path.
// KAITO's own reader took them in any case, so there may be upThreshold.
func (p *parser) fields(path string, fields []field) *parser {
	sub := &parser{values: make(map[string]string, len(itemFields)), prefix: p.prefix + path + ".", nested: map[string]bool{}}
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
			sub.nested[name] = true
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
	how := p.how()
	m.Kind = p.kind(how)
	if p.source(fieldSource) {
		p.oneOf(fieldSource, sourceModelPod)
	}
	m.Up = p.bound(fieldUp, "such as 10")
	m.Down = p.bound(fieldDown, "such as 1")
	p.ignored(noZero, fieldWake, fieldSleep)
	m.Window = p.window(m.Kind, how)
	m.Quantile = p.quantile(m.Kind, how)
	if len(p.problems) == wrong {
		p.together(*m)
	}
}

// source tells whether a source may be one that this version reads.
func (p *parser) source(key string) bool {
	value, _ := p.get(key)
	if strings.EqualFold(value, sourceEPP) {
		p.refuse(key, value, "is not supported yet: only the replicas' own metrics are read ("+sourceModelPod+")")
		return false
	}
	return true
}

// how reads what is taken of a metric, "" unless it is given.
func (p *parser) how() string {
	value, given := p.get(fieldHow)
	if !given {
		return ""
	}
	for _, total := range []string{Sum.String(), "service-sum"} {
		if strings.EqualFold(value, total) {
			p.refuse(fieldHow, value, "is not supported in a list yet, which compares means over the replicas: leave it out")
			return ""
		}
	}
	return p.oneOf(fieldHow, Rate.String(), ServiceAvg.String(), WindowedAvg.String())
}

// window reads how far back a metric is looked at. As in version 0.6 a gauge isn't,
// unless its owner asks for that.
func (p *parser) window(kind Kind, how string) time.Duration {
	window, given := p.seconds(fieldWindow, minMetricWindow, maxMetricWindow, "")
	switch {
	case kind == Gauge && how != WindowedAvg.String():
		if given {
			name, _ := p.get(fieldName)
			p.note("%s: %s is ignored, as in 0.6: a gauge's newest value is compared, with %s: %s its mean over the window",
				shorten(name), fieldWindow, fieldHow, WindowedAvg)
		}
		return 0
	case given:
		return window
	case kind == Counter:
		return DefaultRateWindow
	}
	return DefaultMetricWindow
}

// kind reads how a metric is measured. Only the rate of a counter is compared, so
// the aggregation says the type as well, and the type alone is half of it.
func (p *parser) kind(how string) Kind {
	if how == Rate.String() {
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
		if how == ServiceAvg.String() {
			p.refuse(fieldHow, how, "must be left out for a "+typeHistogram+": its mean over the window is compared")
		}
		return Histogram
	case typeCounter:
		p.refuse(fieldHow, "", "required for a "+typeCounter+", which only grows: "+Rate.String()+" compares what it gains a second")
		return Counter
	}
	return Gauge
}

// has tells whether a required field is there.
func (p *parser) has(field, what string) bool {
	_, given := p.get(field)
	if !given && !p.nested[field] {
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

// quantile reads which one of a histogram is compared, 0 for its mean.
func (p *parser) quantile(kind Kind, how string) float64 {
	q, given := p.fraction(fieldQuantile)
	value, _ := p.get(fieldQuantile)
	switch {
	case given && kind != Histogram:
		p.refuse(fieldQuantile, value, "must be left out unless the type is "+typeHistogram)
	case given && how == WindowedAvg.String():
		p.refuse(fieldQuantile, value, "must be left out beside "+fieldHow+": "+how)
	case kind == Histogram && value == "" && how == "":
		name, _ := p.get(fieldName)
		p.note("%s: its mean is compared, as in 0.6.2; 0.6.0 and 0.6.1 compared its p95, as quantile: 0.95 does", shorten(name))
	}
	return q
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
	Window int64  `json:"metriccachewindow,omitempty"`
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
		switch {
		case m.Kind == Counter:
			texts[i].How = Rate.String()
		case m.Kind == Gauge && m.Window > 0:
			texts[i].How = WindowedAvg.String()
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
