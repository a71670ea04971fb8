package scrape

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
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
	batches   = "batches"
	preempted = "preempted"
	kvUsage   = "KV cache"
)

const familyPreempted = "vllm:num_preemptions_total"

// readTruth reads a page as the scaler does.
func readTruth(t *testing.T, text string) truth {
	t.Helper()
	want := slices.Concat(decision.SaturationReading().Families, []string{familyPreempted})
	p, failure := decode(t, text, want...)
	if failure != nil {
		t.Fatalf("the page is refused: %v", failure)
	}
	if p.missing || len(p.flaws) > 0 {
		t.Errorf("the page lacks some of what is asked for, or it can't be used: %v", p.flaws)
	}
	is := truth{}
	names := map[string]string{
		policy.FamilyRunning: running, policy.FamilyWaiting: queued, policy.FamilyFinished: finished,
		policy.FamilyRejected: refused, policy.FamilyTTFT: started, policy.FamilyPrompt: prompts,
		policy.FamilyCached: cached, policy.FamilyGenerated: generated, policy.FamilySteps: batches,
		familyPreempted: preempted, policy.FamilyKV: kvUsage,
	}
	for _, f := range p.sample.Families() {
		name, ok := names[f.Name]
		switch {
		case !ok:
		case f.Kind == decision.Histogram:
			is[name] = f.Buckets.Count()
		default:
			is[name] = f.Sum
		}
	}
	is[inEngine] = is[running] + is[queued]
	return is
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

var (
	truthLine = regexp.MustCompile(`^# In truth: (.*)\n`)
	oneTruth  = regexp.MustCompile(`^(.+) (\S+)$`)
)

// parseTruth reads the first line of a recorded page.
func parseTruth(t *testing.T, text string) truth {
	t.Helper()
	line := truthLine.FindStringSubmatch(text)
	if line == nil {
		t.Fatal("the page doesn't begin with the truth")
	}
	want := truth{}
	for part := range strings.SplitSeq(line[1], ", ") {
		m := oneTruth.FindStringSubmatch(part)
		if m == nil {
			t.Fatalf("%q is no truth", part)
		}
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		want[m[1]] = v
	}
	return want
}

const recordedPages = "testdata/engines"

// Pages that live engines wrote (make engines-pages), in states that the client
// brought them to. Their HELP sentences, which are vLLM's, are left out.
func TestPagesOfLiveEnginesSayWhatWasTrue(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(recordedPages, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parseTruth(t, string(content)).check(t, readTruth(t, string(content)))
		})
	}
}
