package vllm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

// listen listens on that address, or on one that is free.
func listen(address string) (net.Listener, error) {
	if address == "" {
		return listenAnywhere()
	}
	at, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return nil, err
	}
	return net.ListenTCP("tcp4", at)
}

// listenAnywhere listens on Port of a loopback address that nobody uses. The
// start is random so that two test runs at once rarely meet, and a taken
// address is simply passed over.
func listenAnywhere() (net.Listener, error) {
	const tries = 64
	for range tries {
		// 127.16.1.1 … 127.239.254.254 stays clear of addresses that people
		// and resolvers use, such as 127.0.0.1 and 127.0.0.53.
		ip := net.IPv4(127, byte(16+rand.IntN(224)), byte(1+rand.IntN(254)), byte(1+rand.IntN(254)))
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: ip, Port: Port})
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listening on a loopback address: %w", err)
		}
	}
	return nil, fmt.Errorf("no free loopback address in %d tries", tries)
}

// server is one listener's life, with all its goroutines.
type server struct {
	http *http.Server
	// running counts Serve and every connection's goroutine.
	running sync.WaitGroup
}

func serve(l net.Listener, p *Pod) *server {
	s := &server{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", p.metrics)
	mux.HandleFunc("GET /health", p.health)
	mux.HandleFunc("POST /v1/completions", p.completions)
	s.http = &http.Server{
		Handler:           p.misbehave(mux),
		ReadHeaderTimeout: time.Minute,
		// net/http's Close doesn't wait for connections; we do.
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				p.visits.Add(1)
				s.running.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.running.Done()
			case http.StateActive, http.StateIdle:
			}
		},
	}
	s.running.Go(func() { _ = s.http.Serve(l) })
	return s
}

// close ends the server and waits for its goroutines; nil is fine.
func (s *server) close() {
	if s == nil {
		return
	}
	_ = s.http.Close()
	s.running.Wait()
}

// misbehave answers in the modes in which vLLM isn't asked at all.
func (p *Pod) misbehave(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		mode, over, delay := p.mode, p.modeOver, p.delay
		p.mu.Unlock()
		if !pause(r.Context(), delay) {
			return
		}
		switch mode {
		case Hung:
			select {
			case <-over:
			case <-r.Context().Done():
			}
			panic(http.ErrAbortHandler) // no answer, not even an empty one
		case Garbage:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "<!DOCTYPE html>\n<html><body><h1>It works!</h1></body></html>\n")
		case Refused:
			panic(http.ErrAbortHandler)
		case Serving, Downloading:
			next.ServeHTTP(w, r)
		}
	})
}

// pause waits so long; false if the client went away first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// render writes the pod's page into memory, so that no lock is held while the
// network takes it.
func (p *Pod) render() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, e := range p.engines {
		e.Advance(now)
	}
	var b bytes.Buffer
	state := State{Model: p.model.Name, Started: p.started, Now: now, Engines: p.engines}
	if p.mode == Downloading {
		state.Engines = nil
	}
	_ = WritePage(&b, state) // a buffer takes everything
	return b.Bytes()
}

func (p *Pod) metrics(w http.ResponseWriter, r *http.Request) {
	if !pause(r.Context(), p.pageDelay()) {
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(p.render())
}

func (p *Pod) health(w http.ResponseWriter, _ *http.Request) {
	if p.Mode() != Serving {
		http.Error(w, "the model is being downloaded", http.StatusServiceUnavailable)
	}
}

// completions takes {"prompt": "…", "max_tokens": n} and answers when the
// engine is done. A token is a word here.
func (p *Pod) completions(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Prompt    string `json:"prompt"`
		MaxTokens int    `json:"max_tokens"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	prompt := max(len(strings.Fields(body.Prompt)), 1)
	request, err := p.submit(prompt, max(body.MaxTokens, 1))
	switch {
	case errors.Is(err, ErrBusy):
		http.Error(w, err.Error(), http.StatusTooManyRequests)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if !p.await(r.Context(), request) {
		p.each(0, func(e *Engine, _ int) {
			if e.has(request) {
				e.Cancel(e.clock, request)
			}
		})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"object":"text_completion","choices":[{"index":0,"finish_reason":"length","text":"…"}],`+
		`"usage":{"prompt_tokens":%d,"completion_tokens":%d}}`+"\n", request.Prompt, request.Output)
}

// await returns when the request is finished; false if the client, or the
// pod's process, went away first.
func (p *Pod) await(ctx context.Context, r *Request) bool {
	p.mu.Lock()
	process := p.started
	p.mu.Unlock()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		finished := false
		p.each(0, func(*Engine, int) { finished = r.finished })
		p.mu.Lock()
		gone := p.closed || !p.started.Equal(process)
		p.mu.Unlock()
		if finished || gone {
			return finished
		}
	}
}
