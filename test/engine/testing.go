package engine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// patience is how long an engine may take to start: 50 s on an idle core, and more
// beside other tests.
const patience = 15 * time.Minute

// VersionForTests is the vLLM that tests use: $VLLM, else DefaultVersion.
func VersionForTests() string {
	if version := os.Getenv("VLLM"); version != "" {
		return version
	}
	return DefaultVersion
}

// ForTest starts an engine and waits until it serves. It ends with the test. Its log is
// kept if the test fails.
func ForTest(tb testing.TB, o Options) *Engine {
	tb.Helper()
	return SeveralForTest(tb, o)[0]
}

// SeveralForTest starts engines at once, as ForTest does one.
func SeveralForTest(tb testing.TB, options ...Options) []*Engine {
	tb.Helper()
	installed, err := Install(tb.Context(), os.Stderr, VersionForTests())
	if err != nil {
		tb.Fatal(err)
	}
	engines := make([]*Engine, len(options))
	for i, o := range options {
		if o.Dir == "" {
			o.Dir = keptOnFailure(tb)
		}
		e, err := installed.Start(o)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(e.Kill)
		engines[i] = e
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	for _, e := range engines {
		if err := e.AwaitReady(ctx); err != nil {
			tb.Fatal(err)
		}
	}
	return engines
}

// keptOnFailure is a folder that goes with the test unless it fails.
func keptOnFailure(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "keda-kaito-scaler-engine-") //nolint:usetesting // It outlives a test that fails.
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the engine's log is kept in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

// idleNeeded is the share of the CPU that must be idle while something is measured. An
// engine whose steps wait for the CPU isn't the machine that was described.
const idleNeeded = 0.15

// Measured runs a phase of a test that measures. The test fails if the machine had too
// little idle CPU meanwhile: what was measured then is the machine, not vLLM.
func Measured(tb testing.TB, phase func()) {
	tb.Helper()
	before := cpuTimes(tb)
	phase()
	idle := cpuTimes(tb).idleSince(before)
	tb.Logf("the CPU was idle %.0f %% of the time", 100*idle)
	if idle < idleNeeded {
		tb.Errorf("machine too busy: the CPU was idle %.0f %% of the time, must be %.0f %%", 100*idle, 100*idleNeeded)
	}
}

// cpu is what all CPUs did since the machine started, in ticks.
type cpu struct{ idle, all int }

func cpuTimes(tb testing.TB) cpu {
	tb.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		tb.Fatal(err)
	}
	c, err := parseCPU(stat)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// parseCPU reads the first line of /proc/stat: user nice system idle iowait irq
// softirq steal, and guest times that user has in it.
func parseCPU(stat []byte) (cpu, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	var t [8]int
	_, err := fmt.Sscanf(strings.TrimPrefix(string(line), "cpu"), "%d %d %d %d %d %d %d %d",
		&t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7])
	if err != nil {
		return cpu{}, fmt.Errorf("reading /proc/stat: %q: %w", line, err)
	}
	c := cpu{idle: t[3] + t[4]} // waiting for a disk is idle too
	for _, ticks := range t {
		c.all += ticks
	}
	return c, nil
}

func (c cpu) idleSince(before cpu) float64 {
	if c.all == before.all {
		return 1
	}
	return float64(c.idle-before.idle) / float64(c.all-before.all)
}
