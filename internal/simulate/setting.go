package simulate

import (
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Setting is the world that a load and a policy meet in.
type Setting struct {
	Engine Engine
	SLO    SLO
	// Exact judges at the SLO itself and not at the bounds of buckets, as the clients
	// of a measured engine can.
	Exact bool
	// ColdStart is the mean time from ordering a replica to its serving, Spread
	// the standard deviation of its logarithm.
	ColdStart time.Duration
	Spread    float64
	// Loss is the share of scrapes that fail, Stuck that of replicas which
	// never get to serve.
	Loss, Stuck float64
	// RoundRobin sends requests to replicas in turn instead of to the one with
	// the fewest in flight.
	RoundRobin bool
	Bounds     policy.Bounds
	// Steps plays each engine step by step, instead of as a fluid.
	Steps bool
	// PerRequest asks for what came of every request.
	PerRequest bool
	// WarmUp is not scored: neither the requests that come in it, nor its
	// GPU-hours. A policy learns in it, as it has in a fleet that has stood for
	// a while.
	WarmUp time.Duration
	Conditions
	// EvaluatedBefore is how long before the HPA asks the scaler has evaluated the
	// fleet: a multiple of 5 s up to 15. 0 answers the HPA with what is known at that
	// very moment, which no real scaler does: EvaluatedBefore is what one does.
	EvaluatedBefore time.Duration
	// Initial replicas serve from the start.
	Initial int32
	Seed    uint64
}

// EvaluatedBefore is how old the recommendation is that the HPA is told. The scaler
// evaluates every 15 s, at a time of its own, by readings that are up to 5 s old: 10 s
// on average, here 5, 10 or 15 s by the seed.
func EvaluatedBefore(seed uint64) time.Duration {
	return time.Duration(seed%3+1) * scrapeInterval
}

// judged is the SLO that requests are judged at.
func (s *Setting) judged() SLO {
	if s.Exact {
		return s.SLO
	}
	return s.SLO.AtBounds()
}

// Capacity is how many requests a second a replica of all its engines serves at the
// SLO's limit.
func (s *Setting) Capacity(in, out float64) float64 {
	return s.Engine.Capacity(in, out, s.SLO.ITL) * float64(max(1, s.EnginesPerPod))
}

// Call is what a policy answers the HPA: a total and what each replica should
// have of it, or nothing if it can't tell.
type Call struct {
	Known         bool
	Total, Target float64
	Reason        string
}

// Scaler is a policy at work. It is made anew for each run.
type Scaler struct {
	// Families are what it reads of each pod, Window how far back.
	Families []string
	Window   time.Duration
	Up, Down Behaviour
	// Judge is nil for a policy that never moves.
	Judge func(sample.Fleet, time.Time) Call
	// WhenAsked is set if it evaluates at the HPA's request and not before.
	WhenAsked bool
	// Plan, if there is one, is how many replicas serve at a time, ordered as
	// long before as they take to start. Only who knows the future has one.
	Plan func(time.Duration) int32
}

// Policy makes scalers.
type Policy struct {
	Name string
	// New is given the world's bounds and the engine's benchmark.
	New func(Setting) (Scaler, error)
}
