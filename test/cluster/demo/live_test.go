//go:build engines

package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

// The quick start, letter for letter, on real engines under a real KEDA and HPA: 1 → 3
// → 1 replicas with the demo's windows, and no request lost but those that vLLM aborts
// when it is told to end.
func TestTheQuickStartOnRealEngines(t *testing.T) {
	var out, problems bytes.Buffer
	code := run(t.Context(), []string{"--plain", "--engines=vllm"}, hasty(), io.MultiWriter(&out, os.Stdout), &problems)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, problems.String())
	}
	for _, want := range []string{
		`scaledobject.kaito.sh/threshold: "10"`, "and vLLM ", "✓ Under load: 1 → 3 replicas.",
		"✓ After the load: back to 1 replica", "All is well.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q", want)
		}
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("processes left behind: %s", left)
	}
}
