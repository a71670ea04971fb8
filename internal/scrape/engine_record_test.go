//go:build engines

package scrape

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// recordVar is a folder into which TestRecordPages writes the pages that it sees.
const recordVar = "RECORD_PAGES"

// recorder brings an engine to known states and keeps the pages that it writes then.
// All that it knows comes from its clients: who was refused, who waits, how many
// tokens came.
type recorder struct {
	*engine.Engine
	t *testing.T
	// engines are behind the address. Each runs that many requests at once, and has that
	// many blocks of the KV cache.
	engines, batch, blocksEach int
	// drafts is how many tokens are speculated at a step.
	drafts int
	// gap is the time between the requests of a load.
	gap time.Duration
	// loads are all that was sent, the oldest first. under is how many aren't done.
	loads []*sent
	under int
	// counted are the batches by a page, of so many loads at the start: they are taken
	// for true.
	counted      float64
	countedLoads int
}

// sent are requests that were sent at once.
type sent struct {
	requests []load.Request
	progress load.Progress
	leave    context.CancelFunc
	results  chan []load.Result
	// beside is set if it was sent while the load before was under way: the two share
	// batches.
	beside bool
}

// moment is what the clients had seen at one time, by load and request.
type moment [][]load.Seen

// blockTokens is the size of a block of the KV cache.
const blockTokens = 32

// startRecorder starts an engine that has steps of 2 s while a prompt is worked off, so
// that a page can be read within one, and a KV cache in which 16 answers of 900 tokens
// don't fit.
func startRecorder(t *testing.T, o engine.Options) *recorder {
	t.Helper()
	o.Physics = engine.SlowGPU()
	o.Physics.KVTokens, o.Physics.Beta = 12288, 0.001
	return &recorder{
		Engine: engine.ForTest(t, o), t: t, engines: max(o.DataParallel, 1), batch: o.Physics.MaxSeqs,
		blocksEach: o.Physics.KVTokens/blockTokens - 1, // vLLM keeps one
	}
}

// Each state's page must say what the clients know, but for the values that the state
// is known to be read wrong in.
func TestRecordPages(t *testing.T) {
	t.Run("one engine", func(t *testing.T) {
		r := startRecorder(t, engine.Options{})
		r.record(stateIdle, 0, always(nil))
		r.longPrompts()
		r.fullQueue(stateSaturated, 30, 0)
		r.fullQueue(stateRefused, 60, 60-2*r.seats()-1)
		r.cancelled()
		r.preempted()
	})
	t.Run("two engines", func(t *testing.T) {
		r := startRecorder(t, engine.Options{DataParallel: 2})
		r.fullQueue(stateTwoEngines, 40, 0)
	})
	t.Run("two API servers", func(t *testing.T) {
		r := startRecorder(t, engine.Options{APIServers: 2})
		r.twoServers()
	})
	t.Run("speculation", func(t *testing.T) {
		if oldVersion() {
			t.Skip("this CPU build doesn't speculate")
		}
		r := startRecorder(t, engine.Options{Flags: []string{
			"--speculative-config", `{"method":"ngram","num_speculative_tokens":3,"prompt_lookup_max":3,"prompt_lookup_min":1}`,
		}})
		r.drafts = 3
		r.speculation()
	})
	t.Run("LoRA", func(t *testing.T) {
		t.Setenv("VLLM_SERVER_DEV_MODE", "1") // which has POST /sleep
		r := startRecorder(t, engine.Options{Adapter: true})
		r.adapter()
		r.asleep()
	})
}

func (r *recorder) send(model string, seed uint64, requests []load.Request) *sent {
	ctx, leave := context.WithCancel(r.t.Context())
	s := &sent{requests: requests, leave: leave, results: make(chan []load.Result, 1), beside: r.under > 0}
	r.under++
	client := load.Client{Model: model, Pick: r.URL, Seed: seed, Watch: &s.progress}
	go func() { s.results <- client.Run(ctx, requests) }()
	r.loads = append(r.loads, s)
	r.t.Cleanup(leave)
	return s
}

// burst sends n requests of one size, with prompts that no other has.
func (r *recorder) burst(n, prompt, output int) *sent {
	requests := load.Burst(n, prompt, output)
	for i := range requests {
		requests[i].At = time.Duration(i) * r.gap
	}
	return r.send(engine.ModelName, uint64(1000+len(r.loads)), requests)
}

// fetchPage reads an engine's page, as patiently as the scaler does.
func fetchPage(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// wait returns once all clients of a load are done, served or not.
func (r *recorder) wait(s *sent) {
	r.t.Helper()
	results := <-s.results
	r.under--
	for _, result := range results {
		if result.Err != nil {
			r.t.Errorf("a request of %d + %d tokens: %s: %v", result.Prompt, result.Output, result.Outcome, result.Err)
		}
	}
}

func (r *recorder) moment() moment {
	var m moment
	for _, s := range r.loads {
		seen := s.progress.Seen()
		if seen == nil { // its clients are about to begin
			seen = make([]load.Seen, len(s.requests))
		}
		m = append(m, seen)
	}
	return m
}

// until polls for what the clients see.
func (r *recorder) until(what string, wanted func(moment) bool) moment {
	r.t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		m := r.moment()
		if wanted(m) {
			return m
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("clients never saw %s; the last they saw: %+v", what, m[len(m)-1])
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stepsAfter waits until some answer is n tokens longer than at m: what the engine had
// sent by then has come. If no answer is under way it returns at once.
func (r *recorder) stepsAfter(m moment, n int) moment {
	r.t.Helper()
	return r.until("the next steps", func(now moment) bool {
		under, longer := false, false
		for l := range m {
			for i, was := range m[l] {
				is := now[l][i]
				under = under || was.Tokens > 0 && !was.Done
				longer = longer || is.Tokens >= was.Tokens+n || is.Done && !was.Done
			}
		}
		return longer || !under
	})
}

// stateTest tells from what clients saw before and after a page whether a state held all
// the time, and what they conclude beyond what they counted.
type stateTest func(before, after moment) (conclusions known, holds bool)

// record reads pages until one agrees with the clients, and keeps it. otherwise names
// the values that are known to be read wrong.
func (r *recorder) record(name string, steps int, state stateTest, otherwise ...string) {
	r.t.Helper()
	if why := r.try(name, steps, state, otherwise...); why != "" {
		r.t.Fatalf("%s: no page agrees with the clients: %s", name, why)
	}
}

// try is record, but returns what was wrong.
func (r *recorder) try(name string, steps int, state stateTest, otherwise ...string) (why string) {
	r.t.Helper()
	deadline, held := time.Now().Add(time.Minute), false
	why = "the state never held"
	for ; !r.t.Failed() && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		before := r.stepsAfter(r.moment(), steps)
		text, err := fetchPage(r.t.Context(), r.URL())
		if err != nil {
			why = err.Error()
			continue
		}
		after := r.stepsAfter(r.moment(), steps)
		conclusions, holds := state(before, after)
		if !holds {
			if held {
				break // it is over
			}
			continue
		}
		held = true
		want := r.knows(before, after)
		maps.Copy(want, conclusions)
		want[work] = between{
			want[prompts].least - want[cached].most + want[generated].least,
			want[prompts].most - want[cached].least + want[generated].most,
		}
		page := readTruth(r.t, text)
		wrong, expected := want.wrong(page), otherwise
		if oldVersion() && want[cached].most > 0 { // its batches have cached tokens in them
			expected = append(slices.Clone(otherwise), work)
		}
		why = fmt.Sprintf("wrong %v (known: %v)\n  page  %s\n  truth %s", wrong, expected, page, want)
		if slices.Equal(slices.Sorted(slices.Values(expected)), wrong) {
			r.t.Logf("%s: %s", name, why)
			r.keep(name, want, text)
			return ""
		}
	}
	return why
}

func oldVersion() bool {
	return slices.Contains([]string{"0.12.0", "0.17.1"}, engine.VersionForTests())
}

var helpText = regexp.MustCompile(`(?m)^# HELP .*\n`)

// keep writes a page, with what was so in front and without vLLM's sentences.
func (r *recorder) keep(name string, want known, text string) {
	r.t.Helper()
	folder := os.Getenv(recordVar)
	if folder == "" {
		return
	}
	file := "vllm-" + engine.VersionForTests() + "-" + strings.ReplaceAll(name, " ", "-") + ".txt"
	recorded := want.header(readTruth(r.t, text)) + helpText.ReplaceAllString(text, "")
	if err := os.WriteFile(filepath.Join(folder, file), []byte(recorded), 0o644); err != nil {
		r.t.Error(err)
	}
}

// knows is what the clients counted: at least what they had seen before a page was
// asked for, at most what they have seen since.
func (r *recorder) knows(before, after moment) known {
	k := known{startTold: exactly(1), asleep: exactly(0), engineCount: exactly(r.engines), preempted: exactly(0)}
	for _, name := range []string{
		running, queued, inEngine, finished, refused, started, prompts, cached, generated, batches, gaps, answers, kvUsage,
	} {
		k[name] = exactly(0)
	}
	full := r.full(before, after)
	for l, s := range r.loads {
		for i, request := range s.requests {
			r.request(k, request, before[l][i], after[l][i])
			r.blocks(k, request, before[l][i], after[l][i], full)
		}
	}
	k.add(batches, r.counted, r.counted)
	for l := r.countedLoads; l < len(r.loads); {
		var requests []load.Request
		var first, last []load.Seen
		for begin := l; l < len(r.loads) && (l == begin || r.loads[l].beside); l++ {
			requests = append(requests, r.loads[l].requests...)
			first, last = append(first, before[l]...), append(last, after[l]...)
		}
		r.batches(k, requests, first, last)
	}
	k[kvUsage] = between{math.Floor(k[kvUsage].least*1e4) / 1e4, min(math.Ceil(k[kvUsage].most*1e4)/1e4, 1)}
	return k
}

// request adds what is known of one.
func (r *recorder) request(k known, request load.Request, was, now load.Seen) {
	ended := func(s load.Seen, o load.Outcome) bool { return s.Done && s.Outcome == o }
	k.add(inEngine, truly(!was.Done && !now.Done), truly(!was.Done || !now.Done))
	k.add(refused, truly(ended(was, load.Refused)), truly(ended(now, load.Refused)))
	for _, name := range []string{finished, answers} {
		k.add(name, truly(ended(was, load.Served)), truly(ended(now, load.Served)))
	}
	k.add(started, truly(was.Tokens > 0), truly(now.Tokens > 0))
	k.add(prompts, float64(request.Prompt)*truly(was.Tokens > 0), float64(request.Prompt)*truly(now.Tokens > 0))
	most := now.Tokens
	if ended(now, load.Cancelled) && now.Tokens > 0 {
		most = request.Output // the engine may have gone on for a while
	}
	k.add(generated, float64(was.Tokens), float64(most))
	k.add(gaps, float64(max(was.Pieces-1, 0)), float64(max(most-1, 0)))
	if r.drafts == 0 { // such a page doesn't have it
		return
	}
	// Those beyond the answer's end count too.
	k.add(accepted, 0, float64(max(most-now.Pieces, 0)+r.drafts))
}

// full reports whether all seats were taken by answers under way: nobody else has
// anything in the KV cache then.
func (r *recorder) full(before, after moment) bool {
	n := 0
	for l := range before {
		for i, was := range before[l] {
			n += int(truly(was.Tokens > 0 && after[l][i].Tokens > was.Tokens && !after[l][i].Done))
		}
	}
	return n == r.seats()
}

// blocks adds a request's share of the KV cache.
func (r *recorder) blocks(k known, request load.Request, was, now load.Seen, full bool) {
	if was.Done || full && now.Tokens == 0 {
		return
	}
	held := func(tokens int) float64 {
		return math.Ceil(float64(tokens)/blockTokens) / float64(r.blocksEach*r.engines)
	}
	least := 0.0
	if was.Tokens > 0 && now.Tokens > was.Tokens && !now.Done { // else it may be preempted
		least = held(request.Prompt + was.Tokens - 1)
	}
	// The next step's token has its place already, and so have drafts.
	k.add(kvUsage, least, held(request.Prompt+now.Tokens+2+r.drafts))
}

// batches adds how many batches of output requests took that were under way together. Each gives a token, or a few
// under speculation, to all that run, and each request may begin in one of its own.
func (r *recorder) batches(k known, requests []load.Request, first, last []load.Seen) {
	least, longest, before, now, running := 0, 0, 0, 0, 0
	for i, seen := range last {
		tokens := seen.Tokens
		if seen.Done && seen.Outcome == load.Cancelled && tokens > 0 {
			tokens = requests[i].Output // the engine may have gone on for a while
		}
		now += tokens
		before += first[i].Tokens
		longest = max(longest, tokens)
		least = max(least, first[i].Pieces)
		running += int(truly(tokens > 0))
	}
	full := r.seats() * (1 + r.drafts)
	least = max(least, (before+full-1)/full)
	// No seat is free while a request waits.
	most := min(now, now/r.batch+r.engines*longest+len(last))
	if running <= r.seats() {
		most = min(most, r.engines*(longest+running))
	}
	k.add(batches, float64(least), float64(most))
}

func (r *recorder) seats() int { return r.batch * r.engines }
