package report

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// Study is what to play.
type Study struct {
	Title  string
	Engine simulate.Engine
	SLO    simulate.SLO
	// Scenarios, ColdStarts, Seeds and Contenders are all played with each
	// other.
	Scenarios  []simulate.Scenario
	ColdStarts []time.Duration
	Seeds      []uint64
	Contenders []Contender
	// Sweeps are played on the first SweepSeeds seeds, at the cold starts of
	// SweepAt alone.
	Sweeps     []Sweep
	SweepSeeds int
	SweepAt    []time.Duration
	// World, if there is one, changes each setting before it is played in.
	World func(*simulate.Setting)
	// Workers is how many loads are played at a time, ≥ 1. Each holds its load
	// in memory: 16 B a request, 140 MB for a day of 12 replicas.
	Workers int
	// Clock times the runs; Progress, if there is one, is told of each. It is
	// called from one goroutine at a time.
	Clock    func() time.Time
	Progress func(Progress)
}

// Progress is how far a study is.
type Progress struct {
	// Done and Total are in requests to play, roughly.
	Done, Total float64
	// What was finished last.
	What string
}

// unit is what one worker does at a time: everything on one load.
type unit struct {
	scenario, seed int
}

// playing is a study under way.
type playing struct {
	*Study
	// runs, by scenario, cold start, contender and seed; each is written by one
	// worker.
	runs    [][][][]Run
	courses [][][]*Course
	// mu guards all below.
	mu     sync.Mutex
	points map[pointKey]*Point
	speeds map[string][]float64
	done   float64
	total  float64
}

type pointKey struct{ scenario, coldStart, sweep, knob int }

// Run plays all of it. It ends early, with the context's error, once the
// context does.
func (s *Study) Run(ctx context.Context) (*Report, error) {
	p := &playing{Study: s, points: map[pointKey]*Point{}, speeds: map[string][]float64{}}
	var units []unit
	for i := range s.Scenarios {
		p.runs = append(p.runs, make([][][]Run, len(s.ColdStarts)))
		p.courses = append(p.courses, make([][]*Course, len(s.ColdStarts)))
		for j := range s.ColdStarts {
			p.courses[i][j] = make([]*Course, len(s.Contenders))
			for range s.Contenders {
				p.runs[i][j] = append(p.runs[i][j], make([]Run, len(s.Seeds)))
			}
		}
		for k := range s.Seeds {
			units = append(units, unit{i, k})
			p.total += s.weight(i) * float64(s.plays(k))
		}
	}
	// The long ones first, so that no core waits for one at the end.
	slices.SortStableFunc(units, func(a, b unit) int { return cmp.Compare(s.weight(b.scenario), s.weight(a.scenario)) })
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.Workers)
	for _, u := range units {
		group.Go(func() error { return p.unit(ctx, u) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return p.report(), nil
}

// weight is about how many requests a scenario has.
func (s *Study) weight(scenario int) float64 {
	sc := &s.Scenarios[scenario]
	return max(1, sc.Replicas) * sc.Length.Hours()
}

// plays is how many runs a seed's load sees.
func (s *Study) plays(seed int) int {
	n := 0
	for _, c := range s.Contenders {
		if c.Standing {
			n += c.Runs
		} else {
			n += c.Runs * len(s.ColdStarts)
		}
	}
	if seed < s.SweepSeeds {
		for _, sweep := range s.Sweeps {
			n += len(sweep.Knobs) * len(s.SweepAt)
		}
	}
	return n
}

func (p *playing) setting(scenario int, coldStart time.Duration, seed uint64) simulate.Setting {
	s := p.Scenarios[scenario].Setting(&p.Engine, coldStart, seed)
	s.SLO = p.SLO
	if p.World != nil {
		p.World(&s)
	}
	return s
}

func (p *playing) unit(ctx context.Context, u unit) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	load := p.Scenarios[u.scenario].Load(&p.Engine, p.SLO, p.Seeds[u.seed])
	if len(load.Requests) == 0 {
		return fmt.Errorf("%s has no request", load.Name)
	}
	for c := range p.Contenders {
		if err := p.contender(ctx, u, c, load); err != nil {
			return err
		}
	}
	if u.seed < p.SweepSeeds {
		return p.sweeps(ctx, u, load)
	}
	return nil
}

// contender plays a load at each cold start.
func (p *playing) contender(ctx context.Context, u unit, number int, load *simulate.Load) error {
	c := &p.Contenders[number]
	player := c.New()
	var outcome Outcome
	for j, coldStart := range p.ColdStarts {
		if j == 0 || !c.Standing {
			began := p.Clock()
			var err error
			outcome, err = player(ctx, p.setting(u.scenario, coldStart, p.Seeds[u.seed]), load)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", c.Name, load.Name, err)
			}
			p.count(u, c.Runs, fmt.Sprintf("%s, cold start %s, %s, seed %d", load.Name, Minutes(coldStart), c.Name, p.Seeds[u.seed]))
			if c.Runs == 1 {
				p.timed(c.Name, load.Length, p.Clock().Sub(began))
			}
		}
		p.runs[u.scenario][j][number][u.seed] = runOf(outcome.Result, outcome.Knob, coldStart)
		if u.seed == 0 {
			p.courses[u.scenario][j][number] = courseOf(outcome.Result.Minutes)
		}
	}
	return nil
}

func (p *playing) sweeps(ctx context.Context, u unit, load *simulate.Load) error {
	for j, coldStart := range p.SweepAt {
		setting := p.setting(u.scenario, coldStart, p.Seeds[u.seed])
		for i, sweep := range p.Sweeps {
			for k, knob := range sweep.Knobs {
				result, err := simulate.Run(ctx, setting, load, knob.Policy(load, setting))
				if err != nil {
					return fmt.Errorf("%s with %s on %s: %w", sweep.Policy, knob.Words, load.Name, err)
				}
				p.count(u, 1, fmt.Sprintf("%s, cold start %s, %s with %s", load.Name, Minutes(coldStart), sweep.Policy, knob.Words))
				p.point(pointKey{u.scenario, j, i, k}, result)
			}
		}
	}
	return nil
}

// point adds a result to its point's mean.
func (p *playing) point(key pointKey, result *simulate.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.points[key]
	if at == nil {
		knob := &p.Sweeps[key.sweep].Knobs[key.knob]
		at = &Point{Policy: p.Sweeps[key.sweep].Policy, Knob: knob.Words, Default: knob.Default}
		p.points[key] = at
	}
	share := 1 / float64(min(p.SweepSeeds, len(p.Seeds)))
	at.Attainment += share * result.Attainment()
	at.GPUHours += share * result.GPUHours
}

func (p *playing) count(u unit, runs int, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += p.weight(u.scenario) * float64(runs)
	if p.Progress != nil {
		p.Progress(Progress{Done: p.done, Total: p.total, What: what})
	}
}

func (p *playing) timed(policy string, length, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if took > 0 {
		p.speeds[policy] = append(p.speeds[policy], length.Seconds()/took.Seconds())
	}
}

func (p *playing) report() *Report {
	r := &Report{
		Title: p.Title, Engine: p.Engine.Name, Rate: p.Engine.PeakTokensPerMinute(), TTFT: p.SLO.TTFT, ITL: p.SLO.ITL,
		Seeds: p.Seeds, Target: Target,
	}
	for i := range p.Scenarios {
		sc := &p.Scenarios[i]
		load := Load{Name: sc.Name, Words: sc.String(), OutOfReach: sc.OutOfReach, Hours: sc.Length.Hours()}
		for j, coldStart := range p.ColdStarts {
			setting := p.setting(i, coldStart, p.Seeds[0])
			load.ScoredHours = (sc.Length - setting.WarmUp).Hours()
			world := World{ColdStart: Minutes(coldStart), Frontier: p.frontier(i, coldStart)}
			for c := range p.Contenders {
				world.Scores = append(world.Scores, Score{
					Policy: p.Contenders[c].Name, Words: p.Contenders[c].Words, Runs: p.runs[i][j][c], Course: p.courses[i][j][c],
				})
			}
			load.Worlds = append(load.Worlds, world)
		}
		r.Loads = append(r.Loads, load)
	}
	for _, c := range p.Contenders {
		if times := slices.Clone(p.speeds[c.Name]); len(times) > 0 {
			slices.Sort(times)
			r.Speeds = append(r.Speeds, Speed{Policy: c.Name, Times: times[len(times)/2]})
		}
	}
	return r
}

// frontier are a scenario's swept points at a cold start, in the order of the
// sweeps.
func (p *playing) frontier(scenario int, coldStart time.Duration) []Point {
	j := slices.Index(p.SweepAt, coldStart)
	if j < 0 {
		return nil
	}
	var points []Point
	for i := range p.Sweeps {
		for k := range p.Sweeps[i].Knobs {
			if point := p.points[pointKey{scenario, j, i, k}]; point != nil {
				points = append(points, *point)
			}
		}
	}
	return points
}
