//go:build engines

package scrape

import (
	"context"
	"net/http"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// always is of states that nothing changes.
func always(conclusions known) stateTest {
	return func(moment, moment) (known, bool) { return conclusions, true }
}

// asleep puts the engine to sleep. The CPU build does all of it but give memory back.
func (r *recorder) asleep() {
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL()+"/sleep?level=1", http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		r.t.Fatalf("it doesn't go to sleep: %s", response.Status)
	}
	r.record(stateAsleep, 0, always(known{asleep: exactly(1)}))
}

// promptOfSteps takes four steps of 2048 tokens at most. What the prefix cache has of
// it when it comes again are all whole blocks but what holds the last token.
const promptOfSteps, promptHits = 7000, (7000 - 1) / blockTokens * blockTokens

func (r *recorder) longPrompts() {
	first := r.send(engine.ModelName, 1, load.Burst(1, promptOfSteps, 4))
	worksOff := func(conclusions known) stateTest {
		return func(_, after moment) (known, bool) { return conclusions, after[0][0].Tokens == 0 }
	}
	r.record(stateLongPrompt, 0, worksOff(known{running: exactly(1)}))
	second := r.burst(1, 16, 4)
	// Which of the two runs the clients can't know, only that both are there.
	r.record(stateBehindLongStep, 0, worksOff(known{running: between{1, 2}, queued: between{0, 1}}), inEngine)
	r.wait(first)
	r.wait(second)
	r.wait(r.send(engine.ModelName, 1, load.Burst(1, promptOfSteps, 4)))
	r.record(stateCacheHits, 0, always(known{cached: exactly(promptHits)}))
}

// fullQueue sends that many at once, of which some are refused, and has the page read
// while all seats are taken by answers under way and nobody is done.
func (r *recorder) fullQueue(name string, n, turnedAway int, otherwise ...string) {
	r.t.Helper()
	if why := r.tryFullQueue(name, n, turnedAway, otherwise...); why != "" {
		r.t.Fatalf("%s: no page agrees with the clients: %s", name, why)
	}
}

func (r *recorder) tryFullQueue(name string, n, turnedAway int, otherwise ...string) (why string) {
	r.t.Helper()
	s := r.burst(n, 100, 300)
	l := len(r.loads) - 1
	full := func(m moment) bool {
		run, done := 0, 0
		for _, seen := range m[l] {
			run += int(truly(seen.Tokens > 0))
			done += int(truly(seen.Done))
		}
		return run == r.seats() && done == turnedAway
	}
	r.until("a full batch", full)
	why = r.try(name, 3, func(before, after moment) (known, bool) {
		k := r.earlierHits(known{running: exactly(r.seats()), queued: exactly(n - turnedAway - r.seats())})
		return k, full(before) && full(after)
	}, otherwise...)
	r.wait(s)
	return why
}

// twoServers tries until both API servers have requests: which of them takes a
// connection is chance, and sent at once all go to the one that wakes first.
func (r *recorder) twoServers() {
	var why string
	for try := range 8 {
		r.gap = time.Duration(try+1) * 40 * time.Millisecond
		// Each server counts the batches that had output of its own requests. The page is
		// Prometheus' of several processes, which has no start time.
		if why = r.tryFullQueue(stateTwoServers, 30, 0, batches, startTold); why == "" {
			return
		}
		r.t.Logf("try %d: %s", try, why)
		r.awaitPage("of an empty engine", func(page truth) bool {
			r.counted, r.countedLoads = page[batches], len(r.loads)
			return page[inEngine] == 0
		})
	}
	r.t.Fatalf("no page of two servers: %s", why)
}

// earlierHits adds the prefix cache's tokens of longPrompts, if it has run.
func (r *recorder) earlierHits(k known) known {
	if len(r.loads[0].requests) == 1 {
		k[cached] = exactly(promptHits)
	}
	return k
}

// cancelled has clients go away: first those that wait, so that none gets the seat of
// one that went.
func (r *recorder) cancelled() {
	run := r.burst(r.seats(), 100, 400)
	l := len(r.loads) - 1
	r.until("a full batch", func(m moment) bool { return all(m[l], func(s load.Seen) bool { return s.Tokens > 0 }) })
	wait := r.burst(4, 100, 400)
	r.awaitPage("with a queue", func(page truth) bool { return page[queued] == 4 })
	wait.leave()
	r.wait(wait)
	r.awaitPage("without a queue", func(page truth) bool { return page[queued] == 0 })
	run.leave()
	r.wait(run)
	r.record(stateCancelled, 0, always(r.earlierHits(known{running: exactly(0), queued: exactly(0)})))
}

func all(seen []load.Seen, so func(load.Seen) bool) bool {
	for _, s := range seen {
		if !so(s) {
			return false
		}
	}
	return true
}

func (r *recorder) awaitPage(what string, wanted func(truth) bool) {
	r.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for ; ; time.Sleep(20 * time.Millisecond) {
		text, err := fetchPage(r.t.Context(), r.URL())
		if err == nil && wanted(readTruth(r.t, text)) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("no page %s", what)
		}
	}
}

// preempted sends answers that don't fit into the KV cache. Who gets no token while
// others get ten is out of it.
func (r *recorder) preempted() {
	s := r.burst(r.seats(), 600, 300)
	l := len(r.loads) - 1
	r.until("all first tokens", func(m moment) bool { return all(m[l], func(s load.Seen) bool { return s.Tokens > 0 }) })
	const steps = 10
	previous := r.moment()
	r.record(statePreempted, steps, func(before, after moment) (known, bool) {
		out, ok := stalled(previous[l], before[l]), true
		for i, is := range stalled(before[l], after[l]) {
			ok = ok && is == out[i]
		}
		previous = after
		n := 0
		for _, is := range out {
			n += int(truly(is))
		}
		k := r.earlierHits(known{running: exactly(r.seats() - n), queued: exactly(n), preempted: between{float64(n), atMost}})
		return k, ok && n > 0 && all(after[l], func(s load.Seen) bool { return !s.Done })
	}, preempted)
	r.wait(s)
}

// stalled are those that got no token from one moment to the next.
func stalled(first, last []load.Seen) []bool {
	out := make([]bool, len(first))
	for i := range first {
		out[i] = last[i].Tokens == first[i].Tokens
	}
	return out
}

func (r *recorder) speculation() {
	r.wait(r.burst(4, 100, 200))
	r.record(stateSpeculation, 0, always(nil))
}

func (r *recorder) adapter() {
	const each, tokens = 4, 200
	base := r.burst(each, 100, tokens)
	adapted := r.send(engine.AdapterName, 2, load.Burst(each, 100, tokens))
	answers := func(s load.Seen) bool { return s.Tokens > 0 && !s.Done }
	both := func(m moment) bool { return all(m[0], answers) && all(m[1], answers) }
	r.until("both models' tokens", both)
	r.record(stateLoRA, 3, func(before, after moment) (known, bool) {
		return known{running: exactly(2 * each)}, both(before) && both(after)
	})
	r.wait(base)
	r.wait(adapted)
}
