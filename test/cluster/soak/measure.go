package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sample is what a scaler needs at one moment.
type sample struct {
	at time.Time
	// resident and heap are bytes.
	resident, heap, goroutines, descriptors float64
	// leads tells whether it led then: who leads writes, which takes 100 goroutines
	// and some memory more.
	leads bool
}

// series are the metrics of Go's that a sample is made of.
var series = map[string]func(*sample) *float64{
	"process_resident_memory_bytes": func(s *sample) *float64 { return &s.resident },
	"go_memstats_heap_inuse_bytes":  func(s *sample) *float64 { return &s.heap },
	"go_goroutines":                 func(s *sample) *float64 { return &s.goroutines },
	"process_open_fds":              func(s *sample) *float64 { return &s.descriptors },
}

// needs reads a scaler's own metrics.
func needs(ctx context.Context, address string) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return sample{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return sample{}, err
	}
	defer func() { _ = response.Body.Close() }()
	return read(response.Body)
}

func read(page io.Reader) (sample, error) {
	s, found := sample{at: time.Now()}, 0
	lines := bufio.NewScanner(page)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if strings.HasPrefix(name, "leader_election_master_status{") {
			s.leads = value == "1"
		}
		field, wanted := series[name]
		if !wanted {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return s, fmt.Errorf("read %s: %w", name, err)
		}
		*field(&s) = v
		found++
	}
	if err := lines.Err(); err != nil {
		return s, err
	}
	if found != len(series) {
		return s, fmt.Errorf("its metrics have %d of %d of Go's", found, len(series))
	}
	return s, nil
}

// median is the middle value, 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// window are the samples from one time to another.
func window(samples []sample, from, to time.Time) []sample {
	var within []sample
	for _, s := range samples {
		if !s.at.Before(from) && s.at.Before(to) {
			within = append(within, s)
		}
	}
	return within
}

// values are those of a window in one role, or in both if it had too few in it.
func values(samples []sample, leads, both bool, of func(sample) float64) []float64 {
	var all []float64
	for _, s := range samples {
		if both || s.leads == leads {
			all = append(all, of(s))
		}
	}
	return all
}

// growth is how much more is needed at the end of the last half than at its
// beginning.
//
// Each is the median of a third of that half: Go's heap breathes with its
// collector, by a factor of up to two within minutes, and the kernel gets memory
// back later still. A median over minutes shows the level and not the breath. The
// first half is left out: caches fill, windows of an hour fill with what is kept
// of the pods, and the fleets come to their sizes.
//
// If the scaler led at times, like is compared with like: what it needed in the
// role that it was in more often, as long as each third has two minutes of it.
func growth(samples []sample, start, end time.Time, of func(sample) float64) (before, after float64) {
	half := end.Sub(start) / 2
	third := half / 3
	middle := start.Add(half)
	one, two := window(samples, middle, middle.Add(third)), window(samples, end.Add(-third), end)
	const enough = 12 // samples
	best, both := false, true
	most := 0
	for _, leads := range []bool{false, true} {
		n := min(len(values(one, leads, false, of)), len(values(two, leads, false, of)))
		if n >= enough && n > most {
			best, both, most = leads, false, n
		}
	}
	return median(values(one, best, both, of)), median(values(two, best, both, of))
}

// percent is by how much after is more than before.
func percent(before, after float64) float64 {
	if before == 0 {
		return 0
	}
	return 100 * (after - before) / before
}
