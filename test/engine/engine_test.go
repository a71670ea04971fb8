package engine

import (
	"encoding/json"
	"errors"
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

// An engine that is bound to one core waits for that core: what another one does makes it
// neither slower nor idle.
func TestABusyMachineIsNoticed(t *testing.T) {
	const (
		before = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 200 300 1000 10 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\ncpu10 5 5 5 5 5 5 5 5 5 5\nintr 1\n"
		// user has the guests' 10 in it.
		after = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 150 220 310 1015 15 0 0 0 10 0\ncpu1 10 0 0 90 0 0 0 0 0 0\ncpu10 5 5 5 5 5 5 5 5 5 5\nintr 1\n"
	)
	for allowed, want := range map[string]float64{"0": 0.2, "1": 0.9, "0-1": 0.55, "0,10": 0.2} {
		status := []byte("Name:\ttest\nCpus_allowed:\t3\nCpus_allowed_list:\t" + allowed + "\nMems_allowed:\t1\n")
		from, err1 := parseCPU([]byte(before), status)
		to, err2 := parseCPU([]byte(after), status)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if got := to.idleSince(from); got != want {
			t.Errorf("CPUs %s were idle %v of the time, want %v", allowed, got, want)
		}
	}
	for _, status := range []string{"Name:\ttest\n", "\nCpus_allowed_list:\t2\n", "\nCpus_allowed_list:\tall\n"} {
		if _, err := parseCPU([]byte(before), []byte(status)); err == nil {
			t.Errorf("%q is taken", status)
		}
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
