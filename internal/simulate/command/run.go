package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate/report"
)

// usage is render's form of it.
func usage(cmd *cobra.Command) error {
	_, err := fmt.Fprintf(cmd.OutOrStderr(), "Usage:\n  %s\n\nExamples:\n%s\n\nFlags:\n%s",
		cmd.UseLine(), cmd.Example, cmd.Flags().FlagUsagesWrapped(100))
	return err
}

// readLoad reads a file with a load.
func readLoad(file string, read func(string, io.Reader) (*simulate.Load, error)) (*simulate.Load, error) {
	f, err := os.Open(file) //nolint:gosec // the user's own file, read with the user's own rights
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // of a file that was read: nothing is left to lose
	load, err := read(file, f)
	if err != nil {
		return nil, err
	}
	load.Name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	return load, nil
}

// errInterrupted is what a study ends with that was told to.
var errInterrupted = errors.New("interrupted")

// runStudy runs a study with its progress on stderr. Of one that was interrupted it
// gives what was finished.
func runStudy(ctx context.Context, study *report.Study, stderr io.Writer) (*report.Report, error) {
	b := newProgressBar(stderr)
	study.Progress = b.show
	result, err := study.Run(ctx)
	b.done()
	if errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	return result, err
}

// writeFiles writes the report's files, those that have a name.
func writeFiles(r *report.Report, json, html string) error {
	for _, file := range []struct {
		name  string
		write func(io.Writer) error
	}{{json, r.JSON}, {html, r.HTML}} {
		if file.name == "" {
			continue
		}
		f, err := os.Create(file.name)
		if err != nil {
			return err
		}
		if err := errors.Join(file.write(f), f.Close()); err != nil {
			return fmt.Errorf("write %s: %w", file.name, err)
		}
	}
	return nil
}
