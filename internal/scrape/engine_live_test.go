//go:build engines

package scrape

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// live is an engine under the eyes of one client, which knows all that was sent to it.
type live struct {
	*engine.Engine
	t *testing.T
	// knows is what the client knows, now that nothing is in the engine.
	knows truth
}

// seats and kvTokens are small: 16 answers of 800 tokens don't fit.
const (
	seats    = 16
	kvTokens = 12288
)

func startLive(t *testing.T) *live {
	t.Helper()
	physics := engine.SlowGPU()
	physics.MaxSeqs, physics.KVTokens = seats, kvTokens
	return &live{
		Engine: engine.ForTest(t, engine.Options{Physics: physics}), t: t,
		knows: truth{
			running: 0, queued: 0, inEngine: 0, finished: 0, refused: 0, started: 0,
			prompts: 0, cached: 0, generated: 0, batches: 0, preempted: 0, kvUsage: 0,
		},
	}
}

// page fetches the page.
func (l *live) page(ctx context.Context) (string, error) { return fetchPage(ctx, l.URL()) }

// await reads pages until one is as wanted.
func (l *live) await(what string, wanted func(page truth) bool) (truth, string) {
	l.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		text, err := l.page(l.t.Context())
		if err != nil {
			l.t.Fatal(err)
		}
		page := readTruth(l.t, text)
		if wanted(page) {
			return page, text
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("no page %s; the last says %s", what, page)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// state sees that a page says what is so.
func (l *live) state(name string, page truth, _ string, but truth) {
	l.t.Helper()
	want := maps.Clone(l.knows)
	maps.Copy(want, but)
	for what, value := range but {
		if value < 0 { // not known
			delete(want, what)
		}
	}
	l.t.Logf("%s: %s", name, page)
	want.check(l.t, page)
}

// unknown is what the client doesn't know, or what depends on when the page was read.
const unknown = -1

// client sends requests, each client prompts of its own.
func (l *live) client(seed uint64) load.Client {
	return load.Client{Model: engine.ModelName, Pick: l.URL, Seed: seed}
}

// send begins to send requests and returns what waits for their results.
func (l *live) send(seed uint64, requests []load.Request) (wait func() []load.Result) {
	done := make(chan []load.Result, 1)
	go func() { done <- l.client(seed).Run(l.t.Context(), requests) }()
	return func() []load.Result {
		l.t.Helper()
		results := <-done
		for _, r := range results {
			if r.Err != nil {
				l.t.Errorf("a request of %d + %d tokens: %s: %v", r.Prompt, r.Output, r.Outcome, r.Err)
			}
		}
		return results
	}
}

// ends waits until the engine is empty and adds what the client saw to what it knows.
// How many batches there were only the engine knows.
func (l *live) ends(results []load.Result) (truth, string) {
	l.t.Helper()
	for _, r := range results {
		switch r.Outcome {
		case load.Served:
			l.knows[finished]++
			l.knows[started]++
			l.knows[prompts] += float64(r.Prompt)
			l.knows[generated] += float64(r.Output)
		case load.Refused:
			l.knows[refused]++
		default:
		}
	}
	page, text := l.await("of an empty engine", func(page truth) bool { return page[inEngine] == 0 && page[kvUsage] == 0 })
	l.knows[batches] = page[batches]
	return page, text
}

func TestWhatTheScalerReadsOfALiveEngine(t *testing.T) {
	t.Parallel()
	l := startLive(t)
	sentence := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			l.t = t
			f(t)
		})
	}
	sentence("an idle engine has counted nothing", func(*testing.T) {
		page, text := l.await("at all", func(truth) bool { return true })
		l.state("idle", page, text, nil)
	})
	sentence("a prompt counts when its first token comes, and its steps are one batch", l.longPrompt)
	sentence("a prompt that is cached counts as prompt tokens and as cached ones", l.samePrompt)
	sentence("running + waiting are the requests in the engine", l.saturated)
	sentence("a refused request is counted, and is not in the engine", l.refused)
	sentence("first tokens are as late by the histogram as by the clients' clocks", l.lateness)
	sentence("a preempted request waits again", l.preempted)
	sentence("a cancelled request counts as started, and never as finished", l.cancelled)
	sentence("a suspended engine doesn't answer, and goes on where it was", l.suspended)
	sentence("an engine that ends breaks its requests, and refuses to be read", l.ended)
}

const longPrompt = 7000 // four steps of 2048 tokens at most

func (l *live) longPrompt(t *testing.T) {
	wait := l.send(1, load.Burst(1, longPrompt, 4))
	page, text := l.await("with a running request", func(page truth) bool { return page[running] == 1 })
	l.state("long prompt", page, text, truth{running: 1, inEngine: 1, kvUsage: unknown})
	// Gauges and batches stand still for a second or two, though it works.
	l.ends(wait())
	if got := l.knows[batches]; got != 4 {
		t.Errorf("%v batches for 4 tokens after a prompt of 4 steps, want 4", got)
	}
}

func (l *live) samePrompt(*testing.T) {
	wait := l.send(1, load.Burst(1, longPrompt, 4))
	// All whole blocks of 32 tokens but what holds the last token.
	l.knows[cached] += (longPrompt - 1) / 32 * 32
	page, text := l.ends(wait())
	l.state("cache hits", page, text, nil)
}

func (l *live) saturated(t *testing.T) {
	const sent = 30
	engine.Measured(t, func() {
		wait := l.send(2, load.Burst(sent, 100, 100))
		page, text := l.await("with a full batch", func(page truth) bool { return page[running] == seats && page[inEngine] == sent })
		l.state("saturated", page, text, truth{
			running: seats, queued: sent - seats, inEngine: sent,
			started: page[started], prompts: l.knows[prompts] + 100*(page[started]-l.knows[started]), generated: unknown, batches: unknown, kvUsage: unknown,
		})
		l.ends(wait())
	})
}

func (l *live) refused(t *testing.T) {
	const sent, in = 60, 2*seats + 1
	wait := l.send(3, load.Burst(sent, 100, 100))
	page, text := l.await("with 429s", func(page truth) bool { return page[inEngine] == in })
	l.state("refused", page, text, truth{
		running: seats, queued: in - seats, inEngine: in, refused: sent - in,
		started: unknown, prompts: unknown, generated: unknown, batches: unknown, kvUsage: unknown,
	})
	results := wait()
	if n := load.Count(results, load.Refused); n != sent-in {
		t.Errorf("%d clients got a 429, want %d", n, sent-in)
	}
	l.ends(results)
}

// lateness holds the histogram of first tokens against the clients' clocks. A client
// sees a token some milliseconds after the engine.
func (l *live) lateness(t *testing.T) {
	const slack = 150 * time.Millisecond
	before, _ := l.firstTokens(t)
	var results []load.Result
	engine.Measured(t, func() {
		results = l.send(4, load.Poisson(3, 20*time.Second, 200, 40, 1))()
	})
	l.ends(results)
	after, bounds := l.firstTokens(t)
	for i, bound := range bounds[:len(bounds)-1] {
		within := func(d time.Duration) (n float64) {
			for _, r := range results {
				if r.TTFT <= d {
					n++
				}
			}
			return n
		}
		limit := time.Duration(bound * float64(time.Second))
		if got := after[i] - before[i]; got < within(limit) || got > within(limit+slack) {
			t.Errorf("%v within %v by the page, %v to %v by the clients", got, limit, within(limit), within(limit+slack))
		}
	}
}

func (l *live) firstTokens(t *testing.T) (counts, bounds []float64) {
	text, err := l.page(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	buckets := families(t, text, policy.FamilyTTFT)[0].Buckets
	return buckets.Cumulative, buckets.Le
}

func (l *live) preempted(t *testing.T) {
	wait := l.send(5, load.Burst(seats, 200, 800))
	page, text := l.await("with a preempted request", func(page truth) bool {
		return page[started] == l.knows[started]+seats && page[queued] > 0
	})
	l.state("preempted", page, text, truth{
		running: unknown, queued: unknown, inEngine: seats,
		started: l.knows[started] + seats, prompts: l.knows[prompts] + 200*seats,
		cached: unknown, generated: unknown, batches: unknown, kvUsage: unknown, preempted: unknown,
	})
	if page[kvUsage] < 0.9 {
		t.Errorf("the KV cache is %v full, want over 0.9", page[kvUsage])
	}
	page, _ = l.ends(wait())
	if page[preempted] == l.knows[preempted] {
		t.Error("no preemption was counted in the end")
	}
	l.knows[preempted], l.knows[cached] = page[preempted], page[cached]
	l.knows.check(t, page)
}

func (l *live) cancelled(t *testing.T) {
	const sent = 8
	requests := load.Burst(sent, 100, 400)
	for i := range requests {
		requests[i].Cancel = 4 * time.Second
	}
	wait := l.send(6, requests)
	results := wait()
	if n := load.Count(results, load.Cancelled); n != sent {
		t.Fatalf("%d were cancelled, want %d", n, sent)
	}
	l.knows[started] += sent
	l.knows[prompts] += 100 * sent
	page, text := l.ends(results)
	l.state("cancelled", page, text, truth{generated: unknown})
	l.knows[generated] = page[generated]
}

func (l *live) suspended(t *testing.T) {
	wait := l.send(7, load.Burst(4, 100, 100))
	before, _ := l.await("with four running", func(page truth) bool { return page[running] == 4 })
	if err := l.Suspend(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.page(t.Context()); err == nil {
		t.Error("a suspended engine has answered")
	}
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	after, _ := l.await("after it", func(page truth) bool { return page[batches] > before[batches] })
	if after[inEngine] != 4 || after[finished] != before[finished] {
		t.Errorf("it was %s, and is %s", before, after)
	}
	page, _ := l.ends(wait())
	l.knows.check(t, page)
}

func (l *live) ended(t *testing.T) {
	done := make(chan []load.Result, 1)
	go func() { done <- l.client(8).Run(t.Context(), load.Burst(4, 100, 400)) }()
	l.await("with four running", func(page truth) bool { return page[running] == 4 })
	begin := time.Now()
	l.Stop(5 * time.Second)
	results := <-done
	t.Logf("it ended %s after SIGTERM: %d of 4 requests were served, %d broken",
		time.Since(begin).Round(time.Second), load.Count(results, load.Served), load.Count(results, load.Broken))
	// vLLM aborts what runs and leaves its clients waiting, until it is killed.
	if n := load.Count(results, load.Broken); n != 4 {
		t.Errorf("%d of 4 requests were broken: %+v", n, results)
	}
	if _, err := l.page(t.Context()); err == nil {
		t.Error("an engine that has ended answers")
	}
}
