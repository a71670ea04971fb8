package kaito

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
)

var _ Engine = (*engine.Engine)(nil)

// standInEngine is an HTTP server in a real engine's place. It does nothing until the
// test says so.
type standInEngine struct {
	ip     string
	server *http.Server

	healthy, measured, drained chan struct{} // closed by the test
	asked                      chan string   // what the stand-in for KAITO did, in order
	once                       sync.Once
	done                       chan struct{}
	err                        error // set before done is closed
}

type engines struct {
	mu      sync.Mutex
	started []*standInEngine
}

func (e *engines) start(ip string) (Engine, error) {
	l, err := net.Listen("tcp4", net.JoinHostPort(ip, strconv.Itoa(vllm.Port))) //nolint:noctx // Listening takes no time.
	if err != nil {
		return nil, err
	}
	s := &standInEngine{
		ip: ip, healthy: make(chan struct{}), measured: make(chan struct{}), drained: make(chan struct{}),
		asked: make(chan string, 100), done: make(chan struct{}),
		server: &http.Server{ReadHeaderTimeout: time.Minute},
	}
	go func() { _ = s.server.Serve(l) }()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started = append(e.started, s)
	return s, nil
}

func (s *standInEngine) AwaitReady(ctx context.Context) error {
	select {
	case <-s.healthy:
		return nil
	case <-s.done:
		return errors.New("it has ended")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *standInEngine) Benchmark(ctx context.Context, _ time.Duration) float64 {
	select {
	case <-s.measured:
	case <-ctx.Done():
	}
	return 4200
}

func (s *standInEngine) Suspend() error { s.asked <- "suspend"; return nil }
func (s *standInEngine) Resume() error  { s.asked <- "resume"; return nil }

func (s *standInEngine) Stop(grace time.Duration) {
	s.asked <- "stop within " + grace.String()
	select {
	case <-s.drained:
	case <-time.After(grace):
	}
	s.end(nil)
}

func (s *standInEngine) Kill() { s.end(nil) }

func (s *standInEngine) end(err error) {
	s.once.Do(func() {
		_ = s.server.Close()
		s.err = err
		close(s.done)
	})
}

func (s *standInEngine) Done() <-chan struct{} { return s.done }

func (s *standInEngine) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// awaitEngine waits for the n-th engine to be started.
func (f fixture) awaitEngine(e *engines, n int) (s *standInEngine) {
	f.t.Helper()
	f.eventually("an engine", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.started) >= n {
			s = e.started[n-1]
		}
		return s != nil
	})
	return s
}

func (f fixture) awaitStage(set string, want Stage) (r Replica) {
	f.t.Helper()
	f.eventually("a replica that is "+want.String(), func() bool {
		all := f.kaito.Replicas("default", set)
		if len(all) == 1 {
			r = all[0]
		}
		return len(all) == 1 && r.Stage == want
	})
	return r
}

func TestARealEngineIsAReplicaFromItsStartToItsEnd(t *testing.T) {
	var started engines
	f := onControlPlane(t, Both, Options{
		Startup: Stages{Download: time.Millisecond, Benchmark: time.Hour}, Termination: time.Hour, Engines: started.start,
	})
	f.create("phi-4", 1)
	e := f.awaitEngine(&started, 1)

	// It is Ready once it is healthy and measured, however long that takes.
	if r := f.awaitStage("phi-4", StartingEngine); r.Ready || r.VLLM.IP() != e.ip {
		t.Errorf("it is ready: %v; it serves at %s, the replica is at %s", r.Ready, e.ip, r.VLLM.IP())
	}
	close(e.healthy)
	if r := f.awaitStage("phi-4", Benchmarking); r.Ready {
		t.Error("it is ready while it is benchmarked")
	}
	close(e.measured)
	r := f.awaitStage("phi-4", Ready)
	f.awaitPod(func(p *corev1.Pod) bool { return p.Status.PodIP == e.ip && podReady(p) })
	f.eventually("the benchmark's result", func() bool {
		p := f.set("phi-4").Status.Performance
		return p != nil && p.Metrics["aggregatedPeakTokensPerMinute"].Value == "4200"
	})

	// A node that hangs.
	if err := errors.Join(r.Fail(Hung), r.Recover()); err != nil {
		t.Fatal(err)
	}
	if a, b := <-e.asked, <-e.asked; a != "suspend" || b != "resume" {
		t.Errorf("it was asked to %s and to %s", a, b)
	}
	if err := r.Fail(Garbage); err == nil {
		t.Error("a real engine was made to send garbage")
	}

	// One that crashes is started again, at the same address.
	e.end(errors.New("out of memory"))
	again := f.awaitEngine(&started, 2)
	if again.ip != e.ip {
		t.Errorf("it is at %s, was at %s", again.ip, e.ip)
	}
	close(again.healthy)
	f.awaitPod(func(p *corev1.Pod) bool {
		return podReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1
	})

	// A deleted one may finish what it has, and its pod goes when it has ended.
	if err := f.DeleteAllOf(t.Context(), &InferenceSet{}, client.InNamespace("default")); err != nil {
		t.Fatal(err)
	}
	if got := <-again.asked; got != "stop within 1h0m0s" {
		t.Errorf("it was asked to %s", got)
	}
	f.awaitPod(func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	close(again.drained)
	<-again.Done()
}

// awaitPod waits until the only pod is as wanted.
func (f fixture) awaitPod(wanted func(*corev1.Pod) bool) {
	f.t.Helper()
	f.eventually("a pod as wanted", func() bool {
		pods := f.pods("phi-4")
		return len(pods) == 1 && wanted(&pods[0])
	})
}
