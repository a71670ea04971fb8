//go:build engines

package engine

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

const (
	// comparedVar is for how many seconds each engine gets requests, comparedSeconds
	// without it.
	comparedVar     = "COMPARE_SECONDS"
	comparedSeconds = 100
	// recordVar is a folder into which the test writes what clients saw.
	recordVar = "RECORD_RESULTS"
)

// compared is an engine with what it gets.
type compared struct {
	name     string
	physics  simulate.Engine
	requests []load.Request
	results  []load.Result
}

// comparisons are of five rates, from 1/s, at which few requests meet, to 5/s, which is
// more than the engine can serve.
func comparisons(length time.Duration) []*compared {
	var all []*compared
	for _, rate := range []float64{1, 2, 3, 4, 5} {
		all = append(all, &compared{
			name: fmt.Sprintf("%v-a-second", rate), physics: SlowGPU(),
			requests: load.Poisson(rate, length, 200, 60, uint64(10*rate)),
		})
	}
	return all
}

// Real engines and simulated ones get the very same requests.
func TestTheSimulatorIsALiveEngine(t *testing.T) {
	length := comparedSeconds * time.Second
	if s := os.Getenv(comparedVar); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", comparedVar, err)
		}
		length = time.Duration(n) * time.Second
	}
	all := comparisons(length)
	options := make([]Options, len(all))
	for i, c := range all {
		options[i].Physics = c.physics
	}
	engines := SeveralForTest(t, options...)
	Measured(t, func() {
		var loads sync.WaitGroup
		for i, c := range all {
			loads.Go(func() {
				client := load.Client{Model: ModelName, Pick: engines[i].URL, Seed: uint64(i)}
				c.results = client.Run(t.Context(), c.requests)
			})
		}
		loads.Wait()
	})
	for _, c := range all {
		if folder := os.Getenv(recordVar); folder != "" {
			record(t, filepath.Join(folder, c.name+".csv"), c.results)
		}
		t.Run(c.name, func(t *testing.T) {
			compare(t, c)
		})
	}
}

// later is how many times the requests are simulated with each of them up to 6 ms later,
// which the API server may take: whether a short answer's steps have somebody else's
// prompt in them, and, near collapse, who still finds a seat, hangs on less than that.
const later = 20

// compare holds what was promised of the simulator: the share of missed requests within
// a point, the median time per token and its 99th percentile within 3 %. Of the share and
// of the 99th percentile, which is of answers of a few tokens, what counts is the whole
// range of what comes of requests that are a little later.
func compare(t *testing.T, c *compared) {
	t.Helper()
	actual := c.results
	simulated := [][]load.Result{played(t, c, 0)}
	for seed := range uint64(later) {
		simulated = append(simulated, played(t, c, 1+seed))
	}
	latest := time.Duration(0)
	for _, r := range actual {
		latest = max(latest, r.Late)
		if r.Outcome != load.Served && r.Outcome != load.Refused {
			t.Errorf("a real request is %s: %v", r.Outcome, r.Err)
		}
	}
	t.Logf("%d requests, sent %s late at most; refused: %d, simulated %d", len(actual), latest,
		load.Count(actual, load.Refused), load.Count(simulated[0], load.Refused))
	ttft, perToken := duration(simulate.DefaultSLO.TTFT), duration(simulate.DefaultSLO.ITL)
	held := func(what string, of func([]load.Result) float64, within func(low, high float64) (least, most float64)) {
		t.Helper()
		is, says := of(actual), of(simulated[0])
		low, high := says, says
		for _, s := range simulated {
			low, high = min(low, of(s)), max(high, of(s))
		}
		t.Logf("%s: real %.2f, simulated %.2f, of requests a little later %.2f to %.2f", what, is, says, low, high)
		if least, most := within(low, high); is < least || is > most {
			t.Errorf("%s: real %.2f, must be in %.2f to %.2f", what, is, least, most)
		}
	}
	aPoint := func(low, high float64) (float64, float64) { return low - 1, high + 1 }
	aFew := func(low, high float64) (float64, float64) { return 0.97 * low, 1.03 * high }
	held("missed, %", func(r []load.Result) float64 { return 100 * load.Missed(r, ttft, perToken) }, aPoint)
	perTokenAt := func(q float64) func([]load.Result) float64 {
		return func(r []load.Result) float64 {
			return 1000 * load.Quantile(r, q, func(r load.Result) time.Duration { return r.PerToken }).Seconds()
		}
	}
	held("time per token, p50, ms", perTokenAt(0.5), aFew)
	// Of a hundred seconds the 99th percentile is the time of the fourth request from the
	// slowest: one place more or less is chance, a standard deviation and a half is allowed.
	chance := 1.5 * math.Sqrt(0.99*0.01/float64(len(actual)))
	held("time per token, p99, ms", perTokenAt(0.99), func(_, _ float64) (float64, float64) {
		low, high := math.Inf(1), 0.0
		for _, s := range simulated {
			low, high = min(low, perTokenAt(0.99-chance)(s)), max(high, perTokenAt(min(0.99+chance, 1))(s))
		}
		return aFew(low, high)
	})
	for _, q := range []float64{0.5, 0.99} {
		first := func(r load.Result) time.Duration { return r.TTFT }
		t.Logf("time to the first token, p%v: real %s, simulated %s", 100*q,
			load.Quantile(actual, q, first), load.Quantile(simulated[0], q, first))
	}
}

// played are the requests on a simulated engine, each up to 6 ms later if there is a seed.
func played(t *testing.T, c *compared, seed uint64) []load.Result {
	t.Helper()
	requests := slices.Clone(c.requests)
	if seed > 0 {
		random := rand.New(rand.NewPCG(seed, 1))
		for i := range requests {
			requests[i].At += time.Duration(random.Int64N(int64(6 * time.Millisecond)))
		}
		slices.SortFunc(requests, func(a, b load.Request) int { return cmp.Compare(a.At, b.At) })
	}
	results, err := Simulated(t.Context(), c.physics, requests)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func record(t *testing.T, file string, results []load.Result) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := load.Write(f, results); err != nil {
		t.Error(err)
	}
}
