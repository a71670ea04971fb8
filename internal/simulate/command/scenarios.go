package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate/report"
)

// scenarioRunner plays the adverse scenarios.
type scenarioRunner struct {
	policies   []string
	coldStarts []time.Duration
	seeds      int
	first      int
	workers    int
	moves      bool
	json, html string
}

// scenariosCommand judges policies on the scenarios that they must survive.
func scenariosCommand() *cobra.Command {
	s := &scenarioRunner{}
	cmd := &cobra.Command{
		Use:   "scenarios [NAME...]",
		Short: "Play policies on engines, clients and faults that ordinary traffic doesn't have",
		Long: `scenarios plays policies on the adverse scenarios, all of them or those named, and
says for each what it came to and which demand it missed. It ends with an error if
any was missed.

Requests that miss the SLO on an idle replica as well count as attained: no number
of replicas cures them.`,
		Example: `  keda-kaito-scaler simulate scenarios
  keda-kaito-scaler simulate scenarios knee speculation --policies automatic,static,oracle --seeds 3`,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, names []string) error {
			return s.run(cmd.Context(), names, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&s.policies, "policies", []string{report.NameAutomatic, report.NameStatic}, "`names` of policies; static99 is what GPU-hours are compared with")
	f.DurationSliceVar(&s.coldStarts, "cold-starts", []time.Duration{5 * time.Minute}, "mean times to start a replica, for scenarios without one of their own")
	f.IntVar(&s.seeds, "seeds", 1, "how many seeds")
	f.IntVar(&s.first, "first-seed", 1, "the first of them")
	f.IntVar(&s.workers, "workers", runtime.GOMAXPROCS(0), "scenarios played at a time")
	f.BoolVar(&s.moves, "moves", false, "print each move of the first seed with its reason")
	f.StringVar(&s.json, "json", "", "`file` to write the result to, in JSON")
	f.StringVar(&s.html, "html", "", "`file` to write a page of plots to")
	cmd.SetUsageFunc(usage)
	return cmd
}

func (s *scenarioRunner) run(ctx context.Context, names []string, stdout, stderr io.Writer) error {
	study, err := s.study(names)
	if err != nil {
		return err
	}
	result, ended := runStudy(ctx, study, stderr)
	if ended != nil && (result == nil || result.Finished == 0) {
		return ended
	}
	missed, err := result.Demands(stdout)
	if err := errors.Join(ended, err, writeFiles(result, s.json, s.html)); err != nil {
		return err
	}
	if s.moves {
		if err := result.WriteMoves(stdout); err != nil {
			return err
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d demands were missed", missed)
	}
	return nil
}

// study is what the flags ask for.
func (s *scenarioRunner) study(names []string) (*report.Study, error) {
	if s.seeds < 1 || s.first < 1 || s.workers < 1 || len(s.coldStarts) == 0 {
		return nil, errors.New("--seeds, --first-seed, --workers and --cold-starts: must be at least 1 each")
	}
	scenarios, err := adverse(names)
	if err != nil {
		return nil, err
	}
	contenders, err := report.ContendersNamed(s.policies)
	if err != nil {
		return nil, fmt.Errorf("--policies: %w", err)
	}
	study := &report.Study{
		Title: "Adverse scenarios", Engine: simulate.Engines[0], SLO: simulate.DefaultSLO, Scenarios: scenarios,
		ColdStarts: s.coldStarts, Contenders: contenders, Workers: s.workers, Clock: time.Now,
		Moves: s.moves,
	}
	for seed := range s.seeds {
		study.Seeds = append(study.Seeds, uint64(s.first)+uint64(seed))
	}
	return study, nil
}

// adverse are the scenarios of these names, all without any.
func adverse(names []string) ([]simulate.Scenario, error) {
	all := simulate.Adverse()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []simulate.Scenario
	for _, name := range names {
		i := slices.IndexFunc(all, func(s simulate.Scenario) bool { return s.Name == name })
		if i < 0 {
			var known []string
			for i := range all {
				known = append(known, all[i].Name)
			}
			return nil, fmt.Errorf("scenario %q is not known: it must be one of %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
