//go:build engines

package engines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// patience is how long anything may take that isn't measured.
const patience = 10 * time.Minute

// fleet is an InferenceSet in automatic mode on real engines, under a real KEDA and HPA.
type fleet struct {
	*testing.T
	stack *stack.Stack
	world *World
	ends  *Ends
	key   types.NamespacedName
	// ready is when the first replicas served.
	ready time.Time
}

// startFleet brings the first replicas up, and has engines on standby for the others.
func startFleet(t *testing.T, world *World) *fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	installed, err := engine.Install(ctx, os.Stderr, engine.VersionForTests())
	if err != nil {
		t.Fatal(err)
	}
	// They start beside the control plane and the first replica, whose engine starts with
	// its pod. More than one at the start are of those on standby.
	standby := StartStandby(ctx, installed, world.Engine, world.Max-1, logs(t))
	t.Cleanup(standby.Close)
	await := func() {
		if err := standby.Await(); err != nil {
			t.Fatal(err)
		}
	}
	if world.Initial > 1 {
		await()
	}
	f := &fleet{T: t, world: world, ends: &Ends{}, key: types.NamespacedName{Namespace: "default", Name: "phi-4"}}
	f.stack, err = stack.Start(ctx, stack.Options{
		KAITO: kaito.Options{
			Startup:     kaito.Stages{Benchmark: time.Second}, // the first replicas': nobody waits for them
			Termination: 10 * time.Second,
			Engines:     f.ends.Watch(standby.AfterFirst()),
		},
		Out: os.Stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			f.stack.DumpLogs(os.Stderr, 30)
		}
		if err := f.stack.Stop(); err != nil {
			t.Error(err)
		}
	})
	f.create(ctx)
	await()
	world.Prelude = max(usualPrelude, time.Since(f.ready))
	return f
}

// logs is a folder for the engines' logs, kept if the test fails.
func logs(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keda-kaito-scaler-engines-") //nolint:usetesting // It outlives a test that fails.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the engines' logs are kept in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

func (f *fleet) object() *unstructured.Unstructured {
	return kaito.Object("v1alpha1", "InferenceSet", f.key)
}

func (f *fleet) create(ctx context.Context) {
	f.Helper()
	u := kaito.NewInferenceSet("v1alpha1", f.key, f.world.Initial, f.world.Annotations())
	if err := f.stack.Client.Create(ctx, u); err != nil {
		f.Fatal(err)
	}
	if err := f.stack.KAITO.AwaitReady(ctx, f.key.Namespace, f.key.Name, f.world.Initial); err != nil {
		f.Fatal(err)
	}
	f.ready = time.Now()
	last := errors.New("not looked at")
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		last = f.judged(ctx)
		return last == nil, nil
	})
	if err != nil {
		f.Fatalf("the scaler doesn't judge the fleet: %v, %v", err, last)
	}
	f.stack.KAITO.Adapt(f.key.Namespace, f.key.Name, func(o *kaito.Options) {
		o.Startup = kaito.Stages{Node: f.world.ColdStart / 2, Download: f.world.ColdStart / 2, Benchmark: time.Second}
	})
}

// judged says whether the scaler has all readings that it wants before it judges.
func (f *fleet) judged(ctx context.Context) error {
	if err := f.known(ctx); err != nil {
		return err
	}
	told := f.told(ctx)
	if len(told) == 0 || !strings.Contains(told[len(told)-1], "ScalingSteady: ") {
		return fmt.Errorf("the events are %q", told)
	}
	return nil
}

// known says whether the scaler's number has come through KEDA to the HPA.
func (f *fleet) known(ctx context.Context) error {
	raw, err := f.stack.Get(ctx, fmt.Sprintf("/apis/external.metrics.k8s.io/v1beta1/namespaces/%s/s0-desired-replicas?labelSelector=scaledobject.keda.sh%%2Fname%%3D%s",
		f.key.Namespace, f.key.Name), "")
	if err == nil && !strings.Contains(string(raw), fmt.Sprintf(`"value":"%d"`, f.world.Initial)) {
		err = fmt.Errorf("it is %s", raw)
	}
	return err
}

// play sends the requests and notes each second how many replicas are ordered and how
// many serve.
func (f *fleet) play() (ordered, serving Course, results []load.Result) {
	picker := NewPicker(func() []string { return Alive(f.stack.KAITO, f.key.Namespace, f.key.Name) })
	clients := load.Client{Model: engine.ModelName, Pick: picker.Pick, Done: picker.Done, Seed: 1}
	done := make(chan struct{})
	go func() {
		defer close(done)
		results = clients.Run(f.Context(), f.world.Requests)
	}()
	defer func() { <-done }()
	begin := time.Now()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for most := int(f.world.Length / time.Second); len(ordered) < most; {
		select {
		case <-f.Context().Done():
			return ordered, serving, results
		case <-f.stack.Failed():
			f.Errorf("a component ended: %v", f.stack.Err())
			return ordered, serving, results
		case <-ticker.C:
		}
		n, ready := f.desired(), len(Alive(f.stack.KAITO, f.key.Namespace, f.key.Name))
		for len(ordered) < most && len(ordered) <= int(time.Since(begin)/time.Second) {
			ordered, serving = append(ordered, n), append(serving, ready)
		}
	}
	return ordered, serving, results
}

func (f *fleet) desired() int {
	f.Helper()
	u := f.object()
	if err := f.stack.Client.Get(f.Context(), f.key, u); err != nil {
		f.Error(err)
		return 0
	}
	n, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	return int(n)
}

// told are the events on the InferenceSet, in their order.
func (f *fleet) told(ctx context.Context) (told []string) {
	var list eventsv1.EventList
	if err := f.stack.Client.List(ctx, &list, client.InNamespace(f.key.Namespace)); err != nil {
		f.Error(err)
	}
	slices.SortStableFunc(list.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	for i := range list.Items {
		if e := &list.Items[i]; e.Regarding.Kind == "InferenceSet" {
			told = append(told, fmt.Sprintf("%s %s: %s", e.EventTime.Format(time.TimeOnly), e.Reason, e.Note))
		}
	}
	return told
}

// Automatic mode on real engines through a ramp and a step does what the simulator says
// of the same engine, requests and cold start: as many replica-minutes to within 10 %,
// as many requests within the SLO to within 2 points, or as its middle 90 % of 20 runs.
func TestAutomaticModeOnRealEnginesIsAsSimulated(t *testing.T) {
	stretches := []Stretch{{15 * time.Second, 1, 1}, {90 * time.Second, 1, 3}, {2 * time.Minute, 7, 7}}
	compared(t, &World{
		Engine: engine.SlowGPU(), SLO: simulate.DefaultSLO, ColdStart: 40 * time.Second, Max: 5, Initial: 1,
		Requests: Requests(stretches, 100, 150, 1), Length: Length(stretches) + 30*time.Second,
	}, "automatic mode on a ramp and a step", "automatic-on-engines.svg")
}

func compared(t *testing.T, w *World, title, file string) (ordered Course) {
	t.Helper()
	f := startFleet(t, w)
	var serving Course
	var results []load.Result
	engine.Measured(t, func() { ordered, serving, results = f.play() })
	cut, lost := f.ends.Lost(results)
	measured := w.Measured(ordered, results, len(cut))
	simulated, err := w.Simulate(t.Context(), 20)
	if err != nil {
		t.Fatal(err)
	}
	for _, told := range f.told(t.Context()) {
		t.Log(told)
	}
	replicas := SpreadOf(Each(simulated, func(r Run) float64 { return r.Ordered.Minutes() }))
	attained := SpreadOf(Each(simulated, func(r Run) float64 { return 100 * r.Attained }))
	t.Logf("%d requests; ordered, every 15 s: %v; serving: %v", len(results), every(ordered, 15), every(serving, 15))
	t.Logf("simulated, the first: %v; %v", every(simulated[0].Ordered, 15), simulated[0].Told)
	t.Logf("replica-minutes %.1f, simulated %.1f; attained %.1f %%, simulated %.1f; refused %d, simulated %v; cut off %d; the latest request left %s late",
		measured.Ordered.Minutes(), replicas, 100*measured.Attained, attained, measured.Refused,
		SpreadOf(Each(simulated, func(r Run) float64 { return float64(r.Refused) })), len(cut), latest(results))
	t.Logf("missed, every 15 s: %.2f\nsimulated, the first: %.2f", measured.Missed, simulated[0].Missed)
	fmt.Printf("figure engine_simulate_replicas_error %.3f\nfigure engine_simulate_attained_points %.1f\nfigure engine_lost_requests %d\n",
		measured.Ordered.Minutes()/replicas.Median-1, 100*measured.Attained-attained.Median, len(lost))
	draw(t, file, &Picture{
		Title: title + ": real vLLM " + engine.VersionForTests() + " and the simulator",
		Subtitle: []string{
			fmt.Sprintf("%g ms a step + %g ms a prompt token + %g ms a request, of which %d run at once; cold start %s",
				1e3*w.Engine.Alpha, 1e3*w.Engine.Beta, 1e3*w.Engine.Gamma, w.Engine.MaxSeqs, w.ColdStart),
			fmt.Sprintf("%d requests; SLO: %g s to the first token, %g ms between tokens", len(w.Requests), w.SLO.TTFT, 1e3*w.SLO.ITL),
		},
		World: w, Real: measured, Simulated: simulated, Serving: serving,
	})
	if !replicas.Holds(measured.Ordered.Minutes(), .1*replicas.Median) {
		t.Errorf("%.1f replica-minutes, simulated %.1f", measured.Ordered.Minutes(), replicas)
	}
	if !attained.Holds(100*measured.Attained, 2) {
		t.Errorf("%.1f %% of the requests met the SLO, simulated %.1f", 100*measured.Attained, attained)
	}
	for _, r := range lost {
		t.Errorf("a request after %s was lost: %s, %v", r.At, r.Outcome, r.Err)
	}
	if late := latest(results); late > 200*time.Millisecond {
		t.Errorf("machine too busy: a request was sent %s late", late)
	}
	return ordered
}

// traceVar is by how much an hour of a trace is speeded up; the test is played by hand.
const traceVar = "TRACE_SPEED"

// Automatic mode through an hour of a trace that begins at its peak, which it releases
// replicas in, is as simulated too. It keeps to its own time, so at four times the speed
// its window of ten minutes is two thirds of the hour. The trace is Azure's of
// conversations in the folder $TRACES, else a generated one.
func TestAutomaticModeByHandThroughAnHourOnRealEngines(t *testing.T) {
	speed, err := strconv.ParseFloat(os.Getenv(traceVar), 64)
	if err != nil || speed < 1 {
		t.Skip("played by hand: " + traceVar + " isn't set")
	}
	hour := Hour(1)
	if folder := os.Getenv("TRACES"); folder != "" {
		hour = FromPeak(conversations(t, folder))
	}
	// Three replicas have room for the peak, and one for what is left of it.
	const peak = 3.0
	ordered := compared(t, &World{
		Engine: engine.SlowGPU(), SLO: simulate.DefaultSLO, ColdStart: 40 * time.Second, Max: 4, Initial: 3,
		Requests: Speeded(hour, speed, peak/speed/hour.Peak(), 1), Length: span(hour.Length.Seconds()/speed) + 30*time.Second,
	}, fmt.Sprintf("automatic mode on an hour of a trace at %g times its speed", speed), "automatic-on-engines-hour.svg")
	if last := ordered[len(ordered)-1]; last >= 3 {
		t.Errorf("%d replicas at the end: none was released", last)
	}
}

// conversations reads Azure's trace, by its own name or by the plainer one.
func conversations(t *testing.T, folder string) *simulate.Load {
	t.Helper()
	var text []byte
	var err error
	for _, name := range []string{"AzureLLMInferenceTrace_conv.csv", "azure-2023-conv.csv"} {
		if text, err = os.ReadFile(filepath.Join(folder, name)); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	trace, err := simulate.ReadTrace("the trace", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

func every(c Course, n int) (some []int) {
	for i := 0; i < len(c); i += n {
		some = append(some, c[i])
	}
	return some
}

func latest(results []load.Result) (most time.Duration) {
	for _, r := range results {
		most = max(most, r.Late)
	}
	return most
}

// draw writes the picture into the folder $PICTURES, if that is set.
func draw(t *testing.T, file string, p *Picture) {
	t.Helper()
	dir := os.Getenv("PICTURES")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(p.SVG()), 0o644); err != nil {
		t.Error(err)
	}
}
