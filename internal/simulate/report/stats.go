package report

import (
	"fmt"
	"math"
)

// estimate is the mean over seeds with half the width of its 95 % confidence
// interval, by Student's t; the width is infinite for a single seed.
type estimate struct {
	mean, half float64
	n          int
}

// students are the 97.5 % quantiles of Student's t by degrees of freedom.
var students = [...]float64{
	math.Inf(1), 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
}

func estimateOf(values []float64) estimate {
	e := estimate{n: len(values)}
	if e.n == 0 {
		e.mean = math.NaN()
		return e
	}
	for _, v := range values {
		e.mean += v / float64(e.n)
	}
	variance := 0.0
	for _, v := range values {
		variance += (v - e.mean) * (v - e.mean)
	}
	if e.n == 1 {
		e.half = math.Inf(1)
		return e
	}
	t := 1.96
	if e.n-1 < len(students) {
		t = students[e.n-1]
	}
	e.half = t * math.Sqrt(variance/float64(e.n-1)/float64(e.n))
	return e
}

// percent is such as "99.31 ±0.12", with no interval for a single seed.
func (e estimate) percent() string { return e.words(100, 2) }

func (e estimate) words(scale float64, digits int) string {
	if math.IsNaN(e.mean) {
		return "–"
	}
	if e.n < 2 {
		return fmt.Sprintf("%.*f", digits, scale*e.mean)
	}
	return fmt.Sprintf("%.*f ±%.*f", digits, scale*e.mean, digits, scale*e.half)
}

// over is an estimate of something of each run.
func (s *Score) over(of func(*Run) float64) estimate {
	if s == nil {
		return estimateOf(nil)
	}
	values := make([]float64, len(s.Runs))
	for i := range s.Runs {
		values[i] = of(&s.Runs[i])
	}
	return estimateOf(values)
}

func (s *Score) attainment() estimate { return s.over(func(r *Run) float64 { return r.Attainment }) }
func (s *Score) gpuHours() estimate   { return s.over(func(r *Run) float64 { return r.GPUHours }) }

// ratio is of the GPU-hours to another's, seed by seed.
func (s *Score) ratio(to *Score) estimate {
	return s.against(to, func(r *Run) float64 { return r.GPUHours })
}

// against is the ratio of something of each run to another's, seed by seed.
func (s *Score) against(to *Score, of func(*Run) float64) estimate {
	if s == nil || to == nil {
		return estimateOf(nil)
	}
	var values []float64
	for i := range min(len(s.Runs), len(to.Runs)) {
		values = append(values, of(&s.Runs[i])/of(&to.Runs[i]))
	}
	return estimateOf(values)
}
