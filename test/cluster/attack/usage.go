//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// gauge looks at the scaler's process from outside.
//
// What an attack takes is told by the greatest resident set (VmHWM), because
// that is what a kernel with a memory limit kills for, garbage included. What is
// kept is told by the live heap after a collection, because a resident set
// goes on holding for minutes what Go has freed.
type gauge struct {
	pid   int
	pprof string
}

const mb = 1 << 20

// forgetPeak lets the greatest resident set begin anew at what is resident now.
func (g gauge) forgetPeak() error {
	// See proc_pid_clear_refs(5).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", g.pid), []byte("5"), 0); err != nil {
		return fmt.Errorf("reset the scaler's peak: %w", err)
	}
	return nil
}

// peak is the greatest resident set since then, in bytes.
func (g gauge) peak() (int64, error) { return g.status("VmHWM:") }

func (g gauge) status(key string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.pid))
	if err != nil {
		return 0, fmt.Errorf("read the scaler's memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("the scaler's status has no %s", key)
}

// cpu is what a process has used so far, to the nanosecond: /proc/PID/stat
// counts in steps of 10 ms.
func cpu(pid int) (time.Duration, error) {
	// The clock of another process, as clock_getcpuclockid(3) makes it.
	const cpuClock = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuClock), &ts); err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// live is the heap that is left after a collection, in bytes.
func (g gauge) live(ctx context.Context) (int64, error) {
	var last int64
	// What a pool has lent and got back goes with the second collection.
	for range 3 {
		n, err := g.collect(ctx)
		if err != nil {
			return 0, fmt.Errorf("read the scaler's heap: %w", err)
		}
		last = n
	}
	return last, nil
}

func (g gauge) collect(ctx context.Context) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.pprof+"/debug/pprof/heap?gc=1&debug=1", http.NoBody)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	found := int64(-1)
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "# HeapAlloc = "); ok {
			if found, err = strconv.ParseInt(rest, 10, 64); err != nil {
				return 0, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	if found < 0 {
		return 0, fmt.Errorf("HTTP %s without HeapAlloc", response.Status)
	}
	return found, nil
}
