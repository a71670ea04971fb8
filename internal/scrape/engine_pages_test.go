package scrape

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// truth is what is so in an engine, as far as somebody knows it: the client that sent
// the requests, or a page.
type truth map[string]float64

// What a truth is about. Counts are since the engine's start.
const (
	running  = "running"
	queued   = "waiting"
	inEngine = "in the engine" // running or waiting
	finished = "finished"
	refused  = "refused" // with 429
	// started counts requests that got their first token.
	started   = "started"
	prompts   = "prompt tokens"
	cached    = "cached tokens"    // of prompts
	generated = "generated tokens" // of answers
	// batches of output: steps that gave some request a token.
	batches = "batches"
	// work is of prompts' tokens that weren't cached, with the first token, and of
	// answers.
	work      = "tokens of batches"
	preempted = "preemptions"
	// kvUsage is the mean over the engines.
	kvUsage = "KV cache"
	// gaps are pieces of output after an answer's first: the times between tokens that count.
	gaps = "times between tokens"
	// answers have their mean time between tokens counted.
	answers = "times of answers"
	// accepted are drafts of speculation, where a page has it.
	accepted    = "accepted drafts"
	engineCount = "engines"
	// startTold and asleep are 1 or 0.
	startTold = "start time told"
	asleep    = "asleep"
)

const (
	familyPreempted = "vllm:num_preemptions_total"
	familyAccepted  = "vllm:spec_decode_num_accepted_tokens_total"
)

// readTruth reads a page as the scaler does.
func readTruth(t *testing.T, text string) truth {
	t.Helper()
	want := slices.Concat(automaticReading().Families, []string{familyPreempted, policy.FamilyFinished, policy.FamilyKV, policy.FamilySteps})
	p, failure := decode(t, text, want...)
	if failure != nil {
		t.Fatalf("the page is refused: %v", failure)
	}
	if p.missing || len(p.flaws) > 0 {
		t.Errorf("the page lacks some of what is asked for, or it can't be used: %v", p.flaws)
	}
	is := truth{startTold: truly(p.sample.ProcessStart > 0), asleep: truly(p.asleep)}
	names := map[string]string{
		policy.FamilyRunning: running, policy.FamilyWaiting: queued, policy.FamilyFinished: finished,
		policy.FamilyRejected: refused, policy.FamilyTTFT: started, policy.FamilyPrompt: prompts,
		policy.FamilyCached: cached, policy.FamilyHits: cached, policy.FamilyGenerated: generated, policy.FamilySteps: batches,
		policy.FamilyITL: gaps, policy.FamilyTPOT: answers,
		familyPreempted: preempted, policy.FamilyKV: kvUsage, familyAccepted: accepted,
	}
	found := p.sample.Families()
	if strings.Contains(text, familyAccepted) {
		found = append(found, families(t, text, familyAccepted)...)
	}
	for _, f := range found {
		name, ok := names[f.Name]
		switch {
		case !ok:
		case name == batches:
			is[batches], is[work] = f.Buckets.Count(), f.Buckets.Sum
		case f.Kind == sample.Histogram:
			is[name] = f.Buckets.Count()
		case name == kvUsage:
			is[name], is[engineCount] = f.Sum/float64(f.Engines), float64(f.Engines)
		default:
			is[name] = f.Sum
		}
	}
	is[inEngine] = is[running] + is[queued]
	return is
}

func truly(so bool) float64 {
	if so {
		return 1
	}
	return 0
}

// check compares what a page says with what is so.
func (want truth) check(t *testing.T, page truth) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		got, ok := page[name]
		if !ok {
			got = math.NaN()
		}
		if got != want[name] {
			t.Errorf("%s: %v by the page, %v in truth", name, got, want[name])
		}
	}
}

func (want truth) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		parts = append(parts, fmt.Sprintf("%s %v", name, want[name]))
	}
	return strings.Join(parts, ", ")
}

// automaticReading is what automatic mode reads.
func automaticReading() policy.Reading {
	return policy.Trigger{Saturation: &policy.Saturation{}}.Reading()
}
