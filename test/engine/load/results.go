package load

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// Outcome is what came of a request.
type Outcome int

// The outcomes.
const (
	// Served got all its tokens.
	Served Outcome = iota
	// Refused got a 429 each time that it was tried.
	Refused
	// Cancelled is of a client that went away, at its time or at the load's end.
	Cancelled
	// Broken was lost: no connection, or one that ended too early.
	Broken
	// Unserved found no engine to go to.
	Unserved
	// Failed got another answer than was asked for.
	Failed
)

func (o Outcome) String() string {
	return [...]string{"served", "refused", "cancelled", "broken", "unserved", "failed"}[o]
}

// Result is what the client of a request saw.
type Result struct {
	Request
	Outcome Outcome
	// Engine is where it went, at the last try.
	Engine string
	// Tries is how often it was sent.
	Tries int
	// Sent is when it was sent first; zero if its client had gone before.
	Sent time.Time
	// Late is how much later than Request.At it was sent first: the load generator
	// can't keep up if that is more than milliseconds.
	Late time.Duration
	// TTFT is from the first try to the first token, 0 if there was none. PerToken is
	// the mean time between tokens, 0 if there was one alone.
	TTFT, PerToken time.Duration
	// Tokens is how many came.
	Tokens int
	// Err says more about Broken and Failed.
	Err error
}

// Met says whether a request was served within an SLO.
func (r Result) Met(ttft, perToken time.Duration) bool {
	return r.Outcome == Served && r.TTFT <= ttft && r.PerToken <= perToken
}

// Count is how many results have an outcome.
func Count(results []Result, o Outcome) int {
	n := 0
	for _, r := range results {
		if r.Outcome == o {
			n++
		}
	}
	return n
}

// Missed is the share of requests that weren't served within an SLO. Those whose
// clients went away don't count.
func Missed(results []Result, ttft, perToken time.Duration) float64 {
	missed, all := 0, 0
	for _, r := range results {
		if r.Outcome == Cancelled {
			continue
		}
		all++
		if !r.Met(ttft, perToken) {
			missed++
		}
	}
	if all == 0 {
		return math.NaN()
	}
	return float64(missed) / float64(all)
}

// Quantile is a quantile of a time of those that were served, 0 if none were.
func Quantile(results []Result, q float64, of func(Result) time.Duration) time.Duration {
	var times []time.Duration
	for _, r := range results {
		if r.Outcome == Served {
			times = append(times, of(r))
		}
	}
	if times == nil {
		return 0
	}
	slices.Sort(times)
	return times[max(int(math.Ceil(q*float64(len(times))))-1, 0)]
}

// Write writes results as CSV, in the columns of `keda-kaito-scaler simulate`.
func Write(to io.Writer, results []Result) error {
	w := bufio.NewWriter(to)
	_, _ = fmt.Fprintln(w, "arrival_seconds,prompt_tokens,output_tokens,outcome,ttft_seconds,seconds_per_token") // Flush has its error
	for _, r := range results {
		_, _ = fmt.Fprintf(w, "%v,%d,%d,%s,%s,%s\n", r.At.Round(time.Microsecond).Seconds(), r.Prompt, r.Output, r.Outcome, some(r.TTFT), some(r.PerToken))
	}
	return w.Flush()
}

// some is empty if there is none.
func some(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprint(d.Round(time.Microsecond).Seconds())
}
