package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

func TestMain(m *testing.M) {
	silence()
	goleak.VerifyTestMain(m)
}

// hasty is the demo in a minute: the same script, with an HPA that looks often
// and replicas that are quick to start.
func hasty() pace {
	p := leisurely()
	p.HPASync, p.Defaults = 2*time.Second, 10*time.Second
	p.Calm, p.Rise, p.Read = 2*time.Second, 8*time.Second, 2*time.Second
	// A window as long as the cooldown keeps a step down that far from the last
	// one up: the HPA takes back steps up of its period along with the step down.
	p.Window, p.UpCooldown, p.DownCooldown = 5*time.Second, 5*time.Second, 4*time.Second
	p.Startup = kaito.Stages{Node: time.Second, Download: time.Second, Engine: time.Second, Benchmark: time.Second}
	return p
}

func TestTheDemoRunsToItsGoodEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a control plane for more than a minute")
	}
	var out, problems bytes.Buffer
	if code := run(t.Context(), []string{"--plain"}, hasty(), &out, &problems); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, out.String(), problems.String())
	}
	for _, want := range []string{
		`scaledobject.kaito.sh/threshold: "10"`,
		"kubectl annotate inferenceset phi-4 scaledobject.kaito.sh/evaluationwindow=5 " +
			"scaledobject.kaito.sh/scaleupcooldown=5 scaledobject.kaito.sh/scaledowncooldown=4",
		"event ScaledObjectCreated", "event ScalingUp", "event ScalingDown",
		"✓ After the load: back to 1 replica",
		"All is well.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("escape codes in plain lines")
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("processes left behind: %s", left)
	}
}

func TestAnInterruptIsAnOrderlyEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and boots a control plane")
	}
	// Before anything, in the middle of the boot, and in the first scene.
	for _, after := range []string{"", "etcd is ready", "== The YAML is applied"} {
		t.Run(after, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &trap{word: after, spring: cancel}
			if after == "" {
				cancel()
			}
			var problems bytes.Buffer
			if code := run(ctx, []string{"--plain"}, hasty(), out, &problems); code != 0 {
				t.Errorf("exit code %d: %s", code, problems.String())
			}
			if !strings.HasSuffix(out.text.String(), "interrupted: everything stopped\n") {
				t.Errorf("no word of the interrupt:\n%s", out.text.String())
			}
			if left := children(t); len(left) > 0 {
				t.Errorf("processes left behind: %s", left)
			}
		})
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a control plane")
	}
	p := hasty()
	p.Patience = -time.Hour // nothing comes in time
	var out, problems bytes.Buffer
	if code := run(t.Context(), []string{"--plain"}, p, &out, &problems); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, want := range []string{"a first replica that serves (0 do)", "--- kube-apiserver (", "--- scaler ("} {
		if !strings.Contains(problems.String(), want) {
			t.Errorf("no %q in\n%s", want, problems.String())
		}
	}
	if strings.Contains(out.String(), "All is well.") {
		t.Errorf("all is called well in\n%s", out.String())
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("processes left behind: %s", left)
	}
}

// trap is an output that calls spring at a word.
type trap struct {
	text   bytes.Buffer // not embedded: its WriteString would go around Write
	word   string
	spring func()
}

func (t *trap) Write(p []byte) (int, error) {
	if strings.Contains(string(p), t.word) {
		t.spring()
	}
	return t.text.Write(p)
}

// children are the command lines of this process's children, where /proc tells.
func children(t *testing.T) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		// pid (comm) state ppid …, and comm may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

func TestFlagsSayWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--help"}, 0, "plain lines"},
		{[]string{"--fast"}, 2, "flag provided but not defined: -fast"},
		{[]string{"please"}, 2, `unexpected argument "please"`},
	} {
		var problems bytes.Buffer
		if code := run(t.Context(), tt.args, hasty(), &bytes.Buffer{}, &problems); code != tt.code {
			t.Errorf("%q: exit code %d, want %d", tt.args, code, tt.code)
		}
		if !strings.Contains(problems.String(), tt.says) {
			t.Errorf("%q says %q, want %q", tt.args, problems.String(), tt.says)
		}
	}
}

func TestTheQuickStartIsTheExample(t *testing.T) {
	quick, err := quickStart()
	if err != nil {
		t.Fatal(err)
	}
	if got := quick.object.GetName() + " " + quick.object.GroupVersionKind().String(); got != "phi-4 kaito.sh/v1alpha1, Kind=InferenceSet" {
		t.Errorf("the quick start is %s", got)
	}
	annotations := quick.object.GetAnnotations()
	if annotations["scaledobject.kaito.sh/threshold"] != "10" || annotations["scaledobject.kaito.sh/auto-provision"] != "true" {
		t.Errorf("annotations %v", annotations)
	}
}

func TestEnginesThatAreNotKnownAreRefused(t *testing.T) {
	var problems bytes.Buffer
	code := run(t.Context(), []string{"--engines=gpu"}, hasty(), &bytes.Buffer{}, &problems)
	if want := "demo: engines \"gpu\" are not known: they must be simulated or vllm\n"; code != 2 || problems.String() != want {
		t.Errorf("exit code %d: %s", code, problems.String())
	}
}
