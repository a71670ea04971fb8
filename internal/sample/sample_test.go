package sample

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// aPage has families of all kinds, of any number of engines and bounds.
func aPage(t *rapid.T) []Family {
	var page []Family
	number := rapid.Float64Range(0, 1e12)
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), 0, 5, rapid.ID).Draw(t, "names") {
		f := Family{Name: name, Kind: rapid.SampledFrom([]Kind{Untyped, Gauge, Counter, Histogram}).Draw(t, "kind"), Engines: rapid.IntRange(1, 3).Draw(t, "engines")}
		if f.Kind == Histogram {
			f.Buckets.Le = append(rapid.SampledFrom([][]float64{nil, {.1}, {.1, .5}}).Draw(t, "bounds"), math.Inf(1))
			counts := rapid.SliceOfN(number, len(f.Buckets.Le), len(f.Buckets.Le)).Draw(t, "counts")
			f.Buckets.Cumulative, f.Buckets.Sum = slices.Sorted(slices.Values(counts)), number.Draw(t, "observed")
		} else {
			f.Sum = number.Draw(t, "sum")
		}
		page = append(page, f)
	}
	return page
}

// Whatever earlier sample lends its layout, a sample says what its own page said.
func TestASampleSaysWhatItsPageSaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var last *Sample
		for range 3 {
			page := aPage(t)
			s := NewSample(t0, page, last)
			if diff := cmp.Diff(page, s.Families(), cmpopts.EquateEmpty()); diff != "" {
				t.Fatal(diff)
			}
			for _, f := range page {
				if got, found := s.Family(f.Name); !found || !cmp.Equal(f, got) {
					t.Fatalf("%s: %t, %+v, want %+v", f.Name, found, got, f)
				}
			}
			if _, found := s.Family("f"); found || s.Len() != len(page) {
				t.Fatalf("%d families, one that isn't there found: %t", s.Len(), found)
			}
			last = s
		}
	})
}

// A pod's samples have one layout, and the next page's memory isn't theirs.
func TestSamplesOfOnePodDifferInTheirValuesAlone(t *testing.T) {
	page := []Family{kv(.5, 2), latencies(1, 2, 3, 4, 50)}
	first := NewSample(t0, page, nil)
	page[0].Sum, page[1].Buckets.Cumulative[0] = .7, 2
	second := NewSample(t0, page, first)
	if first.layout != second.layout {
		t.Error("the second sample has a layout of its own")
	}
	page[1].Buckets.Le[0] = .2
	if third := NewSample(t0, page, second); third.layout == second.layout {
		t.Error("other bounds, but the same layout")
	}
	want := []Family{kv(.5, 2), latencies(1, 2, 3, 4, 50)}
	if diff := cmp.Diff(want, first.Families()); diff != "" {
		t.Error(diff)
	}
}
