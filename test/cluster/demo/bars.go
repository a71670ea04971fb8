package main

import (
	"strings"
	"time"
)

// eighths are the heights of a block, from nothing to full.
var eighths = []rune(" ▁▂▃▄▅▆▇█")

// partial are the widths of a block, from nothing to full.
var partial = []rune(" ▏▎▍▌▋▊▉█")

// bar is value of full as a bar of so many columns. What is above zero shows.
func bar(value, full float64, columns int) string {
	filled := 0
	if full > 0 {
		filled = min(int(value/full*float64(columns*8)+0.5), columns*8)
	}
	if value > 0 {
		filled = max(filled, min(columns, 1))
	}
	b := strings.Repeat("█", filled/8)
	if filled%8 > 0 {
		b += string(partial[filled%8])
	}
	return b + strings.Repeat(" ", columns-(filled+7)/8)
}

// resample spreads a series over columns of equal time from 0 to length. Each
// takes the largest of its values, so that no peak is lost, or the last value
// before it; those after the last point are missing (-1).
func resample(points []point, of func(point) float64, columns int, length time.Duration) []float64 {
	out := make([]float64, columns)
	next, last := 0, -1.0
	for i := range out {
		end := length * time.Duration(i+1) / time.Duration(columns)
		out[i] = -1
		for ; next < len(points) && points[next].At < end; next++ {
			last = of(points[next])
			out[i] = max(out[i], last)
		}
		if out[i] < 0 && next < len(points) {
			out[i] = last
		}
	}
	return out
}

// columns draws values as columns of so many rows, the topmost row first. full
// is the value of a column that fills all rows.
func columns(values []float64, full float64, rows int) []string {
	out := make([]string, rows)
	for row := range out {
		var b strings.Builder
		below := float64(rows-1-row) * 8 // eighths in the rows under this one
		for _, v := range values {
			level := 0
			if v > 0 && full > 0 {
				all := max(v/full*float64(rows)*8+0.5, 1)
				level = int(min(max(all-below, 0), 8))
			}
			b.WriteRune(eighths[level])
		}
		out[row] = b.String()
	}
	return out
}

// largest is the largest of a series, at least low.
func largest(points []point, of func(point) float64, low float64) float64 {
	for _, p := range points {
		low = max(low, of(p))
	}
	return low
}

// The series that are plotted.
func offered(p point) float64 { return p.Offered }
func waiting(p point) float64 { return float64(p.Waiting) }
func wanted(p point) float64  { return float64(p.Wanted) }
func serving(p point) float64 { return float64(p.Serving) }
