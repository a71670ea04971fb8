package controlplane

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// tested is a cluster that tests run on.
type tested interface {
	Err() error
	DumpLogs(to io.Writer, lines int)
	Stop() error
}

// RunTests runs tests on a cluster that is up, then stops it, and cancels the
// context that it was started with. The exit code is that of the tests, or 1 if a
// component ended meanwhile or anything goes on after the stop. If it isn't 0, so
// many lines of each component's log are shown.
func RunTests(m *testing.M, cluster tested, cancel context.CancelFunc, logLines int) int {
	code := m.Run()
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	fail(cluster.Err())
	if code != 0 {
		cluster.DumpLogs(os.Stderr, logLines)
	}
	fail(cluster.Stop())
	cancel()
	if code == 0 { // a test that fails leaves goroutines behind
		fail(goleak.Find())
	}
	return code
}
