//go:build engines

package engine

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

const (
	// comparedVar is for how many seconds each rate is played, comparedSeconds
	// without it.
	comparedVar     = "COMPARE_SECONDS"
	comparedSeconds = 240
	// recordVar is a folder into which the test writes what clients saw.
	recordVar = "RECORD_RESULTS"
)

// comparedRates are in requests a second: at 1/s few wait for another, at 5/s the
// engine gets more than it can serve.
var comparedRates = []float64{1, 2, 3, 4, 5}

// A real engine and a simulated one get the very same requests, an engine for each rate.
func TestTheSimulatorIsTheRealEngine(t *testing.T) {
	length := comparedSeconds * time.Second
	if s := os.Getenv(comparedVar); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", comparedVar, err)
		}
		length = time.Duration(n) * time.Second
	}
	physics := SlowGPU()
	engines := SeveralForTest(t, len(comparedRates), Options{Physics: physics})
	results := make([][]load.Result, len(comparedRates))
	Measured(t, func() {
		var rates sync.WaitGroup
		for i, rate := range comparedRates {
			rates.Go(func() {
				client := load.Client{Model: ModelName, Pick: engines[i].URL, Seed: uint64(i)}
				results[i] = client.Run(t.Context(), load.Poisson(rate, length, 200, 60, uint64(10*rate)))
			})
		}
		rates.Wait()
	})
	for i, rate := range comparedRates {
		name := fmt.Sprintf("%v-a-second", rate)
		if folder := os.Getenv(recordVar); folder != "" {
			record(t, filepath.Join(folder, name+".csv"), results[i])
		}
		t.Run(name, func(t *testing.T) {
			simulated, err := Simulated(t.Context(), physics, results[i])
			if err != nil {
				t.Fatal(err)
			}
			compare(t, results[i], simulated)
		})
	}
}

// compare holds what was promised of the simulator: the share of missed requests within
// a point, the time per token within 3 %.
func compare(t *testing.T, real, simulated []load.Result) {
	t.Helper()
	ttft, perToken := duration(simulate.DefaultSLO.TTFT), duration(simulate.DefaultSLO.ITL)
	latest := time.Duration(0)
	for _, r := range real {
		latest = max(latest, r.Late)
		if r.Outcome != load.Served && r.Outcome != load.Refused {
			t.Errorf("a real request is %s: %v", r.Outcome, r.Err)
		}
	}
	missed, also := 100*load.Missed(real, ttft, perToken), 100*load.Missed(simulated, ttft, perToken)
	t.Logf("%d requests, sent %s late at most", len(real), latest)
	t.Logf("missed: real %.2f %%, simulated %.2f %%; refused: %d, %d", missed, also, load.Count(real, load.Refused), load.Count(simulated, load.Refused))
	if math.Abs(missed-also) > 1 {
		t.Errorf("the simulator misses %.2f %%, the real engine %.2f %%: must be within a point", also, missed)
	}
	for _, what := range []struct {
		name   string
		of     func(load.Result) time.Duration
		within float64
	}{
		{"time per token", func(r load.Result) time.Duration { return r.PerToken }, 0.03},
		{"time to first token", func(r load.Result) time.Duration { return r.TTFT }, math.Inf(1)},
	} {
		for _, q := range []float64{0.5, 0.9, 0.99} {
			is, says := load.Quantile(real, q, what.of), load.Quantile(simulated, q, what.of)
			off := float64(says)/float64(is) - 1
			t.Logf("%s, p%v: real %.1f ms, simulated %.1f ms (%+.1f %%)", what.name, 100*q, 1000*is.Seconds(), 1000*says.Seconds(), 100*off)
			if math.Abs(off) > what.within {
				t.Errorf("%s, p%v: %+.1f %%, must be within %.0f", what.name, 100*q, 100*off, 100*what.within)
			}
		}
	}
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
