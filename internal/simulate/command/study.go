package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate/report"
)

// reportRunner plays the standard comparison.
type reportRunner struct {
	traces     string
	into       string
	ablations  string
	seeds      int
	first      int
	workers    int
	parts      []string
	scenarios  []string
	coldStarts []time.Duration
	steps      bool
	ttft, itl  time.Duration
	// notes are said of the report, began is when this run did.
	notes []string
	began time.Time
	// finished are the parts that were played.
	finished []*report.Report
	ablated  []report.Ablation
}

// studyCommand is the comparison of all policies that the goals are judged by.
func studyCommand() *cobra.Command {
	s := &reportRunner{}
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Play policies against standard loads, adverse scenarios and other engines, and judge the goals",
		Long: `report plays policies in parts: the standard loads, the adverse scenarios, and days on
other engines. It judges the goals at a cold start of 5 minutes, and tells what comes
of 2 and 10. It writes simulation.html and simulation.json anew after each load of a
seed that is finished, and ends with lines "figure NAME VALUE". Ctrl-C ends it with
those of what was finished. The next time it goes on from there, unless the program or
the flags are others: simulation-PART.journal has a line of each load of a seed.

Two of the loads are Azure's public traces of 2023, published on GitHub in
Azure/AzurePublicDataset as AzureLLMInferenceTrace_conv.csv and
AzureLLMInferenceTrace_code.csv. Without them it plays the generated loads alone
and says so.`,
		Example: `  keda-kaito-scaler simulate report --traces ~/AzurePublicDataset/data
  keda-kaito-scaler simulate report --parts standard --seeds 1 --scenarios days-code --cold-starts 5m`,
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
	f.StringSliceVar(&s.parts, "parts", nil, "`names` of the parts: standard, scenarios, engines, ablation (default all but the last)")
	f.StringSliceVar(&s.scenarios, "scenarios", nil, "`names` of the loads to play (default all)")
	f.IntVar(&s.seeds, "seeds", 5, "how many seeds")
	f.IntVar(&s.first, "first-seed", report.FirstSeed, "the first of them: constants are chosen on seeds below the default")
	f.DurationSliceVar(&s.coldStarts, "cold-starts", []time.Duration{2 * time.Minute, report.JudgedAt, 10 * time.Minute}, "mean times to start a replica; goals are judged at 5m")
	f.DurationVar(&s.ttft, "ttft", policy.DefaultTTFT, "SLO for the time to the first token, up to 4096 tokens; a second more for each 4096 more")
	f.DurationVar(&s.itl, "itl", policy.DefaultITL, "SLO for the mean time between tokens of an answer")
	f.IntVar(&s.workers, "workers", runtime.GOMAXPROCS(0), "loads played at a time; each takes up to 150 MB")
	f.BoolVar(&s.steps, "steps", false, "play the standard loads step by step too, and not as a fluid, which is five times as fast")
	f.StringVar(&s.ablations, "ablations", "", "`folder` with what the policy comes to without one mechanism each, from test/ablation")
	cmd.SetUsageFunc(usage)
	return cmd
}

func (s *reportRunner) run(ctx context.Context, stdout, stderr io.Writer) error {
	if s.seeds < 1 || s.first < 1 || s.workers < 1 || len(s.coldStarts) == 0 {
		return errors.New("--seeds, --first-seed, --workers and --cold-starts: must be at least 1 each")
	}
	if s.ttft <= 0 || s.itl <= 0 {
		return errors.New("--ttft and --itl: must be above 0")
	}
	studies, err := s.studies()
	if err == nil && s.ablations != "" {
		s.ablated, err = readAblations(s.ablations)
	}
	if err != nil {
		return err
	}
	return s.play(ctx, studies, stdout, stderr)
}

// play runs the studies and writes what came of them, of one that is interrupted
// what had come until then.
func (s *reportRunner) play(ctx context.Context, studies []*report.Study, stdout, stderr io.Writer) error {
	// What is written after an hour must not fail then.
	if err := os.MkdirAll(s.into, 0o755); err != nil { //nolint:gosec // a report for everybody
		return err
	}
	s.began = time.Now()
	var ended error
	for _, study := range studies {
		result, err := s.part(ctx, study, stderr)
		if result != nil {
			s.finished = append(s.finished, result)
		}
		if ended = err; err != nil {
			break
		}
	}
	if ended != nil && !errors.Is(ended, errInterrupted) || len(s.finished) == 0 || s.merged(nil).Finished == 0 {
		return ended
	}
	result := s.merged(nil)
	result.Units = 0
	for _, study := range studies {
		result.Units += len(study.Scenarios) * len(study.Seeds)
	}
	err := s.writeResults(result, stdout)
	if err == nil && ended != nil {
		return fmt.Errorf("%w: %d of %d loads of a seed were played, and the report is of those; the next run goes on from there",
			ended, result.Finished, result.Units)
	}
	return err
}

// writeResults writes the report's files, tables and figures.
func (s *reportRunner) writeResults(r *report.Report, stdout io.Writer) error {
	_, err := fmt.Fprintf(stdout, "written: %s, %s\n\n", s.file("html"), s.file("json"))
	err = errors.Join(err, s.write(r), r.Table(stdout))
	_, failed := r.Demands(stdout)
	return errors.Join(err, failed, r.AblationTable(stdout), r.Figures(stdout))
}

// part runs one study. After each load of a seed the report is of all that is finished.
func (s *reportRunner) part(ctx context.Context, study *report.Study, stderr io.Writer) (*report.Report, error) {
	journal, err := s.journal(study, stderr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = journal.Close() }() // each line was written whole
	study.Journal = journal
	study.Finished = func(r *report.Report) error { return s.write(s.merged(r)) }
	return runStudy(ctx, study, stderr)
}

// merged is one report of the parts that are finished, and of one under way, if any is.
func (s *reportRunner) merged(under *report.Report) *report.Report {
	parts := slices.Clone(s.finished)
	if under != nil {
		parts = append(parts, under)
	}
	return report.Merged("Scaling policies compared", parts, s.ablated)
}

// studies are what the flags ask for.
func (s *reportRunner) studies() ([]*report.Study, error) {
	traced, err := s.traced()
	if err != nil {
		return nil, err
	}
	program, err := programDigest()
	if err != nil {
		return nil, err
	}
	parts, err := s.chosen(report.Parts(traced))
	if err != nil {
		return nil, err
	}
	var studies []*report.Study
	for _, part := range parts {
		contenders, err := report.ContendersNamed(append([]string{report.NameAutomatic}, part.Policies...))
		if err != nil {
			return nil, err
		}
		study := &report.Study{
			Title: part.Words, Part: part.Name, Engine: simulate.Engines[0], SLO: simulate.SLO{TTFT: s.ttft.Seconds(), ITL: s.itl.Seconds()},
			Scenarios: part.Scenarios, ColdStarts: s.coldStarts, JudgedAt: report.JudgedAt, Contenders: contenders,
			Workers: s.workers, Clock: time.Now, Version: program,
			World: func(world *simulate.Setting) { world.Steps = world.Steps || s.steps },
		}
		if part.JudgedAlone {
			study.ColdStarts = []time.Duration{report.JudgedAt}
		}
		for seed := range s.seeds {
			study.Seeds = append(study.Seeds, uint64(s.first)+uint64(seed)) //nolint:gosec // neither is below 0
		}
		studies = append(studies, study)
	}
	return studies, nil
}

// chosen are the parts and of them the loads that are named, all of them by default.
func (s *reportRunner) chosen(parts []report.Part) ([]report.Part, error) {
	var chosen []report.Part
	var known, names []string
	for _, part := range parts {
		names = append(names, part.Name)
		if len(s.parts) == 0 && part.Named || len(s.parts) > 0 && !slices.Contains(s.parts, part.Name) {
			continue
		}
		for i := range part.Scenarios {
			known = append(known, part.Scenarios[i].Name)
		}
		part.Scenarios = slices.DeleteFunc(slices.Clone(part.Scenarios), func(sc simulate.Scenario) bool {
			return len(s.scenarios) > 0 && !slices.Contains(s.scenarios, sc.Name)
		})
		if len(part.Scenarios) > 0 {
			chosen = append(chosen, part)
		}
	}
	for _, name := range s.parts {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("--parts: %q is not one of %q", name, names)
		}
	}
	for _, name := range s.scenarios {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("--scenarios: %q is not one of %q", name, known)
		}
	}
	if len(s.parts) > 0 || len(s.scenarios) > 0 {
		s.notes = append(s.notes, "Not all of it was played: "+strings.Join(append(slices.Clone(s.parts), s.scenarios...), ", ")+" alone.")
	}
	return chosen, nil
}

// programDigest is of this program: one that was built of other code plays other
// policies, whatever its version says.
func programDigest() (string, error) {
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
func (s *reportRunner) file(kind string) string { return filepath.Join(s.into, "simulation."+kind) }

// journal is begun anew, with what the study recalls of the last one. A run that
// is killed leaves one or the other.
func (s *reportRunner) journal(study *report.Study, stderr io.Writer) (*os.File, error) {
	name := filepath.Join(s.into, "simulation-"+study.Part+".journal")
	last, err := os.Open(name) //nolint:gosec // in the user's own folder
	switch {
	case err == nil:
		known, foreign, err := study.Recall(last)
		if err := errors.Join(err, last.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		_, _ = fmt.Fprintf(stderr, "%s: %d loads of a seed were played before", study.Part, known)
		if foreign > 0 {
			_, _ = fmt.Fprintf(stderr, ", and %d by another program, with other flags or of other loads, which don't count", foreign)
		}
		_, _ = fmt.Fprintln(stderr)
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	f, err := os.CreateTemp(s.into, ".simulation.journal-*")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(study.Recalled(f), os.Rename(f.Name(), name)); err != nil {
		_, _ = f.Close(), os.Remove(f.Name()) // the error before is what is told
		return nil, err
	}
	return f, nil
}

// write puts the report of what is finished in the place of the one before.
func (s *reportRunner) write(r *report.Report) error {
	r.Notes = append(slices.Clone(s.notes), fmt.Sprintf("Played in %v on %d cores.", time.Since(s.began).Round(time.Second), s.workers))
	if r.Finished < r.Units {
		r.Notes = append([]string{fmt.Sprintf("Not complete: %d of %d loads of a seed were played. Means are over the seeds that were, "+
			"and loads without any are left out.", r.Finished, r.Units)}, r.Notes...)
	}
	return errors.Join(replaceFile(s.file("json"), r.JSON), replaceFile(s.file("html"), r.HTML))
}

// replaceFile writes a file such that there is the old one or the new one, and
// never a part.
func replaceFile(name string, write func(io.Writer) error) error {
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

// traced are the loads on traces, if there are any.
func (s *reportRunner) traced() ([]simulate.Scenario, error) {
	if s.traces == "" {
		s.notes = append(s.notes, "Without --traces: the loads on Azure's traces were not played, and goals on them are not judged.")
		return nil, nil
	}
	var traces [2]*simulate.Load
	for i, names := range traceNames {
		var err error
		if traces[i], err = findTrace(s.traces, names); err != nil {
			return nil, err
		}
	}
	return simulate.Traced(traces[0], traces[1]), nil
}

// readAblations compares the reports below a folder with that of the whole policy.
func readAblations(folder string) ([]report.Ablation, error) {
	whole, err := readReport(filepath.Join(folder, wholePolicy))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var all []report.Ablation
	for _, entry := range entries {
		if !entry.IsDir() || entry.Name() == wholePolicy {
			continue
		}
		part, err := readReport(filepath.Join(folder, entry.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // interrupted before its first load
		}
		if err != nil {
			return nil, err
		}
		all = append(all, report.Ablate(entry.Name(), whole, part))
	}
	return all, nil
}

// wholePolicy is the folder of the policy with all its mechanisms.
const wholePolicy = "nothing"

func readReport(folder string) (*report.Report, error) {
	data, err := os.ReadFile(filepath.Join(folder, "simulation.json")) //nolint:gosec // in the user's own folder
	if err != nil {
		return nil, err
	}
	r := new(report.Report)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", folder, err)
	}
	return r, nil
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
