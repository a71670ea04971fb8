package kaito

import (
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// story moves one replica through its life without a pod or an API server.
type story struct {
	*replica
	t     *testing.T
	start time.Time
}

func begin(t *testing.T, s Stages) story {
	start := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	return story{&replica{startup: s, since: start}, t, start}
}

func (s story) at(d time.Duration, stage Stage, mode vllm.Mode, state string) {
	s.t.Helper()
	s.advance(s.start.Add(d))
	if s.stage != stage || s.mode() != mode || s.state() != state {
		s.t.Errorf("at %v: %v, %v, %s; want %v, %v, %s", d, s.stage, s.mode(), s.state(), stage, mode, state)
	}
}

func (s story) state() string { return state(s.replica) }

func TestLifeOfAReplica(t *testing.T) {
	s := begin(t, Stages{Node: time.Minute, Download: 2 * time.Minute, Engine: time.Minute, Benchmark: time.Minute})
	s.at(0, AwaitingNode, vllm.Refused, "Pending")
	s.at(time.Minute, Downloading, vllm.Downloading, "Pending")
	s.at(3*time.Minute, StartingEngine, vllm.Refused, "Pending")
	s.at(4*time.Minute, Benchmarking, vllm.Serving, "Pending")
	s.at(5*time.Minute, Ready, vllm.Serving, "Ready")

	s.fail(NotReady, s.start.Add(6*time.Minute))
	s.at(6*time.Minute, Ready, vllm.Serving, "NotReady")
	s.fail(Hung, s.start.Add(6*time.Minute))
	s.at(6*time.Minute, Ready, vllm.Hung, "NotReady")
	s.fail(Crash, s.start.Add(6*time.Minute))
	s.at(6*time.Minute, Ready, vllm.Refused, "NotReady")
	s.answer, s.trouble = nil, nil

	// A restart loads the engine again; the benchmark was run already.
	s.fail(Restart, s.start.Add(10*time.Minute))
	s.at(10*time.Minute, StartingEngine, vllm.Refused, "NotReady")
	s.at(11*time.Minute, Ready, vllm.Serving, "Ready")
}

func TestStuckStartGoesOnAfterRecovery(t *testing.T) {
	s := begin(t, Stages{Download: time.Minute})
	s.fail(StuckStarting, s.start)
	s.at(time.Hour, AwaitingNode, vllm.Refused, "Pending")
	s.stuck = false
	s.at(time.Hour+time.Second, Downloading, vllm.Downloading, "Pending")
	s.fail(Quota, s.start)
	s.at(2*time.Hour, Downloading, vllm.Refused, "Pending")
	s.trouble = nil
	s.at(2*time.Hour+time.Second, Downloading, vllm.Downloading, "Pending")
	s.at(2*time.Hour+time.Minute, Ready, vllm.Serving, "Ready")
}

func TestDyingReplicaAnswersAsBefore(t *testing.T) {
	s := begin(t, Stages{Download: time.Minute})
	s.at(time.Second, Downloading, vllm.Downloading, "Pending")
	s.dying = true
	s.at(time.Hour, Downloading, vllm.Downloading, "Pending")
}

func TestARealEngineDecidesHowLongItsStartTakes(t *testing.T) {
	s := begin(t, Stages{Download: time.Minute, Engine: time.Second, Benchmark: time.Second})
	s.engines = func(string) (Engine, error) { return nil, errNoSimulation }
	s.at(0, Downloading, vllm.Downloading, "Pending")
	s.at(time.Minute, StartingEngine, vllm.Refused, "Pending")
	s.at(time.Hour, StartingEngine, vllm.Refused, "Pending")
	s.healthy = true
	s.at(2*time.Hour, Benchmarking, vllm.Refused, "Pending")
	s.at(3*time.Hour, Benchmarking, vllm.Refused, "Pending")
	s.measured = true
	s.at(4*time.Hour, Ready, vllm.Refused, "Ready")

	// A crash ends the engine, so that recovery is another start.
	s.fail(Crash, s.start.Add(5*time.Hour))
	s.at(5*time.Hour, Ready, vllm.Refused, "NotReady")
	s.recover(s.start.Add(6 * time.Hour))
	s.at(7*time.Hour, StartingEngine, vllm.Refused, "NotReady")
	s.healthy, s.measured = true, true
	s.at(8*time.Hour, Ready, vllm.Refused, "Ready")

	// So is a restart.
	s.fail(Restart, s.start.Add(9*time.Hour))
	s.at(9*time.Hour, StartingEngine, vllm.Refused, "NotReady")
}
