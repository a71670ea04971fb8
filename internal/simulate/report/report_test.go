package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small is a study that takes a second, and ten under the race detector: forty
// minutes of a replica's worth.
func small(t *testing.T, names ...string) *Study {
	t.Helper()
	contenders, err := ContendersNamed(names)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	return &Study{
		Title: "small", Engine: simulate.Engines[0], SLO: simulate.DefaultSLO,
		Scenarios: []simulate.Scenario{
			{Name: "steady", Kind: &simulate.Conversation, Shape: simulate.Steady(), Length: 40 * time.Minute, Replicas: .8},
			{Name: "spike", Kind: &simulate.Code, Shape: simulate.Spikes(.1, 20*time.Minute, 3*time.Minute), Length: 40 * time.Minute, Replicas: 1.2, OutOfReach: true},
		},
		ColdStarts: []time.Duration{2 * time.Minute, 5 * time.Minute}, Seeds: []uint64{1, 2}, Contenders: contenders, Workers: 2,
		Clock: func() time.Time { return now },
		World: func(s *simulate.Setting) { s.WarmUp = 10 * time.Minute },
	}
}

func run(t *testing.T, s *Study) *Report {
	t.Helper()
	r, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAStudyPlaysAllWithAll(t *testing.T) {
	s := small(t, "automatic", "kaito-queue", "static-mean", "static", "oracle")
	last := 0.0
	s.Progress = func(p Progress) {
		if p.Done <= last || p.Total <= 0 || p.What == "" {
			t.Errorf("progress %+v after %v", p, last)
		}
		last = p.Done
	}
	r := run(t, s)
	if len(r.Loads) != 2 || len(r.Loads[0].Worlds) != 2 || len(r.Loads[1].Worlds[1].Scores) != 5 {
		t.Fatalf("it is not complete: %+v", r)
	}
	for _, l := range r.Loads {
		for _, w := range l.Worlds {
			for _, score := range w.Scores {
				if len(score.Runs) != 2 || score.Runs[0].Seed != 1 || score.Runs[1].Seed != 2 || score.Course == nil {
					t.Errorf("%s on %s: runs %+v", score.Policy, l.Name, score.Runs)
				}
			}
			static, oracle := w.score(NameStatic), w.score(NameOracle)
			if static.attainment().mean < Target || oracle.attainment().mean < Target {
				t.Errorf("%s: the fleet attains %s and the oracle %s", l.Name, static.attainment().percent(), oracle.attainment().percent())
			}
			if oracle.gpuHours().mean > static.gpuHours().mean {
				t.Errorf("%s: the oracle uses %s GPU-hours and a fixed fleet %s", l.Name, oracle.gpuHours().words(1, 1), static.gpuHours().words(1, 1))
			}
		}
	}
}

func TestAStudyIsRepeatable(t *testing.T) {
	once, again := run(t, small(t, "automatic")), run(t, small(t, "automatic"))
	if diff := cmp.Diff(once, again); diff != "" {
		t.Error(diff)
	}
}

func TestAStudyEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := small(t, "static-mean", "kaito-queue")
	s.Progress = func(Progress) { cancel() }
	if r, err := s.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestJSONHoldsAllOfIt(t *testing.T) {
	want := run(t, small(t, "static-mean"))
	want.Judge()
	var text bytes.Buffer
	if err := want.JSON(&text); err != nil {
		t.Fatal(err)
	}
	got := new(Report)
	if err := json.Unmarshal(text.Bytes(), got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheSmallestFleetIsTheSmallest(t *testing.T) {
	sc := simulate.Scenario{Name: "x", Kind: &simulate.Conversation, Shape: simulate.Steady(), Length: 10 * time.Minute, Replicas: 2.5}
	e := simulate.Engines[0]
	load := sc.Load(&e, simulate.DefaultSLO, 1)
	s := sc.Setting(&e, simulate.DefaultSLO, time.Minute, 1)
	s.WarmUp = 0
	outcome, err := new(Known).fewest(t.Context(), s, load)
	if err != nil {
		t.Fatal(err)
	}
	less, err := simulate.Run(t.Context(), s, load, simulate.Static("less", outcome.Result.Peak-1))
	if err != nil {
		t.Fatal(err)
	}
	if outcome.Result.Attainment() < Target || less.Attainment() >= Target {
		t.Errorf("%s attain %.4f, one less %.4f", outcome.Knob, outcome.Result.Attainment(), less.Attainment())
	}
}

func TestUnknownPoliciesAreRefused(t *testing.T) {
	if _, err := ContendersNamed([]string{"automatic", "hope"}); err == nil || !strings.Contains(err.Error(), "static99") {
		t.Errorf("got %v, want an error that names those that there are", err)
	}
}

func TestIntervals(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   string
	}{
		{nil, "–"},
		{[]float64{.991}, "99.10"},
		{[]float64{.99, .99}, "99.00 ±0.00"},
		{[]float64{.98, .99, 1}, "99.00 ±2.48"},
		{[]float64{.98, .985, .99, .995, 1}, "99.00 ±0.98"},
	} {
		if got := estimateOf(tt.values).percent(); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.values, got, tt.want)
		}
	}
}

func TestStepsDownSoonAfterABurstAreHasty(t *testing.T) {
	moves := []simulate.Move{
		{At: time.Hour, From: 4, To: 3},
		{At: 2 * time.Hour, From: 3, To: 6},
		{At: 2*time.Hour + 9*time.Minute, From: 6, To: 5},
		{At: 2*time.Hour + 14*time.Minute, From: 5, To: 4},
		{At: 3 * time.Hour, From: 4, To: 5},
		{At: 3*time.Hour + time.Minute, From: 5, To: 4},
	}
	for coldStart, want := range map[time.Duration]int{2 * time.Minute: 1, 15 * time.Minute: 2} {
		if got := hasty(moves, coldStart); got != want {
			t.Errorf("at a cold start of %v %d steps, want %d", coldStart, got, want)
		}
	}
}

func TestCoursesAreThinned(t *testing.T) {
	minutes := make([]simulate.Minute, 1441)
	for i := range minutes {
		minutes[i] = simulate.Minute{Arrived: 60, Waiting: int32(i), Desired: int32(i)}
	}
	minutes[7].Missed = 30
	c := courseOf(minutes)
	if c.Step != 5 || len(c.Arrived) != 289 || c.Arrived[0] != 1 || c.Missed[1] != .1 || c.Waiting[0] != 4 || c.Desired[288] != 1440 {
		t.Errorf("got steps of %d minutes, %d values, %v", c.Step, len(c.Arrived), c)
	}
}
