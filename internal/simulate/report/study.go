package report

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// Study is what to play.
type Study struct {
	Title string
	// Part says of which part of a greater one it is.
	Part   string
	Engine simulate.Engine
	SLO    simulate.SLO
	// Scenarios, ColdStarts, Seeds and Contenders are all played with each
	// other, a scenario with a cold start of its own at that alone.
	Scenarios  []simulate.Scenario
	ColdStarts []time.Duration
	// JudgedAt is the cold start at which demands are goals; 0 for all.
	JudgedAt   time.Duration
	Seeds      []uint64
	Contenders []Contender
	// World, if there is one, changes each setting before it is played in.
	World func(*simulate.Setting)
	// Workers is how many loads are played at a time, ≥ 1. Each holds its load
	// in memory: 16 B a request, 140 MB for a day of 12 replicas.
	Workers int
	// Clock times the runs; Progress, if there is one, is told of each. It is
	// called from one goroutine at a time.
	Clock    func() time.Time
	Progress func(Progress)
	// Version tells programs apart that may come to other results: what one
	// played isn't taken for another's.
	Version string
	// Journal, if there is one, is written a line of each unit that is finished,
	// from which Recall goes on. Finished, if there is one, is given the report of
	// all that is finished by then. Each is used by one goroutine at a time.
	Journal  io.Writer
	Finished func(*Report) error
	// Moves keeps the moves of the first seed's runs.
	Moves bool
	// PerRequest, if there is one, is given what came of each request of a
	// contender's run. It is used by one goroutine at a time.
	PerRequest func(contender string, seed uint64, load *simulate.Load, results []simulate.RequestResult) error

	recalled []Unit
}

// Progress is how far a study is.
type Progress struct {
	// Done and Total are in requests to play, roughly.
	Done, Total float64
	// What was finished last.
	What string
}

// playing is a study under way.
type playing struct {
	*Study
	// oracles are what the first seed found for the others, by scenario: ready is
	// closed when it has, found is its own until then.
	oracles []firstOracle
	// mu guards all below.
	mu sync.Mutex
	// finished are units by scenario and seed, nil those that aren't.
	finished [][]*Unit
	done     float64
	total    float64
}

type firstOracle struct {
	ready chan struct{}
	found *simulate.Oracle
}

// Run plays all of it, seed by seed, so that what is finished at any time is of
// use. It ends early, with the context's error, once the context does, and gives
// what was finished until then.
func (s *Study) Run(ctx context.Context) (*Report, error) {
	p := &playing{Study: s, oracles: make([]firstOracle, len(s.Scenarios))}
	for i := range s.Scenarios {
		p.oracles[i].ready = make(chan struct{})
		p.finished = append(p.finished, make([]*Unit, len(s.Seeds)))
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.Workers)
	for _, u := range p.todo() {
		group.Go(func() error { return p.unit(ctx, u) })
	}
	if err := group.Wait(); err != nil {
		return p.report(), err
	}
	return p.report(), nil
}

// todo are the units that aren't recalled, seed by seed, of each the long ones
// first, so that no core waits for one at the end.
func (p *playing) todo() []unit {
	longest := make([]int, len(p.Scenarios))
	for i := range longest {
		longest[i] = i
	}
	slices.SortStableFunc(longest, func(a, b int) int { return cmp.Compare(p.weight(b), p.weight(a)) })
	var units []unit
	for k := range p.Seeds {
		for _, i := range longest {
			u := unit{i, k}
			p.total += p.size(u)
			if known := p.recall(u); known != nil {
				p.done += p.size(u)
				p.finished[i][k] = known
				if k == 0 {
					p.oracles[i].found = known.Oracle
					close(p.oracles[i].ready)
				}
				continue
			}
			units = append(units, u)
		}
	}
	return units
}

// weight is about how many requests a scenario has.
func (s *Study) weight(scenario int) float64 {
	sc := &s.Scenarios[scenario]
	return max(1, sc.Replicas) * sc.Length.Hours()
}

// size is about how many requests a unit plays.
func (s *Study) size(u unit) float64 {
	n := 0
	contenders := s.contenders(u.scenario)
	for i := range contenders {
		for j := range s.coldStarts(u.scenario) {
			n += s.plays(u, &contenders[i], j)
		}
	}
	return s.weight(u.scenario) * float64(n)
}

// contenders are those that play a scenario: the policy that it is about too.
func (s *Study) contenders(scenario int) []Contender {
	name := s.Scenarios[scenario].Judged
	if name == "" || slices.ContainsFunc(s.Contenders, func(c Contender) bool { return c.Name == name }) {
		return s.Contenders
	}
	named, err := ContendersNamed([]string{name})
	if err != nil {
		panic(err) // of this project's own scenarios: a test plays each
	}
	return append(named, s.Contenders...)
}

// coldStarts are those that a scenario is played at.
func (s *Study) coldStarts(scenario int) []time.Duration {
	if own := s.Scenarios[scenario].ColdStart; own != 0 {
		return []time.Duration{own}
	}
	return s.ColdStarts
}

// plays is about how many runs a contender takes at a cold start.
func (s *Study) plays(u unit, c *Contender, coldStart int) int {
	switch {
	case coldStart > 0 && c.Standing:
		return 0
	case coldStart == 0 && u.seed == 0:
		return c.Runs + c.Search
	}
	return c.Runs
}

func (s *Study) setting(scenario int, coldStart time.Duration, seed uint64) simulate.Setting {
	sc := &s.Scenarios[scenario]
	engine, slo := sc.On(&s.Engine, s.SLO)
	world := sc.Setting(engine, slo, coldStart, seed)
	world.PerRequest = s.PerRequest != nil
	if s.World != nil {
		s.World(&world)
	}
	return world
}

// unit plays everything on one load.
func (p *playing) unit(ctx context.Context, u unit) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	known := &Known{}
	if u.seed > 0 {
		// It was begun before: a unit's worker never waits for one that has none.
		select {
		case <-p.oracles[u.scenario].ready:
			known.Oracle = p.oracles[u.scenario].found
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	engine, slo := p.Scenarios[u.scenario].On(&p.Engine, p.SLO)
	load := p.Scenarios[u.scenario].Load(engine, slo, p.Seeds[u.seed])
	if len(load.Requests) == 0 {
		return fmt.Errorf("%s has no request", load.Name)
	}
	played := p.blank(u)
	for _, c := range p.contenders(u.scenario) {
		if err := p.contender(ctx, u, &c, load, known, played); err != nil {
			return err
		}
	}
	if u.seed == 0 {
		played.Oracle = known.Oracle
		p.oracles[u.scenario].found = known.Oracle
		close(p.oracles[u.scenario].ready)
	}
	return p.finish(u, played)
}

// contender plays a load at each cold start.
func (p *playing) contender(ctx context.Context, u unit, c *Contender, load *simulate.Load, known *Known, played *Unit) error {
	player := c.New(known)
	var outcome Outcome
	for j, coldStart := range p.coldStarts(u.scenario) {
		if j == 0 || !c.Standing {
			began := p.Clock()
			var err error
			outcome, err = player(ctx, p.setting(u.scenario, coldStart, p.Seeds[u.seed]), load)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", c.Name, load.Name, err)
			}
			p.count(u, p.plays(u, c, j), fmt.Sprintf("%s, cold start %s, %s, seed %d", load.Name, Minutes(coldStart), c.Name, p.Seeds[u.seed]))
			if took := p.Clock().Sub(began); c.Runs == 1 && !outcome.Before && took > 0 {
				played.Speeds[c.Name] = append(played.Speeds[c.Name], load.Length.Seconds()/took.Seconds())
			}
		}
		if err := p.tell(c, p.Seeds[u.seed], load, outcome.Result); err != nil {
			return err
		}
		run := runOf(outcome.Result, outcome.Knob, coldStart)
		if also := p.Scenarios[u.scenario].Must.Also; also != nil {
			run.Fault = also(outcome.Result, p.setting(u.scenario, coldStart, p.Seeds[u.seed]))
		}
		if p.Moves && u.seed == 0 {
			run.Moves = outcome.Result.Moves
		}
		played.Runs[j] = append(played.Runs[j], run)
		if u.seed == 0 {
			played.Courses[j] = append(played.Courses[j], courseOf(outcome.Result.Minutes))
		}
	}
	return nil
}

// tell gives what came of each request away, if anybody asks.
func (p *playing) tell(c *Contender, seed uint64, load *simulate.Load, r *simulate.Result) error {
	if p.PerRequest == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.PerRequest(c.Name, seed, load, r.PerRequest)
}

func (p *playing) count(u unit, runs int, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += p.weight(u.scenario) * float64(runs)
	if p.Progress != nil {
		p.Progress(Progress{Done: p.done, Total: p.total, What: what})
	}
}

// finish writes a unit down.
func (p *playing) finish(u unit, played *Unit) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished[u.scenario][u.seed] = played
	if p.Journal != nil {
		if err := played.write(p.Journal); err != nil {
			return err
		}
	}
	if p.Finished != nil {
		return p.Finished(p.report())
	}
	return nil
}

// engine is its name, and how it is played.
func (s *Study) engine() string {
	if s.setting(0, s.ColdStarts[0], s.Seeds[0]).Steps {
		return s.Engine.Name + " in steps"
	}
	return s.Engine.Name
}

// report is of the units that are finished. It isn't called while others are
// written down.
func (p *playing) report() *Report {
	r := &Report{
		Title: p.Title, Engine: p.engine(), Rate: p.Engine.PeakTokensPerMinute(), TTFT: p.SLO.TTFT, ITL: p.SLO.ITL,
		Seeds: p.Seeds, Target: Target, Units: len(p.Scenarios) * len(p.Seeds),
	}
	speeds := map[string][]float64{}
	for i := range p.Scenarios {
		units := slices.DeleteFunc(slices.Clone(p.finished[i]), func(u *Unit) bool { return u == nil })
		if len(units) == 0 {
			continue
		}
		r.Finished += len(units)
		r.Loads = append(r.Loads, p.load(i, units))
		for _, u := range units {
			for policy, times := range u.Speeds {
				speeds[policy] = append(speeds[policy], times...)
			}
		}
	}
	for _, c := range p.Contenders {
		if times := speeds[c.Name]; len(times) > 0 {
			slices.Sort(times)
			r.Speeds = append(r.Speeds, Speed{Policy: c.Name, Times: times[len(times)/2]})
		}
	}
	return r
}

// load is what was played on a scenario.
func (p *playing) load(scenario int, units []*Unit) Load {
	sc := &p.Scenarios[scenario]
	load := Load{
		Name: sc.Name, Part: p.Part, Words: sc.String(), OutOfReach: sc.OutOfReach, Hours: sc.Length.Hours(),
		Judged: cmp.Or(sc.Judged, NameAutomatic), Must: sc.Must,
	}
	load.Must.Also = nil
	contenders := p.contenders(scenario)
	for j, coldStart := range p.coldStarts(scenario) {
		setting := p.setting(scenario, coldStart, p.Seeds[0])
		load.ScoredHours = (sc.Length - setting.WarmUp).Hours()
		world := World{ColdStart: Minutes(coldStart), Told: sc.ColdStart == 0 && p.JudgedAt != 0 && coldStart != p.JudgedAt}
		for c := range contenders {
			score := Score{Policy: contenders[c].Name, Words: contenders[c].Words}
			for _, u := range units {
				score.Runs = append(score.Runs, u.Runs[j][c])
				if u.Courses != nil {
					score.Course = u.Courses[j][c]
				}
			}
			world.Scores = append(world.Scores, score)
		}
		load.Worlds = append(load.Worlds, world)
	}
	return load
}
