package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
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
}

// studyCommand is the comparison of all policies that the goals are judged by.
func studyCommand() *cobra.Command {
	s := &studier{}
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Play all policies against the standard loads and judge the goals",
		Long: `report plays all policies against the standard loads at cold starts of 2, 5 and 10
minutes, sweeps the knobs of each, and judges the goals of the saturation policy.
It writes simulation.html and simulation.json, and ends with lines
"figure NAME VALUE".

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
	f.IntVar(&s.workers, "workers", runtime.GOMAXPROCS(0), "loads played at a time; each takes up to 150 MB")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	cmd.SetUsageFunc(usage)
	return cmd
}

func (s *studier) run(ctx context.Context, stdout, stderr io.Writer) error {
	if s.seeds < 1 || s.first < 1 || s.workers < 1 || s.sweepSeeds < 0 || len(s.coldStarts) == 0 {
		return errors.New("--seeds, --first-seed, --workers and --cold-starts: must be at least 1 each, --sweep-seeds 0")
	}
	scenarios, notes, err := s.loads()
	if err != nil {
		return err
	}
	study := &report.Study{
		Title: "Scaling policies compared", Engine: simulate.Engines[0], SLO: simulate.DefaultSLO,
		Scenarios: scenarios, ColdStarts: s.coldStarts, Contenders: report.Contenders(),
		Sweeps: report.Sweeps(), SweepSeeds: min(s.sweepSeeds, s.seeds), SweepAt: s.coldStarts[len(s.coldStarts)/2:][:1],
		Workers: s.workers, Clock: time.Now,
	}
	if s.sweepSeeds == 0 {
		study.SweepAt = nil
	}
	for seed := range s.seeds {
		study.Seeds = append(study.Seeds, uint64(s.first)+uint64(seed)) //nolint:gosec // ≥ 1
	}
	// What is written at the end must not fail then.
	if err := os.MkdirAll(s.into, 0o755); err != nil { //nolint:gosec // a report for everybody
		return err
	}
	began := time.Now()
	result, err := played(ctx, study, stderr)
	if err != nil {
		return err
	}
	result.Notes = append(notes, fmt.Sprintf("Played in %v on %d cores. Knobs were swept on %d of %d seeds, at a cold start of %v.",
		time.Since(began).Round(time.Second), s.workers, study.SweepSeeds, s.seeds, study.SweepAt))
	result.Judge()
	if err := result.Table(stdout); err != nil {
		return err
	}
	json, html := filepath.Join(s.into, "simulation.json"), filepath.Join(s.into, "simulation.html")
	if err := written(result, json, html); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(stdout, "\nwritten: %s, %s\n\n", html, json)
	return result.Figures(stdout)
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
		trace, err := readTrace(filepath.Join(folder, name))
		if !errors.Is(err, os.ErrNotExist) {
			return trace, err
		}
	}
	return nil, fmt.Errorf("--traces %s: there is no %s", folder, strings.Join(names, " or "))
}
