package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate/report"
)

// studier plays the standard comparison.
type studier struct {
	traces     string
	into       string
	seeds      int
	first      int
	sweepSeeds int
	workers    int
	scenarios  []string
	coldStarts []time.Duration
	resume     bool
	steps      bool
	ttft, itl  time.Duration
	// notes are said of the report, began is when this run did.
	notes []string
	began time.Time
}

// studyCommand is the comparison of all policies that the goals are judged by.
func studyCommand() *cobra.Command {
	s := &studier{}
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Play all policies against the standard loads and judge the goals",
		Long: `report plays all policies against the standard loads at cold starts of 2, 5 and 10
minutes, sweeps the knobs of each, and judges the goals of the saturation policy.
It writes simulation.html and simulation.json anew after each load of a seed that
is finished, and ends with lines "figure NAME VALUE". Ctrl-C ends it with those of
what was finished, and --resume goes on from there: simulation.journal has a line
of each.

Two of the loads are Azure's public traces of 2023, published on GitHub in
Azure/AzurePublicDataset as AzureLLMInferenceTrace_conv.csv and
AzureLLMInferenceTrace_code.csv. Without them it plays the generated loads alone
and says so.`,
		Example: `  keda-kaito-scaler simulate report --traces ~/AzurePublicDataset/data
  keda-kaito-scaler simulate report --seeds 1 --scenarios days-code --cold-starts 5m`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&s.traces, "traces", "", "`folder` with Azure's traces")
	f.StringVar(&s.into, "into", "build", "`folder` that the report is written into")
	f.IntVar(&s.seeds, "seeds", 5, "how many seeds")
	f.IntVar(&s.first, "first-seed", 1, "the first of them")
	f.IntVar(&s.sweepSeeds, "sweep-seeds", 1, "how many of them the knobs are swept on; 0 for no sweeps")
	f.StringSliceVar(&s.scenarios, "scenarios", nil, "`names` of the loads to play (default all)")
	f.DurationSliceVar(&s.coldStarts, "cold-starts", []time.Duration{2 * time.Minute, 5 * time.Minute, 10 * time.Minute}, "mean times to start a replica")
	f.DurationVar(&s.ttft, "ttft", 2*time.Second, "promised time to the first token, up to 4096 tokens; a second more for each 4096 more")
	f.DurationVar(&s.itl, "itl", 60*time.Millisecond, "promised mean time between tokens")
	f.IntVar(&s.workers, "workers", runtime.GOMAXPROCS(0), "loads played at a time; each takes up to 150 MB")
	f.BoolVar(&s.steps, "steps", false, "play engines step by step, as vLLM's scheduler goes, instead of as a fluid, which is five times as fast")
	f.BoolVar(&s.resume, "resume", false, "go on from what this very program played into that folder with the same flags; --seeds and --scenarios may be others")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	cmd.SetUsageFunc(usage)
	return cmd
}

func (s *studier) run(ctx context.Context, stdout, stderr io.Writer) error {
	if s.seeds < 1 || s.first < 1 || s.workers < 1 || s.sweepSeeds < 0 || len(s.coldStarts) == 0 {
		return errors.New("--seeds, --first-seed, --workers and --cold-starts: must be at least 1 each, --sweep-seeds 0")
	}
	if s.ttft <= 0 || s.itl <= 0 {
		return errors.New("--ttft and --itl: must be above 0")
	}
	study, err := s.study()
	if err != nil {
		return err
	}
	return s.play(ctx, study, stdout, stderr)
}

// play runs the study and writes what came of it, of one that is interrupted
// what had come until then.
func (s *studier) play(ctx context.Context, study *report.Study, stdout, stderr io.Writer) error {
	// What is written after an hour must not fail then.
	if err := os.MkdirAll(s.into, 0o755); err != nil { //nolint:gosec // a report for everybody
		return err
	}
	journal, err := s.journal(study, stderr)
	if err != nil {
		return err
	}
	defer func() { _ = journal.Close() }() // each line was written whole
	study.Journal = journal
	study.Finished = s.write
	s.began = time.Now()
	result, err := played(ctx, study, stderr)
	if err != nil && (result == nil || result.Finished == 0 || !errors.Is(err, errInterrupted)) {
		return err
	}
	if err := s.write(result); err != nil {
		return err
	}
	if err := result.Table(stdout); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(stdout, "\nwritten: %s, %s\n\n", s.file("html"), s.file("json"))
	if err := result.Figures(stdout); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %d of %d loads of a seed were played, and the report is of those; --resume goes on from there", err, result.Finished, result.Units)
	}
	return nil
}

// study is what the flags ask for.
func (s *studier) study() (*report.Study, error) {
	scenarios, notes, err := s.loads()
	if err != nil {
		return nil, err
	}
	s.notes = notes
	program, err := fingerprint()
	if err != nil {
		return nil, err
	}
	study := &report.Study{
		Title: "Scaling policies compared", Engine: simulate.Engines[0], SLO: simulate.SLO{TTFT: s.ttft.Seconds(), ITL: s.itl.Seconds()},
		Scenarios: scenarios, ColdStarts: s.coldStarts, Contenders: report.Contenders(),
		Sweeps: report.Sweeps(), SweepSeeds: min(s.sweepSeeds, s.seeds), SweepAt: s.coldStarts[len(s.coldStarts)/2:][:1],
		Workers: s.workers, Clock: time.Now, Version: program,
		World: func(world *simulate.Setting) { world.Steps = s.steps },
	}
	if s.sweepSeeds == 0 {
		study.SweepAt = nil
		s.notes = append(s.notes, "Knobs were not swept, so frontiers are not judged.")
	} else {
		s.notes = append(s.notes, fmt.Sprintf("Knobs were swept on %d of %d seeds, at a cold start of %v.",
			study.SweepSeeds, s.seeds, report.Minutes(study.SweepAt[0])))
	}
	for seed := range s.seeds {
		study.Seeds = append(study.Seeds, uint64(s.first)+uint64(seed)) //nolint:gosec // neither is below 0
	}
	return study, nil
}

// fingerprint is of this program: one that was built of other code plays other
// policies, whatever its version says.
func fingerprint() (string, error) {
	name, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(name) //nolint:gosec // this program
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // of a file that was read: nothing is left to lose
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// file is one of the report's.
func (s *studier) file(kind string) string { return filepath.Join(s.into, "simulation."+kind) }

// journal is begun anew, with what the study recalls of the last one. A run that
// is killed leaves one or the other.
func (s *studier) journal(study *report.Study, stderr io.Writer) (*os.File, error) {
	if s.resume {
		last, err := os.Open(s.file("journal"))
		if err != nil {
			return nil, fmt.Errorf("--resume: %w", err)
		}
		known, foreign, err := study.Recall(last)
		if err := errors.Join(err, last.Close()); err != nil {
			return nil, fmt.Errorf("--resume: %s: %w", last.Name(), err)
		}
		_, _ = fmt.Fprintf(stderr, "%d loads of a seed were played before", known)
		if foreign > 0 {
			_, _ = fmt.Fprintf(stderr, ", and %d by another program, with other flags or of other loads, which don't count", foreign)
		}
		_, _ = fmt.Fprintln(stderr)
	}
	f, err := os.CreateTemp(s.into, ".simulation.journal-*")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(study.Recalled(f), os.Rename(f.Name(), s.file("journal"))); err != nil {
		_, _ = f.Close(), os.Remove(f.Name()) // the error before is what is told
		return nil, err
	}
	return f, nil
}

// write puts the report of what is finished in the place of the one before.
func (s *studier) write(r *report.Report) error {
	r.Notes = append(slices.Clone(s.notes), fmt.Sprintf("Played in %v on %d cores.", time.Since(s.began).Round(time.Second), s.workers))
	if r.Finished < r.Units {
		r.Notes = append([]string{fmt.Sprintf("Not complete: %d of %d loads of a seed were played. Means are over the seeds that were, "+
			"and loads without any are left out.", r.Finished, r.Units)}, r.Notes...)
	}
	r.Judge()
	return errors.Join(replaced(s.file("json"), r.JSON), replaced(s.file("html"), r.HTML))
}

// replaced writes a file such that there is the old one or the new one, and
// never a part.
func replaced(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the error before is what is told
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// traceNames are the files of a trace: Azure's own name, and a plainer one.
var traceNames = [2][]string{
	{"AzureLLMInferenceTrace_conv.csv", "azure-2023-conv.csv"},
	{"AzureLLMInferenceTrace_code.csv", "azure-2023-code.csv"},
}

// loads are the scenarios to play, and what has to be said about them.
func (s *studier) loads() (scenarios []simulate.Scenario, notes []string, err error) {
	all := simulate.Generated()
	if s.traces == "" {
		notes = append(notes, "Without --traces: the loads on Azure's traces were not played, and goals on them are not judged.")
	} else {
		var traces [2]*simulate.Load
		for i, names := range traceNames {
			if traces[i], err = findTrace(s.traces, names); err != nil {
				return nil, nil, err
			}
		}
		all = append(all, simulate.Traced(traces[0], traces[1])...)
	}
	if len(s.scenarios) == 0 {
		return all, notes, nil
	}
	for _, name := range s.scenarios {
		var known []string
		found := false
		for i := range all {
			known = append(known, all[i].Name)
			if all[i].Name == name {
				scenarios, found = append(scenarios, all[i]), true
			}
		}
		if !found {
			return nil, nil, fmt.Errorf("--scenarios: %q is not one of %q", name, known)
		}
	}
	return scenarios, append(notes, "Not all loads were played: "+strings.Join(s.scenarios, ", ")+" alone."), nil
}

func findTrace(folder string, names []string) (*simulate.Load, error) {
	for _, name := range names {
		trace, err := readLoad(filepath.Join(folder, name), simulate.ReadTrace)
		if !errors.Is(err, os.ErrNotExist) {
			return trace, err
		}
	}
	return nil, fmt.Errorf("--traces %s: there is no %s", folder, strings.Join(names, " or "))
}
