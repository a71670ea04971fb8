package policy

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Queue asks for so many replicas that a metric over the serving replicas is at
// most Target for each of them.
type Queue struct {
	// Metric is the exact name of a metric family on the pods' page.
	Metric string
	// Target is the amount for one replica, > 0, in the metric's unit.
	Target float64
	// Aggregation is how replicas' values become one; Sum unless a trigger
	// written by hand says otherwise.
	Aggregation Aggregation
	// Window is how far back WindowedAvg, Quantile, Gate and Rate look; 0 for the
	// others.
	Window time.Duration
	// Quantile is that of the aggregation Quantile, in (0, 1]; 0 for the others.
	Quantile float64
	// Guard, if not nil, keeps the fleet from shrinking below what keeps these
	// promises, by what was learned: an empty queue doesn't tell a fleet that
	// idles from one that is just full.
	Guard *Saturation
}

// Aggregation is how the values of a fleet's replicas become one.
type Aggregation uint8

const (
	// Sum is the total over serving replicas.
	Sum Aggregation = iota
	// ServiceAvg is the mean over serving replicas.
	ServiceAvg
	// WindowedAvg is the mean over serving replicas and over Window.
	WindowedAvg
	// Gate is 1 while the windowed mean is above Target, else 0, against a
	// target of 1: for formulas of KEDA's scalingModifiers.
	Gate
	// Rate is the total over serving replicas of what a counter gains a second,
	// over Window.
	Rate
	// Quantile is a quantile of what a histogram observed over Window, on all
	// serving replicas.
	Quantile
	// Readiness is 1 while every desired replica is Ready, else 0, against a
	// target of 1. Nothing is read for it.
	Readiness
)

// windowed tells whether the aggregation looks back over a window.
func (a Aggregation) windowed() bool {
	return a == WindowedAvg || a == Quantile || a == Gate || a == Rate
}

// usualTarget is the target unless there is a threshold, false where one is
// required. Version 0.6 wrote none beside its formulas, which compare the value
// themselves.
func (a Aggregation) usualTarget() (target float64, ok bool) {
	switch a {
	case ServiceAvg, WindowedAvg, Quantile, Gate, Readiness:
		return 1, true
	case Sum, Rate:
	}
	return 0, false
}

// List asks for one replica more while its metrics are above their upper
// thresholds, for one less while they are below their lower ones, and for none
// between. It is KAITO's metric list.
type List struct {
	// Metrics has at least one, each name and quantile once.
	Metrics []Metric
	Combine Combine
	// Up and Down are how long to wait after a step in that direction, as the
	// HPA's Pace has it too.
	UpCooldown, DownCooldown time.Duration
}

// Combine is how the metrics of a List decide together.
type Combine uint8

const (
	// And goes up when all are above and down when all are below.
	And Combine = iota
	// Or goes up when any is above and down when all are below.
	Or
)

// Metric is one member of a List.
type Metric struct {
	// Name is the exact name of a family; a histogram's is without _bucket.
	Name string
	Kind Kind
	// Up and Down are the thresholds, Down ≤ Up, in the metric's unit.
	Up, Down float64
	// Quantile of a histogram's observations is compared, in (0, 1]; their mean
	// if it is 0.
	Quantile float64
	// Window is how far back to look, 1 s to 1 h; 0 for the newest value of a Gauge.
	Window time.Duration
}

// Kind is how a metric of a List is measured.
type Kind uint8

const (
	// Gauge is compared by its mean over serving replicas, and over the window if
	// there is one.
	Gauge Kind = iota
	// Histogram is compared by the observations made within the window.
	Histogram
	// Counter is compared by its rate: what it gains a second, over the window, in
	// the mean of the serving replicas.
	Counter
)

// Page is where a pod's metrics are. Its zero value is KAITO's: http, the
// container port that is named http, /metrics.
type Page struct {
	// Scheme is "http" or "https", "" for http.
	Scheme string
	// Port is the Workspace's Service's (80, which is the container's http
	// port) or the container's own; 0 for 80.
	Port uint16
	// Path begins with one "/"; "" for /metrics.
	Path string
	// Timeout bounds a scrape, 0 for the scaler's own.
	Timeout time.Duration
}

// Reading is what a trigger needs to know of each pod.
type Reading struct {
	Page Page
	// Families are exact names, sorted, each once.
	Families []string
	// Limits are of histograms of which no more is wanted than how many
	// observations there were, and how many beyond this limit or a greater one. A
	// family that isn't here is wanted whole.
	Limits map[string]float64
	// Window is how far back samples are kept, 0 for the newest alone.
	Window time.Duration
}

// Reading is what has to be read for the trigger.
func (t Trigger) Reading() Reading {
	if t.Page == NoPage {
		return Reading{Page: NoPage}
	}
	r := Reading{Page: t.Page, Window: t.Queue.Window}
	var metrics []string
	// Over a window a histogram may have nothing to say, with two reasons that
	// only these tell apart. A queue doesn't tell whether its metric is one.
	busy := t.Queue.Window > 0 && t.Queue.Aggregation != Rate
	switch {
	case t.Saturation != nil:
	case t.List == nil:
		metrics = append(metrics, t.Queue.Metric)
	default:
		for _, m := range t.List.Metrics {
			metrics = append(metrics, m.Name)
			r.Window = max(r.Window, m.Window)
			busy = busy || m.Kind == Histogram
		}
	}
	if promise := t.Learned(); promise != nil {
		r.Limits = promise.limits()
		for _, name := range families(metrics...) {
			delete(r.Limits, name)
		}
		metrics = append(metrics, saturationFamilies...)
	}
	if busy {
		metrics = append(metrics, FamilyRunning, FamilyWaiting, FamilyFinished, FamilyGenerated)
	}
	r.Families = families(metrics...)
	return r
}

// Readings are what all the triggers need together, one for each page that is
// read.
func Readings(triggers []Trigger) []Reading {
	var all []Reading
	for _, t := range triggers {
		r := t.Reading()
		if r.Page == NoPage {
			continue
		}
		i := slices.IndexFunc(all, func(a Reading) bool { return a.Page == r.Page })
		if i < 0 {
			all = append(all, r)
			continue
		}
		all[i] = all[i].with(r)
	}
	slices.SortFunc(all, func(a, b Reading) int {
		return cmp.Or(cmp.Compare(a.Page.Scheme, b.Page.Scheme), cmp.Compare(a.Page.Port, b.Page.Port),
			cmp.Compare(a.Page.Path, b.Page.Path), cmp.Compare(a.Page.Timeout, b.Page.Timeout))
	})
	return all
}

// with is what both need. Their page is the same.
func (r Reading) with(other Reading) Reading {
	both := Reading{Page: r.Page, Window: max(r.Window, other.Window)}
	both.Families = slices.Sorted(slices.Values(slices.Concat(r.Families, other.Families)))
	both.Families = slices.Compact(both.Families)
	limits := map[string]float64{}
	for _, name := range both.Families {
		one, brief1 := r.limit(name)
		two, brief2 := other.limit(name)
		if brief1 && brief2 {
			limits[name] = min(one, two)
		}
	}
	if len(limits) > 0 {
		both.Limits = limits
	}
	return both
}

// limit is what is wanted of a family, as in Limits; one that isn't wanted at
// all has the limit that costs nothing.
func (r Reading) limit(name string) (limit float64, brief bool) {
	if !slices.Contains(r.Families, name) {
		return math.Inf(1), true
	}
	limit, brief = r.Limits[name]
	return limit, brief
}

// metricDesired is what a metric that is a number of replicas is called in the
// ScaledObject and the HPA.
const metricDesired = "desired-replicas"

// Published is the name of the metric towards KEDA, and what the HPA compares
// its total with for each replica.
func (t Trigger) Published() (metric string, target float64) {
	switch {
	case t.List != nil, t.Saturation != nil:
		return metricDesired, 1
	case t.Queue.Aggregation == Gate, t.Queue.Aggregation == Readiness:
		return t.Queue.Metric, 1
	}
	return t.Queue.Metric, t.Queue.Target
}
