package sample

import (
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"
)

// wide is a sample of a histogram with so many bounds, and a gauge.
func wide(at time.Time, bounds int, count float64, like *Sample) *Sample {
	b := Buckets{Sum: count}
	for i := range bounds {
		b.Le, b.Cumulative = append(b.Le, float64(i)), append(b.Cumulative, count)
	}
	b.Le[bounds-1] = math.Inf(1)
	return NewSample(at, []Family{
		{Name: "h", Kind: Histogram, Engines: 1, Buckets: b},
		{Name: "g", Kind: Gauge, Engines: 1, Sum: 7},
	}, like)
}

// An hour of a page with very many buckets is kept coarsely, and its window is full
// and true nevertheless.
func TestALongWindowOfALargePageIsKeptCoarser(t *testing.T) {
	start := time.Unix(1796100000, 0)
	for _, bounds := range []int{2, 24, 200, 2000} {
		t.Run(strconv.Itoa(bounds), func(t *testing.T) {
			var h History
			at := start
			for i := range 1500 {
				at = at.Add(5 * time.Second)
				h.Add(wide(at, bounds, float64(i), h.Newest()), time.Hour+5*time.Second)
				if got := weightOf(h.samples); got > maxHistory+20*bounds {
					t.Fatalf("%d samples take %d bytes", h.Len(), got)
				}
			}
			w := Window{Now: at, Length: time.Hour, Interval: 5 * time.Second}
			d, ok := h.Delta("h", w)
			if !ok || !d.Warm() || d.Resets != 0 {
				t.Fatalf("%d samples: delta %+v, %t", h.Len(), d, ok)
			}
			// 720 were observed in the window; one more for each interval that the
			// sample before it is older.
			if got := d.Buckets.Count(); got < 719 || got > 720*1.6 || math.Abs(d.Buckets.Count()/d.Spans.Seconds()-.2) > .001 {
				t.Errorf("%d samples: %v observed in %v, want 720 in an hour", h.Len(), got, d.Spans)
			}
			if level, ok := h.Level("g", w); !ok || level.Value != 7 {
				t.Errorf("%d samples: level %+v", h.Len(), level)
			}
			if bounds == 24 && h.Len() < 250 {
				t.Errorf("%d samples of an ordinary page are kept", h.Len())
			}
		})
	}
}

// A pod whose process seems to start anew for every page leaves nothing to thin.
func TestAPodThatRestartsForEveryPageIsBounded(t *testing.T) {
	var h History
	at := time.Unix(1796100000, 0)
	for i := range 1500 {
		at = at.Add(5 * time.Second)
		s := wide(at, 100+i%2, 1, h.Newest())
		s.ProcessStart = float64(i + 1)
		s.Names = []string{fmt.Sprint("name", i), string(make([]byte, 10000))}
		h.Add(s, time.Hour)
		if got := weightOf(h.samples); got > maxHistory+20000 {
			t.Fatalf("%d samples take %d bytes", h.Len(), got)
		}
	}
	if h.Newest().ProcessStart != 1500 {
		t.Errorf("the newest sample is %v", h.Newest().ProcessStart)
	}
}
