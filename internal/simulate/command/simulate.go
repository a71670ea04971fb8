// Package command is the sub-command simulate: its flags, the files that it reads
// and writes, and the progress it shows.
package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/manifest"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate/report"
)

// simulator plays InferenceSets' annotations and other policies against a load.
type simulator struct {
	// manifests are the InferenceSets of files.
	manifests manifest.Reader
	stdout    io.Writer

	policies []string
	engine   string
	rate     float64
	cold     time.Duration
	warmUp   time.Duration
	slo      simulate.SLO
	ttft     time.Duration
	itl      time.Duration

	trace    string
	requests string
	results  string
	steps    bool
	initial  int32
	jitter   time.Duration
	copies   float64
	load     string
	kind     string
	length   time.Duration
	peak     float64

	seeds      int
	loss       float64
	stuck      float64
	roundRobin bool
	workers    int
	json, html string
	// contenders are of the InferenceSets.
	contenders []report.Contender
	conditions conditions
}

// New is the sub-command that plays policies against loads, without a cluster.
func New() *cobra.Command {
	s := &simulator{slo: simulate.DefaultSLO}
	s.manifests.Each = s.annotated
	cmd := &cobra.Command{
		Use:   "simulate [-f FILE]",
		Short: "Play annotations and other scaling policies against a load, without a cluster",
		Long: `simulate plays a load against simulated replicas that a scaling policy sizes: what
the annotations of InferenceSets in files ask for, and other policies to compare
with. The code that decides is the one that answers KEDA. The load is a trace, as
a CSV file with a line TIMESTAMP,ContextTokens,GeneratedTokens and then a request
a line, or is generated.

It tells the share of requests that were served as promised, the time to the
first token, GPU-hours from ordering a replica to releasing it, and how often the
fleet turned. The first hour, or quarter of a shorter load, isn't scored.`,
		Example: `  keda-kaito-scaler simulate -f examples/phi-4.yaml --trace trace.csv --cold-start 5m
  keda-kaito-scaler simulate -f examples/phi-4.yaml --load diurnal --kind code --html day.html
  keda-kaito-scaler simulate --policies automatic,knative,static,oracle --load spike --seeds 5`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.manifests.Stdin, s.stdout, s.manifests.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			study, err := s.study()
			if err != nil {
				return err
			}
			return s.play(cmd.Context(), study)
		},
	}
	s.flags(cmd)
	cmd.SetUsageFunc(usage)
	cmd.AddCommand(studyCommand(), scenariosCommand())
	return cmd
}

func (s *simulator) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVarP(&s.manifests.Files, "filename", "f", nil, "`file` with InferenceSets in YAML or JSON, - for stdin; may be given several times")
	f.StringVarP(&s.manifests.Namespace, "namespace", "n", "default", "`namespace` of an InferenceSet that names none")
	f.Int32Var(&s.manifests.NodesPerReplica, "nodes-per-replica", 0, "`nodes` that a replica takes, which counts against nodeCountLimit; 0 if KAITO has not told yet")
	f.StringSliceVar(&s.policies, "policies", nil, "`names` of policies to compare with: "+strings.Join(names(report.Contenders()), ", ")+
		" (default "+strings.Join(usualPolicies, ",")+")")
	f.StringVar(&s.trace, "trace", "", "`file` with a load, such as one of Azure's public traces")
	f.StringVar(&s.requests, "requests", "", "`file` with given requests, played as they are: arrival_seconds,prompt_tokens,output_tokens[,cancel_after_seconds]")
	f.DurationVar(&s.jitter, "jitter", 0, "how far a copy of a request in the trace may be from the original's time")
	f.Float64Var(&s.copies, "copies", 0, "how often the trace is played at once, which may be a fraction (default as --replicas-at-peak asks for)")
	f.StringVar(&s.load, "load", "", "generated load: "+strings.Join(simulate.LoadNames(), ", ")+" (default diurnal without --trace and --requests)")
	f.StringVar(&s.kind, "kind", "conversation", "what users of a generated load ask for: conversation or code")
	f.Float64Var(&s.peak, "replicas-at-peak", 0, "how many replicas the load's busiest five minutes fill (default 6, or what the trace needs as it is)")
	f.DurationVar(&s.length, "length", 0, "how long is played; a trace begins anew until then (default 24h, or the trace's own length)")
	f.StringVar(&s.engine, "engine", simulate.Engines[0].Name, "replica: "+strings.Join(simulate.EngineNames(), ", ")+", or a `file` with an engine's description in JSON")
	f.BoolVar(&s.steps, "steps", true, "play engines step by step, as vLLM's scheduler goes; --steps=false plays them as a fluid, five times as fast")
	f.Float64Var(&s.rate, "peak-tokens-per-minute", 0, "speed of a replica as KAITO's benchmark measured it (default as the engine)")
	f.DurationVar(&s.cold, "cold-start", 5*time.Minute, "mean time from ordering a replica to its serving")
	f.DurationVar(&s.ttft, "ttft", policy.DefaultTTFT, "SLO for the time to the first token, up to 4096 tokens; a second more for each 4096 more")
	f.DurationVar(&s.itl, "itl", policy.DefaultITL, "SLO for the mean time between tokens of an answer")
	f.Int32Var(&s.initial, "initial-replicas", 0, "how many replicas serve at the beginning (default as many as the load needs then; 1 with --requests)")
	f.IntVar(&s.seeds, "seeds", 1, "how many seeds, from 1 on; with two or more there are confidence intervals")
	f.DurationVar(&s.warmUp, "warm-up", -1, "how much of the beginning isn't scored (default 1h, at most a quarter of the length; 0s with --requests)")
	f.Lookup("warm-up").DefValue = "0s" // a default that isn't printed: the words say it
	f.Float64Var(&s.loss, "loss", .02, "share of scrapes that fail")
	f.Float64Var(&s.stuck, "stuck", 0, "share of new replicas that never serve")
	f.BoolVar(&s.roundRobin, "round-robin", false, "send requests to replicas in turn instead of to the one with the fewest")
	s.conditions.flags(f)
	f.IntVar(&s.workers, "workers", runtime.GOMAXPROCS(0), "loads played at a time; each takes up to 16 bytes a request")
	f.StringVar(&s.results, "results", "", "`file` to write what came of each request to, in CSV")
	f.StringVar(&s.json, "json", "", "`file` to write the result to, in JSON")
	f.StringVar(&s.html, "html", "", "`file` to write a page of plots to")
}

// usualPolicies are compared with where none are named.
var usualPolicies = []string{report.NameAutomatic, report.NameStatic, report.NameOracle}

func names(contenders []report.Contender) []string {
	all := make([]string, len(contenders))
	for i := range contenders {
		all[i] = contenders[i].Name
	}
	return all
}

// annotated takes an InferenceSet in.
func (s *simulator) annotated(is kaito.InferenceSet, p policy.Policy) error {
	name := is.Name
	for _, c := range s.contenders {
		if c.Name == name {
			name = is.Namespace + "/" + is.Name
		}
	}
	s.contenders = append(s.contenders, report.Annotated(name, is.Annotations, p.Bounds))
	return nil
}

// study is what the flags and files ask for.
func (s *simulator) study() (*report.Study, error) {
	if err := s.checkNumbers(); err != nil {
		return nil, err
	}
	engine, err := engineOf(s.engine)
	if err != nil {
		return nil, fmt.Errorf("--engine: %w", err)
	}
	if s.rate > 0 {
		engine = engine.Scaled(s.rate)
	}
	s.slo = simulate.SLO{TTFT: s.ttft.Seconds(), ITL: s.itl.Seconds()}
	if idle := engine.Idle(s.slo.ITL); idle >= 1 {
		return nil, fmt.Errorf("--itl %v: an empty iteration of %s takes %.1f ms already", s.itl, engine.Name, 1000*s.slo.ITL*idle)
	}
	scenario, err := s.scenario(&engine)
	if err != nil {
		return nil, err
	}
	scenario.Long, scenario.Cancels, scenario.Growth = s.conditions.long, s.conditions.cancels, s.conditions.growth
	if len(s.manifests.Files) > 0 {
		if err := s.manifests.Read(); err != nil {
			return nil, err
		}
		if len(s.contenders) == 0 {
			return nil, errors.New("no InferenceSet of the files asks for scaling")
		}
	}
	if len(s.policies) == 0 {
		s.policies = usualPolicies
	}
	others, err := report.ContendersNamed(s.policies)
	if err != nil {
		return nil, fmt.Errorf("--policies: %w", err)
	}
	study := &report.Study{
		Title: "Scaling policies on " + scenario.Name, Engine: engine, SLO: s.slo,
		Scenarios: []simulate.Scenario{*scenario}, ColdStarts: []time.Duration{s.cold},
		Contenders: append(s.contenders, others...), Workers: s.workers, Clock: time.Now,
		World: s.world(scenario),
	}
	for seed := range s.seeds {
		study.Seeds = append(study.Seeds, uint64(seed)+1)
	}
	return study, nil
}

// world is what the flags change of a scenario's setting.
func (s *simulator) world(scenario *simulate.Scenario) func(*simulate.Setting) {
	warmUp, initial := s.warmUp, s.initial
	switch {
	case s.requests != "":
		warmUp, initial = max(0, warmUp), cmp.Or(initial, 1)
	case warmUp < 0:
		warmUp = min(time.Hour, scenario.Length/4).Truncate(time.Minute)
	}
	return func(world *simulate.Setting) {
		world.WarmUp, world.Loss, world.Stuck, world.RoundRobin, world.Steps = warmUp, s.loss, s.stuck, s.roundRobin, s.steps
		world.Conditions = s.conditions.Conditions
		world.Nodes = int(s.manifests.NodesPerReplica)
		if initial > 0 {
			world.Initial = initial
		}
		world.Bounds.Max = max(world.Bounds.Max, int32(4*scenario.Replicas)+1)
	}
}

// engineOf is a preset by its name, or what a file describes.
func engineOf(name string) (simulate.Engine, error) {
	engine, unknown := simulate.EngineNamed(name)
	if unknown == nil {
		return engine, nil
	}
	f, err := os.Open(name) //nolint:gosec // the user's own file, read with the user's own rights
	if errors.Is(err, os.ErrNotExist) {
		return engine, fmt.Errorf("%w, or a file", unknown)
	}
	if err != nil {
		return engine, err
	}
	defer func() { _ = f.Close() }() // of a file that was read: nothing is left to lose
	if engine, err = simulate.ReadEngine(f); err != nil {
		return engine, fmt.Errorf("%s: %w", name, err)
	}
	return engine, nil
}

// checkNumbers refuses flags that can't be right, all of them at once.
func (s *simulator) checkNumbers() error {
	var errs []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	s.checkLoad(refuse)
	errs = append(errs, s.conditions.parse())
	given := s.conditions.long.Share > 0 || s.conditions.cancels.Share > 0 || s.conditions.growth.Times > 0
	refuse(s.requests != "" && given, "--long-prompts, --cancels and --answers-grow: the load of --requests is what it is")
	refuse(s.manifests.NodesPerReplica < 0, "--nodes-per-replica %d: must not be negative", s.manifests.NodesPerReplica)
	refuse(s.rate < 0, "--peak-tokens-per-minute %g: must be above 0", s.rate)
	refuse(s.cold < 15*time.Second || s.cold > 2*time.Hour, "--cold-start %v: must be from 15s to 2h", s.cold)
	refuse(s.ttft <= 0, "--ttft %v: must be above 0", s.ttft)
	refuse(s.itl <= 0, "--itl %v: must be above 0", s.itl)
	refuse(s.initial < 0 || s.initial > 500, "--initial-replicas %d: must be from 0 to 500", s.initial)
	refuse(s.seeds < 1 || s.seeds > 100, "--seeds %d: must be from 1 to 100", s.seeds)
	refuse(s.loss < 0 || s.loss >= 1, "--loss %g: must be from 0 to below 1", s.loss)
	refuse(s.stuck < 0 || s.stuck > 1, "--stuck %g: must be from 0 to 1", s.stuck)
	refuse(s.workers < 1, "--workers %d: must be at least 1", s.workers)
	return errors.Join(errs...)
}

// checkLoad refuses flags of the load.
func (s *simulator) checkLoad(refuse func(wrong bool, format string, args ...any)) {
	given := 0
	for _, load := range []string{s.trace, s.load, s.requests} {
		given += min(1, len(load))
	}
	refuse(given > 1, "--trace and --load and --requests: only one of them may be given")
	refuse(s.requests != "" && (s.length != 0 || s.peak != 0), "--length and --replicas-at-peak: the load of --requests is what it is")
	refuse(s.copies != 0 && s.trace == "", "--copies: is of a --trace")
	refuse(s.copies != 0 && s.peak != 0, "--copies and --replicas-at-peak: only one of them may be given")
	refuse(s.copies < 0 || s.copies > 10_000, "--copies %g: must be above 0, at most 10000", s.copies)
	refuse(s.peak < 0 || s.peak > 200, "--replicas-at-peak %g: must be above 0, at most 200", s.peak)
	refuse(s.length != 0 && (s.length < 10*time.Minute || s.length > 31*24*time.Hour), "--length %v: must be from 10m to 744h", s.length)
	refuse(s.jitter < 0 || s.jitter > time.Hour, "--jitter %v: must be from 0 to 1h", s.jitter)
}

// scenario is the load.
func (s *simulator) scenario(e *simulate.Engine) (*simulate.Scenario, error) {
	switch {
	case s.requests != "":
		load, err := readLoad(s.requests, simulate.ReadRequests)
		if err != nil {
			return nil, err
		}
		scenario := &simulate.Scenario{Name: load.Name, Trace: load, AsIs: true, Length: load.Length}
		scenario.Replicas = 1 / simulate.Copies(load, e, 1, s.slo)
		return scenario, s.checkSize(scenario, s.requests, e)
	case s.trace == "":
		return s.generated()
	}
	trace, err := readLoad(s.trace, simulate.ReadTrace)
	if err != nil {
		return nil, err
	}
	scenario := &simulate.Scenario{
		Name: trace.Name, Trace: trace, Jitter: s.jitter, Copies: s.copies, Replicas: s.peak,
		Length: cmp.Or(s.length, max(trace.Length.Round(time.Minute), 10*time.Minute)),
	}
	if s.peak == 0 {
		scenario.Copies = cmp.Or(s.copies, 1.)
		scenario.Replicas = scenario.Copies / simulate.Copies(trace, e, 1, s.slo)
	}
	return scenario, s.checkSize(scenario, s.trace, e)
}

// checkSize refuses what takes more replicas than are simulated.
func (s *simulator) checkSize(scenario *simulate.Scenario, file string, e *simulate.Engine) error {
	if scenario.Replicas > 500 {
		return fmt.Errorf("%s needs %.0f replicas of %s at its peak: at most 500 are simulated, --copies takes a share of a --trace",
			file, math.Ceil(scenario.Replicas), e.Name)
	}
	return nil
}

// generated is a load that is made here.
func (s *simulator) generated() (*simulate.Scenario, error) {
	kind, err := simulate.KindNamed(s.kind)
	if err != nil {
		return nil, fmt.Errorf("--kind: %w", err)
	}
	name, length := cmp.Or(s.load, "diurnal"), cmp.Or(s.length, 24*time.Hour)
	shape, err := simulate.ShapeNamed(name, length, s.cold)
	if err != nil {
		return nil, fmt.Errorf("--load: %w", err)
	}
	return &simulate.Scenario{
		Name: name + "-" + kind.Name, Kind: kind, Shape: shape, Length: length, Replicas: cmp.Or(s.peak, 6.),
	}, nil
}

// play runs the study and writes what came of it.
func (s *simulator) play(ctx context.Context, study *report.Study) error {
	if s.results == "" {
		return s.writeResults(ctx, study)
	}
	f, err := os.Create(s.results)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, simulate.ResultsHeader("policy,seed,"))
	// One run after the other: so the file is the same each time.
	study.Workers = 1
	study.PerRequest = func(policy string, seed uint64, load *simulate.Load, results []simulate.RequestResult) error {
		return load.WriteResults(f, fmt.Sprintf("%s,%d,", policy, seed), results)
	}
	if err == nil {
		err = s.writeResults(ctx, study)
	}
	return errors.Join(err, f.Close())
}

// writeResults runs the study and writes its tables.
func (s *simulator) writeResults(ctx context.Context, study *report.Study) error {
	result, err := runStudy(ctx, study, s.manifests.Stderr)
	if err != nil {
		return err
	}
	if err := result.Table(s.stdout); err != nil {
		return err
	}
	return writeFiles(result, s.json, s.html)
}
