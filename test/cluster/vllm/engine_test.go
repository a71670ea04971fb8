package vllm

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

// small is an engine that a handful of requests fills.
func small() Model {
	m := Phi4MiniA100()
	m.MaxNumSeqs, m.MaxWaiting, m.KVBlocks, m.MaxBatchedTokens = 8, 8, 200, 512
	return m
}

// Whatever arrives, nothing is lost, made up or oversubscribed.
func TestEngineKeepsItsBooks(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		m := small()
		e := NewEngine(m, start)
		var accepted, refused, prompts, outputs uint64
		now := 0.0
		for range 400 {
			now += random.ExpFloat64() * 0.05
			// Some prompts are longer than one iteration takes.
			prompt, output := 1+random.IntN(1200), 1+random.IntN(150)
			if r := e.Submit(at(now), prompt, output); r != nil {
				accepted++
				prompts += uint64(r.Prompt)
				outputs += uint64(r.Output)
			} else {
				refused++
			}
			if len(e.running) > m.MaxNumSeqs || e.used > m.KVBlocks || e.used < 0 {
				t.Fatalf("seed %d: %d running, %d blocks", seed, len(e.running), e.used)
			}
			if waiting := len(e.waiting); waiting > m.MaxWaiting+m.MaxNumSeqs+1 {
				t.Fatalf("seed %d: %d waiting behind the guard", seed, waiting)
			}
		}
		e.Advance(at(now + 3600))
		s := e.stats
		if s.finished != accepted || s.rejected != refused {
			t.Fatalf("seed %d: %d finished of %d accepted, %d rejected of %d", seed, s.finished, accepted, s.rejected, refused)
		}
		if s.promptTokens != prompts || s.generationTokens != outputs {
			t.Fatalf("seed %d: tokens %d in, %d out, want %d and %d", seed, s.promptTokens, s.generationTokens, prompts, outputs)
		}
		if s.itl.count()+s.ttft.count() != outputs || s.ttft.count() != accepted {
			t.Fatalf("seed %d: %d first tokens and %d others, want %d in all", seed, s.ttft.count(), s.itl.count(), outputs)
		}
		if got := s.iterationTokens.sum; got != float64(prompts+outputs) {
			t.Fatalf("seed %d: iterations count %v tokens, want %d", seed, got, prompts+outputs)
		}
		if e.used != 0 || e.Running() != 0 || e.Waiting() != 0 {
			t.Fatalf("seed %d: %d blocks, %d running, %d waiting when all is done", seed, e.used, e.Running(), e.Waiting())
		}
		if refused == 0 || s.preemptions == 0 {
			t.Fatalf("seed %d: %d refused, %d preempted: the test doesn't press enough", seed, refused, s.preemptions)
		}
	}
}

// What a live vLLM 0.25.1 does with a long prompt, a preempted request and one whose
// client goes away.
func TestPageTellsOnlyWhatALiveOneDoes(t *testing.T) {
	m := small()
	e := NewEngine(m, start)
	long := m.KVBlocks*m.BlockSize - 100 // 3100 tokens, in steps of 512
	e.Submit(start, long, 5)
	step := m.iteration(m.MaxBatchedTokens, 1).Seconds()
	if e.Advance(at(.9 * step)); e.Running() != 0 || e.KVUsage() != 0 {
		t.Errorf("in its first step %d are running, KV %v", e.Running(), e.KVUsage())
	}
	e.Advance(at(1.1 * step))
	first := e.KVUsage()
	e.Advance(at(3.1 * step))
	if e.Running() != 1 || first == 0 || e.KVUsage() <= first || e.stats.iterationTokens.count() != 0 {
		t.Errorf("after three pieces %d are running, KV %v after %v, %d batches", e.Running(), e.KVUsage(), first, e.stats.iterationTokens.count())
	}
	if e.Advance(at(60)); e.stats.iterationTokens.count() != 5 || e.stats.finished != 1 {
		t.Errorf("%d batches for 5 tokens", e.stats.iterationTokens.count())
	}

	for range m.MaxNumSeqs { // 8 requests of 500 tokens, of which 6 fit
		e.Submit(at(60), 100, 400)
	}
	out := false
	for now := 60.0; now < 70; now += .01 {
		e.Advance(at(now))
		if preempted := e.stats.ttft.count() == 1+8 && e.Waiting() > 0; preempted && !out {
			out = true
			if e.stats.preemptions != 0 || e.Running()+e.Waiting() != m.MaxNumSeqs {
				t.Errorf("with requests preempted: %d counted, %d running, %d waiting", e.stats.preemptions, e.Running(), e.Waiting())
			}
		}
	}
	if e.Advance(at(120)); !out || e.stats.preemptions == 0 || e.stats.finished != 9 {
		t.Errorf("none was preempted, or %d counted in the end, %d finished", e.stats.preemptions, e.stats.finished)
	}

	r := e.Submit(at(120), 100, 400)
	e.Advance(at(121))
	e.Cancel(at(121), r)
	e.Advance(at(130))
	if e.stats.finished != 9 || e.stats.ttft.count() != 10 || e.used != 0 {
		t.Errorf("%d finished and %d started of 9 and one cancelled, %d blocks used", e.stats.finished, e.stats.ttft.count(), e.used)
	}
}

// The engine must not care how often it is looked at.
func TestEngineIsTheSameHoweverOftenItIsAsked(t *testing.T) {
	run := func(step float64) stats {
		e := NewEngine(Phi4MiniA100(), start)
		next := 0.0
		for i := range 2000 {
			arrival := float64(i) * 0.031
			for ; next < arrival; next += step {
				e.Advance(at(next))
			}
			e.Submit(at(arrival), 300, 150)
		}
		e.Advance(at(120))
		return e.stats
	}
	often, rarely := run(0.001), run(5)
	if often.e2e.sum != rarely.e2e.sum || often.itl.sum != rarely.itl.sum || often.finished != rarely.finished {
		t.Errorf("asked often: %v s in %d requests, rarely: %v s in %d", often.e2e.sum, often.finished, rarely.e2e.sum, rarely.finished)
	}
}

func TestPresetIsAsFastAsTheRealThing(t *testing.T) {
	for _, n := range []int{1, 16, 64, 128, 200, 256} {
		e := NewEngine(Phi4MiniA100(), start)
		e.SetBenchmark(start, n, 200, 200)
		e.Advance(at(300))
		want := (7.8 + 0.14*float64(n)) / 1000
		if got := e.stats.itl.mean(); math.Abs(got-want)/want > 0.1 {
			t.Errorf("%d running: ITL %.1f ms, want %.1f ±10 %%", n, got*1000, want*1000)
		}
		if rps := float64(e.stats.finished) / 300; n == 200 && math.Abs(rps-27) > 2.7 {
			t.Errorf("200 in flight: %.1f requests per second, want 27 ±10 %%", rps)
		}
	}
}

func TestQueueOnlyWhenSaturated(t *testing.T) {
	e := NewEngine(Phi4MiniA100(), start)
	// 20 rps, below the 27 that it can do: never a queue, however long.
	for i := range 20 * 60 {
		e.Submit(at(float64(i)/20), 200, 200)
		if e.Waiting() > 0 {
			t.Fatalf("%d waiting at 20 rps with %d running", e.Waiting(), e.Running())
		}
	}
	// 60 rps: the batch fills, then the queue, then the guard says no.
	full, refused := 0.0, 0.0
	for i := range 60 * 60 {
		now := 60 + float64(i)/60
		r := e.Submit(at(now), 200, 200)
		if e.Waiting() > 0 && full == 0 {
			full = now
			if e.Running() < 250 { // some ended with the step
				t.Fatalf("%d waiting behind %d running", e.Waiting(), e.Running())
			}
		}
		if r == nil && refused == 0 {
			refused = now
			if e.Waiting() < 250 {
				t.Fatalf("refused with %d waiting", e.Waiting())
			}
		}
	}
	if full == 0 || refused <= full {
		t.Errorf("queue from %v s, refusals from %v s", full, refused)
	}
	if e.Waiting() > 258 || e.stats.rejected == 0 {
		t.Errorf("%d waiting, %d rejected, want near 256 and some", e.Waiting(), e.stats.rejected)
	}
}

func TestBurstFillsBatchThenQueue(t *testing.T) {
	e := NewEngine(Phi4MiniA100(), start)
	for range 281 {
		if e.Submit(start, 10, 500) == nil {
			t.Fatal("refused")
		}
	}
	e.Advance(at(1))
	if e.Running() != 256 || e.Waiting() != 25 {
		t.Errorf("%d running, %d waiting, want 256 and 25", e.Running(), e.Waiting())
	}
}

func TestFrozenEngineStandsStill(t *testing.T) {
	e := NewEngine(Phi4MiniA100(), start)
	e.SetBenchmark(start, 300, 200, 200)
	e.Freeze(at(60), true)
	running, waiting, iterations := e.Running(), e.Waiting(), e.stats.iterationTokens.count()
	e.Submit(at(90), 10, 10)
	e.Advance(at(600))
	if e.Running() != running || e.Waiting() != waiting || e.stats.iterationTokens.count() != iterations || running == 0 {
		t.Errorf("frozen: %d/%d running, %d/%d waiting", e.Running(), running, e.Waiting(), waiting)
	}
	before := e.stats.itl.count()
	e.Freeze(at(600), false)
	e.Advance(at(610))
	if e.stats.itl.count() == before {
		t.Error("it doesn't go on")
	}
}

func TestPinnedEngineLooksAlive(t *testing.T) {
	e := NewEngine(Phi4MiniA100(), start)
	e.Submit(start, 100, 1000)
	e.Advance(at(1))
	n := 25
	e.pinned.waiting = &n
	iterations := e.stats.iterationTokens.count()
	e.Advance(at(11))
	if e.Waiting() != 25 || e.Running() != 256 {
		t.Errorf("%d waiting, %d running, want 25 behind a full batch", e.Waiting(), e.Running())
	}
	if more := e.stats.iterationTokens.count() - iterations; more < 200 {
		t.Errorf("%d iterations in 10 s", more)
	}
	e.pinned = pin{}
	e.Advance(at(60))
	if e.stats.finished != 1 {
		t.Error("the request that rested while pinned was lost")
	}
}

func TestBenchmarkLeavesCountersOnly(t *testing.T) {
	m := Phi4MiniA100()
	e := NewEngine(m, start)
	e.SetBenchmark(start, 320, 2048, 256)
	e.Advance(at(60))
	if e.Waiting() == 0 {
		t.Error("the benchmark doesn't saturate")
	}
	e.SetBenchmark(at(60), 0, 0, 0)
	e.Advance(at(61))
	if e.Running()+e.Waiting() != 0 || e.KVUsage() != 0 || e.stats.generationTokens == 0 {
		t.Errorf("after: %d running, %d waiting, KV %v, %d tokens", e.Running(), e.Waiting(), e.KVUsage(), e.stats.generationTokens)
	}
}

func TestPeakIsWhatTheEngineReaches(t *testing.T) {
	m := Phi4MiniA100()
	e := NewEngine(m, start)
	e.SetBenchmark(start, 320, 2048, 256)
	e.Advance(at(600))
	got := float64(e.stats.promptTokens+e.stats.generationTokens) / 10
	if want := m.PeakTokensPerMinute(2048, 256); math.Abs(got-want)/want > 0.1 {
		t.Errorf("peak %.0f tokens per minute by formula, %.0f by simulation", want, got)
	}
}

func BenchmarkLoadedEngineSecond(b *testing.B) {
	e := NewEngine(Phi4MiniA100(), start)
	e.SetBenchmark(start, 300, 200, 200)
	e.Advance(at(30))
	for i := range b.N {
		e.Advance(at(30 + float64(i)))
	}
}
