package decision

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// saturated is a policy whose replicas are as its prior takes them: an empty
// iteration of 10 ms, and 15 000 tokens a second in the benchmark.
func saturated() Saturation {
	return Saturation{
		Bounds: policy.Bounds{Min: 1, Max: 10}, TTFT: 2 * time.Second, ITL: 60 * time.Millisecond,
		ColdStart: 5 * time.Minute, Tuning: DefaultTuning,
	}
}

// worker is a pod that takes so many requests a second, of a thousand tokens in
// and a hundred out, and serves them all.
type worker struct {
	sample.Replica
	rps, running, waiting float64
	// base are the requests that it had served after so many seconds, from which
	// on it takes rps.
	base, since float64
	// cached is the share of the prompts' tokens that the prefix cache has, told by the
	// family cachedBy, which is FamilyCached if it is empty.
	cached   float64
	cachedBy string
	// slow is an engine whose every answer is later than promised.
	silent, slow bool
}

func worksAt(rps float64) *worker {
	return &worker{Replica: in(sample.Serving), rps: rps, running: 5 + rps}
}

func (w *worker) page(at time.Time, seconds float64) *sample.Sample {
	done := w.base + w.rps*(seconds-w.since)
	// What the tokens leave of the time goes into iterations.
	prior := saturated().prior()
	iterations := (1 - w.rps*(1000*(1-w.cached)*prior[1]+100*prior[2])) / prior[0] * seconds
	latencies := sample.Buckets{Le: []float64{.025, .05, math.Inf(1)}, Cumulative: []float64{done, done, done}, Sum: .02 * done}
	between := prior[0] // no longer than there is time for that many
	if w.slow {
		between = .08
		latencies = sample.Buckets{Le: latencies.Le, Cumulative: []float64{0, 0, done}, Sum: .08 * done}
	}
	page := sample.NewSample(at, []sample.Family{
		{Name: familyRunning, Kind: sample.Gauge, Sum: w.running, Engines: 1},
		{Name: familyWaiting, Kind: sample.Gauge, Sum: w.waiting, Engines: 1},
		{Name: familyKV, Kind: sample.Gauge, Sum: .3, Engines: 1},
		{Name: familySuccess, Kind: sample.Counter, Sum: done, Engines: 1},
		{Name: familyPrompt, Kind: sample.Counter, Sum: 1000 * done, Engines: 1},
		{Name: cmp.Or(w.cachedBy, familyCached), Kind: sample.Counter, Sum: 1000 * w.cached * done, Engines: 1},
		{Name: familyGenerated, Kind: sample.Counter, Sum: 100 * done, Engines: 1},
		{Name: familyTPOT, Kind: sample.Histogram, Buckets: latencies, Engines: 1},
		{Name: familyTTFT, Kind: sample.Histogram, Buckets: latencies, Engines: 1},
		{Name: familySteps, Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{
			Le: []float64{math.Inf(1)}, Cumulative: []float64{iterations}, Sum: 1100 * done,
		}},
		{Name: familyITL, Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{
			Le: []float64{math.Inf(1)}, Cumulative: []float64{99 * done}, Sum: 99 * between * done,
		}},
	}, w.Last)
	page.ProcessStart = 1
	return page
}

// after lets a fleet of workers be read for so long and judged every 15 s.
func after(s Saturation, d time.Duration, desired int32, workers ...*worker) (Verdict, Learned) {
	var v Verdict
	var learned Learned
	var f sample.Fleet
	for at := time.Duration(0); at <= d; at += 5 * time.Second {
		now := t0.Add(at)
		for _, w := range workers {
			if w.Phase == sample.Serving && !w.silent {
				w.Expected = t0.Add(-time.Hour)
				w.History.Add(w.page(now, at.Seconds()), 2*time.Minute)
				w.Last = w.History.Newest()
			}
		}
		if at%(15*time.Second) != 0 {
			continue
		}
		all := make([]sample.Replica, len(workers))
		for i, w := range workers {
			all[i] = w.Replica
		}
		f = fleet(desired, all...)
		v, learned = s.Judge(learned, f, now)
	}
	return v, learned
}

func TestSaturationVerdicts(t *testing.T) {
	hangs := worksAt(5)
	hangs.silent, hangs.Failure = true, "no answer within 2s"
	queued := worksAt(10)
	queued.waiting = 240
	late := &worker{Replica: sample.Replica{Phase: sample.Starting, Ordered: t0.Add(-time.Hour)}}
	for _, tt := range []struct {
		story   string
		desired int32
		workers []*worker
		answer  Answer
		want    int32
		reason  string
	}{
		{"all start: hold", 2, []*worker{{Replica: in(sample.Starting)}, {Replica: in(sample.Starting)}}, Held, 2, "holding at 2: no replica serves yet"},
		{"none can be read: unknown", 1, []*worker{hangs}, Unknown, 1, "cannot tell the load"},
		{"a replica's worth on one is right", 1, []*worker{worksAt(7)}, Measured, 1, "1 is right: demand 0."},
		{"more than one replica's worth on one", 1, []*worker{worksAt(14)}, Measured, 2, "1 → 2: demand 1.4 replicas (throughput)"},
		{"three replicas' worth: all at once", 1, []*worker{worksAt(15), worksAt(15)}, Measured, 3, "1 → 3: demand 3.1 replicas (throughput)"},
		{"those who start are not ordered again", 4, []*worker{worksAt(17), worksAt(17), {Replica: in(sample.Starting)}}, Measured, 4, "4 is right: demand 3.5 replicas (throughput), 0.2 burst; 1 starting"},
		{"a backlog adds", 1, []*worker{queued}, Measured, 2, "1 → 2: demand 1.0 replicas (throughput), 0.2 backlog"},
		{"one that can't be read has as much as the others", 2, []*worker{worksAt(15), hangs}, Bounded, 4, "2 → 4"},
		{"nothing is released with one unreadable", 4, []*worker{worksAt(1), worksAt(1), worksAt(1), hangs}, Bounded, 4, "4 stays for now, 1 would do"},
		{"one step down, however much is idle", 4, []*worker{worksAt(1), worksAt(1), worksAt(1), worksAt(1)}, Measured, 3, "4 → 3: demand 0."},
		{"three of four can't take the load of four", 4, []*worker{worksAt(9), worksAt(9), worksAt(9), worksAt(9)}, Measured, 4, "4 is right"},
		{"an overdue one is told", 2, []*worker{worksAt(6), late}, Measured, 1, "2 → 1: demand 0.6 replicas (throughput); 1 overdue or broken and not counted on"},
		{"the maximum is told", 9, []*worker{
			worksAt(15), worksAt(15), worksAt(15), worksAt(15), worksAt(15), worksAt(15), worksAt(15), worksAt(15),
		}, Measured, 10, "9 → 10: demand 12.2 replicas (throughput), 1.1 burst; 10 is the maximum"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			workers := make([]*worker, len(tt.workers))
			for i, w := range tt.workers {
				workers[i] = new(*w)
			}
			v, _ := after(saturated(), 12*time.Minute, tt.desired, workers...)
			if v.Answer != tt.answer || v.Replicas != tt.want {
				t.Errorf("%v %d, want %v %d: %s", v.Answer, v.Replicas, tt.answer, tt.want, v.Reason)
			}
			if !strings.HasPrefix(v.Reason, tt.reason) {
				t.Errorf("reason:\n got %s\nwant %s…", v.Reason, tt.reason)
			}
		})
	}
}

// No step down before the window of the way down is full.
func TestNothingIsReleasedInTheFirstMinutes(t *testing.T) {
	if v, _ := after(saturated(), 9*time.Minute, 4, worksAt(1), worksAt(1), worksAt(1), worksAt(1)); v.Replicas != 4 {
		t.Errorf("%d after nine minutes: %s", v.Replicas, v.Reason)
	}
}

// A replica that was released isn't ordered again for a moment's peak, unless
// users suffer or a whole one is missing.
func TestAReleaseIsNotTakenBackAtOnce(t *testing.T) {
	s := saturated()
	_, learned := after(s, 12*time.Minute, 2, worksAt(9), worksAt(9))
	now := t0.Add(12 * time.Minute)
	for _, tt := range []struct {
		story           string
		lowered, raised time.Duration
		missing         time.Duration
		whole           float64
		hurts           bool
		want            int32
	}{
		{"released 5 min ago, half of one missing for 2 min", 5 * time.Minute, time.Hour, 2 * time.Minute, 2.5, false, 2},
		{"for 9 min", 9 * time.Minute, time.Hour, 9 * time.Minute, 2.5, false, 3},
		{"users suffer", 5 * time.Minute, time.Hour, 0, 2.5, true, 3},
		{"a whole one is missing", 5 * time.Minute, time.Hour, 0, 3.5, false, 4},
		{"two cold starts ago", 11 * time.Minute, time.Hour, 2 * time.Minute, 2.5, false, 3},
		{"ordered since then", 5 * time.Minute, 3 * time.Minute, 2 * time.Minute, 2.5, false, 3},
	} {
		f := fleet(2, worksAt(9).Replica, worksAt(9).Replica)
		f.Lowered, f.Raised = now.Add(-tt.lowered), now.Add(-tt.raised)
		learned.Enough = now.Add(-tt.missing)
		n := need{whole: tt.whole, replicas: int32(math.Ceil(tt.whole))}
		if got := learned.move(s, f, load{hurts: tt.hurts}, n, now); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.story, got, tt.want)
		}
	}
}

func TestAStepDownIsFollowedByARest(t *testing.T) {
	s := saturated()
	_, learned := after(s, 12*time.Minute, 4, worksAt(1))
	f := fleet(4, worksAt(1).Replica)
	for _, tt := range []struct {
		since time.Duration
		want  int32
	}{{time.Minute, 4}, {3 * time.Minute, 3}} {
		f.Lowered = t0.Add(12*time.Minute - tt.since)
		if got := learned.move(s, f, load{}, need{replicas: 1}, t0.Add(12*time.Minute)); got != tt.want {
			t.Errorf("%v after a step down: %d, want %d", tt.since, got, tt.want)
		}
	}
}

// Chats send their whole past with each turn: what the prefix cache has of it
// costs the engine nothing.
func TestWhatThePrefixCacheHasIsNoWork(t *testing.T) {
	s := saturated()
	anew, cached := worksAt(12), worksAt(12)
	cached.cached = .8
	all, _ := after(s, 20*time.Minute, 1, anew)
	rest, _ := after(s, 20*time.Minute, 1, cached)
	cached = worksAt(12)
	cached.cached, cached.cachedBy = .8, policy.FamilyHits // vLLM 0.12
	if older, _ := after(s, 20*time.Minute, 1, cached); older.Replicas != rest.Replicas {
		t.Errorf("%s; by an older vLLM %s", rest.Reason, older.Reason)
	}
	if all.Replicas < 2 || rest.Replicas != 1 || rest.Load.Demand > .6*all.Load.Demand {
		t.Errorf("all prompts new: %s; four fifths of them cached: %s", all.Reason, rest.Reason)
	}
}

func TestColdStartsAreLearned(t *testing.T) {
	s := saturated()
	if got := (&Learned{}).coldStart(s); got != 5*time.Minute {
		t.Errorf("before any was seen: %v", got)
	}
	w := worksAt(1)
	w.Ordered, w.ReadySince = t0.Add(-6*time.Minute), t0.Add(time.Minute)
	if _, l := after(s, 3*time.Minute, 1, w); l.coldStart(s) != 7*time.Minute {
		t.Errorf("a replica took 7m, learned are %v", l.coldStart(s))
	}
}

// A demand is foretold for when a replica that is ordered now serves, and never
// for so soon that every burst is worth one.
func TestHowFarAheadIsForetold(t *testing.T) {
	for start, want := range map[time.Duration]int64{time.Minute: 6, 4 * time.Minute: 6, 5 * time.Minute: 7, 10 * time.Minute: 12} {
		s := saturated()
		s.ColdStart = start
		if got := new(Learned).reach(s); got != want {
			t.Errorf("a replica starts in %v: %d min ahead, want %d", start, got, want)
		}
	}
}

func TestBeyond(t *testing.T) {
	sample := func(counts ...float64) *sample.Sample {
		return sample.NewSample(t0, []sample.Family{{Name: familyTPOT, Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{
			Le: []float64{.05, .075, .1, math.Inf(1)}, Cumulative: counts,
		}}}, nil)
	}
	for _, tt := range []struct {
		counts []float64
		limit  float64
		want   float64
	}{
		{[]float64{100, 100, 100, 100}, .06, 0},
		{[]float64{0, 0, 100, 100}, .06, 100},
		{[]float64{0, 100, 100, 100}, .075, 0},
		// From 64 beyond 50 ms to 4 beyond 75: a third as many every 10 ms.
		{[]float64{36, 96, 96, 100}, .06, 21.1},
		// None beyond 75: some beyond 60 all the same.
		{[]float64{36, 100, 100, 100}, .06, 19.3},
		{[]float64{0, 0, 0, 100}, .2, 100},
	} {
		got, all := stretch{sample(0, 0, 0, 0), sample(tt.counts...)}.beyond(familyTPOT, tt.limit)
		if all != 100 || math.Abs(got-tt.want) > .2 {
			t.Errorf("%v: %v of %v beyond %v, want %v", tt.counts, got, all, tt.limit, tt.want)
		}
	}
}

// Of a histogram the bounds around the limit and the last tell all that is asked.
func TestBeyondOfTheBoundsAroundTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		le := []float64{.01, .05, .075, .1, math.Inf(1)}
		before := slices.Sorted(slices.Values(rapid.SliceOfN(rapid.Float64Range(0, 1e6), 5, 5).Draw(t, "before")))
		after := slices.Sorted(slices.Values(rapid.SliceOfN(rapid.Float64Range(0, 1e6), 5, 5).Draw(t, "gained")))
		for i := range after {
			after[i] += before[i]
		}
		limit := rapid.SampledFrom([]float64{.005, .01, .03, .05, .06, .1, .5, math.Inf(1)}).Draw(t, "limit")
		at, _ := slices.BinarySearch(le, limit)
		sample := func(counts []float64, which ...int) *sample.Sample {
			var b sample.Buckets
			for _, i := range which {
				b.Le, b.Cumulative = append(b.Le, le[i]), append(b.Cumulative, counts[i])
			}
			return sample.NewSample(t0, []sample.Family{{Name: familyTPOT, Kind: sample.Histogram, Engines: 1, Buckets: b}}, nil)
		}
		some := slices.Compact([]int{max(0, at-1), at, 4})
		over, all := stretch{sample(before, 0, 1, 2, 3, 4), sample(after, 0, 1, 2, 3, 4)}.beyond(familyTPOT, limit)
		over2, all2 := stretch{sample(before, some...), sample(after, some...)}.beyond(familyTPOT, limit)
		if over != over2 || all != all2 {
			t.Errorf("beyond %v: %v of %v by some bounds, %v of %v by all", limit, over2, all2, over, all)
		}
	})
}

// A model that is far from the prior is learned from some hundred readings: ten
// minutes of a few replicas.
func TestAModelFarFromThePriorIsLearned(t *testing.T) {
	s := saturated()
	for _, factor := range []float64{.02, .1, 1, 10, 50} {
		l := Learned{Speed: [3]float64{1, 1, 1}}
		for i := range l.Doubt {
			l.Doubt[i][i] = s.doubt()
		}
		prior := s.prior()
		for i := range 200 {
			// Loads of 40 to 80 %, of long and short prompts.
			work := .4 + .4*float64(i%10)/9
			long := .3 + .4*float64(i%7)/6
			l.fit(s, podLoad{
				busy: true, steps: (1 - work) / (factor * prior[0]),
				prompt: work * long / (factor * prior[1]), generated: work * (1 - long) / (factor * prior[2]),
			})
		}
		for i, speed := range l.speed(s) {
			if want := factor * prior[i]; math.Abs(speed-want) > .1*want {
				t.Errorf("%g times the prior: speed %d is %.3g, want %.3g", factor, i, speed, want)
			}
		}
	}
}
