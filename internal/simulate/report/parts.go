package report

import (
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// Part is a piece of the standard comparison that is played for itself.
type Part struct {
	Name, Words string
	Scenarios   []simulate.Scenario
	// Policies are played beside the judged one.
	Policies []string
	// JudgedAlone plays it at the judged cold start alone.
	JudgedAlone bool
	// Named plays it only if it is named.
	Named bool
}

// JudgedAt is the cold start at which goals are judged. At others they are told.
const JudgedAt = 5 * time.Minute

// FirstSeed is the first of those that policies are judged on: constants are chosen on
// seeds below it.
const FirstSeed = 1001

// Parts are the standard comparison, of which traced are the loads on traces.
func Parts(traced []simulate.Scenario) []Part {
	everybody := []string{
		"kaito-queue", "kaito-queue-guarded", "kaito-list", "knative", "llm-d", "static-mean", "static-peak", NameStatic, NameOracle,
	}
	standard := append(simulate.Generated(), traced...)
	return []Part{
		{Name: "standard", Words: "ordinary loads", Scenarios: standard, Policies: everybody},
		{Name: "scenarios", Words: "engines, clients and faults that ordinary traffic doesn't have", Scenarios: simulate.Adverse(), Policies: []string{NameStatic}},
		{Name: "engines", Words: "days on other engines", Scenarios: simulate.OtherEngines(), Policies: []string{NameStatic}, JudgedAlone: true},
		{Name: "ablation", Words: "what a mechanism less is seen on", Scenarios: ablated(standard), JudgedAlone: true, Named: true},
	}
}

// ablated are loads on which mechanisms show what they are worth, each played in seconds.
func ablated(standard []simulate.Scenario) (chosen []simulate.Scenario) {
	names := map[string]bool{
		"days-code": true, "steady": true, "spike": true, "azure-conversation": true, "azure-code": true,
		"knee": true, "heavy": true, "long-prompts": true, "itl-unattainable": true, "retries": true, "late-pages": true, "no-quota": true, "mixed-lengths": true,
		"nightly-batch": true, "ramp": true, "bursts": true, "crowd": true, "first-step": true, "low-rate": true,
	}
	for _, sc := range slices.Concat(standard, simulate.Adverse()) {
		if names[sc.Name] {
			chosen = append(chosen, sc)
		}
	}
	return chosen
}
