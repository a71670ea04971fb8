package simulate

import (
	"cmp"
	"fmt"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// Scenario is a load that policies are compared on, at any cold start and seed.
type Scenario struct {
	// Name is a word for tables, such as days-code.
	Name string
	// Replicas is what the load needs at its peak, at the SLO's limit.
	Replicas float64
	// Rate is requests a second at its peak, in the place of Replicas; 0 if those
	// decide.
	Rate   float64
	Length time.Duration
	// Trace is played if it isn't nil, its requests' copies each within Jitter
	// of the original's time; else Kind in Shape.
	Trace  *Load
	Jitter time.Duration
	// AsIs plays the trace's very requests: no copies, no jitter, no second round.
	AsIs bool
	// Copies of the trace are played at once; 0 for as many as need Replicas.
	Copies float64
	Kind   *Kind
	Shape  Shape
	// OutOfReach is set where no policy that reacts can keep the SLO: demand
	// grows beyond any headroom within a cold start.
	OutOfReach bool
	// Engine and SLO are the scenario's own, if it has any: nil and zero for those of
	// the comparison. ColdStart, if it isn't 0, is in the place of any other.
	Engine    *Engine
	SLO       SLO
	ColdStart time.Duration
	// Long are prompts beyond those of Kind.
	Long LongPrompts
	// Growth is of answers.
	Growth Growth
	// Cancels are clients that go away.
	Cancels Cancels
	// Judged is the policy that it is about; "" for that of the comparison.
	Judged string
	// World, if there is one, changes the setting.
	World func(*Setting)
	// Must is what a policy has to come to on it.
	Must Must
}

// Must is what is demanded of a policy on a scenario. What is 0 isn't demanded.
type Must struct {
	// Attained is the least share of requests that meet the SLO.
	Attained float64
	// OfStatic is the most GPU-hours as a share of those of the smallest fixed fleet
	// that attains 99 %, PeakOfStatic the most replicas at a time as a share of it.
	OfStatic, PeakOfStatic float64
	// OfBaseline is the most GPU-hours as a share of those of the policy before.
	OfBaseline float64
	// Turns are the most changes of direction a day.
	Turns float64
	// Also, if there is one, says what else is wrong, "" if nothing is.
	Also func(*Result, Setting) string `json:"-"`
	// Words say what Also demands.
	Words string
}

// peakReplicas is what every scenario needs at its peak: enough that a whole
// replica is a small step, and few enough that a day is simulated in seconds.
const peakReplicas = 12

// Generated are the scenarios that need no trace.
func Generated() []Scenario {
	const day = 24 * time.Hour
	scenarios := []Scenario{
		{Name: "days-conversation", Kind: &Conversation, Shape: Days(.3), Length: day},
		{Name: "days-code", Kind: &Code, Shape: Days(.1), Length: day},
		{Name: "steady", Kind: &Conversation, Shape: Steady(), Length: 7 * time.Hour},
		{Name: "step", Kind: &Conversation, Shape: Step(.25, 2*time.Hour), Length: 4 * time.Hour, OutOfReach: true},
		{Name: "spike", Kind: &Conversation, Shape: Spikes(.125, time.Hour, 3*time.Minute), Length: 5 * time.Hour, OutOfReach: true},
		{Name: "on-off", Kind: &Conversation, Shape: Spikes(.05, 20*time.Minute, 10*time.Minute), Length: 5 * time.Hour, OutOfReach: true},
	}
	for i := range scenarios {
		s := &scenarios[i]
		s.Replicas, s.Must = peakReplicas, asBefore
		switch {
		case s.Name == "steady":
			// One turn of five seeds is more than half a one a day.
			s.Must.OfStatic, s.Must.Turns = 1.05, .5
		case s.OutOfReach:
			s.Must = Must{Turns: asBefore.Turns}
		}
	}
	return scenarios
}

// asBefore is demanded on the standard loads.
var asBefore = Must{Attained: .99, OfBaseline: 1.03, Turns: 10}

// OtherEngines are days in front of engines that a policy wasn't chosen on, each with an
// SLO of its own.
func OtherEngines() []Scenario {
	var all []Scenario
	for _, e := range []struct {
		engine *Engine
		name   string
		slo    SLO
		nodes  int
	}{
		{preset("phi-4-mini-h100", nil), "h100", SLO{TTFT: 1, ITL: .025}, 1},
		{preset("llama-3.1-8b-a100", nil), "8b", SLO{TTFT: 2.5, ITL: .075}, 1},
		{preset("llama-3.3-70b-2x2-h100", nil), "70b", SLO{TTFT: 5, ITL: .1}, 2},
		{preset("phi-4-mini-a100", func(e *Engine) { e.Name, e.Alpha, e.Gamma = "steps of 50 ms", .05, .0002 }), "50ms", SLO{TTFT: 2.5, ITL: .1}, 1},
	} {
		for _, day := range Generated()[:2] {
			day.Name += "-" + e.name
			day.Engine, day.SLO, day.Replicas = e.engine, e.slo, peakReplicas/2
			day.Must = Must{Attained: .99, OfStatic: 1.15, Turns: 10}
			day.World = func(w *Setting) { w.Nodes = e.nodes }
			all = append(all, day)
		}
	}
	return all
}

// Traced are the scenarios on Azure's public traces of 2023: conversation, whose
// copies are spread by seconds, as other users of the same minute, and code,
// whose bursts are one user's each and are spread by a minute.
func Traced(conversation, code *Load) []Scenario {
	return []Scenario{
		{Name: "azure-conversation", Trace: conversation, Jitter: 10 * time.Second, Replicas: peakReplicas, Length: 7 * time.Hour, Must: asBefore},
		{Name: "azure-code", Trace: code, Jitter: time.Minute, Replicas: peakReplicas, Length: 7 * time.Hour, Must: asBefore},
	}
}

// Load makes the scenario's requests for one seed.
func (s *Scenario) Load(e *Engine, slo SLO, seed uint64) *Load {
	if s.AsIs {
		return s.Trace
	}
	return s.Cancels.into(s.Growth.into(s.Long.into(s.base(e, slo, seed), seed)), seed)
}

// base is the load with neither long prompts nor clients that go away.
func (s *Scenario) base(e *Engine, slo SLO, seed uint64) *Load {
	if s.Trace != nil {
		copies := s.Copies
		if copies == 0 {
			copies = Copies(s.Trace, e, s.Replicas, slo)
		}
		load := Replicate(s.Trace, copies, s.Jitter, s.Length, seed)
		load.Name = s.Name
		return load
	}
	peak := cmp.Or(s.Rate, s.Replicas*e.Capacity(s.Kind.In.mean(), s.Kind.Out.mean(), slo.ITL))
	return Generate(s.Name, s.Kind, s.Shape, peak, s.Length, seed)
}

// Setting is the world that the scenario is played in: replicas that start as
// slowly as told, a scrape in fifty lost, recommendations as old as real ones, one hour
// to learn in that isn't scored.
func (s *Scenario) Setting(e *Engine, slo SLO, coldStart time.Duration, seed uint64) Setting {
	world := Setting{
		Engine: *e, SLO: slo, ColdStart: cmp.Or(s.ColdStart, coldStart), Spread: .15, Loss: .02,
		Bounds: policy.Bounds{Min: 1, Max: 4 * peakReplicas}, Initial: s.initial(), WarmUp: time.Hour, Seed: seed,
		EvaluatedBefore: EvaluatedBefore(seed),
	}
	if s.World != nil {
		s.World(&world)
	}
	return world
}

// On is what the scenario is played on: its own engine and SLO, or else these.
func (s *Scenario) On(e *Engine, slo SLO) (*Engine, SLO) {
	if s.Engine != nil {
		e = s.Engine
	}
	return e, cmp.Or(s.SLO, slo)
}

// initial replicas are what its first minutes need: nobody begins a comparison
// with an outage.
func (s *Scenario) initial() int32 {
	if s.Shape == nil {
		return max(1, int32(s.Replicas))
	}
	return max(1, int32(s.Replicas*s.Shape(0)*1.3)+1)
}

// String names it with what it needs.
func (s *Scenario) String() string {
	return fmt.Sprintf("%s (%.1f replicas at its peak, %.3g h)", s.Name, s.Replicas, s.Length.Hours())
}
