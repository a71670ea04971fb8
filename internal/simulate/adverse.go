package simulate

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// Adverse are the scenarios that a policy must survive: engines, clients and faults
// that constants chosen on ordinary traffic don't fit. Each is short enough to be
// played in seconds, in steps, and says what it demands.
func Adverse() []Scenario {
	var all []Scenario
	for _, group := range [][]Scenario{adverseEngines(), adverseClients(), adverseFaults(), adverseLoads()} {
		all = append(all, group...)
	}
	for i := range all {
		s := &all[i]
		s.Replicas = cmp.Or(s.Replicas, 6)
		s.Length = cmp.Or(s.Length, 12*time.Hour)
		if s.Kind == nil {
			s.Kind = &Conversation
		}
		if s.Shape == nil {
			s.Shape = workday(.3)
		}
		s.Must.Attained = cmp.Or(s.Must.Attained, .99)
		s.Must.OfStatic = cmp.Or(s.Must.OfStatic, 1.25)
		s.Must.Turns = cmp.Or(s.Must.Turns, 10)
		s.World = both(func(w *Setting) { w.Steps = true }, s.World)
	}
	return all
}

// both changes a setting by one after the other.
func both(one, other func(*Setting)) func(*Setting) {
	return func(w *Setting) {
		one(w)
		if other != nil {
			other(w)
		}
	}
}

// workday is from 6 h to 18 h of a day.
func workday(floor float64) Shape {
	day := Days(floor)
	return func(t time.Duration) float64 { return day(t + 6*time.Hour) }
}

// preset is one, changed.
func preset(name string, change func(*Engine)) *Engine {
	e, err := EngineNamed(name)
	if err != nil {
		panic(err) // of this very table: a test plays each
	}
	if change != nil {
		change(&e)
	}
	return &e
}

// adverseEngines differ from the engine that a policy may have been tuned on.
func adverseEngines() []Scenario {
	const phi = "phi-4-mini-a100"
	return []Scenario{
		{
			Name: "itl-in-bucket", Rate: 1, Replicas: 1, SLO: SLO{TTFT: 2, ITL: .06}, Shape: Steady(), Length: 6 * time.Hour,
			Engine: preset(phi, func(e *Engine) { e.Name, e.Alpha, e.Gamma = "steps of 50 ms", .05, .0002 }),
		},
		{
			Name: "ttft-in-bucket", Kind: &Code, SLO: SLO{TTFT: 2, ITL: .075}, Must: Must{OfStatic: 1},
		},
		{
			Name: "itl-unattainable", Replicas: 4, SLO: DefaultSLO,
			Engine: preset(phi, func(e *Engine) { e.Name, e.Alpha, e.MaxSeqs = "steps of 80 ms", .08, 64 }),
			Must:   Must{Also: tellsSlowTokens, Words: "its owner is told how fast a token comes on an idle replica"},
		},
		{
			Name: "speculation", Replicas: 3, Must: Must{OfStatic: .75},
			Engine: preset(phi, func(e *Engine) { e.Name, e.Speculation = "2.5 tokens a step", Speculation{Tokens: 3, Acceptance: .69} }),
		},
		{
			Name: "knee", Must: Must{OfStatic: 1.1},
			Engine: preset(phi, func(e *Engine) { e.Name, e.Knee, e.GammaKnee = "knee at 48", 48, 12*e.Gamma }),
		},
		{
			Name: "heavy", Kind: &Heavy, Replicas: 4, Must: Must{OfStatic: 1.2, Turns: 6},
			Engine: preset("llama-3.3-70b-2x2-h100", nil), World: func(w *Setting) { w.Nodes = 2 },
		},
		{Name: "two-engines", Replicas: 8, Engine: slower(4), Must: Must{OfStatic: .9}, World: func(w *Setting) { w.EnginesPerPod = 2 }},
		{Name: "eight-engines", Replicas: 32, Engine: slower(8), Must: Must{OfStatic: .9}, World: func(w *Setting) { w.EnginesPerPod = 8 }},
		{
			Name: "long-context", Kind: &Heavy, Replicas: 4,
			Engine: preset("llama-3.1-8b-a100", func(e *Engine) { e.Name, e.Delta = "cost of context", 1.5e-7 }),
		},
	}
}

// Heavy are few requests with long answers: an agent's, a report's.
var Heavy = Kind{
	Name: "heavy",
	In: Lengths{
		2000, 3000, 3500, 4000, 4400, 4800, 5200, 5600, 6000, 6400, 6800, 7200, 7600, 8000, 8500, 9000, 9500, 10000, 10700, 11500, 12000,
	},
	Out: Lengths{
		400, 700, 850, 950, 1050, 1150, 1250, 1330, 1400, 1470, 1540, 1610, 1680, 1750, 1830, 1910, 2000, 2100, 2250, 2500, 3000,
	},
	Swing: .05, Calm: 2 * time.Minute,
}

// adverseFaults are of pods, pages and clusters.
func adverseFaults() []Scenario {
	stepUp := Step(.2, 90*time.Minute)
	return []Scenario{
		{
			Name: "flap", Length: 48 * time.Hour, Shape: Days(.3), Engine: slower(8), Must: Must{OfStatic: .77},
			World: func(w *Setting) { w.Flaps = Flaps{Every: 24 * time.Hour, For: 20 * time.Second} },
		},
		{
			Name: "crash", Length: 48 * time.Hour, Shape: Days(.3), Engine: slower(8), Must: Must{OfStatic: .77},
			World: func(w *Setting) { w.Crashes = Crashes{Every: 12 * time.Hour, Restart: 150 * time.Second} },
		},
		{
			Name: "late-pages", Replicas: 10, Length: 7 * time.Hour, Shape: stepUp, Engine: slower(4), Must: Must{Attained: .95},
			World: func(w *Setting) { w.LatePages = LatePages{Waiting: 1, Takes: 6 * time.Second} },
		},
		{
			Name: "slow-pages", Replicas: 10, Length: 7 * time.Hour, Shape: stepUp, Engine: slower(4), Must: Must{Attained: .95},
			World: func(w *Setting) { w.LatePages = LatePages{Waiting: 1, Takes: 3 * time.Second} },
		},
		{
			Name: "no-quota", Replicas: 5, Length: 5 * time.Hour, Engine: slower(4), Shape: Step(.5, 90*time.Minute),
			World: func(w *Setting) { w.NoQuota = NoQuota{From: 80 * time.Minute, For: 2 * time.Hour} },
			Must: Must{
				Attained: .3, OfStatic: 3, Turns: 30, Words: "while there is no quota, what is needed is ordered, and at most two more",
				Also: compensated(90*time.Minute, 200*time.Minute, 5, 8),
			},
		},
		{
			Name: "asleep", Replicas: 1.6, Shape: Steady(), Length: 6 * time.Hour, Engine: slower(4),
			World: func(w *Setting) { w.Asleep, w.Initial = 1, 4 }, Must: Must{OfStatic: 2},
		},
		{
			Name: "no-time-per-token", Engine: slower(4), Kind: &Code,
			World: func(w *Setting) { w.Missing = []string{"vllm:request_time_per_output_token_seconds"} },
		},
		{
			Name: "no-token-times", Engine: slower(4), Kind: &Code,
			World: func(w *Setting) {
				w.Missing = []string{"vllm:request_time_per_output_token_seconds", "vllm:inter_token_latency_seconds"}
			},
			Must: Must{Also: tellsMissing, Words: "its owner is told which family is missing"},
		},
		{
			Name: "old-hpa", Replicas: 32, Engine: slower(8), Length: 8 * time.Hour,
			World: func(w *Setting) { w.NoTolerance, w.Bounds.Max = true, 40 },
			Must:  Must{Also: asDecided, Words: "the HPA never goes beyond the decision"},
		},
		{Name: "benchmark-late", Engine: slower(4), World: func(w *Setting) { w.MeasuredAfter = 5 * time.Hour }},
		{Name: "benchmark-never", Engine: slower(4), World: func(w *Setting) { w.Unmeasured = true }},
	}
}

// slower is the first preset with requests so many times as heavy: fewer of them
// fill a replica, and a fleet is played as much faster.
func slower(times float64) *Engine {
	return preset("phi-4-mini-a100", func(e *Engine) {
		e.Name = fmt.Sprintf("%v times slower", times)
		e.Beta *= times
		e.Gamma *= times
	})
}

// compensated says that between two times so many replicas are desired at least once,
// and never more than most.
func compensated(from, to time.Duration, least, most int32) func(*Result, Setting) string {
	return func(r *Result, _ Setting) string {
		var peak int32
		for _, m := range r.Minutes[int(from.Minutes()):int(to.Minutes())] {
			peak = max(peak, m.Desired)
		}
		if peak < least || peak > most {
			return fmt.Sprintf("%d replicas desired at most: must be from %d to %d", peak, least, most)
		}
		return ""
	}
}

// adverseClients ask for what most don't, or go on asking.
func adverseClients() []Scenario {
	return []Scenario{
		{
			Name: "long-prompts", Replicas: 2, SLO: SLO{TTFT: 2, ITL: .06, Flat: true}, Long: LongPrompts{Share: .012, From: 76_000, To: 95_000},
			Must: Must{Also: tellsIncurable, Words: "its owner is told which share of the requests no replica cures"},
		},
		{
			Name: "retries", Replicas: 10, Length: 4 * time.Hour, Shape: Step(.2, 90*time.Minute), Engine: slower(4),
			World: func(w *Setting) { w.Retries = Retries{Times: 2, After: 500 * time.Millisecond} },
			Must:  Must{Attained: .95, PeakOfStatic: 1.2},
		},
		{
			Name: "retries-ten", Replicas: 10, Length: 4 * time.Hour, Shape: Step(.2, 90*time.Minute), Engine: slower(4),
			World: func(w *Setting) { w.Retries = Retries{Times: 10, After: 500 * time.Millisecond} },
			Must:  Must{Attained: .95, PeakOfStatic: 1.2},
		},
		{
			Name: "prefix-cache", Engine: slower(4),
			World: func(w *Setting) { w.Sessions = Sessions{Count: 400, Shared: .8} },
		},
		{
			Name: "evicting-cache", Engine: slower(4),
			World: func(w *Setting) { w.Sessions = Sessions{Count: 400, Shared: .8, Cached: 60} },
		},
		{
			Name: "sticky", Engine: slower(4),
			World: func(w *Setting) { w.Sessions, w.Routing = Sessions{Count: 400, Shared: .8}, Sticky },
		},
		{Name: "cancels", Engine: slower(4), Cancels: Cancels{Share: .1, After: 3 * time.Second}},
		{
			Name: "impatient", Replicas: 10, Length: 4 * time.Hour, Shape: Step(.2, 90*time.Minute), Engine: slower(4),
			World: func(w *Setting) { w.Patience = 10 * time.Second }, Must: Must{Attained: .95, PeakOfStatic: 1.2},
		},
		{
			Name: "mixed-lengths", Replicas: 2, Long: LongPrompts{Share: .2, From: 4_000, To: 64_000}, Must: Must{Turns: 6},
		},
	}
}

// adverseLoads change faster, or more rarely, than a forecast by the last hours
// tells.
func adverseLoads() []Scenario {
	const crowd, batch = 4 * time.Hour, time.Hour
	return []Scenario{
		{
			Name: "nightly-batch", Replicas: 9, Length: 72 * time.Hour,
			Shape: func(t time.Duration) float64 {
				if hour := t % (24 * time.Hour); hour >= batch && hour < batch+2*time.Hour {
					return 1
				}
				return 1. / 3
			},
			Engine: slower(4),
			World:  func(w *Setting) { w.WarmUp = 12 * time.Hour },
			Must:   Must{Words: "from the second night on at most 2 % of a batch's first 15 minutes missed", Also: foreseen(batch)},
		},
		{
			Name: "ramp", Replicas: 12, Length: 5 * time.Hour, ColdStart: 10 * time.Minute,
			Shape: func(t time.Duration) float64 {
				return 1./6 + 5./6*min(1, max(0, (t.Hours()-1)/2))
			},
		},
		{
			Name: "threshold-code", Kind: &Code, Replicas: 16, Engine: slower(4), Judged: "kaito-queue-guarded",
			Must: Must{Attained: .6},
		},
		{Name: "low-rate", Rate: 2, Replicas: 2, Engine: slower(16)},
		{Name: "answers-grow", Engine: slower(4), Growth: Growth{From: 4 * time.Hour, Times: 3}, Must: Must{Attained: .985}},
		{
			Name: "bursts", Length: 8 * time.Hour,
			Shape: func(t time.Duration) float64 {
				if t%(5*time.Minute) >= 270*time.Second {
					return 1
				}
				return 1. / 3
			},
		},
		{
			Name: "crowd", Replicas: 10, Length: 12 * time.Hour,
			Shape: func(t time.Duration) float64 {
				if t >= crowd && t < crowd+30*time.Minute {
					return 1
				}
				return .28
			},
			Must: Must{Attained: .9, Words: "2 h after the crowd at most one replica more than before it", Also: gone(crowd, crowd+30*time.Minute)},
		},
		{
			Name: "first-step", Kind: &Short, Rate: 12, ColdStart: 125 * time.Second, Length: 40 * time.Minute,
			SLO: DefaultSLO, Engine: &thirtyMilliseconds,
			Shape: Step(2./12, 10*time.Minute),
			World: func(w *Setting) {
				w.WarmUp, w.Initial, w.Bounds, w.Unmeasured = 0, 1, policy.Bounds{Min: 1, Max: 8}, true
			},
			Must: Must{
				Attained: .6, OfStatic: 2, Turns: 150, Also: orderedAtOnce(10*time.Minute, 5),
				Words: "four of five ordered within 45 s of the step, five within a cold start, at most 5 % missed from two cold starts on",
			},
		},
	}
}

// thirtyMilliseconds is the engine that real vLLMs were run as.
var thirtyMilliseconds = Engine{
	Name: "30 ms, 16 sequences", Alpha: .03, Beta: .0003, Gamma: .001, MaxSeqs: 16, KVTokens: 100_000, Chunk: 2048,
}

// Short are requests of about 200 and 60 tokens, exponential.
var Short = Kind{
	Name: "short",
	In:   exponential(200),
	Out:  exponential(60),
	Calm: time.Minute,
}

// exponential are the quantiles of an exponential distribution.
func exponential(mean float64) (q Lengths) {
	for i := range q {
		p := min(float64(i)/20, .995)
		q[i] = max(2, -mean*math.Log(1-p))
	}
	return q
}

// foreseen says that a batch at an hour of each day is expected from its second time
// on.
func foreseen(at time.Duration) func(*Result, Setting) string {
	return func(r *Result, _ Setting) string {
		for night := 1; ; night++ {
			from := int((time.Duration(night)*24*time.Hour + at).Minutes())
			if from+15 > len(r.Minutes) {
				return ""
			}
			if missed := share(r.Minutes[from : from+15]); missed > .02 {
				return fmt.Sprintf("in night %d %.0f %% of the first 15 minutes' requests missed", night+1, 100*missed)
			}
		}
	}
}

// share is what missed of those that came in some minutes.
func share(minutes []Minute) float64 {
	var missed, arrived int32
	for _, m := range minutes {
		missed, arrived = missed+m.Missed, arrived+m.Arrived
	}
	return float64(missed) / float64(max(1, arrived))
}

// gone says that what was ordered between two times is no more two hours later.
func gone(from, to time.Duration) func(*Result, Setting) string {
	return func(r *Result, _ Setting) string {
		before, after := r.Minutes[int(from.Minutes())-1].Desired, r.Minutes[int((to+2*time.Hour).Minutes())].Desired
		if after > before+1 {
			return fmt.Sprintf("%d replicas two hours after it, %d before it", after, before)
		}
		return ""
	}
}

// orderedAtOnce says that so many replicas but one are ordered within 45 s of a step,
// all within a cold start, and that they serve the load from then on.
func orderedAtOnce(step time.Duration, all int32) func(*Result, Setting) string {
	return func(r *Result, s Setting) string {
		at := func(within time.Duration) (n int32) {
			n = s.Initial
			for _, m := range r.Moves {
				if m.At <= step+within {
					n = m.To
				}
			}
			return n
		}
		settled := int((step + 2*s.ColdStart).Minutes()) + 1
		if n := at(45 * time.Second); n < all-1 {
			return fmt.Sprintf("%d ordered within 45 s", n)
		}
		if n := at(s.ColdStart); n < all {
			return fmt.Sprintf("%d ordered within a cold start", n)
		}
		if missed := share(r.Minutes[settled:]); missed > .05 {
			return fmt.Sprintf("%.1f %% missed from two cold starts on", 100*missed)
		}
		return ""
	}
}
