package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// world is one at a cold start of five minutes, of the judged policy, a fixed fleet and
// an oracle with one seed each.
func world(attained, hours float64) World {
	score := func(policy string, attainment, hours float64) Score {
		return Score{Policy: policy, Runs: []Run{{Seed: FirstSeed, Attainment: attainment, GPUHours: hours, Requests: 1000, PeakReplicas: 10}}}
	}
	return World{ColdStart: Minutes(5 * time.Minute), Scores: []Score{
		score(NameAutomatic, attained, hours), score(NameStatic, .995, 100), score(NameOracle, .991, 65),
	}}
}

// judged are the goals of a load by their names' last parts.
func judged(l Load) map[string]Goal {
	l.Judged, l.ScoredHours = NameAutomatic, 24
	r := Report{Loads: []Load{l}}
	r.Judge()
	goals := map[string]Goal{}
	for _, g := range r.Goals {
		goals[strings.TrimPrefix(g.Name, l.Name+"/5m/")] = g
	}
	return goals
}

func TestGoals(t *testing.T) {
	before := recorded.hours(t, "days-code")
	must := simulate.Must{Attained: .99, OfStatic: 1.1, OfBaseline: 1.03, PeakOfStatic: 1.2, Turns: 10, Words: "more"}
	for name, tt := range map[string]struct {
		world  World
		change func(*Run)
		goal   string
		met    bool
		why    string
	}{
		"enough attained":     {world(.99, 100), nil, "attainment", true, ""},
		"too little attained": {world(.98, 100), func(r *Run) { r.Refused = 5 }, "attainment", false, "0.50 % were refused, 0.00 % broken by a replica's removal and 1.50 % answered late; the oracle attains 99.10 %"},
		"near a fixed one":    {world(.995, 110), nil, "gpu-hours-vs-static99", true, ""},
		"beyond a fixed one":  {world(.995, 111), nil, "gpu-hours-vs-static99", false, "the oracle, which knows the future, is at 0.650 × static99"},
		"as before":           {world(.995, 1.03*before), nil, "gpu-hours-vs-baseline", true, ""},
		"dearer than before":  {world(.995, 1.04*before), nil, "gpu-hours-vs-baseline", false, "it attains 99.50 %"},
		"few replicas":        {world(.995, 100), func(r *Run) { r.PeakReplicas = 12 }, "peak-vs-static99", true, ""},
		"many replicas":       {world(.995, 100), func(r *Run) { r.PeakReplicas = 13 }, "peak-vs-static99", false, "more than the load needs"},
		"calm":                {world(.995, 100), func(r *Run) { r.Turns = 10 }, "turns", true, ""},
		"flapping":            {world(.995, 100), func(r *Run) { r.Turns = 11 }, "turns", false, "releases soon after"},
		"more":                {world(.995, 100), nil, "also", true, ""},
		"not more":            {world(.995, 100), func(r *Run) { r.Fault = "less" }, "also", false, "seed 1001: less"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.change != nil {
				tt.change(&tt.world.Scores[0].Runs[0])
			}
			g, found := judged(Load{Name: "days-code", Must: must, Worlds: []World{tt.world}})[tt.goal]
			if !found {
				t.Fatal("it wasn't judged")
			}
			if g.Met != tt.met || !strings.Contains(g.Reason, tt.why) || g.Met != (g.Reason == "") {
				t.Errorf("met %t because of %q, want %t because of %q", g.Met, g.Reason, tt.met, tt.why)
			}
		})
	}
	if goals := judged(Load{Name: "days-code", Worlds: []World{world(.5, 500)}}); len(goals) != 0 {
		t.Errorf("nothing was demanded, and judged was %v", goals)
	}
}

// hours are the GPU-hours of the record on a load at five minutes.
func (b *Baseline) hours(t *testing.T, load string) float64 {
	t.Helper()
	for _, r := range b.Runs {
		if r.Load == load && r.ColdStart == Minutes(JudgedAt) && r.Seed == FirstSeed {
			return r.GPUHours
		}
	}
	t.Fatalf("%s has no record", load)
	return 0
}

// Of every load that is compared with the policy before there is a record, on the
// seeds that policies are judged on, and it says of what it is.
func TestTheBaselineIsComplete(t *testing.T) {
	if recorded.Policy == "" || recorded.Version == "" || recorded.Date == "" {
		t.Errorf("the record doesn't say of what it is: %q %q %q", recorded.Policy, recorded.Version, recorded.Date)
	}
	for _, part := range Parts(simulate.Traced(nil, nil)) {
		for _, sc := range part.Scenarios {
			if sc.Must.OfBaseline == 0 {
				continue
			}
			seeds := 0
			for _, r := range recorded.Runs {
				if r.Load == sc.Name && r.ColdStart == Minutes(JudgedAt) && r.Seed >= FirstSeed && r.Seed < FirstSeed+5 && r.GPUHours > 0 {
					seeds++
				}
			}
			if seeds != 5 {
				t.Errorf("%s: %d seeds of five are recorded", sc.Name, seeds)
			}
		}
	}
}

// A mechanism without which something is worse is worth that; one without which all is
// as it was, or better, is worth nothing.
func TestAblations(t *testing.T) {
	of := func(attained, hours float64, turns int) *Report {
		w := world(attained, hours)
		w.Scores[0].Runs[0].Turns = turns
		return &Report{Loads: []Load{{Name: "knee", Judged: NameAutomatic, ScoredHours: 24, Worlds: []World{w}}}}
	}
	whole := of(.995, 100, 4)
	r := Merged("all", []*Report{whole}, []Ablation{
		Ablate("late", whole, of(.993, 100, 4)), Ablate("dear", whole, of(.996, 102, 4)), Ablate("restless", whole, of(.996, 99, 7)),
		Ablate("idle", whole, of(.9945, 100.5, 5)), Ablate("harmful", whole, of(.999, 90, 0)),
	})
	var b bytes.Buffer
	if err := r.AblationTable(&b); err != nil {
		t.Fatal(err)
	}
	if err := r.Figures(&b); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{
		"knee: -0.20 points, +0.0 % GPU-hours, +0.0 turns a day", "figure ablation/dear/knee/gpu-hours 1.0200\n", "figure ablation/restless/knee/turns-more 3.0\n",
		"figure goal/ablation/late met\n", "figure goal/ablation/dear met\n", "figure goal/ablation/restless met\n",
		"figure goal/ablation/idle missed\n", "figure goal/ablation/harmful missed\n",
	} {
		if !strings.Contains(b.String(), words) {
			t.Errorf("there is no %q in\n%s", words, b.String())
		}
	}
	var page bytes.Buffer
	if err := r.HTML(&page); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page.String(), "<b>-0.20, &#43;0.0 %, &#43;0.0</b>") || strings.Contains(page.String(), "<b>&#43;0.40") {
		t.Error("the page doesn't show what is worth something")
	}
}

func TestFigures(t *testing.T) {
	r := Report{Loads: []Load{{
		Name: "days-conversation", Judged: NameAutomatic, ScoredHours: 12, Must: simulate.Must{Attained: .99}, Worlds: []World{world(.98, 70)},
	}}, Speeds: []Speed{{NameAutomatic, 20_000}}}
	r.Loads[0].Worlds[0].Scores[0].Runs[0].Turns = 3
	r.Judge()
	var b bytes.Buffer
	if err := r.Figures(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"figure days-conversation/5m/" + NameAutomatic + "/attainment 0.9800\n",
		"figure days-conversation/5m/" + NameAutomatic + "/gpu-hours-vs-static99 0.700\n",
		"figure days-conversation/5m/" + NameAutomatic + "/gpu-hours-vs-oracle 1.077\n",
		"figure days-conversation/5m/" + NameAutomatic + "/turns-per-day 6.0\n",
		"figure speed/" + NameAutomatic + "/times-real-time 20000\n",
		"figure goal/days-conversation/5m/attainment missed\n",
		"figure goal/speed met\n",
	} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("there is no %q", line)
		}
	}
	for line := range strings.Lines(b.String()) {
		if fields := strings.Fields(line); !strings.HasPrefix(line, "# ") && (len(fields) != 3 || fields[0] != "figure") {
			t.Errorf("%q is no figure", line)
		}
	}
}
