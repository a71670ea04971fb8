package engine

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// What KAITO's start-up benchmark sends, in tokens.
const (
	benchmarkPrompt = 2048
	benchmarkOutput = 256
)

// Benchmark loads a healthy engine for that long as KAITO does before a pod is Ready:
// with more requests than it runs at once. It returns how many tokens a minute the
// engine worked off, prompts and answers, and leaves nothing running.
func (e *Engine) Benchmark(ctx context.Context, length time.Duration) (tokensPerMinute float64) {
	before, begin := e.tokens(ctx), time.Now()
	bounded, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var clients sync.WaitGroup
	for i := range e.seats * 5 / 4 {
		clients.Go(func() {
			for n := 0; bounded.Err() == nil; n++ {
				c := load.Client{Model: ModelName, Pick: e.URL, Seed: uint64(n*1000 + i)}
				c.Run(bounded, load.Burst(1, benchmarkPrompt, benchmarkOutput))
			}
		})
	}
	clients.Wait()
	return (e.tokens(ctx) - before) / time.Since(begin).Minutes()
}

// tokens is how many the page says were worked off since the start, 0 if there is no
// page.
func (e *Engine) tokens(ctx context.Context) (sum float64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.URL()+"/metrics", http.NoBody)
	if err != nil {
		return 0
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), "{")
		if name == "vllm:prompt_tokens_total" || name == "vllm:generation_tokens_total" {
			value, _ := strconv.ParseFloat(rest[strings.LastIndex(rest, " ")+1:], 64)
			sum += value
		}
	}
	return sum
}
