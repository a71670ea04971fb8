package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/engines"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/load"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	engineload "github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// generator is the users' load.
type generator interface {
	SetRate(requestsPerSecond float64)
	Rate() float64
	Stats() load.Stats
	Stop()
}

// machines are what the replicas are: simulated pods, or real engines.
type machines struct {
	// about says it in a few lines.
	about []string
	// seats is how many requests a replica runs at most, capacity how many a second it
	// can do.
	seats    int
	capacity float64
	options  kaito.Options
	// load begins a load on an InferenceSet's replicas.
	load func(k *kaito.KAITO, set types.NamespacedName) generator
	// occupied is how many requests run and wait on a replica.
	occupied func(ctx context.Context, r kaito.Replica) (running, waiting int)
	// await waits until they can be had.
	await func() error
	// close ends what was made for them, once the stack has stopped.
	close func()
}

// simulated are pods that show in seconds what takes a GPU minutes.
func simulated(p pace) machines {
	model := laptop()
	return machines{
		about: []string{
			"Real: Kubernetes' API server and HPA, etcd, KEDA, keda-kaito-scaler, all on loopback.",
			fmt.Sprintf("Simulated: KAITO's controller, and vLLM pods with %d seats instead of 256, which show", model.MaxNumSeqs),
			fmt.Sprintf("in seconds what takes a GPU minutes. The HPA looks every %.0f s.", p.HPASync.Seconds()),
		},
		seats: model.MaxNumSeqs, capacity: capacity(model),
		options: kaito.Options{Startup: p.Startup, Termination: 2 * time.Second, Model: model},
		load: func(k *kaito.KAITO, set types.NamespacedName) generator {
			return load.Start(func() []*vllm.Pod { return k.Serving(set.Namespace, set.Name) }, load.Options{
				Prompt: load.Tokens{Mean: promptTokens, Sigma: 0.5}, Output: load.Tokens{Mean: outputTokens, Sigma: 0.5},
			})
		},
		occupied: func(_ context.Context, r kaito.Replica) (running, waiting int) {
			stats := r.VLLM.Stats()
			return stats.Running, stats.Waiting
		},
		await: func() error { return nil },
		close: func() {},
	}
}

// The size of a request to a real engine, in tokens.
const enginePrompt, engineOutput = 200, 100

// onVLLM are vLLM engines, installed first if they aren't.
func onVLLM(ctx context.Context, out io.Writer, p pace) (machines, error) {
	installed, err := engine.Install(ctx, out, engine.VersionForTests())
	if err != nil {
		return machines{}, err
	}
	logs, err := os.MkdirTemp("", "keda-kaito-scaler-demo-")
	if err != nil {
		return machines{}, err
	}
	gpu, ends := engine.SlowGPU(), &engines.Ends{}
	// The first replica's engine starts with its pod, as all do in real life. Later ones
	// would take the CPU from those that serve.
	_, _ = fmt.Fprintln(out, "starting two engines, for the replicas to come: 40 s of CPU each")
	standby := engines.StartStandby(ctx, installed, gpu, p.Enough-1, logs)
	return machines{
		about: []string{
			"Real: Kubernetes' API server and HPA, etcd, KEDA, keda-kaito-scaler, and vLLM " + installed.Version + ",",
			"one engine for each replica, with a tiny model. Simulated: KAITO's controller, and the",
			fmt.Sprintf("time of a step on a GPU: %g ms + %g ms a prompt token + %g ms a request, of which %d run", 1e3*gpu.Alpha, 1e3*gpu.Beta, 1e3*gpu.Gamma, gpu.MaxSeqs),
			fmt.Sprintf("at once. The HPA looks every %.0f s.", p.HPASync.Seconds()),
		},
		seats: gpu.MaxSeqs, capacity: engines.Capacity(&gpu, enginePrompt, engineOutput),
		options: kaito.Options{
			Startup: p.Startup, Termination: 5 * time.Second,
			Engines: ends.Watch(standby.AfterFirst()),
		},
		load: func(k *kaito.KAITO, set types.NamespacedName) generator { //nolint:contextcheck // it ends with Stop
			picker := engines.NewPicker(func() []string { return engines.Alive(k, set.Namespace, set.Name) })
			clients := engineload.Client{Model: engine.ModelName, Pick: picker.Pick, Done: picker.Done}
			return &users{Flow: clients.Flow(enginePrompt, engineOutput), ends: ends}
		},
		occupied: func(ctx context.Context, r kaito.Replica) (running, waiting int) {
			return engines.Occupied(ctx, "http://"+r.VLLM.Addr())
		},
		await: standby.Await,
		close: func() {
			standby.Close()
			_ = os.RemoveAll(logs)
		},
	}, nil
}

// users are those of real engines.
type users struct {
	*engineload.Flow
	ends *engines.Ends
}

func (u *users) Stats() load.Stats {
	results := u.Results()
	cut, lost := u.ends.Lost(results)
	count := func(o engineload.Outcome) uint64 { return uint64(engineload.Count(results, o)) }
	unserved := count(engineload.Unserved)
	return load.Stats{
		Sent: count(engineload.Served) + count(engineload.Cancelled) + uint64(len(cut)), Refused: count(engineload.Refused),
		Unserved: unserved, Cut: uint64(len(cut)), Lost: uint64(len(lost)) - unserved,
	}
}
