package report

import (
	_ "embed" // of the record
	"encoding/json"
)

// Baseline is what a policy came to that isn't in the code any more.
type Baseline struct {
	Policy string `json:"policy"`
	// Version is of the code, Date of the record.
	Version string        `json:"version"`
	Date    string        `json:"date"`
	Runs    []BaselineRun `json:"runs"`
}

// BaselineRun is what came of one seed.
type BaselineRun struct {
	Load       string  `json:"load"`
	ColdStart  Minutes `json:"coldStartMinutes"`
	Seed       uint64  `json:"seed"`
	Attainment float64 `json:"attainment"`
	GPUHours   float64 `json:"gpuHours"`
	Turns      int     `json:"turns"`
	Peak       int32   `json:"peak"`
}

//go:embed baseline.json
var baselineText []byte

// recorded is the baseline that GPU-hours are compared with.
var recorded = parseBaseline(baselineText)

func parseBaseline(text []byte) *Baseline {
	b := new(Baseline)
	if err := json.Unmarshal(text, b); err != nil {
		panic(err) // of this very package: a test reads it
	}
	return b
}

// ratio is of a score's GPU-hours to those of the record, over the seeds that it has.
func (b *Baseline) ratio(l *Load, w *World, s *Score) estimate {
	var values []float64
	for i := range s.Runs {
		for j := range b.Runs {
			if r := &b.Runs[j]; r.Load == l.Name && r.ColdStart == w.ColdStart && r.Seed == s.Runs[i].Seed {
				values = append(values, s.Runs[i].GPUHours/r.GPUHours)
			}
		}
	}
	return estimateOf(values)
}
