package simulate

import (
	"context"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// closed keeps so many equal requests in flight for ten minutes and returns the
// mean time between tokens and the requests a second.
func closed(t *testing.T, e Engine, in, out int32, inFlight int) (itl, rps float64) {
	t.Helper()
	load := make([]Request, 100_000)
	for i := range load {
		load[i] = Request{In: in, Out: out}
	}
	score := &tally{slo: DefaultSLO, engine: &e, minutes: make([]Minute, 1)}
	replica := newEngine(pacesOf(&e), &Load{Requests: load}, score, 0, true)
	next := int32(0)
	for at := 0.0; at < 600; at += .01 {
		replica.advance(at)
		for replica.inFlight < inFlight {
			replica.push(next)
			next++
		}
	}
	return replica.counters.tokenTime / replica.counters.generated, replica.counters.success / 600
}

func TestThePresetsAreAsFastAsPublished(t *testing.T) {
	for _, tt := range []struct {
		engine   string
		in, out  int32
		running  int
		itl, rps float64
	}{
		{"phi-4-mini-a100", 200, 200, 50, .0078 + 50*.00014, 0},
		{"phi-4-mini-a100", 200, 200, 200, .0078 + 200*.00014, 27},
		{"phi-4-mini-h100", 200, 200, 200, 0, 60},
		{"llama-3.1-8b-a100", 1000, 200, 60, .014 + 60*.00038, 0},
		{"llama-3.1-8b-a100", 1000, 200, 200, 0, 7},
	} {
		e, err := EngineNamed(tt.engine)
		if err != nil {
			t.Fatal(err)
		}
		itl, rps := closed(t, e, tt.in, tt.out, tt.running)
		if tt.itl > 0 && math.Abs(itl/tt.itl-1) > .1 {
			t.Errorf("%s with %d running: %.1f ms between tokens, published are %.1f", tt.engine, tt.running, 1000*itl, 1000*tt.itl)
		}
		if tt.rps > 0 && math.Abs(rps/tt.rps-1) > .2 {
			t.Errorf("%s with %d running: %.1f requests a second, published are %.1f", tt.engine, tt.running, rps, tt.rps)
		}
	}
	if _, err := EngineNamed("gpt-5"); err == nil {
		t.Error("an engine that nobody knows was found")
	}
}

func TestOneRequestAlone(t *testing.T) {
	e := Engines[0]
	load := []Request{{In: 1000, Out: 101}}
	score := &tally{slo: DefaultSLO, engine: &e, minutes: make([]Minute, 1)}
	replica := newEngine(pacesOf(&e), &Load{Requests: load}, score, 0, true)
	replica.push(0)
	replica.advance(60)
	// The prefill, an iteration in halves, then a hundred iterations.
	want := 1000*e.Beta + 1000.0/2048*e.Alpha + .5*e.Alpha
	if got := replica.counters.ttftSum; math.Abs(got-want) > 1e-9 {
		t.Errorf("first token after %v s, want %v", got, want)
	}
	if got := replica.counters.tpotSum; math.Abs(got-e.step(1)) > 1e-4 {
		t.Errorf("%v s between tokens, want %v", got, e.step(1))
	}
	if c := replica.counters; c.prompt != 1000 || math.Abs(c.generated-101) > 1e-6 || c.success != 1 || replica.inFlight != 0 {
		t.Errorf("counters %+v, in flight %d", c, replica.inFlight)
	}
}

func TestTheGuardRefusesBeyondWhatMayWait(t *testing.T) {
	e := Engines[0]
	load := make([]Request, 600)
	for i := range load {
		load[i] = Request{In: 100, Out: 100}
	}
	replica := newEngine(pacesOf(&e), &Load{Requests: load}, &tally{slo: DefaultSLO, engine: &e, minutes: make([]Minute, 1)}, 0, false)
	taken := 0
	for i := range load {
		if replica.push(int32(i)) {
			taken++
		}
	}
	// 256 run, 256 wait.
	if taken != 512 || replica.counters.rejected != 88 || replica.waiting.len() != 256 {
		t.Errorf("took %d, refused %v, %d wait", taken, replica.counters.rejected, replica.waiting.len())
	}
}

func TestAFullCacheMakesRequestsWait(t *testing.T) {
	e := Engines[0]
	load := make([]Request, 100)
	for i := range load {
		load[i] = Request{In: 20_000, Out: 5_000}
	}
	replica := newEngine(pacesOf(&e), &Load{Requests: load}, &tally{slo: DefaultSLO, engine: &e, minutes: make([]Minute, 1)}, 0, false)
	for i := range load {
		replica.push(int32(i))
	}
	if replica.admitted != 24 || replica.waiting.len() != 76 {
		t.Errorf("%d run and %d wait: 600 000 tokens hold 24 of 25 000", replica.admitted, replica.waiting.len())
	}
}

func hour(replicas float64, seed uint64) *Load {
	e := Engines[0]
	peak := replicas * e.Capacity(Conversation.In.mean(), Conversation.Out.mean(), DefaultSLO.ITL)
	return Generate("hour", &Conversation, Steady(), peak, time.Hour, seed)
}

func world() Setting {
	return Setting{
		Engine: Engines[0], SLO: DefaultSLO, ColdStart: 5 * time.Minute, Spread: .15, Loss: .02,
		Bounds: policy.Bounds{Min: 1, Max: 8}, Initial: 1, Seed: 1, EvaluatedBefore: EvaluatedBefore(1),
	}
}

func play(t *testing.T, s Setting, load *Load, p Policy) *Result {
	t.Helper()
	result, err := Run(context.Background(), s, load, p)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestTheSameSeedComesToTheSame(t *testing.T) {
	once := play(t, world(), hour(2, 7), dialectA("4"))
	again := play(t, world(), hour(2, 7), dialectA("4"))
	if diff := cmp.Diff(once, again); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(once, play(t, world(), hour(2, 8), dialectA("4"))) {
		t.Error("another seed comes to the same")
	}
}

func dialectA(maximum string) Policy {
	return Annotated("queue 10", map[string]string{
		policy.Prefix + "auto-provision": "true", policy.Prefix + "threshold": "10", policy.Prefix + "max-replicas": maximum,
	})
}

func TestEveryRequestIsAccountedFor(t *testing.T) {
	load := hour(3, 1)
	s := world()
	s.Stuck = .3
	r := play(t, s, load, dialectA("8"))
	inFlight := len(load.Requests) - r.Requests
	if inFlight < 0 || inFlight > 3*2*256 {
		t.Errorf("%d of %d requests are accounted for", r.Requests, len(load.Requests))
	}
	if r.Refused == 0 {
		t.Error("one replica took the load of three for minutes and refused nobody")
	}
	arrived := 0
	for _, m := range r.Minutes {
		arrived += int(m.Arrived)
	}
	if arrived != len(load.Requests) {
		t.Errorf("%d arrived in the minutes, %d in the load", arrived, len(load.Requests))
	}
}

func TestAFleetOfTheRightSizeKeepsThePromise(t *testing.T) {
	load := hour(2, 3)
	enough, short := play(t, world(), load, Static("3", 3)), play(t, world(), load, Static("1", 1))
	if enough.Attainment() < .999 || short.Attainment() > .1 {
		t.Errorf("three attain %.4f and one %.4f of a load of two", enough.Attainment(), short.Attainment())
	}
	if math.Abs(enough.GPUHours-3) > 1e-9 {
		t.Errorf("three replicas for an hour are %v GPU-hours", enough.GPUHours)
	}
}

func TestTheQueueTargetOrdersOneReplicaInFiveMinutes(t *testing.T) {
	var moves []int32
	var at []time.Duration
	for _, m := range play(t, world(), hour(3, 1), dialectA("8")).Moves {
		if m.Reason == "" {
			t.Errorf("%d replicas without a reason", m.To)
		}
		moves, at = append(moves, m.To), append(at, m.At)
	}
	if len(moves) < 3 || !cmp.Equal(moves[:3], []int32{2, 3, 4}) {
		t.Fatalf("moves are %v at %v", moves, at)
	}
	if gap := at[1] - at[0]; gap != 5*time.Minute {
		t.Errorf("the second step came %v after the first, want 5m", gap)
	}
}

func TestReplicasThatStartAreRemovedFirst(t *testing.T) {
	s := world()
	s.Initial = 2
	r := &run{Setting: s, load: hour(1, 1), rand: random(1), tally: &tally{minutes: make([]Minute, 60)}}
	for range 2 {
		r.order(start)
		r.serve(r.replicas[len(r.replicas)-1])
	}
	r.order(start.Add(time.Minute))
	r.remove(start.Add(2 * time.Minute))
	if len(r.serving) != 2 || len(r.replicas) != 2 {
		t.Errorf("%d of %d serve: the one that starts should have gone", len(r.serving), len(r.replicas))
	}
	r.remove(start.Add(2 * time.Minute))
	if len(r.serving) != 1 || len(r.replicas) != 1 {
		t.Errorf("%d of %d serve", len(r.serving), len(r.replicas))
	}
}

func TestAnEndedContextEndsARun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, world(), hour(1, 1), Static("1", 1)); err == nil {
		t.Error("it ran to the end")
	}
}

// processorTime is what this process has used, in seconds: on a machine that does
// other things too, more telling than a clock.
func processorTime(b *testing.B) float64 {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// BenchmarkRun reports how many times faster than life a day is, with each kind
// of engine.
func BenchmarkRun(b *testing.B) {
	e := Engines[0]
	peak := 8 * e.Capacity(Conversation.In.mean(), Conversation.Out.mean(), DefaultSLO.ITL)
	load := Generate("day", &Conversation, Days(.3), peak, 24*time.Hour, 1)
	speculating := e
	speculating.Speculation = Speculation{Tokens: 3, Acceptance: .6}
	for _, bb := range []struct {
		name   string
		engine Engine
		steps  bool
	}{{"fluid", e, false}, {"steps", e, true}, {"steps-speculating", speculating, true}} {
		b.Run(bb.name, func(b *testing.B) {
			s := world()
			s.Engine, s.Steps = bb.engine, bb.steps
			began := processorTime(b)
			for b.Loop() {
				if _, err := Run(context.Background(), s, load, dialectA("8")); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(load.Length.Seconds()*float64(b.N)/(processorTime(b)-began), "×real-time")
		})
	}
}
