package decision

import (
	"strings"
	"testing"
	"time"
)

// A load that has been late for hours, or that doubles before a replica serves,
// is told with the floor that would do, and not taken back at once.
func TestAdvice(t *testing.T) {
	s := saturated()
	hours := t0.Add(5 * time.Hour)
	steady, jumpy := &outlook{now: 2}, &outlook{now: 2}
	steady.swings[ratioBin(1)] = 1
	jumpy.swings[ratioBin(1)], jumpy.swings[ratioBin(4)] = .95, .05
	for _, tt := range []struct {
		story  string
		missed float64
		now    time.Time
		before bool
		o      *outlook
		floor  int32
		want   string
	}{
		{"all is well", 0, hours, false, steady, 1, ""},
		{"one in ten is late", 10000, hours, false, steady, 1, "the load grows faster than replicas start (5 min): 9.8 % of the requests of the last hours were late or refused; min-replicas 7 would serve its highest minute of the last day"},
		{"it can be four times as much", 0, hours, false, jumpy, 1, "the load grows faster than replicas start (5 min): it can be 4.0 times what is foretold"},
		{"the first hour tells nothing", 10000, t0.Add(time.Minute), false, steady, 1, ""},
		{"the floor is there", 10000, hours, false, steady, 7, ""},
		{"a little late is no reason", 2000, hours, false, steady, 1, ""},
		{"it is better, but not well", 2000, hours, true, steady, 1, "the load grows faster"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			l := Learned{Began: t0, Requests: 5000, Seen: 100000, Missed: tt.missed, Highest: 4, OutOfReach: tt.before}
			s.Bounds.Min = tt.floor
			got := l.advise(s, tt.o, .8, .8, tt.now)
			if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	l := Learned{Began: t0, Requests: 5000, Seen: 100000, Missed: 10000, Highest: 40}
	if got := l.advise(s, steady, .8, .8, hours); !strings.HasSuffix(got, "and max-replicas is 10") {
		t.Errorf("a maximum below the floor isn't told: %s", got)
	}
}
