package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// asked is what a request's body has.
type asked struct {
	Prompt    []int `json:"prompt"`
	MaxTokens int   `json:"max_tokens"`
	MinTokens int   `json:"min_tokens"`
	IgnoreEOS bool  `json:"ignore_eos"`
}

// engine answers as vLLM does, with as many tokens as asked for, at once.
type engine struct {
	*httptest.Server
	// before answers some other way, and returns true then.
	before func(w http.ResponseWriter, r *http.Request, n int) bool

	mu    sync.Mutex
	asked []asked
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{before: func(http.ResponseWriter, *http.Request, int) bool { return false }}
	e.Server = httptest.NewServer(http.HandlerFunc(e.serve))
	t.Cleanup(e.Close)
	return e
}

func (e *engine) serve(w http.ResponseWriter, r *http.Request) {
	var a asked
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	e.asked = append(e.asked, a)
	n := len(e.asked)
	e.mu.Unlock()
	if e.before(w, r, n) {
		return
	}
	for range a.MaxTokens {
		_, _ = fmt.Fprint(w, `data: {"choices":[{"text":" t7"}]}`, "\n\n")
		w.(http.Flusher).Flush()
	}
	_, _ = fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d}}\n\ndata: [DONE]\n\n", len(a.Prompt), a.MaxTokens)
}

func (e *engine) client() Client {
	return Client{Model: "tiny", Pick: func() string { return e.URL }}
}

func TestARequestHasExactlyTheTokensThatItIsToHave(t *testing.T) {
	e := newEngine(t)
	results := e.client().Run(t.Context(), []Request{{Prompt: 150, Output: 20}})
	if r := results[0]; r.Outcome != Served || r.Tokens != 20 || r.TTFT <= 0 || r.PerToken <= 0 || r.Tries != 1 {
		t.Errorf("got %+v", r)
	}
	a := e.asked[0]
	if len(a.Prompt) != 150 || a.MaxTokens != 20 || a.MinTokens != 20 || !a.IgnoreEOS {
		t.Errorf("asked for %d + %d to %d tokens", len(a.Prompt), a.MinTokens, a.MaxTokens)
	}
}

func TestAClientsProgressIsSeenWhileItsAnswerComes(t *testing.T) {
	e := newEngine(t)
	seen, goOn := make(chan struct{}), make(chan struct{})
	e.before = func(w http.ResponseWriter, _ *http.Request, n int) bool {
		if n > 1 {
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		for _, tokens := range []int{1, 2, 5} { // three at once in the end
			_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"text\":\"t\"}],\"usage\":{\"prompt_tokens\":9,\"total_tokens\":0,\"completion_tokens\":%d}}\n\n", tokens)
		}
		w.(http.Flusher).Flush()
		close(seen)
		<-goOn
		_, _ = fmt.Fprint(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n")
		return true
	}
	var p Progress
	c := e.client()
	c.Watch = &p
	if p.Seen() != nil {
		t.Error("something is seen before the load begins")
	}
	done := make(chan []Result)
	go func() { done <- c.Run(t.Context(), Burst(1, 9, 5)) }()
	<-seen
	want := []Seen{{Tokens: 5, Pieces: 3}}
	for !cmp.Equal(p.Seen(), want) && t.Context().Err() == nil {
	}
	close(goOn)
	<-done
	want[0].Done = true
	if diff := cmp.Diff(want, p.Seen()); diff != "" {
		t.Error(diff)
	}
	c.Run(t.Context(), Burst(2, 1, 1))
	want = []Seen{{Done: true, Outcome: Refused}, {Done: true, Outcome: Refused}}
	if diff := cmp.Diff(want, p.Seen()); diff != "" {
		t.Error(diff)
	}
}

func TestAnAnswerOfAnotherLengthIsNotServed(t *testing.T) {
	e := newEngine(t)
	e.before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		_, _ = fmt.Fprint(w, "data: {\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n")
		return true
	}
	r := e.client().Run(t.Context(), []Request{{Prompt: 10, Output: 5}})[0]
	if r.Outcome != Failed || r.Err == nil || r.Err.Error() != "10 + 3 tokens, asked for 10 + 5" {
		t.Errorf("got %+v", r)
	}
}

func TestPromptsShareTheirPrefixAndNothingElse(t *testing.T) {
	e := newEngine(t)
	c := e.client()
	c.SharedPrefix = 64
	c.Run(t.Context(), Burst(2, 128, 1))
	a, b := e.asked[0].Prompt, e.asked[1].Prompt
	if diff := cmp.Diff(a[:64], b[:64]); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(a[64:96], b[64:96]) {
		t.Error("the rest is the same too")
	}
}

func TestWhoIsRefusedTriesAgainIfToldTo(t *testing.T) {
	e := newEngine(t)
	e.before = func(w http.ResponseWriter, _ *http.Request, n int) bool {
		if n < 3 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
		return n < 3
	}
	c := e.client()
	if r := c.Run(t.Context(), Burst(1, 1, 1))[0]; r.Outcome != Refused || r.Tries != 1 {
		t.Errorf("without retries: %+v", r)
	}
	c.Retries = 2
	if r := c.Run(t.Context(), Burst(1, 1, 1))[0]; r.Outcome != Served || r.Tries != 2 {
		t.Errorf("with retries: %+v", r)
	}
}

func TestAClientThatGoesAwayIsNoticedByTheEngine(t *testing.T) {
	e := newEngine(t)
	arrived, gone := make(chan struct{}), make(chan struct{})
	e.before = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		close(arrived)
		<-r.Context().Done()
		close(gone)
		return true
	}
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-arrived
		leave()
	}()
	if r := e.client().Run(ctx, Burst(1, 1, 1))[0]; r.Outcome != Cancelled || r.Err != nil {
		t.Errorf("got %+v", r)
	}
	<-gone
}

func TestAClientGoesAwayAtItsTime(t *testing.T) {
	e := newEngine(t)
	e.before = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		<-r.Context().Done()
		return true
	}
	begin := time.Now()
	r := e.client().Run(t.Context(), []Request{{Prompt: 1, Output: 1, Cancel: 20 * time.Millisecond}})[0]
	if passed := time.Since(begin); r.Outcome != Cancelled || passed < 20*time.Millisecond {
		t.Errorf("after %s: %+v", passed, r)
	}
}

func TestAnEngineThatEndsBreaksItsRequests(t *testing.T) {
	e := newEngine(t)
	e.before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		_, _ = fmt.Fprint(w, `data: {"choices":[{"text":" t7"}]}`, "\n\n")
		return true
	}
	if r := e.client().Run(t.Context(), Burst(1, 1, 2))[0]; r.Outcome != Broken || r.Err == nil {
		t.Errorf("an answer cut short: %+v", r)
	}
	e.Close()
	if r := e.client().Run(t.Context(), Burst(1, 1, 2))[0]; r.Outcome != Broken || r.Err == nil {
		t.Errorf("nobody there: %+v", r)
	}
	nobody := Client{Pick: func() string { return "" }}
	if r := nobody.Run(t.Context(), Burst(1, 1, 2))[0]; r.Outcome != Unserved {
		t.Errorf("no engine: %+v", r)
	}
}

func TestALoadIsTheSameForTheSameSeed(t *testing.T) {
	a, b := Poisson(5, time.Minute, 200, 60, 1), Poisson(5, time.Minute, 200, 60, 1)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
	prompts, outputs := 0, 0
	long := Poisson(5, time.Hour, 200, 60, 2)
	for _, r := range long {
		prompts += r.Prompt
		outputs += r.Output
	}
	n := len(long)
	if n < 17500 || n > 18500 || prompts/n < 190 || prompts/n > 210 || outputs/n < 57 || outputs/n > 63 {
		t.Errorf("%d requests in an hour, %d + %d tokens in the mean", n, prompts/n, outputs/n)
	}
}

func TestRequestsAreReadFromAFile(t *testing.T) {
	got, err := Read(strings.NewReader("arrival_seconds,prompt_tokens,output_tokens,cancel_after_seconds\n0.5,200,60,\n1,7000,1,3\n"))
	want := []Request{{At: 500 * time.Millisecond, Prompt: 200, Output: 60}, {At: time.Second, Prompt: 7000, Output: 1, Cancel: 3 * time.Second}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, bad := range []string{"", "arrival_seconds,prompt_tokens,output_tokens\n", "at,in,out\n1,2,3\n", "arrival_seconds,prompt_tokens,output_tokens\n1,0,3\n", "arrival_seconds,prompt_tokens,output_tokens\n-1,2,3\n"} {
		if _, err := Read(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestWhatClientsSawIsAddedUp(t *testing.T) {
	results := []Result{
		{Outcome: Served, TTFT: time.Second, PerToken: 50 * time.Millisecond},
		{Outcome: Served, TTFT: 3 * time.Second, PerToken: 50 * time.Millisecond},
		{Outcome: Served, TTFT: time.Second, PerToken: 70 * time.Millisecond},
		{Outcome: Refused},
		{Outcome: Cancelled},
	}
	if got := Missed(results, 2*time.Second, 60*time.Millisecond); got != 0.75 {
		t.Errorf("missed %v, want 3 of 4", got)
	}
	for q, want := range map[float64]time.Duration{0: time.Second, 0.5: time.Second, 0.99: 3 * time.Second, 1: 3 * time.Second} {
		if got := Quantile(results, q, func(r Result) time.Duration { return r.TTFT }); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	var out strings.Builder
	if err := Write(&out, results[2:4]); err != nil {
		t.Fatal(err)
	}
	want := "arrival_seconds,prompt_tokens,output_tokens,outcome,ttft_seconds,seconds_per_token\n0,0,0,served,1,0.07\n0,0,0,refused,,\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWhoCountsRequestsInFlightHearsOfEachEnd(t *testing.T) {
	e := newEngine(t)
	e.before = func(w http.ResponseWriter, _ *http.Request, n int) bool {
		if n == 1 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
		return n == 1
	}
	c := e.client()
	c.Retries = 1
	picked, ended := 0, 0
	c.Pick = func() string { picked++; return e.URL }
	c.Done = func(url string) {
		ended++
		if url != e.URL || ended != picked {
			t.Errorf("end %d at %q, after %d tries began", ended, url, picked)
		}
	}
	if r := c.Run(t.Context(), Burst(1, 1, 2))[0]; r.Outcome != Served || ended != 2 || r.Sent.IsZero() {
		t.Errorf("%d tries ended: %+v", ended, r)
	}
}

func TestAFlowFollowsItsRate(t *testing.T) {
	e := newEngine(t)
	f := e.client().Flow(10, 3)
	defer f.Stop()
	await := func(n int) []Result {
		for {
			if results := f.Results(); len(results) >= n {
				return results
			}
			select {
			case <-t.Context().Done():
				t.Fatal("the test's time is over")
			default:
			}
		}
	}
	f.SetRate(500)
	for _, r := range await(50) {
		if r.Outcome != Served || r.Prompt > 60 || r.Output > 18 {
			t.Fatalf("got %+v", r)
		}
	}
	if f.SetRate(-1); f.Rate() != 0 {
		t.Errorf("the rate is %v", f.Rate())
	}
}

func TestWhatAFlowHasInFlightIsCancelledAtItsEnd(t *testing.T) {
	e := newEngine(t)
	came := make(chan struct{}, 100)
	e.before = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		came <- struct{}{}
		<-r.Context().Done()
		return true
	}
	f := e.client().Flow(1, 1)
	f.SetRate(200)
	<-came
	f.Stop()
	results := f.Results()
	if len(results) == 0 || Count(results, Cancelled) != len(results) {
		t.Errorf("got %+v", results)
	}
}
