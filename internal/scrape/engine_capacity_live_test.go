//go:build engines

package scrape

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// capacityVar is how many minutes each rate is played. The test takes a few more, and is
// played by hand.
const capacityVar = "CAPACITY_MINUTES"

// One engine's capacity is the rate at which one point more of the requests miss the SLO
// than at little load. Real engines and simulated ones get the same requests. One more
// engine has an ordinary load, and automatic mode learns of its pages. They are recorded:
// test/engine's tests have that course. As many engines as one core has room for.
func TestCapacityByHandOfALiveEngine(t *testing.T) {
	minutes, err := strconv.Atoi(os.Getenv(capacityVar))
	if err != nil {
		t.Skip("played by hand: " + capacityVar + " isn't set")
	}
	physics, length := engine.SlowGPU(), time.Duration(minutes)*time.Minute
	engines := engine.SeveralForTest(t, slices.Repeat([]engine.Options{{Physics: physics}}, len(engine.SweptRates)+1)...)
	swept := make([][]load.Result, len(engine.SweptRates))
	requests := make([][]load.Request, len(engine.SweptRates))
	var course engine.Course
	var began time.Time
	engine.Measured(t, func() {
		var all sync.WaitGroup
		for i, rate := range engine.SweptRates {
			requests[i] = load.Poisson(rate, length, 200, 60, uint64(100*rate))
			all.Go(func() {
				client := load.Client{Model: engine.ModelName, Pick: engines[i].URL, Seed: uint64(i)}
				swept[i] = client.Run(t.Context(), requests[i])
			})
		}
		l := &live{Engine: engines[len(engine.SweptRates)], t: t}
		began = time.Now()
		all.Go(func() { course = l.course(length) })
		l.send(1, engine.OrdinaryLoad(length))()
		all.Wait()
	})
	if folder := os.Getenv(recordVar); folder != "" {
		if err := course.WriteFile(filepath.Join(folder, "ordinary-load.csv.gz"), began); err != nil {
			t.Fatal(err)
		}
	}
	rates, actual := engine.SweptRates, []float64{}
	for i, rate := range engine.SweptRates {
		simulated, err := engine.Simulated(t.Context(), physics, requests[i])
		if err != nil {
			t.Fatal(err)
		}
		is, says := engine.Misses(swept[i]), engine.Misses(simulated)
		actual = append(actual, is)
		t.Logf("%v/s: %d requests, real ones missed %.2f %%, simulated ones %.2f %%", rate, len(simulated), 100*is, 100*says)
		if math.Abs(is-says) > 0.01 {
			t.Errorf("at %v/s real requests missed %.2f %%, simulated ones %.2f %%", rate, 100*is, 100*says)
		}
	}
	t.Logf("the capacity is %.2f/s by these requests", engine.Capacity(rates, actual))
	if err := engine.CompareCapacity(t, course); err != nil {
		t.Error(err)
	}
}

// course reads the page for a time, as often as the scaler does by default, for what
// automatic mode reads. Histograms are whole, whatever SLO is asked of them later.
func (l *live) course(length time.Duration) (c engine.Course) {
	reading := automaticReading()
	var history sample.History
	ticks := time.NewTicker(engine.ScrapeInterval)
	defer ticks.Stop()
	for range length / engine.ScrapeInterval {
		<-ticks.C
		text, err := l.page(l.t.Context())
		if err != nil {
			l.t.Error(err)
			continue
		}
		d := &decoder{}
		d.reset(newSelector(reading.Families, nil))
		if f := d.readLines(strings.NewReader(text), make([]byte, smallChunk), newChunks(1), 8<<20); f != nil {
			l.t.Error(f)
			return c
		}
		page, failure := d.decode(time.Now(), history.Newest())
		if failure != nil {
			l.t.Error(failure)
			return c
		}
		history.Add(page.sample, reading.Window)
		c = append(c, page.sample)
	}
	return c
}
