// Package sample is what was read of pods over time: samples, their histories, and
// what was measured over a window or between two readings; and what is known of a
// fleet at one time. It is pure.
package sample

import (
	"slices"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// Kind is what a metric family measures, as its TYPE line says.
type Kind uint8

// The kinds of family that a decision can be built on.
const (
	Untyped Kind = iota
	Gauge
	Counter
	Histogram
)

// Sample is one reading of one pod: what its page said, at one time, of the
// families that were asked for. A page that could not be read, or that says
// nothing usable of a family, leaves no Sample and no Family: a gap, never a
// zero. Samples are immutable once they are given away.
type Sample struct {
	// At is when the whole page had been read.
	At time.Time
	// ProcessStart is the page's process_start_time_seconds (Unix seconds), 0
	// if the page doesn't tell. Counters begin anew when it changes.
	ProcessStart float64
	// Restarts is how often the pod's containers had been restarted. Counters
	// begin anew when it changes, too.
	Restarts int32
	// Names are the metric families on the page, if one that was asked for is
	// missing on it, so that a misspelled name can be told; nil otherwise. At
	// most 200.
	Names []string

	// Of a guarded pod some fifteen samples of twelve families are kept, which differ
	// in nothing but their values. So a sample is its values, which the collector of
	// garbage needn't look into, and a layout that a pod's samples share: 42 MB for
	// 10 000 pods where families by themselves took 124.
	layout *layout
	values []float64
}

// layout says what a sample's values are.
type layout struct {
	all      []column
	unusable []Unusable
}

// Unusable is a family that stands on the page and can't be used.
type Unusable struct {
	Name string
	// Why says so in words, the name and the numbers in them.
	Why string
}

// column is a family but for its values, which stand from at on: its total, or a
// histogram's sum and cumulative counts.
type column struct {
	name    string
	kind    Kind
	engines int
	le      []float64
	at      int
}

// Family is one metric family of one page, its series merged over the engines
// of that pod: one engine a data-parallel rank, all in one process.
type Family struct {
	// Name is exact; a histogram's is without _bucket, _sum and _count.
	Name string
	Kind Kind
	// Sum is the sum over all series of a gauge, counter or untyped family:
	// the pod's total. Finite, never NaN. A histogram has none.
	Sum float64
	// Engines is how many engines' series were merged, ≥ 1: Sum ÷ Engines is
	// the mean of a ratio such as vllm:kv_cache_usage_perc. Series that differ
	// in nothing but their pid label are one engine's.
	Engines int
	// Buckets are a histogram's, and empty for all others.
	Buckets Buckets
}

// Buckets is a classic histogram since the process's start: cumulative counts
// over ascending upper bounds, summed over engines.
type Buckets struct {
	// Le are the upper bounds, ascending; the last is +Inf.
	Le []float64
	// Cumulative has one count for each bound; it never descends.
	Cumulative []float64
	// Sum is the sum of all observations, in the family's unit.
	Sum float64
}

// Count is the number of observations since the process's start.
func (b *Buckets) Count() float64 {
	if len(b.Cumulative) == 0 {
		return 0
	}
	return b.Cumulative[len(b.Cumulative)-1]
}

// NewSample makes a sample of these families, of which it keeps a copy. like, an
// earlier sample or nil, lends what is the same in it. Beside them stood
// the unusable ones on the page.
func NewSample(at time.Time, families []Family, like *Sample, unusable ...Unusable) *Sample {
	n := 0
	for i := range families {
		n += 1 + len(families[i].Buckets.Le)
	}
	s := roomFor(n)
	s.At = at
	for i := range families {
		f := &families[i]
		if f.Kind == Histogram {
			s.values = append(append(s.values, f.Buckets.Sum), f.Buckets.Cumulative...)
			continue
		}
		s.values = append(s.values, f.Sum)
	}
	if like != nil && like.layout.fits(families, unusable) {
		s.layout = like.layout
	} else {
		s.layout = layoutOf(families, unusable)
	}
	return s
}

// roomFor n values, in one allocation where a fleet is scaled on one gauge.
func roomFor(n int) *Sample {
	if n == 1 {
		one := new(struct {
			Sample
			value [1]float64
		})
		one.values = one.value[:0]
		return &one.Sample
	}
	return &Sample{values: make([]float64, 0, n)}
}

func layoutOf(families []Family, unusable []Unusable) *layout {
	l := layout{make([]column, len(families)), slices.Clone(unusable)}
	at := 0
	for i, f := range families {
		l.all[i] = column{f.Name, f.Kind, f.Engines, slices.Clone(f.Buckets.Le), at}
		at += 1 + len(f.Buckets.Le)
	}
	return &l
}

// columns are none for a sample of nothing.
func (l *layout) columns() []column {
	if l == nil {
		return nil
	}
	return l.all
}

// fits reports whether it is these families' layout.
func (l *layout) fits(families []Family, unusable []Unusable) bool {
	return (l == nil && len(unusable) == 0 || l != nil && slices.Equal(l.unusable, unusable)) && slices.EqualFunc(l.columns(), families, func(c column, f Family) bool {
		return c.name == f.Name && c.kind == f.Kind && c.engines == f.Engines && slices.Equal(c.le, f.Buckets.Le)
	})
}

// Family finds the family of that exact name. Its buckets are the sample's own,
// not to be changed.
func (s *Sample) Family(name string) (Family, bool) {
	columns := s.layout.columns()
	for i := range columns {
		if columns[i].name == name {
			return columns[i].family(s.values), true
		}
	}
	return Family{}, false
}

// Metric finds the family of that name, or of one that the metric has in another
// version of vLLM.
func (s *Sample) Metric(name string) (Family, bool) {
	for _, known := range policy.Names(name) {
		if f, found := s.Family(known); found {
			return f, true
		}
	}
	return Family{}, false
}

// Unusable says why the family of that name can't be used though it stands on the
// page; ok is false if it can, or isn't there.
func (s *Sample) Unusable(name string) (why string, ok bool) {
	if s.layout == nil {
		return "", false
	}
	for _, u := range s.layout.unusable {
		if u.Name == name {
			return u.Why, true
		}
	}
	return "", false
}

// Families are all that were found on the page, in the order in which they were
// given.
func (s *Sample) Families() []Family {
	all := make([]Family, 0, s.Len())
	for _, c := range s.layout.columns() {
		all = append(all, c.family(s.values))
	}
	return all
}

// Len is how many families were found on the page.
func (s *Sample) Len() int { return len(s.layout.columns()) }

// family is the column with a sample's values.
func (c *column) family(values []float64) Family {
	f := Family{Name: c.name, Kind: c.kind, Engines: c.engines}
	if c.kind != Histogram {
		f.Sum = values[c.at]
		return f
	}
	from, to := c.at+1, c.at+1+len(c.le)
	f.Buckets = Buckets{Le: c.le, Cumulative: values[from:to:to], Sum: values[c.at]}
	return f
}

// IsRatio tells by its name that a metric is a share of a whole.
func IsRatio(metric string) bool {
	for _, suffix := range []string{"_perc", "_percent", "_ratio"} {
		if strings.HasSuffix(metric, suffix) {
			return true
		}
	}
	return false
}

// Value is what a page says of its pod: the sum over its engines, or their mean
// for a ratio. Two engines that are 45 % full make a pod that is 45 % full.
func (f *Family) Value() float64 {
	if IsRatio(f.Name) && f.Engines > 1 {
		return f.Sum / float64(f.Engines)
	}
	return f.Sum
}
