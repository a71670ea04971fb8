//go:build engines

package engine

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestThePlugin(t *testing.T) {
	installed, err := Install(t.Context(), os.Stderr, VersionForTests())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), installed.Python, "plugin_test.py")
	cmd.Env = append(os.Environ(), "PYTHONPATH=plugin", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "ok test_") != 4 {
		t.Errorf("%v\n%s", err, out)
	}
}
