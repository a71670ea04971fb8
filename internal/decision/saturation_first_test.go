package decision

import (
	"math"
	"slices"
	"testing"
)

// A replica that fills up has worked off prompts of requests that it hasn't
// finished: they don't make the mean request dearer.
func TestTheMeanRequestIsKnownBeforeAnyIsDone(t *testing.T) {
	s := saturated()
	prior := s.prior()
	want := 100*prior[1] + 20*prior[2]
	for _, tt := range []struct {
		story string
		load  load
	}{
		{"as many begin as end", load{prompt: 60000, generated: 12000, requests: 600}},
		{"all have begun and none is done", load{prompt: 60000, generated: 6000, begun: 600}},
		{"it runs empty", load{prompt: 30000, generated: 9000, requests: 600, begun: -300}},
	} {
		l := Learned{Speed: [3]float64{1, 1, 1}}
		for range 20 {
			l.meet(s, tt.load, 15)
		}
		if got := l.cost(s); math.Abs(got-want) > .1*want {
			t.Errorf("%s: the mean request is taken for %.2f times what it costs", tt.story, got/want)
		}
	}
}

// A fleet that was idle and gets its first load hasn't swung: no such load is
// kept ready for.
func TestTheFirstLoadIsNoSwing(t *testing.T) {
	s := saturated()
	for _, tt := range []struct {
		idle  float64
		wants bool
	}{{0, false}, {.01, false}, {.5, true}} {
		demand := slices.Concat(slices.Repeat([]float64{tt.idle}, 20), slices.Repeat([]float64{2}, 10))
		var l Learned
		minutes(s, demand, func(_ int, seen *Learned) { l = *seen })
		if o := l.outlook(s, l.At); (o.quantile(.98) > 2) != tt.wants {
			t.Errorf("from %.2f to 2: a swing of %.1f is reckoned with", tt.idle, o.quantile(.98))
		}
	}
}
