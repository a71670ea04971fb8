package sample

import (
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

var (
	begin = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	slo   = SLO{FirstToken: 2, PerToken: .06}
)

// counts is what a page says at a time, in a few numbers.
type counts struct {
	first, waiting, running, answered, prompt, cached, generated float64
	// slow answers took from 50 to 75 ms a token, slower ones more.
	slow, slower, tokenTime float64
	process                 float64
	noTimes                 bool
}

func (c counts) page(at time.Duration) *Sample {
	histogram := func(name string, sum float64, le, cumulative []float64) Family {
		return Family{Name: name, Kind: Histogram, Engines: 1, Buckets: Buckets{Le: le, Cumulative: cumulative, Sum: sum}}
	}
	families := []Family{
		{Name: policy.FamilyRunning, Kind: Gauge, Sum: c.running, Engines: 1},
		{Name: policy.FamilyWaiting, Kind: Gauge, Sum: c.waiting, Engines: 1},
		{Name: policy.FamilyPrompt, Kind: Counter, Sum: c.prompt, Engines: 1},
		{Name: policy.FamilyCached, Kind: Counter, Sum: c.cached, Engines: 1},
		{Name: policy.FamilyGenerated, Kind: Counter, Sum: c.generated, Engines: 1},
		histogram(policy.FamilyTTFT, 0, []float64{1, 2.5}, []float64{c.first, c.first}),
		histogram(policy.FamilyITL, c.tokenTime, []float64{.05}, []float64{0}),
	}
	if !c.noTimes {
		quick := c.answered - c.slow - c.slower
		families = append(families, histogram(policy.FamilyTPOT, 0, []float64{.05, .075, 1}, []float64{quick, quick + c.slow, c.answered}))
	}
	s := NewSample(begin.Add(at), families, nil)
	s.ProcessStart = c.process
	return s
}

// story is what a pod did in a minute between two pages, after one to begin with.
func story(from, to counts) (lately, minute Interval, pod *Pod) {
	pod = &Pod{}
	pod.Add(counts{process: from.process}.page(-time.Minute), slo)
	pod.Add(from.page(0), slo)
	lately, minute = pod.Add(to.page(time.Minute), slo)
	return lately, minute, pod
}

func TestAnSLOWithinABucketIsJudgedAtItsBound(t *testing.T) {
	_, minute, pod := story(counts{}, counts{first: 100, answered: 100, slow: 30, slower: 4})
	if minute.Late != 4 || pod.SLO.PerToken != .075 || pod.SLO.FirstToken != 2.5 {
		t.Errorf("%v of 100 are late at %+v: nobody knows which of 50 to 75 ms are over 60", minute.Late, pod.SLO)
	}
}

func TestAnSLOAtABoundIsJudgedThere(t *testing.T) {
	at := SLO{FirstToken: 2.5, PerToken: .075}
	pod := &Pod{}
	pod.Add(counts{}.page(0), at)
	pod.Add(counts{first: 100, answered: 100, slower: 4}.page(time.Minute), at)
	if pod.SLO != at {
		t.Errorf("%+v is promised, and judged at %+v", at, pod.SLO)
	}
}

func TestCancelledRequestsArrivedAndCachedTokensAreNoWork(t *testing.T) {
	lately, _, _ := story(counts{waiting: 3}, counts{first: 100, answered: 80, waiting: 5, prompt: 900, cached: 400})
	if lately.Arrived != 102 || lately.Prompt != 500 {
		t.Errorf("%v arrived with %v tokens to compute, want 102 with 500", lately.Arrived, lately.Prompt)
	}
}

func TestARestartIsNoWork(t *testing.T) {
	lately, minute, pod := story(counts{process: 1, first: 50}, counts{process: 2, first: 100, generated: 9000})
	if lately != (Interval{}) || minute != (Interval{}) || pod.Rate != 0 {
		t.Errorf("another process did %+v", lately)
	}
}

func TestWithoutTimesOfRequestsTheMeanTells(t *testing.T) {
	_, minute, _ := story(counts{noTimes: true}, counts{noTimes: true, first: 100, generated: 1100, tokenTime: 80})
	if minute.Late != 100 {
		t.Errorf("%v of 100 are late at 80 ms a token", minute.Late)
	}
}

func TestARepeatedPageSaysNothing(t *testing.T) {
	pod := &Pod{}
	page := counts{first: 10}.page(0)
	for range 3 {
		if lately, minute := pod.Add(page, slo); lately != (Interval{}) || minute != (Interval{}) {
			t.Errorf("a page that was read before says %+v", lately)
		}
	}
}

// A pod that was idle until its load came did half of what it can in that minute.
func TestAMinuteInWhichTheLoadCameIsNotEven(t *testing.T) {
	for _, tt := range []struct {
		from, to float64
		even     bool
	}{{0, 200, false}, {200, 0, false}, {40, 90, false}, {0, 8, true}, {0, 9, false}, {40, 70, true}, {200, 180, true}} {
		_, minute, _ := story(counts{running: tt.from}, counts{running: tt.to, first: 100})
		if minute.Even != tt.even {
			t.Errorf("from %v to %v requests that run: even is %v", tt.from, tt.to, minute.Even)
		}
	}
}
