package engine

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

const (
	// Port is where KAITO's pods serve HTTP.
	Port = 5000
	// blockSize is the KV cache's, in tokens. vLLM 0.26 and later take multiples of 32.
	blockSize = 32
)

// The plugin is put on the path of an engine's processes.
//
//go:embed all:plugin
var plugin embed.FS

// Options of an engine. The zero value is a SlowGPU on a free loopback address.
type Options struct {
	// Physics are SlowGPU's if it has no name.
	Physics simulate.Engine
	// IP is a loopback address of the engine's own; "" is any that is free.
	IP string
	// ContextLength is the longest prompt and answer together, in tokens; 0 is 8192,
	// or what the KV cache holds if that is less.
	ContextLength int
	// DataParallel is the number of engines behind the address, APIServers that of the
	// processes that serve HTTP, and write one page together; 0 is one.
	DataParallel, APIServers int
	// Adapter adds a LoRA adapter of AdapterName.
	Adapter bool
	// Flags are further ones of `vllm serve`.
	Flags []string
	// Dir gets the log, the model and the plugin. It must exist.
	Dir string
}

// Engine is a running vLLM: an API server and its engine core, in a process group.
type Engine struct {
	ip       string
	seats    int
	log      string
	cmd      *exec.Cmd
	stopping atomic.Bool
	done     chan struct{}
	err      error // readable once done is closed
}

// Start starts an engine and returns at once; AwaitReady waits until it serves, about
// 50 s on an idle core. Whoever starts one stops it. If this process dies, the
// engine does too.
func (i Installation) Start(o Options) (*Engine, error) {
	if o.Physics.Name == "" {
		o.Physics = SlowGPU()
	}
	if err := check(o.Physics); err != nil {
		return nil, fmt.Errorf("starting an engine: %w", err)
	}
	if o.IP == "" {
		ip, err := freeAddress()
		if err != nil {
			return nil, err
		}
		o.IP = ip
	}
	if err := prepare(o); err != nil {
		return nil, fmt.Errorf("preparing an engine: %w", err)
	}
	e := &Engine{ip: o.IP, seats: o.seats(), log: filepath.Join(o.Dir, "engine.log"), done: make(chan struct{})}
	log, err := os.OpenFile(e.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	e.cmd = exec.Command(i.Python, arguments(o)...) //nolint:gosec,noctx // Stop and Kill end it.
	e.cmd.Env = append(variables(o), "VLLM_CACHE_ROOT="+i.scratch())
	e.cmd.Dir = o.Dir
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = sysProcAttr()
	started := make(chan error, 1)
	go e.run(log, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting an engine: %w", err)
	}
	return e, nil
}

// prepare writes what an engine reads.
func prepare(o Options) error {
	model := filepath.Join(o.Dir, "model")
	if err := os.MkdirAll(model, 0o700); err != nil {
		return err
	}
	if err := writeModel(model); err != nil {
		return err
	}
	if o.Adapter {
		if err := writeAdapter(filepath.Join(o.Dir, AdapterName)); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(o.Dir, "physics.json"), o.Physics); err != nil {
		return err
	}
	files, err := fs.Sub(plugin, "plugin")
	if err != nil {
		return err
	}
	into := filepath.Join(o.Dir, "plugin")
	if err := os.RemoveAll(into); err != nil { // of an engine that ran here before
		return err
	}
	return os.CopyFS(into, files)
}

func arguments(o Options) []string {
	length := o.ContextLength
	if length == 0 {
		length = min(8192, o.Physics.KVTokens)
	}
	// KAITO's inference server is a wrapper of api_server, which is one process.
	program := []string{"-m", "vllm.entrypoints.openai.api_server"}
	if o.APIServers > 1 {
		program = []string{"-m", "vllm.entrypoints.cli.main", "serve", "--api-server-count", strconv.Itoa(o.APIServers)}
	}
	if o.DataParallel > 1 {
		program = append(program, "--data-parallel-size", strconv.Itoa(o.DataParallel))
	}
	if o.Adapter {
		program = append(program, "--enable-lora", "--lora-modules", AdapterName+"="+filepath.Join(o.Dir, AdapterName))
	}
	return slices.Concat(program, []string{
		"--host", o.IP, "--port", strconv.Itoa(Port),
		"--model", filepath.Join(o.Dir, "model"), "--served-model-name", ModelName,
		"--load-format", "dummy", "--enforce-eager", "--dtype", "bfloat16",
		"--max-model-len", strconv.Itoa(length),
		"--max-num-seqs", strconv.Itoa(o.Physics.MaxSeqs),
		"--max-num-batched-tokens", strconv.Itoa(o.Physics.Chunk),
		// As small as the GPU's, so that requests wait and are preempted as there.
		"--block-size", strconv.Itoa(blockSize),
		"--num-gpu-blocks-override", strconv.Itoa(o.Physics.KVTokens / blockSize),
		// What a pod with one GPU runs. By its short name the CPU's platform makes
		// another of it, whose engine core spins: a core for 2 requests a second.
		"--distributed-executor-backend", "vllm.v1.executor.uniproc_executor.UniProcExecutor",
		"--middleware", "keda_engine.guard.Guard",
		"--disable-uvicorn-access-log",
	}, o.Flags)
}

// seats is how many requests run at once.
func (o Options) seats() int { return o.Physics.MaxSeqs * max(o.DataParallel, 1) }

func variables(o Options) []string {
	return append(os.Environ(),
		"PYTHONPATH="+filepath.Join(o.Dir, "plugin"),
		"KEDA_ENGINE_PHYSICS="+filepath.Join(o.Dir, "physics.json"),
		"KEDA_ENGINE_SEATS="+strconv.Itoa(o.seats()),
		"VLLM_CPU_KVCACHE_SPACE=1", "VLLM_CPU_OMP_THREADS_BIND=nobind", "OMP_NUM_THREADS=1",
		"HF_HUB_OFFLINE=1", "VLLM_NO_USAGE_STATS=1", "VLLM_DO_NOT_TRACK=1",
		// Even without it vLLM has torch compile a few lines at the start: half a minute.
		"TORCHDYNAMO_DISABLE=1",
	)
}

// run starts the process and waits for it on one thread: Linux takes the end of the
// starting thread for the parent's death.
func (e *Engine) run(log io.Closer, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(e.done)
	defer func() { _ = log.Close() }()

	err := e.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = e.cmd.Wait()
	e.endGroup()
	if !e.stopping.Load() {
		e.err = fmt.Errorf("the engine at %s ended by itself: %w; the end of %s:\n%s", e.ip, errors.Join(err), e.log, e.Tail(25))
	}
}

// endGroup kills what the API server left behind, and waits until it is gone.
func (e *Engine) endGroup() {
	for e.signal(syscall.SIGKILL) == nil {
		time.Sleep(10 * time.Millisecond)
	}
}

// signal goes to all processes of the engine. It fails once there are none.
func (e *Engine) signal(s syscall.Signal) error { return syscall.Kill(-e.cmd.Process.Pid, s) }

// IP is the engine's loopback address.
func (e *Engine) IP() string { return e.ip }

// URL is the engine's, without a path.
func (e *Engine) URL() string { return "http://" + net.JoinHostPort(e.ip, strconv.Itoa(Port)) }

// LogFile is the path of the log.
func (e *Engine) LogFile() string { return e.log }

// Done is closed once no process of the engine is left.
func (e *Engine) Done() <-chan struct{} { return e.done }

// Err says why the engine ended, with the end of its log; nil while it runs and after
// an end that was asked for.
func (e *Engine) Err() error {
	select {
	case <-e.done:
		return e.err
	default:
		return nil
	}
}

// AwaitReady waits until /health answers 200.
func (e *Engine) AwaitReady(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if e.healthy(ctx) {
			return nil
		}
		select {
		case <-e.done:
			return errors.Join(e.err, errors.New("the engine has ended"))
		case <-ctx.Done():
			return fmt.Errorf("waiting for the engine at %s: %w; the end of %s:\n%s", e.ip, ctx.Err(), e.log, e.Tail(5))
		case <-tick.C:
		}
	}
}

// healthy asks once, as a kubelet's probe does.
func (e *Engine) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.URL()+"/health", http.NoBody)
	if err != nil {
		return false
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Stop asks the engine to end, as a kubelet does: SIGTERM to its first process, and
// SIGKILL to all after the grace period. It returns once all have ended.
func (e *Engine) Stop(grace time.Duration) {
	e.stopping.Store(true)
	_ = e.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-e.done:
	case <-timer.C:
		e.Kill()
	}
}

// Kill ends the engine at once and returns when it has.
func (e *Engine) Kill() {
	e.stopping.Store(true)
	_ = e.signal(syscall.SIGKILL)
	<-e.done
}

// Suspend stops all processes of the engine (SIGSTOP) until Resume: a node that hangs.
func (e *Engine) Suspend() error { return e.signal(syscall.SIGSTOP) }

// SuspendServer stops the API server alone until Resume, as a pod that gets no CPU. The
// engine core goes on.
func (e *Engine) SuspendServer() error { return e.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a suspended engine go on.
func (e *Engine) Resume() error { return e.signal(syscall.SIGCONT) }

// Tail returns at most the last n lines of the log.
func (e *Engine) Tail(n int) string {
	content, err := os.ReadFile(e.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// freeAddress finds a loopback address on whose Port nobody listens. 127.16.1.1 to
// 127.239.254.254 stays clear of those that people and resolvers use.
func freeAddress() (string, error) {
	const tries = 64
	for range tries {
		ip := net.IPv4(127, byte(16+rand.IntN(224)), byte(1+rand.IntN(254)), byte(1+rand.IntN(254)))
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: ip, Port: Port})
		if err == nil {
			return ip.String(), l.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return "", fmt.Errorf("listening on a loopback address: %w", err)
		}
	}
	return "", fmt.Errorf("no free loopback address in %d tries", tries)
}
