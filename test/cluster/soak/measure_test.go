package main

import (
	"strings"
	"testing"
	"time"
)

func TestASampleIsReadFromAScalersOwnMetrics(t *testing.T) {
	s, err := read(strings.NewReader("# HELP go_goroutines x\ngo_goroutines 512\nprocess_open_fds 9\n" +
		"leader_election_master_status{name=\"keda-kaito-scaler\"} 1\ngo_memstats_heap_inuse_bytes 3.5e+07\nprocess_resident_memory_bytes 1.2e+08\nother{a=\"b\"} 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s.resident != 1.2e8 || s.heap != 3.5e7 || s.goroutines != 512 || s.descriptors != 9 || !s.leads {
		t.Errorf("read %+v", s)
	}
	if _, err := read(strings.NewReader("go_goroutines 512\n")); err == nil {
		t.Error("a page without memory is taken for a sample")
	}
}

func TestBreathIsNoGrowthAndALeakIs(t *testing.T) {
	of := func(s sample) float64 { return s.heap }
	end := start.Add(time.Hour)
	var breath, leak []sample
	for t := time.Duration(0); t < time.Hour; t += 10 * time.Second {
		heap := 100 + float64(t/time.Second%60) // a sawtooth of a minute
		breath = append(breath, sample{at: start.Add(t), heap: heap})
		leak = append(leak, sample{at: start.Add(t), heap: heap + t.Minutes()})
	}
	if before, after := growth(breath, start, end, of); percent(before, after) > 1 {
		t.Errorf("breath: from %g to %g", before, after)
	}
	if before, after := growth(leak, start, end, of); percent(before, after) < 5 {
		t.Errorf("a leak: from %g to %g", before, after)
	}
}

func TestWhoComesToLeadHasNotGrown(t *testing.T) {
	of := func(s sample) float64 { return s.goroutines }
	end := start.Add(time.Hour)
	var samples []sample
	for t := time.Duration(0); t < time.Hour; t += 10 * time.Second {
		s := sample{at: start.Add(t), goroutines: 150, leads: t > 53*time.Minute}
		if s.leads {
			s.goroutines = 250
		}
		samples = append(samples, s)
	}
	if before, after := growth(samples, start, end, of); before != 150 || after != 150 {
		t.Errorf("from %g to %g, want no change but that of its role", before, after)
	}
}
