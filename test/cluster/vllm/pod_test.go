package vllm

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/await"
)

func startPod(t *testing.T, o Options) *Pod {
	t.Helper()
	p, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// ask returns the status and the body, or the error in words.
func ask(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	// A dial outlives its request: it ends before leaks are looked for.
	dialer := net.Dialer{Timeout: 500 * time.Millisecond}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

func TestPodAnswersInEveryMode(t *testing.T) {
	p := startPod(t, Options{Mode: Refused})
	for _, c := range []struct {
		mode   Mode
		status int
		body   string
		health int
	}{
		{Refused, 0, "connection refused", 0},
		{Downloading, 200, "kaito_model_download_speed_bytes_per_second 1.93e+08", 503},
		{Serving, 200, "vllm:num_requests_waiting{", 200},
		{Hung, 0, "deadline exceeded", 0},
		{Garbage, 200, "<html>", 200},
		{Refused, 0, "connection refused", 0},
		{Serving, 200, "vllm:num_requests_waiting{", 200},
	} {
		if err := p.SetMode(c.mode); err != nil {
			t.Fatal(err)
		}
		status, body := ask(t, http.MethodGet, "http://"+p.Addr()+"/metrics", "")
		if status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%v: %d %.100s, want %d and %s", c.mode, status, body, c.status, c.body)
		}
		if strings.Contains(body, "vllm:") != (c.mode == Serving) {
			t.Errorf("%v: vllm:* on the page", c.mode)
		}
		if health, _ := ask(t, http.MethodGet, "http://"+p.Addr()+"/health", ""); health != c.health {
			t.Errorf("%v: health %d, want %d", c.mode, health, c.health)
		}
	}
}

func TestALoadedPodShowsItsPageLate(t *testing.T) {
	const late = 200 * time.Millisecond
	m := Phi4MiniA100()
	m.MaxNumSeqs = 10
	p := startPod(t, Options{Model: m, SlowPage: SlowPage{From: .8, Delay: late}})
	page := func() time.Duration {
		t.Helper()
		began := time.Now()
		status, body := ask(t, http.MethodGet, "http://"+p.Addr()+"/metrics", "")
		if status != http.StatusOK || !strings.Contains(body, "vllm:num_requests_running") {
			t.Fatalf("%d %.100s", status, body)
		}
		return time.Since(began)
	}
	p.SetRunning(7)
	if took := page(); took >= late {
		t.Errorf("with 7 of 10 running it took %s", took)
	}
	p.SetRunning(8)
	if took := page(); took < late {
		t.Errorf("with 8 of 10 running it took %s, want %s", took, late)
	}
	began := time.Now()
	if status, body := ask(t, http.MethodGet, "http://"+p.Addr()+"/health", ""); status != http.StatusOK || time.Since(began) >= late {
		t.Errorf("its health: %d %s after %s, want it at once", status, body, time.Since(began))
	}
	p.SetSlowPage(SlowPage{})
	if took := page(); took >= late {
		t.Errorf("prompt again it took %s", took)
	}
}

func TestPodShowsPinnedGauges(t *testing.T) {
	p := startPod(t, Options{Engines: 2})
	p.SetWaiting(25)
	p.SetKVUsage(0.5)
	_, page := ask(t, http.MethodGet, "http://"+p.Addr()+"/metrics", "")
	for _, line := range []string{
		`vllm:num_requests_waiting{engine="0",model_name="phi-4-mini-instruct"} 13.0`,
		`vllm:num_requests_waiting{engine="1",model_name="phi-4-mini-instruct"} 12.0`,
		`vllm:kv_cache_usage_perc{engine="1",model_name="phi-4-mini-instruct"} 0.5`,
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if s := p.Stats(); s.Waiting != 25 || s.Running != 512 {
		t.Errorf("%+v, want 25 waiting behind full batches", s)
	}
	p.Unpin()
	if s := p.Stats(); s.Waiting != 0 || s.Running != 0 {
		t.Errorf("unpinned: %+v", s)
	}
}

func TestRestartBeginsAnew(t *testing.T) {
	p := startPod(t, Options{})
	page := func() string {
		_, page := ask(t, http.MethodGet, "http://"+p.Addr()+"/metrics", "")
		return page
	}
	if err := p.Submit(100, 1); err != nil {
		t.Fatal(err)
	}
	await.Until(t, 10*time.Second, "the request is served", func() error {
		if p.Stats().Finished == 0 {
			return errors.New("it isn't yet")
		}
		return nil
	})
	before := page()
	p.Restart()
	if s := p.Stats(); s.Finished != 0 || s.PromptTokens != 0 {
		t.Errorf("after a restart: %+v", s)
	}
	if line(before, "process_start_time_seconds ") == line(page(), "process_start_time_seconds ") {
		t.Error("process_start_time_seconds stayed")
	}
}

// line returns the line that begins so.
func line(page, prefix string) string {
	for l := range strings.Lines(page) {
		if strings.HasPrefix(l, prefix) {
			return l
		}
	}
	return ""
}

func TestCompletionsOverHTTP(t *testing.T) {
	m := Phi4MiniA100()
	m.MaxNumSeqs, m.MaxWaiting = 1, 1
	p := startPod(t, Options{Model: m})
	url := "http://" + p.Addr() + "/v1/completions"
	status, body := ask(t, http.MethodPost, url, `{"prompt": "four words of prompt", "max_tokens": 3}`)
	if status != 200 || !strings.Contains(body, `"prompt_tokens":4,"completion_tokens":3`) {
		t.Errorf("%d %s", status, body)
	}
	for range 3 {
		if err := p.Submit(100, 10_000); err != nil {
			t.Fatal(err)
		}
	}
	if status, _ := ask(t, http.MethodPost, url, `{"prompt": "x"}`); status != http.StatusTooManyRequests {
		t.Errorf("status %d from a full pod, want 429", status)
	}
	if err := p.Submit(1, 1); !errors.Is(err, ErrBusy) {
		t.Errorf("%v from a full pod, want ErrBusy", err)
	}
	if s := p.Stats(); s.Rejected != 2 {
		t.Errorf("%d rejected, want 2", s.Rejected)
	}
}

// A hundred pods, changed and closed while they are asked, leave nothing.
func TestManyPodsAtOnce(t *testing.T) {
	var all sync.WaitGroup
	for range 100 {
		p, err := Start(Options{})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			p.StartBenchmark()
			for _, m := range []Mode{Hung, Serving, Refused, Downloading, Garbage, Serving} {
				if err := p.SetMode(m); err != nil {
					t.Error(err)
				}
				p.Stats()
			}
			p.Close()
			p.Close()
		})
		all.Go(func() {
			for range 3 {
				ask(t, http.MethodGet, "http://"+p.Addr()+"/metrics", "")
			}
		})
	}
	all.Wait()
}
