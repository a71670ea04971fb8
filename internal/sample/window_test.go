package sample

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/promql"
	"pgregory.net/rapid"
)

func TestACounterOverAMinute(t *testing.T) {
	d := newDiary(time.Hour)
	for i := range 20 {
		d.add(tokens(1000 + 50*float64(i)))
	}
	delta, ok := d.h.Delta(promptsT, d.window(time.Minute))
	if !ok || delta.Value != 600 || delta.Rate() != 10 || !delta.Warm() || delta.Spans != time.Minute {
		t.Errorf("got %+v: want 600 in 60 s", delta)
	}
}

// What KAITO's start-up benchmark counted before the first Ready scrape is in
// the first sample, and in no delta.
func TestTheFirstSampleIsABaseline(t *testing.T) {
	d := newDiary(time.Hour).add(tokens(1e6))
	if delta, ok := d.h.Delta(promptsT, d.window(time.Minute)); ok {
		t.Errorf("one sample makes a delta: %+v", delta)
	}
	d.add(tokens(1e6 + 5))
	if delta, ok := d.h.Delta(promptsT, d.window(time.Minute)); !ok || delta.Value != 5 || delta.Warm() {
		t.Errorf("got %+v: want 5, not warm", delta)
	}
}

func TestAWindowFillsUp(t *testing.T) {
	d := newDiary(time.Hour)
	for i := range 12 {
		d.add(tokens(float64(i)), kv(.5, 1))
		age := time.Duration(i) * step5
		if delta, ok := d.h.Delta(promptsT, d.window(time.Minute)); ok && delta.Warm() != (age >= 55*time.Second) {
			t.Errorf("after %v: warm %v, filled to %v", age, delta.Warm(), delta.Share())
		}
	}
	// 1.2 × the window after its first scrape, which comes within an interval
	// of the start, it answers.
	if delta, ok := d.h.Delta(promptsT, d.window(time.Minute)); !ok || !delta.Warm() || delta.Share() != 1 {
		t.Errorf("not warm after 60 s: %+v", delta)
	}
	if level, ok := d.h.Level(kvUsage, d.window(time.Minute)); !ok || !level.Warm() || level.Samples != 12 {
		t.Errorf("not warm after 60 s: %+v", level)
	}
}

func TestResets(t *testing.T) {
	for name, reset := range map[string]func(d *diary){
		"the container restarted":   func(d *diary) { d.restarts++ },
		"the process restarted":     func(d *diary) { d.start++ },
		"the counter simply fell":   func(*diary) {},
		"and the page lacks starts": func(d *diary) { d.start = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDiary(time.Hour).add(tokens(1000), latencies(100, 0, 0, 0, 5)).add(tokens(1010), latencies(110, 0, 0, 0, 6))
			reset(d)
			// The benchmark's observations come with the new process.
			d.add(tokens(700), latencies(0, 90, 0, 0, 45)).add(tokens(703), latencies(1, 90, 0, 0, 45.05))
			delta, _ := d.h.Delta(promptsT, d.window(time.Minute))
			if delta.Value != 13 || delta.Resets != 1 {
				t.Errorf("got %+v: want 10 before the reset and 3 after", delta)
			}
			delta, _ = d.h.Delta(ttft, d.window(time.Minute))
			want := []float64{11, 11, 11, 11}
			if diff := cmp.Diff(want, delta.Buckets.Cumulative); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAGapIsSeen(t *testing.T) {
	d := newDiary(time.Hour)
	for range 6 {
		d.add(kv(.5, 1))
	}
	d.miss(5)
	for range 6 {
		d.add(kv(.7, 1))
	}
	level, _ := d.h.Level(kvUsage, d.window(2*time.Minute))
	if level.Widest != 30*time.Second || level.Samples != 12 {
		t.Errorf("got %+v", level)
	}
}

func TestALevelIsTheMeanOverSamplesAndEngines(t *testing.T) {
	d := newDiary(time.Hour).add(kv(9, 1)).miss(11).add(kv(.4, 2)).add(kv(.8, 2))
	level, ok := d.h.Level(kvUsage, d.window(time.Minute))
	want := Level{Coverage: Coverage{Samples: 2, Spans: step5, Needs: 50 * time.Second, Widest: step5}, Value: .3, Max: .4}
	if diff := cmp.Diff(want, level, approx); !ok || diff != "" {
		t.Error(diff)
	}
}

var approx = cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })

// A pod that leaves takes its counters with it: merged before the delta, that
// would be a fall of thousands.
func TestPodsAreMergedAfterTheDelta(t *testing.T) {
	a := newDiary(time.Hour).add(latencies(10, 0, 0, 0, 1)).add(latencies(10, 4, 0, 0, 3))
	b := newDiary(time.Hour).add(latencies(5000, 0, 0, 0, 1)).add(latencies(5000, 0, 4, 0, 21))
	w := a.window(time.Minute)
	da, _ := a.h.Delta(ttft, w)
	db, _ := b.h.Delta(ttft, w)
	both, err := Merge([]Delta{da, db})
	if err != nil {
		t.Fatal(err)
	}
	if q := both.Buckets.Quantile(.5); q != 1 || both.Buckets.Mean() != 22.0/8 {
		t.Errorf("got a median of %v and a mean of %v", q, both.Buckets.Mean())
	}
	other := db
	other.Buckets = &Buckets{Le: []float64{1, math.Inf(1)}, Cumulative: []float64{1, 1}}
	if _, err := Merge([]Delta{da, other}); err == nil {
		t.Error("histograms of different buckets were added up")
	}
}

func TestQuantilesAreThoseOfPrometheus(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "bounds")
		b := &Buckets{}
		bound, total := rapid.Float64Range(-5, 5).Draw(t, "first"), 0.0
		var theirs promql.Buckets
		for i := range n + 1 {
			bound += rapid.Float64Range(.001, 10).Draw(t, "width")
			le := bound
			if i == n {
				le = math.Inf(1)
			}
			total += float64(rapid.IntRange(0, 100).Draw(t, "count"))
			b.Le, b.Cumulative = append(b.Le, le), append(b.Cumulative, total)
			theirs = append(theirs, promql.Bucket{UpperBound: le, Count: total})
		}
		q := rapid.OneOf(rapid.Float64Range(-.1, 1.1), rapid.SampledFrom([]float64{0, .5, .95, 1})).Draw(t, "q")
		want, _, _, _, _, _ := promql.BucketQuantile(q, theirs)
		got := b.Quantile(q)
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) && math.Abs(got-want) > 1e-12*math.Abs(want) {
			t.Fatalf("the %v-quantile of %v is %v for us and %v for Prometheus", q, theirs, got, want)
		}
	})
}

// An hour at a sample a second costs no more than an hour at one in ten, and
// still tells what was gained.
func TestAHistoryIsBounded(t *testing.T) {
	for _, keep := range []time.Duration{0, time.Second, time.Minute, MaxWindow} {
		h := History{}
		now := time.Unix(1796100000, 0)
		for i := range 5000 {
			h.Add(NewSample(now, []Family{tokens(float64(i))}, h.Newest()), keep)
			now = now.Add(time.Second)
			if h.Len() > 600 {
				t.Fatalf("%v: %d samples", keep, h.Len())
			}
			if newest := h.Newest().Families(); newest[0].Sum != float64(i) {
				t.Fatalf("%v: the newest sample is %+v, not %d", keep, newest, i)
			}
		}
		if keep < time.Minute {
			continue
		}
		delta, ok := h.Delta(promptsT, Window{Now: h.Newest().At, Length: keep - 15*time.Second, Interval: time.Second})
		if !ok || !delta.Warm() || math.Abs(delta.Rate()-1) > 1e-9 {
			t.Errorf("%v: got %+v", keep, delta)
		}
	}
}

// A snapshot stays as it was while samples are added.
func TestASnapshotDoesNotChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keep := time.Duration(rapid.IntRange(0, 300).Draw(t, "keep")) * time.Second
		d := newDiary(keep)
		var snapshots []History
		var pictures []string
		for i := range rapid.IntRange(1, 200).Draw(t, "samples") {
			if rapid.IntRange(0, 20).Draw(t, "restart") == 0 {
				d.restarts++
			}
			d.add(tokens(float64(i)))
			snapshots = append(snapshots, d.h)
			pictures = append(pictures, picture(&d.h))
		}
		for i := range snapshots {
			if got := picture(&snapshots[i]); got != pictures[i] {
				t.Fatalf("snapshot %d was %s and is %s", i, pictures[i], got)
			}
		}
	})
}

func picture(h *History) string {
	var sums []float64
	for _, s := range h.samples {
		sums = append(sums, s.Families()[0].Sum)
	}
	return fmt.Sprint(sums)
}

func TestWindowsOutOfRange(t *testing.T) {
	for _, d := range []time.Duration{0, -time.Second, 999 * time.Millisecond, time.Hour + 1} {
		if CheckWindow(d) == nil {
			t.Errorf("%v is accepted", d)
		}
	}
	if err := CheckWindow(time.Hour); err != nil {
		t.Error(err)
	}
}

// KAITO's benchmark leaves a new process with more than the old one ever counted:
// nothing falls, and nothing was gained.
func TestARestartIsSeenThoughNothingFell(t *testing.T) {
	d := newDiary(time.Hour).add(tokens(10), latencies(1, 0, 0, 0, .05)).add(tokens(20), latencies(2, 0, 0, 0, .1))
	d.start++
	d.add(tokens(9000), latencies(50, 40, 0, 0, 25)).add(tokens(9003), latencies(51, 40, 0, 0, 25.05))
	delta, _ := d.h.Delta(promptsT, d.window(time.Minute))
	if delta.Value != 13 || delta.Resets != 1 {
		t.Errorf("gained %g over %d restarts, want 10 before it and 3 after", delta.Value, delta.Resets)
	}
	delta, _ = d.h.Delta(ttft, d.window(time.Minute))
	if n := delta.Buckets.Count(); n != 2 {
		t.Errorf("%g observations, want one before the restart and one after", n)
	}
}

// A gauge over an hour is its time average, though of the hour's first fifty minutes
// a third of the samples is kept.
func TestAThinnedHistoryKeepsTheTimeAverage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		turns := rapid.SliceOfN(rapid.IntRange(0, 1439), 1, 6).Draw(t, "turns")
		var h, thin History
		at := make([]float64, 1440) // two hours, every 5 s
		level := 0.0
		for i := range at {
			for _, turn := range turns {
				if turn == i {
					level = rapid.Float64Range(0, 30).Draw(t, "level")
				}
			}
			at[i] = level
			s := NewSample(t0.Add(time.Duration(i)*step5), []Family{kv(level, 1)}, h.Newest())
			h.samples = append(h.samples, s)
			thin.Add(s, time.Hour+step5)
		}
		w := Window{Now: h.Newest().At, Length: time.Hour, Interval: step5}
		dense, _ := h.Level(kvUsage, w)
		got, _ := thin.Level(kvUsage, w)
		if got.Samples >= dense.Samples {
			t.Fatal("nothing was thinned")
		}
		// A turn may be told at the next sample that was kept.
		if most := 30 * 20 * float64(len(turns)+1) / 3600; math.Abs(got.Value-dense.Value) > most {
			t.Fatalf("%v of %d samples, %v of %d", got.Value, got.Samples, dense.Value, dense.Samples)
		}
	})
	var h History
	for i := range 720 {
		h.Add(NewSample(t0.Add(time.Duration(i)*step5), []Family{kv(map[bool]float64{true: 30}[i >= 600], 1)}, h.Newest()), time.Hour)
	}
	if level, _ := h.Level(kvUsage, Window{Now: h.Newest().At, Length: time.Hour, Interval: step5}); math.Abs(level.Value-5) > .1 {
		t.Errorf("30 in the last ten minutes of an hour: %v of 5", level.Value)
	}
}
