package load

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// target counts what it is given. The generator's goroutine alone touches it
// until Stop.
type target struct {
	requests, prompt, output int
	load                     int
	full                     bool
}

func (t *target) Submit(prompt, output int) error {
	if t.full {
		return errors.New("429")
	}
	t.requests++
	t.prompt += prompt
	t.output += output
	return nil
}

func (t *target) Load() int { return t.load }

// serve runs a generator for a minute at so many requests per second.
func serve(t *testing.T, rps float64, o Options, targets ...*target) Stats {
	t.Helper()
	var stats Stats
	synctest.Test(t, func(*testing.T) {
		g := Start(func() []*target { return targets }, o)
		g.SetRate(rps)
		time.Sleep(time.Minute)
		g.Stop()
		g.Stop()
		stats = g.Stats()
	})
	return stats
}

func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= want*tolerance }

func TestRateAndTokensAreAsAsked(t *testing.T) {
	a, b := &target{}, &target{}
	o := Options{Prompt: Tokens{Mean: 1155, Sigma: 0.8}, Output: Tokens{Mean: 211, Sigma: 0.8}, Seed: 7}
	s := serve(t, 40, o, a, b)
	if !near(float64(s.Sent), 2400, 0.1) || s.Refused+s.Unserved != 0 {
		t.Errorf("%+v, want 2400 ±10 %% sent", s)
	}
	if d := a.requests - b.requests; d < -1 || d > 1 {
		t.Errorf("%d and %d requests, want them in turn", a.requests, b.requests)
	}
	if mean := float64(a.prompt+b.prompt) / float64(s.Sent); !near(mean, 1155, 0.1) {
		t.Errorf("mean prompt %.0f, want 1155 ±10 %%", mean)
	}
	if mean := float64(a.output+b.output) / float64(s.Sent); !near(mean, 211, 0.1) {
		t.Errorf("mean output %.0f, want 211 ±10 %%", mean)
	}
}

func TestSameSeedSameLoad(t *testing.T) {
	a, b := &target{}, &target{}
	serve(t, 20, Options{Seed: 1, Prompt: Tokens{Mean: 100, Sigma: 1}}, a)
	serve(t, 20, Options{Seed: 1, Prompt: Tokens{Mean: 100, Sigma: 1}}, b)
	if *a != *b {
		t.Errorf("%+v and %+v from one seed", *a, *b)
	}
}

func TestLeastLoadedGetsIt(t *testing.T) {
	busy, idle := &target{load: 10}, &target{load: 1}
	serve(t, 10, Options{Balancing: LeastLoaded}, busy, idle)
	if busy.requests != 0 || idle.requests == 0 {
		t.Errorf("busy got %d, idle %d", busy.requests, idle.requests)
	}
}

func TestWhatIsNotServedIsCounted(t *testing.T) {
	if s := serve(t, 10, Options{}); s.Unserved == 0 || s.Sent+s.Refused != 0 {
		t.Errorf("without replicas: %+v", s)
	}
	if s := serve(t, 10, Options{}, &target{full: true}); s.Refused == 0 || s.Sent+s.Unserved != 0 {
		t.Errorf("with a full replica: %+v", s)
	}
	if s := serve(t, 0, Options{}, &target{}); s != (Stats{}) {
		t.Errorf("at rate 0: %+v", s)
	}
}
