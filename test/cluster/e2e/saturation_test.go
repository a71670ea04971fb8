//go:build follow

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// slow is an engine of which eight, full, are played on a part of a core: 20 ms
// for an empty iteration, and 10 requests of 500 tokens in and 50 out a second.
var slow = simulate.Engine{
	Name: "slow", Alpha: .020, Beta: .0001, Gamma: .0003, MaxSeqs: 256, KVTokens: 600_000, Chunk: 2048,
}

// model is the same engine for the stand-in.
func model(e simulate.Engine) vllm.Model {
	const block = 16
	span := func(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
	return vllm.Model{
		Name: e.Name, Base: span(e.Alpha), PerPrefillToken: span(e.Beta), PerSequence: span(e.Gamma),
		MaxNumSeqs: e.MaxSeqs, MaxWaiting: e.MaxSeqs, MaxBatchedTokens: e.Chunk,
		KVBlocks: e.KVTokens / block, BlockSize: block,
	}
}

// stretch is a part of a load: so many replicas' worth, filled to 70 %.
type stretch struct {
	worth float64
	d     time.Duration
}

// loadOf are requests of one size with exponential gaps.
func loadOf(stretches ...stretch) *simulate.Load {
	const in, out = 500, 50
	each := .7 * slow.Capacity(in, out, simulate.DefaultSLO.ITL)
	random := rand.New(rand.NewPCG(1, 2))
	load := &simulate.Load{Name: "steps"}
	for _, s := range stretches {
		at := load.Length.Seconds()
		load.Length += s.d
		for s.worth > 0 {
			at += random.ExpFloat64() / (each * s.worth)
			if at >= load.Length.Seconds() {
				break
			}
			load.Requests = append(load.Requests, simulate.Request{At: at, In: in, Out: out})
		}
	}
	return load
}

// replay sends the load to the replicas that serve, each request to the one with
// the fewest, until its end or the context's.
func (s *set) replay(ctx context.Context, load *simulate.Load) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	began, next, turn := time.Now(), 0, 0
	for next < len(load.Requests) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		pods := shared.KAITO.Serving(s.namespace, s.name)
		for now := time.Since(began).Seconds(); next < len(load.Requests) && load.Requests[next].At <= now; next++ {
			turn++
			var least *vllm.Pod
			for i := range pods {
				if pod := pods[(turn+i)%len(pods)]; least == nil || pod.Load() < least.Load() {
					least = pod
				}
			}
			if least != nil {
				_ = least.Submit(int(load.Requests[next].In), int(load.Requests[next].Out)) // a refusal is counted on its page
			}
		}
	}
}

// within is the least and the greatest of a curve, so long before a time or
// after it.
func (c curve) within(at, slack time.Duration) (low, high int64) {
	first := max(0, int((at-slack)/time.Second))
	last := min(len(c)-1, int((at+slack)/time.Second))
	first = min(first, last)
	low, high = c[first], c[first]
	for _, n := range c[first : last+1] {
		low, high = min(low, n), max(high, n)
	}
	return low, high
}

// predicted is what the simulator says.
func predicted(t *testing.T, annotations map[string]string, load *simulate.Load, coldStart time.Duration, most int32) curve {
	t.Helper()
	full := map[string]string{}
	for key, value := range annotations {
		full[policy.Prefix+key] = value
	}
	c := make(curve, int(load.Length/time.Second))
	for i := range c {
		c[i] = 1
	}
	result, err := simulate.Run(t.Context(), simulate.Setting{
		Engine: slow, SLO: simulate.DefaultSLO, ColdStart: coldStart, Initial: 1, Seed: 1,
		Bounds: policy.Bounds{Min: 1, Max: most},
	}, load, simulate.Annotated("automatic", full))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range result.Moves {
		t.Logf("simulated after %s: %d → %d: %s", m.At, m.From, m.To, m.Reason)
		for i := int(m.At / time.Second); i < len(c); i++ {
			c[i] = int64(m.To)
		}
	}
	return c
}

// With nothing but a bound a fleet follows a load of nothing, of one replica, of
// eight, and of one again, as the simulator said that it would. The way down takes
// 18 minutes to its first step, so it is played to the end, and up again, if
// SATURATION=whole asks for that: 43 minutes.
func TestABoundAloneFollowsTheLoad(t *testing.T) {
	t.Parallel()
	const most = 10
	start := kaito.Stages{Node: 4 * time.Second, Download: 8 * time.Second, Engine: 8 * time.Second, Benchmark: 10 * time.Second}
	coldStart := start.Node + start.Download + start.Engine + start.Benchmark
	annotations := map[string]string{"auto-provision": "true", "max-replicas": strconv.Itoa(most)}
	stretches := []stretch{{0, 30 * time.Second}, {1, 150 * time.Second}, {8, 150 * time.Second}, {1, time.Minute}}
	if os.Getenv("SATURATION") == "whole" {
		stretches = []stretch{{0, 30 * time.Second}, {1, 150 * time.Second}, {8, 5 * time.Minute}, {1, 30 * time.Minute}, {8, 5 * time.Minute}}
	}
	load := loadOf(stretches...)
	want := predicted(t, annotations, load, coldStart, most)

	s := apply(t, annotations, adapted(func(o *kaito.Options) { o.Startup, o.Model = start, model(slow) }))
	s.awaitReady(1)
	s.told("ScaledObjectCreated", "scaling between 1 and 10 replicas in automatic mode: 2.5s to the first token, 75ms between tokens")
	s.eventually("the HPA sees a number of replicas", func() error {
		value, err := s.value("desired-replicas")
		if err == nil && value != "1" {
			err = fmt.Errorf("it is %s", value)
		}
		return err
	})

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.replay(ctx, load)
	}()
	defer func() {
		stop()
		<-done
	}()
	got, serving := s.watch(load.Length)
	t.Logf("desired, every 10 s: %s\nsimulated:            %s\nserving:              %s", got.every(10), want.every(10), serving.every(10))

	// A judgement and the HPA's turn may be half a minute apart in the two worlds.
	const slack = 30 * time.Second
	for i, n := range got {
		if low, high := want.within(time.Duration(i)*time.Second, slack); n < low-1 || n > high+1 {
			t.Fatalf("%d replicas after %d s, where the simulator has %d to %d", n, i, low, high)
		}
	}
	// A load that has jumped is known by the second evaluation, half a minute after
	// it began, but for one replica that is ordered a minute later; then there are a
	// reading, the HPA's turn, and they start.
	const seen = 35 * time.Second
	few := func(at time.Duration, n int64) bool { return serving[int((at+seen+coldStart)/time.Second)] < n }
	var began time.Duration
	for i, s := range stretches {
		if s.worth == 8 && (few(began, 7) || few(began+time.Minute, 8)) {
			t.Errorf("%s and a cold start after the load of eight began at %s fewer than 7 serve, or a minute later fewer than 8", seen, began)
		}
		began += s.d
		last := got[int(began/time.Second)-1]
		switch {
		case i == 0 || s.worth >= stretches[i-1].worth: // the load didn't fall
		case s.d < 10*time.Minute && last < 8:
			t.Errorf("%d replicas %s after the load fell: nothing is released so early", last, s.d)
		case s.d >= 10*time.Minute && last > 4:
			t.Errorf("%d replicas %s after the load fell to one replica's worth", last, s.d)
		}
	}
	s.told("ScalingUp", "the load needs ")
}

// watch notes the desired replicas and those that serve each second for so long.
func (s *set) watch(d time.Duration) (desired, serving curve) {
	s.Helper()
	began := time.Now()
	most := int(d / time.Second)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for len(desired) < most {
		select {
		case <-s.ctx.Done():
			s.Fatal(s.ctx.Err())
		case <-ticker.C:
		}
		n, ready := s.desired(), int64(len(shared.KAITO.Serving(s.namespace, s.name)))
		for len(desired) < most && len(desired) <= int(time.Since(began)/time.Second) {
			desired, serving = append(desired, n), append(serving, ready)
		}
	}
	return desired, serving
}
