// Package load sends requests to vLLM engines as clients do, open loop: whether the
// engines keep up or not, each request is sent at its time. It says what each client
// saw. Token counts are exact: prompts are lists of token ids, answers have neither
// fewer nor more tokens than asked for.
package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Client says how requests are sent.
type Client struct {
	// Model is the name of the engines' model.
	Model string
	// Pick returns the URL of the engine for a request, "" if none serves. It is asked
	// at each try, as an endpoint picker is.
	Pick func() string
	// Done is told the engine of each try once that has ended, as an endpoint picker
	// that counts requests in flight has to be; nil for nobody.
	Done func(engine string)
	// Retries is how often a request that was refused, broken or unserved is sent
	// again, each time RetryAfter later.
	Retries    int
	RetryAfter time.Duration
	// SharedPrefix is how many tokens all prompts have in common, at their start. What
	// follows is random, so that no prefix cache has it.
	SharedPrefix int
	// Seed is of the prompts.
	Seed uint64
	// Watch is told what the clients see as they see it; nil is nobody.
	Watch *Progress
}

// Token ids of prompts; those below are special.
const firstToken, lastToken = 3, 4095

// Run sends all requests and returns what came of them, in their order. It ends early
// once ctx does: what was sent is cancelled then, and so is what was not.
func (c Client) Run(ctx context.Context, requests []Request) []Result {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	results := make([]Result, len(requests))
	c.Watch.begin(len(requests))
	begin := time.Now()
	var clients sync.WaitGroup
	for i := range requests {
		clients.Go(func() {
			s := sender{Client: c, http: transport, number: i, result: &results[i]}
			s.result.Request = requests[i]
			s.send(ctx, begin)
			c.Watch.change(i, func(seen *Seen) { seen.Done, seen.Outcome = true, s.result.Outcome })
		})
	}
	clients.Wait()
	return results
}

// sender sends one request.
type sender struct {
	Client
	http   http.RoundTripper
	number int
	result *Result
}

func (s *sender) send(ctx context.Context, begin time.Time) {
	if !sleep(ctx, s.result.At-time.Since(begin)) {
		s.result.Outcome = Cancelled
		return
	}
	first := time.Now()
	s.result.Sent, s.result.Late = first, first.Sub(begin)-s.result.At
	if s.result.Cancel > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.result.Cancel)
		defer cancel()
	}
	body := s.body()
	for {
		s.result.Tries++
		s.try(ctx, body, first)
		if ctx.Err() != nil && s.result.Outcome != Served {
			s.result.Outcome, s.result.Err = Cancelled, nil
			return
		}
		switch s.result.Outcome {
		case Refused, Broken, Unserved:
		case Served, Cancelled, Failed:
			return
		}
		if s.result.Tries > s.Retries {
			return
		}
		if !sleep(ctx, s.RetryAfter) {
			s.result.Outcome, s.result.Err = Cancelled, nil
			return
		}
	}
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// body is what POST /v1/completions takes.
func (s *sender) body() []byte {
	random := rand.New(rand.NewPCG(s.Seed, uint64(s.number)+1))
	shared := rand.New(rand.NewPCG(s.Seed, 0))
	prompt := make([]int, s.result.Prompt)
	for i := range prompt {
		from := random
		if i < s.SharedPrefix {
			from = shared
		}
		prompt[i] = firstToken + from.IntN(lastToken-firstToken+1)
	}
	body, err := json.Marshal(map[string]any{
		"model": s.Model, "prompt": prompt, "temperature": 0,
		"max_tokens": s.result.Output, "min_tokens": s.result.Output, "ignore_eos": true,
		"stream": true, "stream_options": map[string]bool{"include_usage": true, "continuous_usage_stats": s.Watch != nil},
	})
	if err != nil {
		panic(err) // numbers and strings
	}
	return body
}

// try sends the request once.
func (s *sender) try(ctx context.Context, body []byte, first time.Time) {
	r := s.result
	r.Tokens, r.Err = 0, nil
	s.Watch.change(s.number, func(seen *Seen) { *seen = Seen{} })
	r.Engine = s.Pick()
	if r.Engine == "" {
		r.Outcome = Unserved
		return
	}
	if s.Done != nil {
		defer s.Done(r.Engine)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Engine+"/v1/completions", bytes.NewReader(body))
	if err != nil {
		r.Outcome, r.Err = Failed, err
		return
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := s.http.RoundTrip(request)
	if err != nil {
		r.Outcome, r.Err = Broken, err
		return
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		s.read(response.Body, first)
	case http.StatusTooManyRequests:
		r.Outcome = Refused
	case http.StatusServiceUnavailable: // it is ending
		r.Outcome, r.Err = Broken, errors.New(response.Status)
	default:
		text, _ := io.ReadAll(io.LimitReader(response.Body, 500))
		r.Outcome, r.Err = Failed, fmt.Errorf("%s: %s", response.Status, text)
	}
}

var (
	dataPrefix = []byte("data: ")
	lastLine   = []byte("data: [DONE]")
)

// read reads the stream of an answer: a line for each token or a few, then one with
// the usage, then the last.
func (s *sender) read(stream io.Reader, first time.Time) {
	r := s.result
	lines := bufio.NewReader(stream)
	var usage []byte // the last line of data
	var firstToken, lastToken, previous time.Time
	for {
		line, err := lines.ReadBytes('\n')
		now := time.Now()
		switch {
		case err != nil:
			r.Outcome, r.Err = Broken, fmt.Errorf("the answer ended early: %w", err)
			return
		case bytes.HasPrefix(line, lastLine):
			if !firstToken.IsZero() {
				r.TTFT = firstToken.Sub(first)
			}
			s.finish(usage)
			if r.Tokens > 1 {
				r.PerToken = lastToken.Sub(firstToken) / time.Duration(r.Tokens-1)
			}
			return
		case !bytes.HasPrefix(line, dataPrefix):
			continue
		}
		s.Watch.line(s.number, line)
		if firstToken.IsZero() {
			firstToken = now
			r.TTFT = now.Sub(first)
		}
		// The line of the usage comes after the last token's.
		lastToken, previous = previous, now
		usage = line[len(dataPrefix):]
	}
}

// finish compares what came with what was asked for.
func (s *sender) finish(usage []byte) {
	r := s.result
	var last struct {
		Usage struct {
			Prompt int `json:"prompt_tokens"`
			Output int `json:"completion_tokens"`
		} `json:"usage"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(usage, &last); err != nil {
		r.Outcome, r.Err = Failed, fmt.Errorf("the answer's last line is %.200q: %w", usage, err)
		return
	}
	r.Tokens = last.Usage.Output
	r.Outcome = Served
	switch {
	case last.Error != nil:
		r.Outcome, r.Err = Broken, fmt.Errorf("the engine says %s", last.Error)
	case last.Usage.Prompt != r.Prompt || last.Usage.Output != r.Output:
		r.Outcome = Failed
		r.Err = fmt.Errorf("%d + %d tokens, asked for %d + %d", last.Usage.Prompt, last.Usage.Output, r.Prompt, r.Output)
	}
}
