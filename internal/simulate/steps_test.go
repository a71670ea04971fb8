package simulate

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// slowEngine has steps so long that one sees what happens within them: 30 ms, 0.3
// ms for a prompt token, 1 ms for a request; 16 of them run.
func slowEngine() Engine {
	return Engine{Name: "slow", Alpha: .03, Beta: .0003, Gamma: .001, MaxSeqs: 16, KVTokens: 100_000, Chunk: 2048}
}

// server is an engine under test with its load.
type server struct {
	*steps
	t    *testing.T
	next int
}

func serve(t *testing.T, e Engine, requests ...Request) *server {
	t.Helper()
	load := &Load{Requests: requests, Length: time.Hour}
	score := &tally{slo: DefaultSLO, engine: &e, load: load, minutes: make([]Minute, 60), results: make([]RequestResult, len(requests))}
	return &server{steps: newSteps(&e, load, score, 0, true, 1), t: t}
}

// to plays up to a time, its arrivals included.
func (s *server) to(at float64) *server {
	for ; s.next < len(s.load.Requests) && s.load.Requests[s.next].At <= at; s.next++ {
		s.advance(s.load.Requests[s.next].At)
		if !s.push(int32(s.next)) {
			s.tally.refuse(int32(s.next))
		}
	}
	s.advance(at)
	return s
}

// says checks the page: running and waiting, finished requests, first tokens,
// prompt and generated tokens, batches of output.
func (s *server) says(want ...float64) {
	s.t.Helper()
	names := []string{
		"vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:request_success_total", "vllm:time_to_first_token_seconds",
		"vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:iteration_tokens_total",
	}
	page := s.read(names, start, nil)
	got := make([]float64, 0, len(names))
	for _, name := range names {
		f, _ := page.Family(name)
		if f.Kind == sample.Histogram {
			got = append(got, f.Buckets.Count())
		} else {
			got = append(got, f.Sum)
		}
	}
	if diff := cmp.Diff(want, got[:len(want)]); diff != "" {
		s.t.Errorf("at %.3f s the page has %v of\n%v\nwant %v", s.at, got[:len(want)], names[:len(want)], want)
	}
}

// family is the sum and the count of one of the page.
func (s *server) family(name string) (sum, count float64) {
	f, found := s.read([]string{name}, start, nil).Family(name)
	if !found {
		s.t.Fatalf("there is no %s", name)
	}
	if f.Kind == sample.Histogram {
		return f.Buckets.Sum, f.Buckets.Count()
	}
	return f.Sum, 0
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9 {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// A prompt of 7 500 tokens takes four steps. None of them is an iteration on the
// page, nor is anything else counted, until the first token comes.
func TestAPromptIsWorkedOffInPiecesAndCountedAtItsFirstToken(t *testing.T) {
	s := serve(t, slowEngine(), Request{At: 0, In: 7500, Out: 3})
	whole := 2048*.0003 + .031
	s.to(whole-.001).says(0, 0, 0, 0, 0, 0, 0)
	s.to(3*whole+.001).says(1, 0, 0, 0, 0, 0, 0)
	first := 4*.031 + 7500*.0003
	s.to(first+.001).says(1, 0, 0, 1, 7500, 1, 1)
	tokens, _ := s.family("vllm:iteration_tokens_total")
	near(t, "the batch", tokens, 7501)
	s.to(first+2*.031+.001).says(0, 0, 1, 1, 7500, 3, 3)
	ttft, _ := s.family("vllm:time_to_first_token_seconds")
	near(t, "time to first token", ttft, first)
	near(t, "seconds per token", s.tally.results[0].PerToken, .031)
}

// Who decodes has a token in every step; a prompt has what is left of it.
func TestWhoDecodesIsFirst(t *testing.T) {
	s := serve(t, slowEngine(), Request{At: 0, In: 10, Out: 50}, Request{At: .001, In: 2048, Out: 2})
	one := .031 + 10*.0003
	s.to(one+.0001).says(1, 0, 0, 1, 10, 1)
	// 2 047 tokens beside the one that decodes.
	second := one + .032 + 2047*.0003
	s.to(second+.0001).says(2, 0, 0, 1, 10, 2)
	s.to(second+.032+.0003+.0001).says(2, 0, 0, 2, 2058, 4)
	if got, want := s.tally.results[1].TTFT, 0.; got != want {
		t.Errorf("the second has ended: %v", got)
	}
}

// Of three prompts at once the first two and a piece of the third fit in a step.
func TestPromptsAreServedAsTheyCome(t *testing.T) {
	s := serve(t, slowEngine(), Request{0, 1, 2}, Request{.01, 1000, 2}, Request{.02, 1000, 2}, Request{.03, 1000, 2})
	s.to(.0313+.0001).says(1, 0, 0, 1, 1)
	second := .0313 + .034 + 2047*.0003
	s.to(second+.0001).says(3, 0, 1, 3, 2001)
	s.to(second+.033+953*.0003+.0001).says(1, 0, 3, 4, 3001)
}

// During a long step the page says what was before it.
func TestGaugesMoveAfterAStep(t *testing.T) {
	s := serve(t, slowEngine(), Request{0, 6000, 5}, Request{.7, 100, 5}, Request{.8, 100, 5})
	step := .031 + 2048*.0003
	s.to(1.2).says(1, 0)
	if running, waiting := s.occupied(); running != 1 || waiting != 2 || s.inFlight != 3 {
		t.Errorf("in truth %d run and %d wait", running, waiting)
	}
	// The third step has the last 1 904 tokens of the first, and 144 of the others.
	s.to(2*step+.01).says(1, 0)
	s.to(3*step+.01).says(3, 0, 0, 2)
}

// 60 requests at once on 16 sequences: the guard takes 33, and a moment later the
// page says nothing of them yet.
func TestTheGuardRefusesWhatIsBeyondThoseThatMayWait(t *testing.T) {
	all := make([]Request, 60)
	for i := range all {
		all[i] = Request{At: 0, In: 1500, Out: 100}
	}
	s := serve(t, slowEngine(), all...)
	s.to(.2).says(0, 0)
	rejected, _ := s.family("kaito_ratelimit_rejected_total")
	if rejected != 27 || s.inFlight != 33 || s.tally.refused != 27 {
		t.Errorf("%v refused, %d taken", rejected, s.inFlight)
	}
	s.to(8.5)
	if running, waiting := s.occupied(); running != 16 || waiting != 17 {
		t.Errorf("%d run, %d wait", running, waiting)
	}
	s.to(60).says(0, 0, 33, 33, 33*1500, 3300)
}

// Three requests outgrow a cache that holds all prompts. Who came last waits
// again, with the tokens that its client has had, and works off again what it had:
// its prompt and its first token aren't counted twice, and the preemption is told
// when it is back.
func TestAFullCachePreemptsWhoCameLast(t *testing.T) {
	e := slowEngine()
	e.KVTokens = 1600
	s := serve(t, e, Request{0, 500, 100}, Request{0, 500, 100}, Request{0, 500, 100})
	usage := 0.0
	for s.at < 30 && s.waiting.len() == 0 {
		usage, _ = s.family("vllm:kv_cache_usage_perc")
		s.to(s.at + .01)
	}
	out := s.waiting.first()
	if out.id != 2 || out.left == 100 || usage < .94 {
		t.Fatalf("after %.2f s request %d waits with %d tokens to come, at %.2f of the cache", s.at, out.id, out.left, usage)
	}
	s.to(s.at+.05).says(2, 1, 0, 3, 1500)
	preemptions, _ := s.family("vllm:num_preemptions_total")
	s.to(60).says(0, 0, 3, 3, 1500, 300)
	after, _ := s.family("vllm:num_preemptions_total")
	if preemptions != 0 || after != 1 {
		t.Errorf("%v preemptions were told while it was out, %v when it was back", preemptions, after)
	}
	for i, r := range s.tally.results {
		if r.Outcome != Served {
			t.Errorf("request %d is %s", i, r.Outcome)
		}
	}
	if last, first := s.tally.results[2].PerToken, s.tally.results[0].PerToken; last < 1.3*first {
		t.Errorf("the preempted one had a token in %v s, the first in %v", last, first)
	}
}

// A request is admitted if all of its prompt fits, not if its first piece does; one
// that is alone runs however large it is.
func TestAPromptIsAdmittedIfAllOfItFits(t *testing.T) {
	e := slowEngine()
	e.KVTokens = 8000
	s := serve(t, e, Request{0, 1600, 400}, Request{.001, 7000, 2}, Request{.002, 10, 2})
	s.to(1).says(1, 2)
	s.to(60).says(0, 0, 3)
	if first, small := s.tally.results[1], s.tally.results[2]; small.TTFT < first.TTFT-.0015 {
		t.Errorf("the small one had its first token after %v s, before the large one with %v", small.TTFT, first.TTFT)
	}
	s = serve(t, e, Request{0, 9000, 100})
	s.to(60).says(0, 0, 1, 1, 9000, 100)
}

// A client that goes away is never counted as finished, though its prompt and its
// first token were; running falls at the end of the step under way, also when all go
// at once.
func TestWhoIsCancelledIsNeverCountedAsFinished(t *testing.T) {
	s := serve(t, slowEngine(), Request{0, 10, 1000}, Request{0, 10, 1000}, Request{0, 10, 1000})
	s.load.Cancels = []float64{3, 1.5, 3}
	s.to(1.6).says(2, 0, 0, 3, 30)
	s.to(3.1).says(0, 0, 0, 3, 30)
	if s.inFlight != 0 || s.tally.cancelled != 3 || s.tally.impatient != 0 || s.free != s.total {
		t.Errorf("%d in flight, %d cancelled, %d of them late, %d blocks free of %d", s.inFlight, s.tally.cancelled, s.tally.impatient, s.free, s.total)
	}
	// What came after it had gone is not on the page.
	generated, _ := s.family("vllm:generation_tokens_total")
	if most := 3/.033 + 3/.033 + 1.5/.033; generated > most {
		t.Errorf("%v tokens are counted, they can have had %v", generated, most)
	}
}

// One that waits for its first token too long before its client goes is a miss.
func TestWhoGoesBecauseNothingCameWasMissed(t *testing.T) {
	s := serve(t, slowEngine(), Request{0, 30_000, 10}, Request{0, 10, 10}, Request{0, 10, 10})
	s.load.Cancels = []float64{math.Inf(1), 3, 1}
	s.to(60).says(0, 0, 1, 1)
	want := []RequestResult{{Served, s.tally.results[0].TTFT, s.tally.results[0].PerToken}, {Cancelled, 0, 0}, {Cancelled, 0, 0}}
	if diff := cmp.Diff(want, s.tally.results); diff != "" || s.tally.cancelled != 2 || s.tally.impatient != 1 {
		t.Errorf("%d cancelled, %d of them late\n%s", s.tally.cancelled, s.tally.impatient, diff)
	}
}

// Under speculation the inter-token latency is of pieces of output, the time per
// token of tokens, and rejected drafts are in no count.
func TestSpeculationGivesTokensInPieces(t *testing.T) {
	e := slowEngine()
	e.Speculation = Speculation{Tokens: 3, Acceptance: .6}
	const out = 5000
	s := serve(t, e, Request{0, 10, out})
	s.to(600).says(0, 0, 1, 1, 10, out)
	sum, pieces := s.family("vllm:inter_token_latency_seconds")
	if got := (out - 1) / pieces; math.Abs(got-e.Speculation.mean()) > .05 {
		t.Errorf("%v tokens a step, want %v", got, e.Speculation.mean())
	}
	near(t, "the time between pieces", sum/pieces, .031)
	perToken, _ := s.family("vllm:request_time_per_output_token_seconds")
	if math.Abs(perToken*e.Speculation.mean()/.031-1) > .02 {
		t.Errorf("%v s a token at %v s a step", perToken, .031)
	}
	tokens, steps := s.family("vllm:iteration_tokens_total")
	if tokens != 10+out || steps != pieces+1 {
		t.Errorf("%v tokens in %v batches, %v pieces", tokens, steps, pieces)
	}
}

// Queue time is counted when a request ends, as vLLM does: blind while overload
// builds.
func TestQueueTimeIsCountedAtTheEnd(t *testing.T) {
	e := slowEngine()
	e.MaxSeqs = 1
	s := serve(t, e, Request{0, 10, 101}, Request{0, 10, 101})
	s.to(4)
	if _, n := s.family("vllm:request_queue_time_seconds"); n != 1 {
		t.Errorf("%v are counted while the second still runs", n)
	}
	s.to(10)
	if sum, n := s.family("vllm:request_queue_time_seconds"); n != 2 || math.Abs(sum-(.003+101*.031)) > 1e-6 {
		t.Errorf("%v of them are %v s", n, sum)
	}
}

// Context costs time where the description says so, and a knee bends it.
func TestAStepTakesWhatTheDescriptionSays(t *testing.T) {
	e := slowEngine()
	e.Delta, e.Knee, e.GammaKnee = .00001, 1, .01
	s := serve(t, e, Request{0, 100, 2}, Request{0.001, 200, 3})
	first := .031 + 100*.0003
	second := .03 + .001 + .01 + 200*.0003 + 100*.00001
	third := .031 + 200*.00001
	fourth := .031 + 201*.00001
	s.to(first+second+third+fourth+.0001).says(0, 0, 2)
	near(t, "the second's time to first token", s.tally.results[1].TTFT, first+second-.001)
	near(t, "its time per token", s.tally.results[1].PerToken, (third+fourth)/2)
}

// Whatever comes, every request ends once, and the cache is empty in the end: with
// a small one, long and short requests, clients that go, speculation.
func TestNothingIsLostInAnEngine(t *testing.T) {
	preempted, refused := 0.0, 0
	for seed := range uint64(30) {
		r := random(seed)
		e := slowEngine()
		e.KVTokens = 3000 + r.IntN(6000)
		if seed%3 == 0 {
			e.Speculation = Speculation{Tokens: 1 + r.IntN(4), Acceptance: r.Float64()}
		}
		requests, cancels := make([]Request, 600), make([]float64, 600)
		at, gap := 0.0, .1+.9*r.Float64()
		for i := range requests {
			at += r.ExpFloat64() * gap
			requests[i] = Request{At: at, In: 1 + int32(r.ExpFloat64()*300), Out: 1 + int32(r.ExpFloat64()*60)}
			cancels[i] = math.Inf(1)
			if r.IntN(10) == 0 {
				cancels[i] = r.ExpFloat64() * 3
			}
		}
		s := serve(t, e, requests...)
		if seed%2 == 0 {
			s.load.Cancels = cancels
		}
		s.to(3000)
		generated, ended := 0.0, map[Outcome]int{}
		for i, result := range s.tally.results {
			ended[result.Outcome]++
			if result.Outcome == Served {
				generated += float64(requests[i].Out)
			}
		}
		c := s.page.counters
		if ended[Unfinished] > 0 || ended[Refused] != s.tally.refused || ended[Cancelled] != s.tally.cancelled || float64(ended[Served]) != c.success {
			t.Errorf("seed %d: %v, on the page %+v", seed, ended, c)
		}
		if s.inFlight != 0 || s.free != s.total || s.context != 0 || s.busy || len(s.unfinished()) > 0 || len(s.silent()) > 0 {
			t.Errorf("seed %d: %d in flight, %d blocks of %d free, %d tokens of context", seed, s.inFlight, s.free, s.total, s.context)
		}
		if s.load.Cancels == nil && c.generated != generated || c.generated < generated {
			t.Errorf("seed %d: %v tokens on the page, those that were served had %v", seed, c.generated, generated)
		}
		preempted += c.preemptions
		refused += s.tally.refused
	}
	if preempted < 100 || refused < 100 {
		t.Errorf("%v preemptions, %d refusals: these loads try nothing", preempted, refused)
	}
}

// A fleet of these engines comes to the same for the same seed, whatever else is
// played, and ends every request.
func TestTheSameSeedComesToTheSameInSteps(t *testing.T) {
	s := slow(world(), 3)
	s.Engine.Speculation = Speculation{Tokens: 2, Acceptance: .5}
	s.Steps, s.PerRequest = true, true
	load := loadOn(&s.Engine, &Conversation, Steady(), 2, 30*time.Minute)
	once, again := play(t, s, load, dialectA("4")), play(t, s, load, dialectA("4"))
	if diff := cmp.Diff(once, again); diff != "" {
		t.Error(diff)
	}
	s.Seed++
	if cmp.Equal(once.PerRequest, play(t, s, load, dialectA("4")).PerRequest) {
		t.Error("another seed comes to the same")
	}
	ended := map[Outcome]int{}
	for _, r := range once.PerRequest {
		ended[r.Outcome]++
	}
	if ended[Refused] != once.Refused || ended[Broken] != once.Broken || ended[Served]+once.Refused+once.Broken+once.Unfinished != once.Requests || ended[Served] == 0 {
		t.Errorf("%v of %d: %+v", ended, len(load.Requests), once)
	}
}

// A client that goes away in the last moment of a load is counted as gone, and not
// as waiting.
func TestClientsThatGoAtTheEndAreCounted(t *testing.T) {
	s := Setting{Engine: slowEngine(), SLO: DefaultSLO, Steps: true, Seed: 1}
	load := &Load{Name: "end", Length: time.Minute, Requests: []Request{{50, 100_000, 10}, {51, 10, 10}}, Cancels: []float64{math.Inf(1), 8.999}}
	if r := play(t, s, load, Static("1", 1)); r.Cancelled != 1 || r.Requests != 1 || r.Unfinished != 0 || r.Attained != 0 {
		t.Errorf("%+v", r)
	}
}

// What the fluid engine doesn't have it says.
func TestTheFluidEngineSaysWhatItLeavesOut(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Setting, *Load)
		why    string
	}{
		"context":     {func(s *Setting, _ *Load) { s.Engine.Delta = 1e-9 }, "engine phi-4-mini-a100 has deltaSecondsPerContextToken, which is played in steps alone"},
		"speculation": {func(s *Setting, _ *Load) { s.Engine.Speculation.Tokens = 1 }, "engine phi-4-mini-a100 has speculation, which is played in steps alone"},
		"cancels":     {func(_ *Setting, l *Load) { l.Cancels = []float64{1} }, "one has clients that cancel, which are played in steps alone"},
	} {
		s, load := world(), &Load{Name: "one", Requests: []Request{{0, 10, 10}}, Length: time.Minute}
		tt.change(&s, load)
		if _, err := Run(t.Context(), s, load, Static("1", 1)); err == nil || err.Error() != tt.why {
			t.Errorf("%s: got %v", name, err)
		}
		s.Steps = true
		if _, err := Run(t.Context(), s, load, Static("1", 1)); err != nil {
			t.Errorf("%s, in steps: %v", name, err)
		}
	}
}
