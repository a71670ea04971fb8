package engine

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Course is what an engine's pages said over time, as the scaler's reader read them. As a
// file it is a compressed table with a row for each page: the seconds since it began,
// and the families by name, of a histogram its sum and each bucket's count.
type Course []*sample.Sample

// the parts of a histogram's column: NAME_sum, NAME_bucket|BOUND.
const sumColumn, bucketColumn = "_sum", "_bucket|"

// WriteFile writes a course that began at a time.
func (c Course) WriteFile(path string, began time.Time) error {
	f, err := os.Create(path) //nolint:gosec // a test says where
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	err = csv.NewWriter(z).WriteAll(c.table(began))
	return errors.Join(err, z.Close(), f.Close())
}

// table has the columns of the last page. What an earlier one lacks stays empty.
func (c Course) table(began time.Time) [][]string {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 9, 64) }
	var header []string
	rows := make([]map[string]string, len(c))
	for i, s := range c {
		header, rows[i] = nil, map[string]string{}
		cell := func(name string, v float64) {
			header = append(header, name)
			rows[i][name] = number(v)
		}
		cell("seconds", math.Round(1000*s.At.Sub(began).Seconds())/1000)
		for _, f := range s.Families() {
			if f.Kind != sample.Histogram {
				cell(f.Name, f.Sum)
				continue
			}
			cell(f.Name+sumColumn, f.Buckets.Sum)
			for j, le := range f.Buckets.Le {
				cell(f.Name+bucketColumn+number(le), f.Buckets.Cumulative[j])
			}
		}
	}
	table := [][]string{header}
	for _, row := range rows {
		var cells []string
		for _, name := range header {
			cells = append(cells, row[name])
		}
		table = append(table, cells)
	}
	return table
}

// ReadCourse reads a course from a file, as one of an engine that began at that time.
func ReadCourse(path string, began time.Time) (Course, error) {
	f, err := os.Open(path) //nolint:gosec // a test says what
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	rows, err := csv.NewReader(io.LimitReader(z, 64<<20)).ReadAll()
	if err != nil || len(rows) < 2 {
		return nil, fmt.Errorf("reading %s: %d rows: %w", path, len(rows), err)
	}
	var c Course
	var like *sample.Sample
	for i, row := range rows[1:] {
		values := make([]float64, len(row))
		for j, field := range row {
			if values[j] = math.NaN(); field == "" {
				continue
			}
			if values[j], err = strconv.ParseFloat(field, 64); err != nil {
				return nil, fmt.Errorf("reading %s, row %d: %w", path, i+2, err)
			}
		}
		like = sample.NewSample(began.Add(duration(values[0])), familiesOf(rows[0], values), like)
		c = append(c, like)
	}
	return c, nil
}

// familiesOf makes families of a row whose first column is the time.
func familiesOf(header []string, values []float64) (all []sample.Family) {
	for i := 1; i < len(header); i++ {
		f := sample.Family{Name: header[i], Kind: sample.Gauge, Sum: values[i], Engines: 1}
		name, histogram := strings.CutSuffix(f.Name, sumColumn)
		switch {
		case histogram && i+1 < len(header) && strings.HasPrefix(header[i+1], name+bucketColumn):
			f.Name, f.Kind, f.Sum, f.Buckets.Sum = name, sample.Histogram, 0, values[i]
			for i+1 < len(header) && strings.HasPrefix(header[i+1], name+bucketColumn) {
				i++
				le, _ := strconv.ParseFloat(strings.TrimPrefix(header[i], name+bucketColumn), 64)
				f.Buckets.Le, f.Buckets.Cumulative = append(f.Buckets.Le, le), append(f.Buckets.Cumulative, values[i])
			}
		case policy.Counts(f.Name):
			f.Kind = sample.Counter
		}
		if math.IsNaN(values[i]) {
			continue // the page lacked it
		}
		all = append(all, f)
	}
	return slices.Clip(all)
}
