package simulate

import (
	"math"
	"slices"
	"testing"
)

// What an agenda yields ascends, and is what a plain sorted list holds: with
// requests of a few iterations, of hundreds, and of many calendars.
func TestAnAgendaIsInOrder(t *testing.T) {
	r := random(1)
	var a agenda
	a.init()
	var want []float64
	now := 0.0
	for i := range 50_000 {
		if len(want) < 256 && (len(want) == 0 || r.Float64() < .5) {
			span := []float64{3, 700, 20 * days}[r.IntN(3)]
			due := now + span*r.Float64()
			a.push(running{due: due, request: Request{In: int32(i)}})
			at, _ := slices.BinarySearch(want, due)
			want = slices.Insert(want, at, due)
		} else {
			if got := a.due(); got != want[0] {
				t.Fatalf("after %d steps %v is due, want %v", i, got, want[0])
			}
			now = a.pop().due
			if now != want[0] {
				t.Fatalf("after %d steps got %v, want %v", i, now, want[0])
			}
			want = want[1:]
		}
		if a.n != len(want) {
			t.Fatalf("after %d steps it holds %d, want %d", i, a.n, len(want))
		}
	}
	if len(a.all()) != len(want) || len(a.entries) > 256 {
		t.Errorf("%d are left in %d places, want %d", len(a.all()), len(a.entries), len(want))
	}
}

// The table of buckets is the logarithm's, at the edges of each as well.
func TestTimesAreCountedWhereTheirLogarithmIs(t *testing.T) {
	r := random(2)
	table := ttftBuckets()
	check := func(ttft float64) {
		if got, want := table.of(ttft), ttftBin(ttft); got != want {
			t.Fatalf("%v s are in bucket %d, want %d", ttft, got, want)
		}
	}
	for range 100_000 {
		check(math.Exp(r.Float64()*20 - 9))
	}
	for _, edge := range table.from[1:ttftBins] {
		check(edge)
		check(math.Nextafter(edge, 0))
		check(math.Nextafter(edge, math.Inf(1)))
	}
	for _, ttft := range []float64{-1, 0, 1e-12, .001, 1e5, 1e7, 1e300} {
		check(ttft)
	}
}
