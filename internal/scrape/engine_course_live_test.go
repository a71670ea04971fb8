//go:build engines

package scrape

import (
	"context"
	"encoding/csv"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// course is a row for each page of an engine, with all that automatic mode reads of
// it and how many requests its clients had sent. It becomes a file of
// internal/decision/testdata/engines.
type course struct {
	header []string
	rows   [][]string
}

// beside what automatic mode reads, what explains it.
var beside = []string{
	familyPreempted, "vllm:prefix_cache_queries_total",
	"vllm:spec_decode_num_drafts_total", "vllm:spec_decode_num_accepted_tokens_total",
}

// read appends a page. A histogram's columns are its count and its sum. A family that
// the page lacks stays empty.
func (c *course) read(t *testing.T, text string, at time.Duration, sent int) {
	t.Helper()
	p, failure := decode(t, text, slices.Concat(automaticReading().Families, beside)...)
	if failure != nil {
		t.Fatal(failure)
	}
	header := []string{"seconds", "sent", "engines"}
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 9, 64) }
	engines := 1
	var row []string
	for _, f := range p.sample.Families() {
		engines = max(engines, f.Engines)
		if f.Kind == sample.Histogram {
			header = append(header, f.Name+"_count", f.Name+"_sum")
			row = append(row, number(f.Buckets.Count()), number(f.Buckets.Sum))
			continue
		}
		header = append(header, f.Name)
		row = append(row, number(f.Sum))
	}
	if c.header == nil {
		c.header = header
	} else if !slices.Equal(header, c.header) {
		t.Fatalf("the page has %q, and had %q", header, c.header)
	}
	c.rows = append(c.rows, slices.Concat([]string{number(math.Round(1000*at.Seconds()) / 1000), strconv.Itoa(sent), strconv.Itoa(engines)}, row))
}

// write writes it below the folder for recorded pages, if there is one.
func (c *course) write(t *testing.T, name string) {
	t.Helper()
	folder := os.Getenv(recordVar)
	if folder == "" {
		return
	}
	var text strings.Builder
	w := csv.NewWriter(&text)
	if err := w.WriteAll(append([][]string{c.header}, c.rows...)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".csv"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// follow reads an engine's page every so often while it gets these requests, and until
// it is empty again.
func follow(t *testing.T, e *engine.Engine, every time.Duration, client load.Client, requests []load.Request) *course {
	t.Helper()
	c := &course{}
	begin := time.Now()
	done := make(chan []load.Result, 1)
	get := func() string {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.URL()+"/metrics", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	c.read(t, get(), 0, 0)
	go func() {
		client.Model, client.Pick, client.Seed = engine.ModelName, e.URL, 7
		done <- client.Run(t.Context(), requests)
	}()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var results []load.Result
	for after := 0; after < 2; {
		select {
		case results = <-done:
			done = nil
		case <-tick.C:
			at := time.Since(begin)
			sent := 0
			for _, r := range requests {
				if r.At <= at {
					sent++
				}
			}
			c.read(t, get(), at, sent)
			if results != nil {
				after++
			}
		}
	}
	t.Logf("%d requests: %d served, %d cancelled, %d refused", len(requests),
		load.Count(results, load.Served), load.Count(results, load.Cancelled), load.Count(results, load.Refused))
	return c
}

const readEvery = 2500 * time.Millisecond

// What live engines' pages say over time, for the tests of what is made of them:
//
//	RECORD_PAGES=/tmp go test -tags engines -count 1 -timeout 30m -run RecordCourses ./internal/scrape
//
// They go to testdata/engines, here or in internal/decision. It takes 12 minutes. Nothing
// is measured that a busy machine changes.
func TestRecordCourses(t *testing.T) {
	if os.Getenv(recordVar) == "" {
		t.Skip("nothing but a recording: " + recordVar + " isn't set")
	}
	t.Run("small cache", func(t *testing.T) {
		physics := engine.SlowGPU()
		physics.MaxSeqs, physics.KVTokens = seats, kvTokens
		e := engine.ForTest(t, engine.Options{Physics: physics})
		t.Run("a third is cancelled", func(t *testing.T) {
			requests := load.Poisson(2, time.Minute, 200, 60, 1)
			for i := range requests {
				if i%3 == 0 {
					requests[i].Output, requests[i].Cancel = 400, 2*time.Second
				}
			}
			follow(t, e, readEvery, load.Client{}, requests).write(t, "cancelled")
		})
		t.Run("some are preempted", func(t *testing.T) {
			// 16 answers of 800 tokens don't fit, which shows once all have begun.
			requests := append(load.Burst(seats, 200, 800), load.Poisson(.3, time.Minute, 200, 60, 2)...)
			follow(t, e, time.Second, load.Client{}, requests).write(t, "preempted")
		})
	})
	t.Run("one prompt for minutes", func(t *testing.T) {
		physics := engine.SlowGPU()
		physics.Beta = .02 // as 80 k tokens at 0.5 ms, four pieces
		e := engine.ForTest(t, engine.Options{Physics: physics})
		follow(t, e, readEvery, load.Client{}, load.Burst(1, 7000, 4)).write(t, "one-prompt")
	})
	t.Run("one prompt in one step", func(t *testing.T) {
		physics := engine.SlowGPU()
		physics.Beta, physics.Chunk = .013, 8192
		e := engine.ForTest(t, engine.Options{Physics: physics})
		// Of an idle engine the page says nothing before its first step ends.
		requests := []load.Request{{Prompt: 50, Output: 100}, {At: 3 * time.Second, Prompt: 7000, Output: 4}}
		follow(t, e, readEvery, load.Client{}, requests).write(t, "one-step")
	})
	t.Run("prompts that share their beginning", func(t *testing.T) {
		physics := engine.SlowGPU()
		physics.Beta = .002
		e := engine.ForTest(t, engine.Options{Physics: physics})
		requests := load.Poisson(.2, time.Minute, 1, 1, 6)
		for i := range requests {
			requests[i].Prompt, requests[i].Output = 7000, 20
		}
		follow(t, e, readEvery, load.Client{SharedPrefix: 4000}, requests).write(t, "cached")
	})
	t.Run("long prompts, short answers", func(t *testing.T) {
		e := engine.ForTest(t, engine.Options{})
		requests := load.Poisson(.6, 75*time.Second, 1, 1, 3)
		for i := range requests {
			requests[i].Prompt, requests[i].Output = 4000+500*(i%5), 4+i%7
		}
		follow(t, e, readEvery, load.Client{}, requests).write(t, "long-prompts")
	})
	t.Run("two engines", func(t *testing.T) {
		e := engine.ForTest(t, engine.Options{Flags: []string{"--data-parallel-size", "2"}})
		follow(t, e, readEvery, load.Client{}, load.Poisson(4, 75*time.Second, 200, 80, 4)).write(t, "two-engines")
	})
	t.Run("speculation", func(t *testing.T) {
		e := engine.ForTest(t, engine.Options{Flags: []string{
			"--speculative-config", `{"method":"ngram","num_speculative_tokens":3,"prompt_lookup_max":4,"prompt_lookup_min":1}`,
		}})
		follow(t, e, readEvery, load.Client{}, load.Poisson(1, time.Minute, 100, 200, 5)).write(t, "speculation")
	})
}
