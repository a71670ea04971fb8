package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
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

// cpu is what the CPUs that the process may run on did since the machine started, in ticks.
type cpu struct{ idle, all int }

func cpuTimes(tb testing.TB) cpu {
	tb.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		tb.Fatal(err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	c, err := parseCPU(stat, status)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// parseCPU adds up the lines of /proc/stat of the CPUs that /proc/self/status says the
// process may run on: engines that are bound to one core don't wait for the others.
// A line is the CPU's name, user nice system idle iowait irq softirq steal, and guest
// times that user has in it.
func parseCPU(stat, status []byte) (c cpu, err error) {
	_, allowed, found := strings.Cut(string(status), "\nCpus_allowed_list:\t")
	allowed, _, _ = strings.Cut(allowed, "\n")
	if !found {
		return cpu{}, errors.New("/proc/self/status doesn't say on which CPUs the process may run")
	}
	for part := range strings.SplitSeq(allowed, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err := errors.Join(err1, err2); err != nil {
			return cpu{}, fmt.Errorf("the CPUs that the process may run on, %q: %w", allowed, err)
		}
		for n := from; n <= to; n++ {
			if err := c.add(string(stat), n); err != nil {
				return cpu{}, err
			}
		}
	}
	return c, nil
}

// add adds the n-th CPU.
func (c *cpu) add(stat string, n int) error {
	_, line, _ := strings.Cut(stat, fmt.Sprintf("\ncpu%d ", n))
	line, _, _ = strings.Cut(line, "\n")
	var t [8]int
	_, err := fmt.Sscanf(line, "%d %d %d %d %d %d %d %d", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7])
	if err != nil {
		return fmt.Errorf("reading /proc/stat of CPU %d: %q: %w", n, line, err)
	}
	c.idle += t[3] + t[4] // waiting for a disk is idle too
	for _, ticks := range t {
		c.all += ticks
	}
	return nil
}

func (c cpu) idleSince(before cpu) float64 {
	if c.all == before.all {
		return 1
	}
	return float64(c.idle-before.idle) / float64(c.all-before.all)
}
