package main

import (
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// lasting is a fleet that was the same for so long.
func lasting(d time.Duration, s second) []second {
	var history []second
	for t := time.Duration(0); t <= d; t += time.Second {
		s.at = start.Add(t)
		history = append(history, s)
	}
	return history
}

// waiting is so many requests on each of some pods.
func waiting(each float64, pods int) second {
	return second{total: each * float64(pods), least: each, most: each}
}

func TestWhichMovesAreWrong(t *testing.T) {
	threshold := limits{mode: byThreshold, min: 1, max: 5, threshold: 10}
	list := limits{mode: byList, min: 1, max: 5, up: 10, down: 2}
	learned := limits{mode: automatic, min: 1, max: 4, seats: 16}
	lost := func(s second) second { s.lost = true; return s }
	requests := func(n int) second { return second{running: n} }
	for _, tt := range []struct {
		name     string
		limits   limits
		shown    second
		from, to int
		want     string // "" for a move that is right
	}{
		{"between the thresholds, up", threshold, waiting(9, 2), 2, 3, "more, with 18 waiting"},
		{"between the thresholds, down", threshold, waiting(6, 2), 2, 1, "fewer, with 12 waiting"},
		{"above, up", threshold, waiting(14, 2), 2, 3, ""},
		{"above, down", threshold, waiting(14, 2), 2, 1, "fewer"},
		{"below, down", threshold, waiting(2, 2), 2, 1, ""},
		{"below, up", threshold, waiting(2, 2), 2, 3, "more"},
		{"below, with a reading lost", threshold, lost(waiting(2, 2)), 2, 1, "a reading lost"},
		{"beyond the maximum", threshold, waiting(99, 5), 5, 6, "beyond the bounds"},
		{"below the minimum", threshold, waiting(0, 1), 1, 0, "beyond the bounds"},
		{"a list between, up", list, waiting(9, 2), 2, 3, "more"},
		{"a list between, down", list, waiting(3, 2), 2, 1, "fewer"},
		{"a list above, up", list, waiting(11, 2), 2, 3, ""},
		{"a list below, down", list, waiting(1, 2), 2, 1, ""},
		{"a list below, with a reading lost", list, lost(waiting(1, 2)), 2, 1, "a reading lost"},
		{"nearly idle, up", learned, requests(3), 1, 2, "more, with 3 requests at most"},
		{"busy, up", learned, requests(12), 1, 2, ""},
		{"too busy for one less", learned, requests(40), 3, 2, "fewer, with 40 requests at least"},
		{"idle, down", learned, requests(0), 3, 2, ""},
		{"idle, with a reading lost", learned, lost(requests(0)), 3, 2, "a reading lost"},
		{"latencies far from their thresholds", limits{mode: byLatency, min: 1, max: 5}, requests(1), 2, 3, "nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			history := lasting(3*time.Minute, tt.shown)
			end := history[len(history)-1].at
			got := tt.limits.wrong(move{from: tt.from, to: tt.to, before: end.Add(-3 * time.Second), at: end}, history)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestAMomentAgoIsAReasonAndAnHourAgoIsNone(t *testing.T) {
	l := limits{mode: byThreshold, min: 1, max: 5, threshold: 10}
	history := lasting(10*time.Minute, waiting(9, 2))
	end := history[len(history)-1].at
	up := move{from: 2, to: 3, before: end.Add(-3 * time.Second), at: end}
	history[5].total = 30 // ten minutes ago
	if why := l.wrong(up, history); why == "" {
		t.Error("a load of ten minutes ago is taken for the reason of a move")
	}
	history[len(history)-30].total = 30
	if why := l.wrong(up, history); why != "" {
		t.Errorf("a load of half a minute ago is no reason: %s", why)
	}
}

func TestAFleetThatIsNewIsNotEvaluated(t *testing.T) {
	l := limits{mode: byThreshold, min: 1, max: 5, threshold: 10}
	if why := l.wrong(move{from: 2, to: 3, before: start, at: start.Add(3 * time.Second)}, nil); why != "" {
		t.Error(why)
	}
}

// KAITO's controller is behind: 2 are desired, 3 are in the status, and what is
// published is tolerated. Then the HPA goes to 3 by itself.
func TestTheHPAsOwnWayBackToTheStatusIsToldApart(t *testing.T) {
	f := newFleet(0, 1)
	f.history = lasting(2*time.Minute, waiting(4, 1))
	now := f.history[len(f.history)-1].at
	at := func(desired, counted int) (bool, bool, string) {
		now = now.Add(3 * time.Second)
		return f.seen(look{uid: "a", desired: desired, counted: counted, at: now})
	}
	at(2, 2)
	f.history = lasting(3*time.Minute, waiting(4, 1))
	if moved, back, wrong := at(3, 2); !moved || back || wrong == "" {
		t.Errorf("up with little waiting: moved %t, back %t, wrong %q", moved, back, wrong)
	}
	at(2, 3)
	if moved, back, wrong := at(3, 3); !moved || !back || wrong != "" {
		t.Errorf("back to the status: moved %t, back %t, wrong %q", moved, back, wrong)
	}
}
