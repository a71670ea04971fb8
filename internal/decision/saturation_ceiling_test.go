package decision

import (
	"math"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// swamped is a worker that serves nine requests a second, all of them late, while
// twenty wait: 69 % of what its tokens would let it do.
func swamped() *worker {
	w := worksAt(9)
	w.slow, w.waiting = true, 20
	return w
}

// A replica that can't be filled as far as its tokens say isn't filled beyond
// what it gave, and that is known for a day.
func TestACeilingIsMetOnceADay(t *testing.T) {
	s := saturated()
	for _, tt := range []struct {
		story string
		w     *worker
		want  float64
	}{
		{"late, and more wait: it gives no more", swamped(), .69},
		{"late, but nobody waits: it may", func() *worker { w := swamped(); w.waiting = 0; return w }(), 1},
		{"they wait, but not for long", func() *worker { w := swamped(); w.slow = false; return w }(), 1},
	} {
		v, l := after(s, 5*time.Minute, 1, tt.w)
		if got := l.ceiling(s); math.Abs(got-tt.want) > .03 {
			t.Errorf("%s: a ceiling of %.2f, want %.2f: %s", tt.story, got, tt.want, v.Reason)
		}
		c := l.lateness(s)
		if tt.want < 1 && (c.under(s.Tuning.Misses) > tt.want+.03 || c.at(tt.want+.05) < 1) {
			t.Errorf("%s: at %.2f %.3f are late", tt.story, tt.want+.05, c.at(tt.want+.05))
		}
	}
	_, l := after(s, 5*time.Minute, 1, swamped())
	for range 24 {
		l.forget(time.Hour.Seconds())
	}
	if got := l.ceiling(s); got > .75 {
		t.Errorf("a day later the ceiling is %.2f", got)
	}
	for range 48 {
		l.forget(time.Hour.Seconds())
	}
	if got := l.ceiling(s); got < 1 {
		t.Errorf("three days later the ceiling is %.2f", got)
	}
}

// Requests of another size come to another ceiling.
func TestACeilingIsOfItsRequests(t *testing.T) {
	s := saturated()
	_, l := after(s, 5*time.Minute, 1, swamped())
	l.Prompt, l.Generated = 2*l.Prompt, 2*l.Generated
	if got := l.ceiling(s); got < 1 {
		t.Errorf("of requests twice as dear the ceiling is %.2f", got)
	}
}

// What tokens cost is learned where the promise is kept: an iteration that turns
// dearer beyond that doesn't make those below dearer.
func TestSpeedsAreThoseWithinThePromise(t *testing.T) {
	s := saturated()
	prior := s.prior()
	for _, tt := range []struct {
		beyond bool
		least  float64
		most   float64
	}{{false, 1.3, 1.6}, {true, .9, 1.1}} {
		l := Learned{Speed: [3]float64{1, 1, 1}}
		for i := range l.Doubt {
			l.Doubt[i][i] = s.doubt()
		}
		for i := range 1600 {
			p := podLoad{busy: true}
			work, dearer := .4+.4*float64(i%10)/9, 1.0
			long := .3 + .4*float64(i%7)/6
			if i >= 800 {
				p.beyond, dearer = tt.beyond, 1.5
			}
			p.steps, p.prompt, p.generated = (1-work)/prior[0], work*long/prior[1]/dearer, work*(1-long)/prior[2]/dearer
			l.fit(s, p)
		}
		speed := l.speed(s)
		if got := speed[2] / prior[2]; got < tt.least || got > tt.most {
			t.Errorf("after 800 readings in which tokens were half as dear again (beyond the promise: %v) it is taken for %.2f times as dear", tt.beyond, got)
		}
	}
}

// A load at which many were late isn't tried again for a day, one at which few
// were is after hours.
func TestBadLoadsAreRememberedLonger(t *testing.T) {
	var l Learned
	l.Answered[16], l.Late[16] = 8000, 40
	l.Answered[18], l.Late[18] = 8000, 4000
	for range 12 {
		l.forget(time.Hour.Seconds())
	}
	if l.Answered[16] > 200 || l.Answered[18] < 3900 || l.Late[18] < 1900 {
		t.Errorf("after twelve hours %.0f good and %.0f bad answers are known, %.0f of these late", l.Answered[16], l.Answered[18], l.Late[18])
	}
	// Good answers prove otherwise.
	for range 60 {
		l.Answered[18] += 1000
		l.forget(60)
	}
	if share := l.Late[18] / l.Answered[18]; share > .02 {
		t.Errorf("an hour of good answers later %.3f are taken for late", share)
	}
}

// Nobody waits for a minute to see whether it passes while users suffer, and what
// is ordered is for the load as it is.
func TestWhileUsersSufferItIsOrderedAtOnce(t *testing.T) {
	s := saturated()
	_, l := after(s, 12*time.Minute, 2, worksAt(9), worksAt(9))
	now := t0.Add(12 * time.Minute)
	f := fleet(2, worksAt(9).Replica, worksAt(9).Replica)
	l.Enough = now.Add(-15 * time.Second)
	need := need{whole: 2.6, replicas: 3}
	for _, tt := range []struct {
		hurts bool
		want  int32
	}{{false, 2}, {true, 3}} {
		if got := l.move(s, f, load{hurts: tt.hurts}, need, now); got != tt.want {
			t.Errorf("half a replica is missing, users suffer: %v: %d, want %d", tt.hurts, got, tt.want)
		}
	}
	calm := l.need(s, f, load{arrivals: 24}, now)
	if hurt := l.need(s, f, load{arrivals: 24, hurts: true}, now); hurt.whole < hurt.demand || hurt.whole < calm.whole {
		t.Errorf("of a demand of %.1f %.1f are ordered while users suffer, %.1f while none does", hurt.demand, hurt.whole, calm.whole)
	}
	// Those who run beyond what the promise allows have to be served as well.
	if jam := l.need(s, f, load{arrivals: 18, jam: 2000}, now); jam.backlog < .5 {
		t.Errorf("2000 too many run: a backlog of %.2f", jam.backlog)
	}
	f.Replicas = append(f.Replicas, sample.Replica{Phase: sample.Starting, Ordered: now})
	if jam := l.need(s, f, load{arrivals: 18, jam: 2000}, now); jam.backlog > 0 {
		t.Errorf("2000 too many run, and a replica is on its way for them: a backlog of %.2f", jam.backlog)
	}
}

// A replica that has just joined is given time to help before latency asks for
// another.
func TestLatencyWaitsForWhoHasJustJoined(t *testing.T) {
	s := saturated()
	_, l := after(s, 12*time.Minute, 2, worksAt(5), worksAt(5))
	now := t0.Add(12 * time.Minute)
	l.Calm = now.Add(-5 * time.Minute)
	for _, tt := range []struct {
		ago  time.Duration
		want bool
	}{{time.Minute, false}, {4 * time.Minute, true}} {
		young := worksAt(5).Replica
		young.ReadySince = now.Add(-tt.ago)
		if n := l.need(s, fleet(2, worksAt(5).Replica, young), load{arrivals: 10}, now); (n.alarm > 0) != tt.want {
			t.Errorf("one joined %v ago: latency asks for %.1f", tt.ago, n.alarm)
		}
	}
}
