package vllm

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Port is where KAITO's pods serve HTTP.
const Port = 5000

// Mode is how a pod answers on its port.
type Mode int

const (
	// Serving answers as vLLM does.
	Serving Mode = iota
	// Downloading answers /metrics with the stub's page, which has no vllm:*.
	Downloading
	// Hung accepts connections and never answers.
	Hung
	// Refused has no listener.
	Refused
	// Garbage answers everything with an HTML page and status 200.
	Garbage
)

func (m Mode) String() string {
	switch m {
	case Serving:
		return "serving"
	case Downloading:
		return "downloading"
	case Hung:
		return "hung"
	case Refused:
		return "refused"
	case Garbage:
		return "garbage"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

var (
	// ErrBusy is KAITO's guard saying no: status 429.
	ErrBusy = errors.New("vllm: 429, too many requests waiting")
	// ErrDown means that the pod doesn't answer requests now.
	ErrDown = errors.New("vllm: the pod is not serving")
)

// Options of a pod. The zero value is one engine of phi-4-mini, serving.
type Options struct {
	// Model is the engine's; Phi4MiniA100 if its name is empty.
	Model Model
	// Engines is the number of data-parallel engines behind the page, 1 if 0.
	Engines int
	// Mode is how the pod answers at first.
	Mode Mode
	// SlowPage is how its page comes under load; prompt in the zero value.
	SlowPage SlowPage
	// Listen is the host:port to listen on, for a pod that is a real one; "" is
	// Port of a free loopback address.
	Listen string
}

// SlowPage makes the page of a loaded pod come late. vLLM's API server shares
// its process with much of the work, so a saturated one answers after seconds.
type SlowPage struct {
	// From is the share of MaxNumSeqs, all engines together, that has to run for
	// the page to be late.
	From float64
	// Delay is how much later it comes then. It shows what is true at its end.
	Delay time.Duration
}

// Pod is a simulated vLLM pod with an address of its own.
type Pod struct {
	ip string
	// visits counts the connections that were ever made to it.
	visits atomic.Int64

	// mu guards what follows. It is never held across network I/O.
	mu       sync.Mutex
	model    Model
	engines  []*Engine
	started  time.Time // of the simulated process
	mode     Mode
	delay    time.Duration
	slowPage SlowPage
	modeOver chan struct{} // closed when mode changes; hung answers end then
	closed   bool
	server   *server // nil while refused
}

// Start starts a pod on a free loopback address.
func Start(o Options) (*Pod, error) {
	if o.Model.Name == "" {
		o.Model = Phi4MiniA100()
	}
	listener, err := listen(o.Listen)
	if err != nil {
		return nil, err
	}
	p := &Pod{
		ip:       listener.Addr().(*net.TCPAddr).IP.String(),
		model:    o.Model,
		mode:     o.Mode,
		slowPage: o.SlowPage,
		modeOver: make(chan struct{}),
	}
	p.boot(max(o.Engines, 1), time.Now())
	if o.Mode == Refused {
		// The address was only to be found; nobody listens on it yet.
		return p, listener.Close()
	}
	p.server = serve(listener, p)
	return p, nil
}

// boot gives the pod a new process with fresh engines. Caller holds mu.
func (p *Pod) boot(engines int, now time.Time) {
	p.started = now
	p.engines = make([]*Engine, engines)
	for i := range p.engines {
		p.engines[i] = NewEngine(p.model, now)
	}
}

// IP is the pod's loopback address, its own until Close.
func (p *Pod) IP() string { return p.ip }

// Visits is how many connections were made to the pod, by whomever.
func (p *Pod) Visits() int64 { return p.visits.Load() }

// Addr is host:port.
func (p *Pod) Addr() string { return net.JoinHostPort(p.ip, strconv.Itoa(Port)) }

// Mode returns how the pod answers now.
func (p *Pod) Mode() Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// SetMode changes how the pod answers. The engines run on.
func (p *Pod) SetMode(m Mode) error {
	p.mu.Lock()
	if p.closed || p.mode == m {
		p.mu.Unlock()
		return nil
	}
	p.mode = m
	close(p.modeOver)
	p.modeOver = make(chan struct{})
	var stop *server
	if m == Refused {
		stop, p.server = p.server, nil
	}
	listen := m != Refused && p.server == nil
	p.mu.Unlock()

	stop.close()
	if !listen {
		return nil
	}
	return p.listenAgain()
}

// listenAgain opens the pod's address after it was refused.
func (p *Pod) listenAgain() error {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.ParseIP(p.ip), Port: Port})
	if err != nil {
		return fmt.Errorf("listening again on the pod's address: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.server != nil || p.mode == Refused {
		return listener.Close() // somebody changed the mode meanwhile
	}
	p.server = serve(listener, p)
	return nil
}

// SetDelay makes the pod answer that much later, as a saturated one does whose
// API server is starved.
func (p *Pod) SetDelay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// SetSlowPage changes how the page comes under load. A request for it that waits
// already goes on to wait.
func (p *Pod) SetSlowPage(s SlowPage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slowPage = s
}

// pageDelay is how much later a page that is asked for now comes.
func (p *Pod) pageDelay() time.Duration {
	running := 0
	p.each(0, func(e *Engine, _ int) { running += e.Running() })
	p.mu.Lock()
	defer p.mu.Unlock()
	seats := p.model.MaxNumSeqs * len(p.engines)
	if p.slowPage.Delay == 0 || p.mode != Serving || float64(running) < p.slowPage.From*float64(seats) {
		return 0
	}
	return p.slowPage.Delay
}

// Restart ends the process and starts another: requests are lost, counters
// begin at zero, process_start_time_seconds changes, and so do pins.
func (p *Pod) Restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.boot(len(p.engines), time.Now())
}

// Close ends the pod and joins all its goroutines.
func (p *Pod) Close() {
	p.mu.Lock()
	stop := p.server
	p.server = nil
	if !p.closed {
		p.closed = true
		p.mode = Refused
		close(p.modeOver)
	}
	p.mu.Unlock()
	stop.close()
}

// Submit hands the pod a request of so many tokens, as POST /v1/completions
// would. It returns at once: ErrBusy when the guard refuses, ErrDown when the
// pod doesn't serve, nil when the request is in.
func (p *Pod) Submit(prompt, output int) error {
	_, err := p.submit(prompt, output)
	return err
}

func (p *Pod) submit(prompt, output int) (*Request, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode != Serving {
		return nil, ErrDown
	}
	now := time.Now()
	least := p.engines[0]
	for _, e := range p.engines {
		e.Advance(now)
		if e.inFlight() < least.inFlight() {
			least = e
		}
	}
	r := least.Submit(now, prompt, output)
	if r == nil {
		return nil, ErrBusy
	}
	return r, nil
}

// each runs f on every engine, with the share of total that falls to it.
func (p *Pod) each(total int, f func(e *Engine, share int)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for i, e := range p.engines {
		e.Advance(now)
		share := total / len(p.engines)
		if i < total%len(p.engines) {
			share++
		}
		f(e, share)
	}
}

// SetWaiting pins the number of waiting requests that the page shows, all
// engines together. Unless running is pinned too, the batch shows as full when
// n > 0, and as empty when n is 0. While anything is pinned the pod's real
// requests rest.
func (p *Pod) SetWaiting(n int) {
	p.each(n, func(e *Engine, share int) { e.pinned.waiting = &share })
}

// SetRunning pins the number of running requests that the page shows.
func (p *Pod) SetRunning(n int) {
	p.each(n, func(e *Engine, share int) { e.pinned.running = &share })
}

// SetKVUsage pins the KV cache usage, 0 to 1, of each engine.
func (p *Pod) SetKVUsage(usage float64) {
	p.each(0, func(e *Engine, _ int) { e.pinned.kvUsage = &usage })
}

// Unpin lets the gauges show the engine again.
func (p *Pod) Unpin() {
	p.each(0, func(e *Engine, _ int) { e.pinned = pin{} })
}

// Freeze stops the engines, or lets them go on: the page still answers, its
// gauges stand still.
func (p *Pod) Freeze(frozen bool) {
	p.each(0, func(e *Engine, _ int) { e.Freeze(e.clock, frozen) })
}

// StartBenchmark loads the pod as KAITO's start-up benchmark does: 2048 tokens
// in, 256 out, and more requests than fit in a batch.
func (p *Pod) StartBenchmark() {
	p.each(0, func(e *Engine, _ int) { e.SetBenchmark(e.clock, e.model.MaxNumSeqs*5/4, 2048, 256) })
}

// StopBenchmark ends that load; the counters keep it.
func (p *Pod) StopBenchmark() {
	p.each(0, func(e *Engine, _ int) { e.SetBenchmark(e.clock, 0, 0, 0) })
}

// Stats is what a person wants to see of a pod, all engines together.
type Stats struct {
	Running, Waiting int
	// KVUsage is the mean over engines, 0 to 1.
	KVUsage float64
	// Finished and Rejected count requests since the process started.
	Finished, Rejected             uint64
	PromptTokens, GenerationTokens uint64
	// TTFT and ITL are means since the process started, in seconds.
	TTFT, ITL float64
}

// Stats returns the pod's numbers as of now.
func (p *Pod) Stats() Stats {
	var s Stats
	p.each(0, func(e *Engine, _ int) {
		n := float64(len(p.engines))
		s.Running += e.Running()
		s.Waiting += e.Waiting()
		s.KVUsage += e.KVUsage() / n
		s.Finished += e.stats.finished
		s.Rejected += e.stats.rejected
		s.PromptTokens += e.stats.promptTokens
		s.GenerationTokens += e.stats.generationTokens
		s.TTFT += e.stats.ttft.mean() / n
		s.ITL += e.stats.itl.mean() / n
	})
	return s
}

// Load is the number of requests in the pod, for balancers.
func (p *Pod) Load() int {
	n := 0
	p.each(0, func(e *Engine, _ int) { n += e.inFlight() })
	return n
}
