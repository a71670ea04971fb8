package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate/report"
)

// miniature is a study of two loads and two seeds that take no time.
func miniature(t *testing.T, version string) *report.Study {
	t.Helper()
	contenders, err := report.ContendersNamed([]string{"static-mean", "kaito-queue"})
	if err != nil {
		t.Fatal(err)
	}
	load := simulate.Scenario{Kind: &simulate.Conversation, Shape: simulate.Steady(), Length: 20 * time.Minute, Replicas: .3}
	short := load
	load.Name, short.Name, short.Length = "long", "short", 15*time.Minute
	return &report.Study{
		Title: "miniature", Part: "small", Engine: simulate.Engines[0], SLO: simulate.DefaultSLO, Scenarios: []simulate.Scenario{short, load},
		ColdStarts: []time.Duration{time.Minute}, Seeds: []uint64{1, 2}, Contenders: contenders, Workers: 1, Clock: time.Now,
		World: func(s *simulate.Setting) { s.WarmUp = 5 * time.Minute }, Version: version,
	}
}

// stopping is the writer of progress that stops a study after so much of it.
type stopping struct {
	bytes.Buffer
	at   string
	stop func()
}

func (s *stopping) Write(p []byte) (int, error) {
	if strings.Contains(string(p), s.at) {
		s.stop()
	}
	return s.Buffer.Write(p)
}

func reportIn(t *testing.T, folder string) *report.Report {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, "simulation.json"))
	if err != nil {
		t.Fatal(err)
	}
	r := new(report.Report)
	if err := json.Unmarshal(data, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// A study that is interrupted leaves a report of what was finished, says so, and
// goes on from there; one of another program begins anew.
func TestAnInterruptedReportGoesOn(t *testing.T) {
	folder := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout bytes.Buffer
	stderr := &stopping{at: "seed 2", stop: cancel}
	err := (&reportRunner{into: folder, workers: 1}).play(ctx, []*report.Study{miniature(t, "one")}, &stdout, stderr)
	if !errors.Is(err, errInterrupted) || !strings.Contains(err.Error(), "2 of 4 loads of a seed were played") {
		t.Fatalf("got %v", err)
	}
	for _, words := range []string{"Not complete: 2 of 4", "figure units/finished 2\n", "figure long/1m/static-mean/attainment ", "figure short/1m/static-mean/gpu-hours "} {
		if !strings.Contains(stdout.String(), words) {
			t.Errorf("there is no %q in\n%s", words, stdout.String())
		}
	}
	if r := reportIn(t, folder); r.Finished != 2 || len(r.Loads) != 2 || len(r.Loads[0].Worlds[0].Scores[0].Runs) != 1 || !strings.HasPrefix(r.Notes[0], "Not complete") {
		t.Errorf("the file holds %+v", r)
	}
	files, err := os.ReadDir(folder)
	if err != nil || len(files) != 3 {
		t.Errorf("there are %v, %v: want the journal and two files of the report", files, err)
	}

	for _, tt := range []struct {
		version, said string
		plays         bool
	}{
		{"one", "small: 2 loads of a seed were played before\n", false},
		{"another", "small: 0 loads of a seed were played before, and 4 by another program", true},
	} {
		var stdout, stderr bytes.Buffer
		if err := (&reportRunner{into: folder, workers: 1}).play(t.Context(), []*report.Study{miniature(t, tt.version)}, &stdout, &stderr); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(stderr.String(), tt.said) {
			t.Errorf("want %q in\n%s", tt.said, stderr.String())
		}
		r := reportIn(t, folder)
		if r.Finished != 4 || len(r.Loads[1].Worlds[0].Scores[1].Runs) != 2 || strings.Contains(stdout.String(), "ot complete") {
			t.Errorf("%d are finished:\n%s", r.Finished, stdout.String())
		}
		// Progress is told of what is played alone: the first seed was.
		if first := strings.Contains(stderr.String(), "seed 1\n"); first != tt.plays {
			t.Errorf("the first seed was played: %t\n%s", first, stderr.String())
		}
	}
}

// Nothing is written of nothing, and a journal that isn't one is no empty one.
func TestAReportThatCantGoOn(t *testing.T) {
	folder := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout bytes.Buffer
	s := &reportRunner{into: folder, workers: 1}
	if err := s.play(ctx, []*report.Study{miniature(t, "")}, &stdout, &stdout); err == nil || err.Error() != "interrupted" {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(s.file("json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a report of nothing was written: %v", err)
	}
	journal := filepath.Join(folder, "simulation-small.journal")
	if err := os.WriteFile(journal, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.play(t.Context(), []*report.Study{miniature(t, "")}, &stdout, &stdout); err == nil || !strings.Contains(err.Error(), "read the journal: unit 1") {
		t.Errorf("got %v", err)
	}
	if data, err := os.ReadFile(journal); err != nil || string(data) != "hello\n" {
		t.Errorf("it was made %q, %v", data, err)
	}
}

// A report of several parts is one report, and goes on in the part that was interrupted.
func TestAReportOfSeveralParts(t *testing.T) {
	folder := t.TempDir()
	parts := func() []*report.Study {
		one, other := miniature(t, "one"), miniature(t, "one")
		one.Scenarios, other.Scenarios, other.Part = one.Scenarios[:1], other.Scenarios[1:], "other"
		return []*report.Study{one, other}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout bytes.Buffer
	err := (&reportRunner{into: folder, workers: 1}).play(ctx, parts(), &stdout, &stopping{at: "long, cold start 1m, kaito-queue, seed 1", stop: cancel})
	if !errors.Is(err, errInterrupted) || !strings.Contains(err.Error(), " of 4 loads of a seed were played") {
		t.Fatalf("got %v", err)
	}
	var stderr bytes.Buffer
	if err := (&reportRunner{into: folder, workers: 1}).play(t.Context(), parts(), &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stderr.String(), "small: 2 loads of a seed were played before\n") || !strings.Contains(stderr.String(), "other: 1 loads of a seed") {
		t.Errorf("it says %s", stderr.String())
	}
	r := reportIn(t, folder)
	if r.Finished != 4 || r.Units != 4 || len(r.Loads) != 2 || r.Loads[0].Part != "small" || r.Loads[1].Part != "other" {
		t.Errorf("%d of %d, loads %+v", r.Finished, r.Units, r.Loads)
	}
}

// Each part that is played by default has loads, and names choose among them.
func TestPartsOfTheReport(t *testing.T) {
	names := func(s *reportRunner) string {
		s.seeds, s.first, s.workers = 1, 1, 1
		studies, err := s.studies()
		if err != nil {
			return err.Error()
		}
		var b strings.Builder
		for _, study := range studies {
			b.WriteString(study.Part + " ")
			for i := range study.Scenarios {
				if len(s.scenarios) > 0 {
					b.WriteString(study.Scenarios[i].Name + " ")
				}
			}
		}
		return b.String()
	}
	for want, s := range map[string]*reportRunner{
		"standard scenarios engines ":         {},
		"ablation ":                           {parts: []string{"ablation"}},
		"standard steady scenarios knee ":     {scenarios: []string{"knee", "steady"}},
		`--parts: "all" is not one of`:        {parts: []string{"all"}},
		`--scenarios: "knee" is not one of [`: {parts: []string{"standard"}, scenarios: []string{"knee"}},
	} {
		if got := names(s); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
