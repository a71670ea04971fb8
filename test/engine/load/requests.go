package load

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// Request is one that a client sends.
type Request struct {
	// At is when it is sent, from the start of the load.
	At time.Duration
	// Prompt and Output are numbers of tokens, ≥ 1.
	Prompt, Output int
	// Cancel is how long after sending it the client goes away; 0 is never.
	Cancel time.Duration
}

// Poisson makes requests with exponential gaps and exponential token counts of those
// means, as many as come in that time at rate a second. A token count is at most six
// times its mean, so that it fits a context of a known length.
func Poisson(rate float64, length time.Duration, prompt, output int, seed uint64) []Request {
	random := rand.New(rand.NewPCG(seed, 0x656e67696e65))
	var requests []Request
	at := 0.0
	for {
		at += random.ExpFloat64() / rate
		if at >= length.Seconds() {
			return requests
		}
		requests = append(requests, Request{At: seconds(at), Prompt: draw(random, prompt), Output: draw(random, output)})
	}
}

// draw takes an exponential token count of that mean, at most six times the mean.
func draw(random *rand.Rand, mean int) int {
	return min(max(int(math.Round(random.ExpFloat64()*float64(mean))), 1), 6*mean)
}

// Burst is n requests of one size, all at once.
func Burst(n, prompt, output int) []Request {
	return slices.Repeat([]Request{{Prompt: prompt, Output: output}}, n)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// columns are the first line of a file of requests, which `keda-kaito-scaler simulate`
// reads too. The last may be missing.
var columns = []string{"arrival_seconds", "prompt_tokens", "output_tokens", "cancel_after_seconds"}

// Read reads requests from a CSV file. A client that stays has an empty last field.
func Read(from io.Reader) ([]Request, error) {
	rows, err := csv.NewReader(from).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("reading requests: %w", err)
	}
	if len(rows) < 2 || len(rows[0]) < 3 || !slices.Equal(rows[0], columns[:min(len(rows[0]), 4)]) {
		return nil, fmt.Errorf("reading requests: the first line must be %q, the last may be missing, and more must follow", columns)
	}
	var requests []Request
	for i, row := range rows[1:] {
		r, err := parse(row)
		if err != nil {
			return nil, fmt.Errorf("reading requests, line %d: %w", i+2, err)
		}
		requests = append(requests, r)
	}
	return requests, nil
}

func parse(row []string) (Request, error) {
	var n [4]float64
	for i, field := range row {
		if i == 3 && field == "" {
			continue
		}
		v, err := strconv.ParseFloat(field, 64)
		if err != nil || !(v >= 0 && v <= 1e7) || (i == 1 || i == 2) && (v < 1 || v != math.Trunc(v)) {
			return Request{}, fmt.Errorf("%s is %q", columns[i], field)
		}
		n[i] = v
	}
	return Request{At: seconds(n[0]), Prompt: int(n[1]), Output: int(n[2]), Cancel: seconds(n[3])}, nil
}
