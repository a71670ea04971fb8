package scrape

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// courseOf is what a live engine's page said over time (TestRecordCourses), as
// far as it tells whether the engine moves.
func courseOf(t *testing.T, name string) (pages []*reading) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata/engines", name+".csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) < 10 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		value := func(column string) float64 {
			v, err := strconv.ParseFloat(row[slices.Index(rows[0], column)], 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		at := time.Unix(1796100000, 0).Add(time.Duration(value("seconds") * float64(time.Second)))
		pages = append(pages, &reading{
			running: value(policy.FamilyRunning), waiting: value(policy.FamilyWaiting), step: value(familyStep),
			kvUsage: value(policy.FamilyKV), sample: &sample.Sample{At: at},
		})
	}
	return pages
}

// An engine that works off one prompt counts no step for minutes, and isn't frozen: not
// if its KV cache fills up meanwhile, piece by piece, and not if the prompt is one step
// beside another request. One that says the same for longer is.
func TestALongPromptIsNotFrozen(t *testing.T) {
	for _, course := range []string{"one-prompt", "one-step"} {
		t.Run(course, func(t *testing.T) {
			tg := &target{container: container{readySinceStart: true}}
			pages := courseOf(t, course)
			begin, stood := 0, time.Duration(0)
			for i, p := range pages {
				if f := tg.took(p, 0); f != nil {
					t.Fatalf("after %v: %v", p.sample.At.Sub(pages[0].sample.At), f)
				}
				if p.running == 0 || p.step != pages[begin].step || pages[begin].running == 0 {
					begin = i
				}
				stood = max(stood, p.sample.At.Sub(pages[begin].sample.At))
			}
			if stood < 80*time.Second {
				t.Errorf("no step was counted for %v while requests ran: that is no long prompt", stood)
			}
			tg = &target{container: container{readySinceStart: true}}
			busy := pages[slices.IndexFunc(pages, func(p *reading) bool { return p.running > 0 })]
			for second := range 130 {
				hung := *busy
				hung.sample = &sample.Sample{At: hung.sample.At.Add(time.Duration(second) * time.Second)}
				if got, want := tg.took(&hung, 0).reason() == Frozen, second > 120; got != want {
					t.Fatalf("hung for %d s: frozen is %v, want %v", second, got, want)
				}
			}
		})
	}
}
