package decision

import (
	"math"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// A load that jumps is seen within fifteen seconds, a quarter of a minute's sight. A
// peak of a few, or what is thrown in at once, is what every minute brings.
func TestAJumpIsSeenAtOnce(t *testing.T) {
	const before = 10 * time.Minute
	for _, tt := range []struct {
		story    string
		from, to float64 // requests a second of each of two replicas
		lasts    time.Duration
		want     float64
	}{
		{"ten times as much, for fifteen seconds", 4, 40, 15 * time.Second, 80 - 2*math.Sqrt(80./5)},
		{"for five: it may be over already", 4, 40, 5 * time.Second, (8*55 + 80*5) / 60.},
		{"for a minute: there is no doubt", 4, 40, time.Minute, 80},
		{"a third more is no jump", 10, 13, 20 * time.Second, 22},
		{"few requests are no jump however often as many", .1, .4, 20 * time.Second, .4},
		{"less is no jump", 40, 4, 20 * time.Second, 56},
	} {
		t.Run(tt.story, func(t *testing.T) {
			var all []sample.Replica
			for range 2 {
				w := worksAt(tt.from)
				for at := time.Duration(0); at <= before+tt.lasts; at += 5 * time.Second {
					if at == before {
						w.base, w.since, w.rps = tt.from*before.Seconds(), before.Seconds(), tt.to
					}
					w.History.Add(w.page(t0.Add(at), at.Seconds()), 90*time.Second)
				}
				w.Last, w.Expected = w.History.Newest(), t0.Add(-time.Hour)
				all = append(all, w.Replica)
			}
			load := observe(fleet(2, all...), saturated(), t0.Add(before+tt.lasts))
			if got := (&Learned{Requests: 1000}).rate(load); math.Abs(got-tt.want) > .01*tt.want {
				t.Errorf("%v requests a second, want %v", got, tt.want)
			}
			if got := new(Learned).rate(load); got != load.arrivals {
				t.Errorf("%v requests a second before any is known, want the minute's %v", got, load.arrivals)
			}
		})
	}
}
