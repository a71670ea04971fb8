package decision

import "time"

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
// zero. Samples are immutable once they are made.
type Sample struct {
	// At is when the whole page had been read.
	At time.Time
	// ProcessStart is the page's process_start_time_seconds (Unix seconds), 0
	// if the page doesn't tell. Counters begin anew when it changes.
	ProcessStart float64
	// Restarts is how often the pod's containers had been restarted. Counters
	// begin anew when it changes, too.
	Restarts int32
	// Families holds the families found on the page, in no particular order.
	Families []Family
	// Names are the metric families on the page, if one that was asked for is
	// missing on it, so that a misspelled name can be told; nil otherwise. At
	// most 200.
	Names []string
}

// Family is one metric family of one page, its series merged over the engines
// of that pod: one engine a data-parallel rank, all in one process.
type Family struct {
	// Name is exact; a histogram's is without _bucket, _sum and _count.
	Name string
	Kind Kind
	// Sum is the sum over all series of a gauge, counter or untyped family:
	// the pod's total. Finite, never NaN.
	Sum float64
	// Engines is how many engines' series were merged, ≥ 1: Sum ÷ Engines is
	// the mean of a ratio such as vllm:kv_cache_usage_perc. Series that differ
	// in nothing but their pid label are one engine's.
	Engines int
	// Buckets is nil unless Kind is Histogram.
	Buckets *Buckets
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

// Family finds the family of that exact name.
func (s *Sample) Family(name string) (*Family, bool) {
	for i := range s.Families {
		if s.Families[i].Name == name {
			return &s.Families[i], true
		}
	}
	return nil, false
}
