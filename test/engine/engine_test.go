package engine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatCannotBeEmulatedIsRefused(t *testing.T) {
	speculating := SlowGPU()
	speculating.Speculation = simulate.Speculation{Tokens: 3, Acceptance: 0.6}
	for want, physics := range map[string]simulate.Engine{
		"speculation isn't emulated": speculating, "the description isn't one": {Name: "nothing"},
	} {
		_, err := Installation{Python: "/bin/false"}.Start(Options{Physics: physics, Dir: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// The simulator and the plugin read the same file.
func TestTheSimulatorsEnginesStartToo(t *testing.T) {
	for _, physics := range append(simulate.Engines, SlowGPU()) {
		if err := check(physics); err != nil {
			t.Errorf("%s: %v", physics.Name, err)
		}
		bytes, err := json.Marshal(physics)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := simulate.ParseEngine(bytes); err != nil || got != physics {
			t.Errorf("%s isn't what it was: %+v, %v", physics.Name, got, err)
		}
	}
}

func TestABusyMachineIsNoticed(t *testing.T) {
	read := func(line string) cpu {
		c, err := parseCPU([]byte(line + "\ncpu0 1 2 3 4 5 6 7 8 9 10\n"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := read("cpu  100 200 300 1000 10 0 0 0 0 0")
	// user has the guests' 10 in it.
	if got := read("cpu  150 220 310 1015 15 0 0 0 10 0").idleSince(before); got != 0.2 {
		t.Errorf("idle %v of the time, want 0.2", got)
	}
	if _, err := parseCPU([]byte("intr 1 2 3\n")); err == nil {
		t.Error("another line is taken")
	}
}

// A program that acts as an engine's Python: a script in place of vLLM.
func fake(t *testing.T, script string) *Engine {
	t.Helper()
	python := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(python, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	e, err := Installation{Python: python}.Start(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)
	return e
}

func TestAnEngineThatEndsByItselfSaysWhy(t *testing.T) {
	e := fake(t, "echo loading; echo 'OSError: no such model' >&2; exit 1")
	err := e.AwaitReady(t.Context())
	if err == nil || !strings.Contains(err.Error(), "OSError: no such model") || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %v", err)
	}
}

func TestAnEngineEndsWithAllItsProcesses(t *testing.T) {
	// A child that its parent leaves behind, as an engine core whose API server was
	// killed.
	for name, end := range map[string]func(e *Engine){
		"stopped": func(e *Engine) { e.Stop(1 << 40) },
		"out of patience": func(e *Engine) {
			if err := e.Suspend(); err != nil {
				t.Error(err)
			}
			e.Stop(1)
		},
		"killed": (*Engine).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			e := fake(t, "/bin/sleep 1000 & echo $! > child; wait")
			pid := awaitFile(t, filepath.Join(e.cmd.Dir, "child"))
			end(e)
			if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(stat), ") Z") {
				t.Errorf("process %s is left: %s", pid, stat)
			}
			if err := e.Err(); err != nil {
				t.Errorf("an end that was asked for is an error: %v", err)
			}
		})
	}
}

func awaitFile(t *testing.T, path string) string {
	t.Helper()
	for t.Context().Err() == nil {
		if content, err := os.ReadFile(path); err == nil && len(content) > 0 {
			return strings.TrimSpace(string(content))
		}
	}
	return ""
}

// Two engines have twice the seats, and an adapter is two files that vLLM takes.
func TestAnEngineOfSeveralProcessesAndAnAdapter(t *testing.T) {
	python := filepath.Join(t.TempDir(), "python")
	const script = "#!/bin/sh\n" + `echo "$*"; echo "seats $KEDA_ENGINE_SEATS"; /bin/ls adapter`
	if err := os.WriteFile(python, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	e, err := Installation{Python: python}.Start(Options{Dir: t.TempDir(), DataParallel: 2, APIServers: 3, Adapter: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)
	<-e.Done()
	for _, want := range []string{
		"-m vllm.entrypoints.cli.main serve --api-server-count 3 --data-parallel-size 2 --enable-lora --lora-modules adapter=",
		"\nseats 32\n", "adapter_config.json\nadapter_model.safetensors",
	} {
		if !strings.Contains(e.Tail(100), want) {
			t.Errorf("%q isn't among it:\n%s", want, e.Tail(100))
		}
	}
}

func TestAnEngineIsToldWhatItsGPUIs(t *testing.T) {
	e := fake(t, `echo "$*"; echo "$KEDA_ENGINE_SEATS"; /bin/cat "$KEDA_ENGINE_PHYSICS" plugin/keda_engine-1.dist-info/entry_points.txt; /bin/ls model`)
	<-e.Done()
	for _, want := range []string{
		"--max-num-seqs 16 ", "--max-num-batched-tokens 2048 ", "--num-gpu-blocks-override 2048 ", "\n16\n",
		`"alphaSeconds":0.03`, "keda_engine.steps:register", "tokenizer.json",
	} {
		if !strings.Contains(e.Tail(100), want) {
			t.Errorf("%q isn't among it:\n%s", want, e.Tail(100))
		}
	}
}
