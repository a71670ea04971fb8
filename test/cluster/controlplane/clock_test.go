package controlplane

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The copy of package time is Go's but for the jump.
func TestTheCopyOfPackageTimeJumps(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles package time and what imports it: not with -short")
	}
	goRoot, err := goOutput(t.Context(), ".", "env", "GOROOT")
	if err != nil {
		t.Fatal(err)
	}
	root, dir := t.TempDir(), t.TempDir()
	program := filepath.Join(root, "cmd", "keda-kaito-scaler")
	if err := os.MkdirAll(program, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		filepath.Join(root, "go.mod"): "module example.com/clock\n",
		filepath.Join(program, "main.go"): `package main

import (
	"fmt"
	"time"
)

func main() {
	before := time.Now()
	time.Jump.Add(3600)
	after := time.Now()
	fmt.Println(after.Round(0).Sub(before.Round(0)).Round(time.Minute), after.Sub(before).Round(time.Minute))
}
`,
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := jumpy(goRoot, root, dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "-overlay="+overlay, "./cmd/keda-kaito-scaler")
	cmd.Dir, cmd.Env = root, goEnv("CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.TrimSpace(string(out)); got != "1h0m0s 0s" {
		t.Errorf("the wall clock and the monotonic one went on by %s, want 1h0m0s 0s", got)
	}
}
