package overlay

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const program = `package main

import "fmt"

func main() { fmt.Print("one", "two") }
`

// What is compiled is the edited text; the file stays as it is.
func TestEditedCodeIsCompiled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := Edit(file, Change{`"one"`, `"three"`}, Change{`"three", "two"`, `"four"`})
	if err != nil {
		t.Fatal(err)
	}
	overlaid, err := Write(filepath.Join(t.TempDir(), "new"), map[string]string{file: text})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "run", "-overlay="+overlaid, file).CombinedOutput()
	if err != nil || string(out) != "four" {
		t.Errorf("it says %q, %v", out, err)
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != program {
		t.Errorf("the file has become %s, %v", now, err)
	}
}

func TestATextThatIsNotThereOnceIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{`"three"`: "has 0 times", "main": "has 2 times"} {
		if _, err := Edit(file, Change{from, ""}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want that it %s", from, err, want)
		}
	}
}
