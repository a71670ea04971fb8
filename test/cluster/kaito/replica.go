package kaito

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// Stage is where a replica is in its life.
type Stage int

// The stages, in their order.
const (
	// AwaitingNode has a Workspace and no pod yet.
	AwaitingNode Stage = iota
	// Downloading answers with the download stub's page.
	Downloading
	// StartingEngine refuses connections while the engine loads.
	StartingEngine
	// Benchmarking serves KAITO's own load, NotReady.
	Benchmarking
	// Ready has started. It may be failing since, see Replica.Ready.
	Ready
	// Terminating is being deleted.
	Terminating
)

func (s Stage) String() string {
	names := [...]string{"awaiting node", "downloading", "starting engine", "benchmarking", "ready", "terminating"}
	if s < 0 || int(s) >= len(names) {
		return fmt.Sprintf("Stage(%d)", int(s))
	}
	return names[s]
}

// Stages says how long each stage of a start takes; 0 skips it.
type Stages struct {
	Node, Download, Engine, Benchmark time.Duration
}

func (s Stages) of(stage Stage) time.Duration {
	switch stage {
	case AwaitingNode:
		return s.Node
	case Downloading:
		return s.Download
	case StartingEngine:
		return s.Engine
	case Benchmarking:
		return s.Benchmark
	default:
		return 0
	}
}

// Failure is something that goes wrong with a replica on request.
type Failure int

// The failures. Those of one group replace each other, those of different
// groups add up; Recover ends all.
const (
	// Hung accepts connections and never answers. The pod stays Ready.
	Hung Failure = iota
	// Refused refuses connections. The pod stays Ready.
	Refused
	// Garbage answers with HTML and status 200. The pod stays Ready.
	Garbage
	// Frozen answers, with gauges that stand still.
	Frozen

	// NotReady fails the probes: pod condition Ready False, Workspace state
	// NotReady. It answers as before, as a saturated pod does.
	NotReady
	// Crash is a container in a crash loop: InferenceReady False with reason
	// ContainerCrashLoopBackOff.
	Crash
	// ImagePull is an image that can't be had: reason ImagePullError.
	ImagePull
	// Quota is a node that the cloud refuses: NodeClaimReady False.
	Quota

	// StuckStarting never leaves its present stage.
	StuckStarting

	// Restart happens once: the container's process ends and another starts,
	// with counters at zero. The pod is Ready again when its engine is.
	Restart
)

// Replica is one replica as of when it was asked for.
type Replica struct {
	// Workspace is its Workspace's name, Pod its first pod's.
	Workspace, Pod string
	Created        time.Time
	Stage          Stage
	// Ready says whether the first pod's condition Ready is True or is just
	// becoming it, and the replica is to stay.
	Ready bool
	// Served says whether the first pod's condition Ready has stood in the API
	// server since its engine started: no request goes to a pod before that, for
	// whoever sends them looks there. It stays when the probes fail.
	Served bool
	// VLLM is the simulated first pod. It holds the address alone if the replica has a
	// real engine, which serves there.
	VLLM *vllm.Pod

	uid  types.UID
	k    *KAITO
	real bool // it has a real engine
}

// Fail makes the replica fail. How it answers changes at once; the objects
// follow.
func (r Replica) Fail(f Failure) error {
	if r.real && (f == Refused || f == Garbage) {
		return errNoEngineDoesThat
	}
	return r.change(func(s *replica) { s.fail(f, time.Now()) })
}

// Recover ends all failures.
func (r Replica) Recover() error {
	return r.change(func(s *replica) { s.recover(time.Now()) })
}

func (r Replica) change(f func(*replica)) error {
	r.k.mu.Lock()
	s, ok := r.k.replicas[r.uid]
	if !ok || s.dying {
		r.k.mu.Unlock()
		return fmt.Errorf("replica %s is gone", r.Workspace)
	}
	if s.first == nil {
		r.k.mu.Unlock()
		return errNoSimulation
	}
	f(s)
	r.k.mu.Unlock()
	err := r.k.adjust(s)
	r.k.look(s.set)
	return err
}

// replica is what the stand-in knows of one. KAITO.mu guards its fields.
type replica struct {
	set       types.NamespacedName
	uid       types.UID // of the Workspace
	workspace string
	created   time.Time
	nodes     int
	// startup is what the options said when the replica was made.
	startup Stages

	stage Stage
	since time.Time // when the stage began
	// dying replicas stay in their stage and answer as before, to their end.
	dying bool
	// wasReady tells a Workspace that is NotReady from a Pending one.
	wasReady    bool
	benchmarked bool
	restarts    int32

	answer  *Failure // Hung … Frozen
	trouble *Failure // NotReady … Quota
	stuck   bool

	// first is the pod that serves; workers only have addresses. On a real node
	// there are none of either.
	first   *vllm.Pod
	workers []*vllm.Pod
	// engines starts the replica's real engine, nil if it has none; engine is the one
	// that runs. healthy and measured are set once /health has answered and the
	// start-up benchmark is over.
	engines           func(ip string) (Engine, error)
	engine            *run
	healthy, measured bool
	// peak is the benchmark's result, tokens a minute.
	peak float64
	// ending counts engines that have until the end of their grace period.
	ending sync.WaitGroup
	// podUID is the first pod's object, empty before there is one.
	podUID types.UID
	// served tells that its condition Ready was written in this stage.
	served bool

	// adjusting makes adjust's changes to the pod one at a time. It is taken
	// before KAITO.mu.
	adjusting sync.Mutex
	// What the pod was brought to. Only changes are applied, so that a test may
	// change the pod behind the stand-in's back.
	adjusted adjustment
}

// adjustment is how a simulated pod is to be.
type adjustment struct {
	stage    Stage
	restarts int32
	frozen   bool
	mode     vllm.Mode
	// down and dying are for real engines: the container doesn't run, or ends.
	down, dying bool
}

func (r *replica) fail(f Failure, now time.Time) {
	switch f {
	case Hung, Refused, Garbage, Frozen:
		r.answer = &f
	case NotReady, Crash, ImagePull, Quota:
		r.trouble = &f
	case StuckStarting:
		r.stuck = true
	case Restart:
		r.restarts++
		r.stage, r.since, r.served = StartingEngine, now, false
		r.healthy, r.measured = false, false
		r.startup.Benchmark = 0 // it has been measured
	}
}

func (r *replica) recover(now time.Time) {
	if r.engines != nil && r.trouble != nil && *r.trouble != NotReady {
		// Its engine has ended.
		r.stage, r.since, r.served = min(r.stage, StartingEngine), now, false
		r.healthy, r.measured = false, false
	}
	r.answer, r.trouble, r.stuck = nil, nil, false
}

// advance moves the replica through its start, and returns when to look again:
// zero when nothing is due.
func (r *replica) advance(now time.Time) time.Time {
	for r.stage < Ready && !r.dying {
		if r.stuck || (r.trouble != nil && *r.trouble != NotReady) {
			// It goes on from the beginning of its stage once it can.
			r.since = now
			return time.Time{}
		}
		if r.awaitsEngine() {
			r.since = now
			return time.Time{} // its engine has the controller look again
		}
		due := now
		if !r.paced() {
			due = r.since.Add(r.startup.of(r.stage))
		}
		if due.After(now) {
			return due
		}
		if r.stage == Benchmarking && r.startup.Benchmark > 0 {
			r.benchmarked = true
		}
		r.since = due
		r.stage++
	}
	r.wasReady = r.wasReady || r.ready()
	return time.Time{}
}

// paced says whether a real engine decides how long the stage takes.
func (r *replica) paced() bool {
	return r.engines != nil && (r.stage == StartingEngine || r.stage == Benchmarking)
}

// awaitsEngine says whether the stage ends with something that a real engine has yet
// to do.
func (r *replica) awaitsEngine() bool {
	return r.paced() && (!r.healthy || r.stage == Benchmarking && !r.measured)
}

// ready says whether the first pod's probes pass.
func (r *replica) ready() bool { return r.stage == Ready && r.trouble == nil }

// mode is how the first pod answers.
func (r *replica) mode() vllm.Mode {
	if r.trouble != nil && *r.trouble != NotReady {
		return vllm.Refused
	}
	if r.answer != nil && r.engines == nil {
		switch *r.answer {
		case Hung:
			return vllm.Hung
		case Refused:
			return vllm.Refused
		case Garbage:
			return vllm.Garbage
		default:
		}
	}
	switch {
	case r.stage == Downloading:
		return vllm.Downloading
	case r.stage <= StartingEngine, r.engines != nil:
		return vllm.Refused
	default:
		return vllm.Serving
	}
}

// adjust brings the simulated pod to what the replica's fields say.
func (k *KAITO) adjust(r *replica) error {
	r.adjusting.Lock()
	defer r.adjusting.Unlock()
	k.mu.Lock()
	pod, was := r.first, r.adjusted
	is := adjustment{stage: r.stage, restarts: r.restarts, mode: r.mode()}
	is.frozen = r.answer != nil && *r.answer == Frozen
	hasEngine := r.engines != nil
	if hasEngine {
		is.frozen = r.answer != nil // hung: all its processes are stopped
		is.down = r.trouble != nil && *r.trouble != NotReady
		is.dying = r.dying
	}
	k.mu.Unlock()
	if hasEngine {
		return k.adjustReal(r, was, is)
	}

	if (is.stage >= StartingEngine && was.stage < StartingEngine) || is.restarts != was.restarts {
		pod.Restart()
	}
	if is.stage == Benchmarking && was.stage < Benchmarking {
		pod.StartBenchmark()
	}
	if is.stage != Benchmarking && was.stage == Benchmarking {
		pod.StopBenchmark()
	}
	if is.frozen != was.frozen {
		pod.Freeze(is.frozen)
	}
	r.adjusted = is
	if is.mode == was.mode {
		return nil
	}
	return pod.SetMode(is.mode)
}

// adjustReal does the same with a real engine, once nobody else listens at its address.
// The caller holds adjusting.
func (k *KAITO) adjustReal(r *replica, was, is adjustment) error {
	if is.mode != was.mode {
		if err := r.first.SetMode(is.mode); err != nil {
			return err
		}
	}
	if err := k.adjustEngine(r, was, is); err != nil {
		return err
	}
	r.adjusted = is
	return nil
}

// boot gives the replica simulated pods of its own.
func (r *replica) boot(o Options) error {
	var err error
	r.adjusted.mode = vllm.Refused
	r.engines = o.Engines
	r.first, err = vllm.Start(vllm.Options{Model: o.Model, Engines: o.EnginesPerPod, Mode: vllm.Refused, SlowPage: o.SlowPage})
	if err != nil {
		return err
	}
	for range r.nodes - 1 {
		worker, err := vllm.Start(vllm.Options{Mode: vllm.Refused})
		if err != nil {
			r.close()
			return err
		}
		r.workers = append(r.workers, worker)
	}
	return nil
}

func (r *replica) close() {
	if r.first == nil { // its pod is a node's
		return
	}
	r.ending.Wait()
	r.adjusting.Lock()
	if r.engine != nil {
		r.engine.end(0)
	}
	r.adjusting.Unlock()
	r.first.Close()
	for _, w := range r.workers {
		w.Close()
	}
}

func (r *replica) view(k *KAITO) Replica {
	v := Replica{
		Workspace: r.workspace,
		Pod:       r.workspace + "-0",
		Created:   r.created,
		Stage:     r.stage,
		Ready:     r.ready() && !r.dying,
		Served:    r.served,
		VLLM:      r.first,
		uid:       r.uid,
		k:         k,
		real:      r.engines != nil,
	}
	if r.dying {
		v.Stage, v.Served = Terminating, false
	}
	return v
}
