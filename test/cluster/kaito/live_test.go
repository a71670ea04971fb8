//go:build engines

package kaito

import (
	"context"
	"os"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// One vLLM as a replica, on a real API server: benchmarked before it is Ready, and with
// 30 s for the requests that it has when its pod is deleted.
func TestAReplicaOfLiveVLLM(t *testing.T) {
	installed, err := engine.Install(t.Context(), os.Stderr, engine.VersionForTests())
	if err != nil {
		t.Fatal(err)
	}
	f := onControlPlane(t, Both, Options{
		Startup: Stages{Download: time.Second, Benchmark: 3 * time.Second}, Termination: 30 * time.Second,
		Engines: VLLM(installed, engine.SlowGPU(), t.TempDir()),
	})
	f.create("phi-4", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	if err := f.kaito.AwaitReady(ctx, "default", "phi-4", 1); err != nil {
		t.Fatal(err)
	}
	r := f.awaitStage("phi-4", Ready)
	url := "http://" + r.VLLM.Addr()
	users := load.Client{Model: engine.ModelName, Pick: func() string { return url }}
	if results := users.Run(t.Context(), load.Burst(4, 100, 20)); load.Count(results, load.Served) != 4 {
		t.Errorf("not all were served: %+v", results)
	}
	f.eventually("the benchmark's result", func() bool {
		p := f.set("phi-4").Status.Performance
		return p != nil && p.Metrics["aggregatedPeakTokensPerMinute"].Value != "0"
	})
	t.Logf("benchmarked at %v", f.set("phi-4").Status.Performance.Metrics)
	if err := f.DeleteAllOf(t.Context(), &InferenceSet{}, client.InNamespace("default")); err != nil {
		t.Fatal(err)
	}
	f.eventually("the end of its pod", func() bool { return len(f.pods("phi-4")) == 0 })
	if results := users.Run(t.Context(), load.Burst(1, 1, 1)); load.Count(results, load.Broken) != 1 {
		t.Errorf("its engine answers after its pod is gone: %+v", results)
	}
}
