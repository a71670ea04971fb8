//go:build engines

package scrape

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// longestStep is the time of a step with as many tokens of prompts as there can be.
// Gauges are as old as the step under way.
const longestStep = 700 * time.Millisecond

// nothing is what the client of an engine knows that has just started.
var nothing = truth{
	running: 0, queued: 0, inEngine: 0, finished: 0, refused: 0, started: 0,
	prompts: 0, cached: 0, generated: 0, batches: 0, preempted: 0, kvUsage: 0,
}

// startRoomy starts an engine whose KV cache holds all that its seats ask for.
func startRoomy(t *testing.T, seats int, o engine.Options) *live {
	t.Helper()
	o.Physics = engine.SlowGPU()
	o.Physics.MaxSeqs, o.Physics.KVTokens = seats, 4096*seats
	return &live{Engine: engine.ForTest(t, o), t: t, knows: maps.Clone(nothing)}
}

func (l *live) sentence(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		l.t = t
		f(t)
	})
}

// Both engines start and are looked at beside each other: neither needs much of the CPU.
func TestTheContractOfALiveEngine(t *testing.T) {
	t.Parallel()
	l := startRoomy(t, seats, engine.Options{})
	l.sentence(t, "arrivals counted from the page are requests sent, through 429s and cancels", l.arrivals)
	l.sentence(t, "prompts wait while seats are free", l.pieces)
	l.sentence(t, "without speculation a step gives a request one token", l.oneToken)
	l.sentence(t, "an aborted batch leaves the gauges with the step under way", l.aborted)
	l.sentence(t, "a page that comes late says what was so between its question and its answer", l.latePage)
	l.sentence(t, "a killed engine refuses to be read, and counts from nothing once it is back", l.killed)
}

func TestTheContractOfALiveEngineThatSpeculates(t *testing.T) {
	t.Parallel()
	const many = 256
	l := startRoomy(t, many, engine.Options{Flags: []string{
		"--speculative-config", `{"method":"ngram","num_speculative_tokens":3,"prompt_lookup_max":4,"prompt_lookup_min":1}`,
	}})
	l.sentence(t, "accepted drafts a draft, and one, are the tokens of a step", l.drafts)
	l.sentence(t, "under a burst a page comes within the scaler's timeout", l.burst)
	// Here, beside the other engine's sentences, because it takes a minute. With speculation
	// a piece of output is late, and it is one for each request too.
	l.sentence(t, "a minute's suspension is in the time between tokens, and not in that to the first", l.suspendedMinute)
}

// arrivals are first tokens, requests that wait, and refused ones. Finished, running,
// and waiting ones would lose each that its client cancelled. One that is cancelled
// before its first token is seen while it waits alone.
func (l *live) arrivals(t *testing.T) {
	requests := load.Poisson(3, 40*time.Second, 200, 40, 1)
	for i := range requests {
		if i%4 == 0 {
			requests[i].Output, requests[i].Cancel = 400, 1500*time.Millisecond
		}
	}
	for range 60 {
		requests = append(requests, load.Request{At: 15 * time.Second, Prompt: 100, Output: 60, Cancel: 2500 * time.Millisecond})
	}
	type reading struct {
		at      time.Duration
		counted float64
	}
	var readings []reading
	wait := l.send(1, requests)
	begin := time.Now()
	for time.Since(begin) < 50*time.Second {
		text, err := l.page(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		page := readTruth(t, text)
		readings = append(readings, reading{time.Since(begin), page[started] + page[queued] + page[refused]})
		time.Sleep(500 * time.Millisecond)
	}
	results := wait()
	// unheard went away before their first token.
	known := func(at time.Duration) (sent, unheard float64) {
		for _, r := range results {
			if r.At+r.Late <= at {
				sent++
			}
			if r.Outcome == load.Cancelled && r.TTFT == 0 && r.At+r.Late+r.Cancel <= at {
				unheard++
			}
		}
		return sent, unheard
	}
	const slack = 100 * time.Millisecond
	for _, r := range readings {
		before, goneBefore := known(r.at - longestStep)
		now, goneNow := known(r.at + slack)
		// One prompt may be in pieces: it runs, and has no token.
		if r.counted < before-goneNow-1 || r.counted > now-goneBefore {
			t.Errorf("after %s the page counts %v, of %v to %v that were sent and %v to %v that went away unheard",
				r.at.Round(time.Millisecond), r.counted, before, now, goneBefore, goneNow)
		}
	}
	page, _ := l.await("of an empty engine", func(page truth) bool { return page[inEngine] == 0 })
	sent, unheard := known(time.Hour)
	arrived := float64(load.Count(results, load.Cancelled)) - unheard
	t.Logf("%v sent, %v refused, %v cancelled after their first token, %v before it; the page has %s", sent, page[refused], arrived, unheard, page)
	if got := page[started] + page[refused]; got != sent-unheard {
		t.Errorf("in the end the page counts %v, want %v", got, sent-unheard)
	}
	if lost := page[started] - page[finished]; lost != arrived || arrived < 20 || page[refused] < 20 || unheard < 5 {
		t.Errorf("%v started and never finished, %v were cancelled, %v of them unheard, %v refused", lost, arrived+unheard, unheard, page[refused])
	}
	l.knows = page
}

func (l *live) pieces(t *testing.T) {
	const sent = 6
	wait := l.send(2, load.Burst(sent, 1500, 4))
	page, _ := l.await("with all of them", func(page truth) bool { return page[inEngine] == sent })
	t.Logf("%v run and %v wait, with %d seats and %.0f %% of the KV cache taken", page[running], page[queued], seats, 100*page[kvUsage])
	if page[queued] == 0 || page[running] > 3 || page[kvUsage] > 0.2 {
		t.Errorf("%v run and %v wait: a step takes 2048 tokens, so three at most should run", page[running], page[queued])
	}
	// Each step gives some of them a token: batches are steps here but for the first.
	l.ends(wait())
}

func (l *live) oneToken(t *testing.T) {
	const sent, tokens = 4, 50
	_, before := l.readNow(t)
	results := l.send(3, load.Burst(sent, 100, tokens))()
	l.ends(results)
	_, after := l.readNow(t)
	pieces := after[policy.FamilyITL].count - before[policy.FamilyITL].count
	if pieces != sent*(tokens-1) {
		t.Errorf("%v pieces of output after the first ones, want %d", pieces, sent*(tokens-1))
	}
	steps := after[policy.FamilySteps].count - before[policy.FamilySteps].count
	if steps < tokens || steps > tokens+sent {
		t.Errorf("%v steps for answers of %d tokens", steps, tokens)
	}
}

// aborted: everybody goes away at once, those that wait too.
func (l *live) aborted(t *testing.T) {
	const sent = 30
	requests := load.Burst(sent, 100, 400)
	for i := range requests {
		requests[i].Cancel = 3 * time.Second
	}
	wait := l.send(4, requests)
	full, _ := l.await("with a full batch", func(page truth) bool { return page[running] == seats && page[inEngine] == sent })
	wait()
	gone := time.Now()
	page, _ := l.await("of an empty engine", func(page truth) bool { return page[inEngine] == 0 && page[kvUsage] == 0 })
	took := time.Since(gone)
	t.Logf("the gauges were empty %s after the clients had gone", took.Round(time.Millisecond))
	if took > 2*longestStep {
		t.Errorf("the gauges stayed for %s", took)
	}
	if page[finished] != full[finished] || page[started] != full[started] || full[started] != l.knows[started]+seats {
		t.Errorf("it was %s, and is %s", full, page)
	}
	l.knows = page
}

// latePage stops the API server alone: a pod that gets no CPU. Its engine core goes on.
func (l *live) latePage(t *testing.T) {
	const stopped = 1500 * time.Millisecond
	wait := l.send(5, load.Burst(4, 100, 60))
	before, _ := l.await("with four running", func(page truth) bool { return page[running] == 4 })
	if err := l.SuspendServer(); err != nil {
		t.Fatal(err)
	}
	resumed := time.AfterFunc(stopped, func() {
		if err := l.Resume(); err != nil {
			t.Error(err)
		}
	})
	defer resumed.Stop()
	asked := time.Now()
	text, err := l.page(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	late := time.Since(asked)
	page := readTruth(t, text)
	after, _ := l.await("that goes on", func(next truth) bool { return next[generated] > page[generated] })
	tokens := func(p truth) float64 { return p[generated] - before[generated] }
	t.Logf("a page came after %s with %v tokens more than the one before, the next has %v more", late.Round(time.Millisecond), tokens(page), tokens(after))
	if late < stopped {
		t.Errorf("it came after %s: the server didn't stop", late)
	}
	// Sometimes it has all tokens of the time in which its server stood, sometimes none: it
	// depends on which of them the server came to first.
	if got, most := tokens(page), 4*late.Seconds()/0.034+4; got < 0 || got > most {
		t.Errorf("it has %v tokens more than the one before: no more than %v can have come", got, most)
	}
	l.ends(wait())
}

// suspendedMinute: who runs is late by a minute, which the page has. Who comes then
// waits for a minute, which it hasn't: vLLM's clock begins when it reads a request.
func (l *live) suspendedMinute(t *testing.T) {
	const stopped, sent = time.Minute, 4
	start, before := l.readNow(t)
	wait := l.send(6, load.Burst(sent, 100, 100))
	running, _ := l.await("with four running", func(page truth) bool { return page[running] == sent })
	if err := l.Suspend(); err != nil {
		t.Fatal(err)
	}
	resumed := time.AfterFunc(stopped, func() {
		if err := l.Resume(); err != nil {
			t.Error(err)
		}
	})
	defer resumed.Stop()
	waitLate := l.send(7, load.Burst(1, 100, 2))
	for asked := time.Now(); time.Since(asked) < stopped/2; {
		if _, err := l.page(t.Context()); err == nil {
			t.Error("a suspended engine has answered")
		}
	}
	results := slices.Concat(wait(), waitLate())
	page, _ := l.ends(results)
	again, after := l.readNow(t)
	if page[finished] != running[finished]+sent+1 || again != start {
		t.Errorf("it was %s since %v, and is %s since %v", running, start, page, again)
	}
	if got := after[policy.FamilyITL].over(40) - before[policy.FamilyITL].over(40); got != sent {
		t.Errorf("%v times between tokens are over 40 s by the page, want %d", got, sent)
	}
	last := results[sent]
	overlong := after[policy.FamilyTTFT].over(10) - before[policy.FamilyTTFT].over(10)
	t.Logf("who came meanwhile had its first token after %s; by the page %v of %v were late by over 10 s", last.TTFT.Round(time.Millisecond),
		overlong, after[policy.FamilyTTFT].count-before[policy.FamilyTTFT].count)
	if last.TTFT < stopped/2 || overlong != 0 {
		t.Errorf("its client waited for %s, by the page %v waited for over 10 s", last.TTFT, overlong)
	}
}

func (l *live) killed(t *testing.T) {
	start, _ := l.readNow(t)
	done := make(chan []load.Result, 1)
	go func() { done <- l.client(8).Run(t.Context(), load.Burst(4, 100, 400)) }()
	l.await("with four running", func(page truth) bool { return page[running] == 4 })
	l.Kill()
	if results := <-done; load.Count(results, load.Broken) != 4 {
		t.Errorf("of 4 requests: %+v", results)
	}
	if _, err := l.page(t.Context()); err == nil {
		t.Error("an engine that was killed answers")
	}
	l.Engine = engine.ForTest(t, engine.Options{IP: l.IP()})
	page, _ := l.await("at all", func(truth) bool { return true })
	nothing.check(t, page)
	if again, _ := l.readNow(t); again <= start {
		t.Errorf("it runs since %v, before since %v", again, start)
	}
}

const familyDrafts = "vllm:spec_decode_num_drafts_total"

func (l *live) drafts(t *testing.T) {
	const sent, tokens = 8, 200
	results := l.send(9, load.Burst(sent, 100, tokens))()
	l.ends(results)
	_, page := l.readNow(t, familyDrafts, familyAccepted)
	drafts, accepted := page[familyDrafts].sum, page[familyAccepted].sum
	itl := page[policy.FamilyITL]
	// Not every step has a draft: a request whose last tokens never came before has none.
	inPieces := (sent*tokens - sent) / itl.count
	byDrafts := accepted/drafts + 1
	perToken := 0.0
	for _, r := range results {
		perToken += r.PerToken.Seconds() / sent
	}
	t.Logf("%v drafts, %v of their tokens accepted: %.2f tokens a step by them, %.2f by pieces of output; a piece in %.1f ms, a token in %.1f ms",
		drafts, accepted, byDrafts, inPieces, 1000*itl.sum/itl.count, 1000*perToken)
	// What is accepted beyond an answer's end is counted too.
	if more := accepted - (sent*(tokens-1) - itl.count); more < 0 || more > 3*sent {
		t.Errorf("%v drafts were accepted, %v tokens came in %v pieces", accepted, sent*(tokens-1), itl.count)
	}
	if off := perToken * inPieces / (itl.sum / itl.count); off < 0.95 || off > 1.05 {
		t.Errorf("clients had a token in %.4f s, by the page in %.4f s", perToken, itl.sum/itl.count/inPieces)
	}
	if batches := page[policy.FamilySteps]; batches.sum != sent*(100+tokens) {
		t.Errorf("%v tokens in batches, want %d: rejected drafts are in none", batches.sum, sent*(100+tokens))
	}
}

// burst sends many large requests at once. No page may say what never was.
func (l *live) burst(t *testing.T) {
	const sent = 400
	var slowest time.Duration
	engine.Measured(t, func() {
		requests := load.Burst(sent, 1000, 10)
		for i := range requests {
			requests[i].Cancel = 8 * time.Second
		}
		wait := l.send(10, requests)
		begin := time.Now()
		for time.Since(begin) < 10*time.Second {
			asked := time.Now()
			text, err := l.page(t.Context())
			if err != nil {
				t.Errorf("after %s: %v", time.Since(begin).Round(time.Millisecond), err)
				continue
			}
			slowest = max(slowest, time.Since(asked))
			page := readTruth(t, text)
			if known := page[inEngine] + page[finished] + page[refused]; known > l.knows[finished]+sent {
				t.Errorf("the page says %s, and %d were sent", page, sent)
			}
		}
		l.ends(wait())
	})
	t.Logf("the slowest page took %s", slowest.Round(time.Millisecond))
}

// counted is a family of a page.
type counted struct {
	sum, count float64
	le, within []float64
}

// over is how many observations of a histogram are over a bound, which must be one of
// its own.
func (c counted) over(bound float64) float64 {
	return c.count - c.within[slices.Index(c.le, bound)]
}

// readNow reads a page: since when its process runs, and the families that automatic
// mode reads and others.
func (l *live) readNow(t *testing.T, others ...string) (start float64, is map[string]counted) {
	t.Helper()
	text, err := l.page(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, failure := decode(t, text, append(others, policy.FamilyITL, policy.FamilyTTFT, policy.FamilySteps, policy.FamilyTPOT)...)
	if failure != nil {
		t.Fatal(failure)
	}
	is = map[string]counted{}
	for _, f := range p.sample.Families() {
		b := f.Buckets
		is[f.Name] = counted{sum: f.Sum}
		if len(b.Le) > 0 {
			is[f.Name] = counted{sum: b.Sum, count: b.Count(), le: b.Le, within: b.Cumulative}
		}
	}
	return p.sample.ProcessStart, is
}
