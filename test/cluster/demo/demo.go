package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// drawEvery is the time between frames.
const drawEvery = 500 * time.Millisecond

// view shows scenes to whoever is there: a person at a terminal, or a log.
type view interface {
	show(now scene, points []point)
	close()
}

// demo is one run.
type demo struct {
	options options
	pace    pace
	// machines are known once the demo runs.
	machines machines
	// out has no escape codes unless it is a terminal's; terminal is nil if it
	// isn't, or if plain lines are wanted.
	out      io.Writer
	terminal *os.File
	stderr   io.Writer
}

func newDemo(o options, p pace, stdout, stderr io.Writer) *demo {
	d := &demo{options: o, pace: p, stderr: stderr}
	if f, ok := stdout.(*os.File); ok && !o.plain && isTerminal(f) {
		d.terminal = f
	}
	d.out = coloured(stdout, d.terminal != nil)
	return d
}

func (d *demo) say(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, format+"\n", args...)
}

// manifest is the quick start's YAML, and what it says.
type manifest struct {
	path   string
	text   []byte
	object unstructured.Unstructured
}

// quickStart reads the very file that the README shows.
func quickStart() (manifest, error) {
	m := manifest{path: filepath.Join("examples", "phi-4.yaml")}
	root, err := controlplane.Root()
	if err != nil {
		return m, err
	}
	if m.text, err = os.ReadFile(filepath.Join(root, m.path)); err != nil { //nolint:gosec // A file of this checkout.
		return m, fmt.Errorf("read the quick start: %w", err)
	}
	object, err := yaml.YAMLToJSON(m.text)
	if err != nil {
		return m, fmt.Errorf("read %s: %w", m.path, err)
	}
	if err := json.Unmarshal(object, &m.object); err != nil {
		return m, fmt.Errorf("read %s: %w", m.path, err)
	}
	return m, nil
}

// errInterrupted is the end that the user asked for, with nothing left behind.
var errInterrupted = errors.New("interrupted")

// run shows everything and takes it away again.
func (d *demo) run(ctx context.Context) error {
	quick, err := quickStart()
	if err != nil {
		return err
	}
	if d.machines, err = d.provide(ctx); err != nil {
		return interruptedOr(ctx, err)
	}
	defer d.machines.close()
	d.introduce(quick)
	s, err := stack.Start(ctx, stack.Options{HPASync: d.pace.HPASync, KAITO: d.machines.options, Out: d.progress()})
	if err != nil {
		return interruptedOr(ctx, err)
	}
	if err = d.machines.await(); err == nil {
		err = d.perform(ctx, s, quick)
	}
	if err != nil && ctx.Err() == nil {
		_, _ = fmt.Fprintf(d.stderr, "\ndemo: %v\n\nWhat the components said last:\n", err)
		s.DumpLogs(d.stderr, 15)
	}
	interrupted := ctx.Err() != nil // by now: later it ends what --keep kept
	if err == nil && d.options.keep {
		err = d.keep(ctx, s)
	}
	d.say("\nStopping everything …")
	switch stopped := errors.Join(s.Stop(), ended(s)); {
	case stopped != nil:
		return errors.Join(err, stopped)
	case interrupted: // whatever else that made go wrong
		return errInterrupted
	}
	return err
}

// provide says what serves.
func (d *demo) provide(ctx context.Context) (machines, error) {
	if d.options.vllm {
		return onVLLM(ctx, d.progress(), d.pace)
	}
	return simulated(d.pace), nil
}

// interruptedOr is an error that isn't the interrupt's.
func interruptedOr(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	return err
}

// progress is where building and booting tell how far they are: a line that
// is updated in place at a terminal, else lines.
func (d *demo) progress() io.Writer {
	if d.terminal != nil {
		return d.terminal
	}
	return d.out
}

func (d *demo) introduce(quick manifest) {
	d.say("%s", strong.Render("keda-kaito-scaler: the quick start, live"))
	d.say("")
	for _, line := range d.machines.about {
		d.say("%s", line)
	}
	d.say("")
	d.say("This will be applied, letter for letter (%s):", quick.path)
	d.say("")
	for line := range strings.Lines(string(quick.text)) {
		d.say("    %s", told.Render(strings.TrimRight(line, "\n")))
	}
	d.say("")
}

// perform shows the script on a running stack, and then what came of it.
func (d *demo) perform(ctx context.Context, s *stack.Stack, quick manifest) error {
	r, err := d.play(ctx, s, quick)
	if err != nil {
		return err
	}
	d.say("")
	d.say("%s", strings.Join(plot(r.points, r.began[faster]), "\n"))
	d.say("")
	failed := 0
	for _, c := range r.checks(d.pace) {
		mark := good.Render("✓")
		if !c.OK {
			mark = bad.Render("✗")
			failed++
		}
		d.say("  %s %s", mark, c.Text)
	}
	if failed > 0 {
		return fmt.Errorf("%d of the things above were not as they should be (✗)", failed)
	}
	return nil
}

// play runs the script to its end.
func (d *demo) play(ctx context.Context, s *stack.Stack, quick manifest) (*record, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	set := types.NamespacedName{Namespace: quick.object.GetNamespace(), Name: quick.object.GetName()}
	if err := s.Apply(ctx, quick.text); err != nil {
		return nil, err
	}
	o := &observer{
		stack: s, kind: quick.object.GroupVersionKind(), set: set, start: time.Now(),
		seats: d.machines.seats, occupied: d.machines.occupied,
	}
	o.seen.Set.Name = set.Name
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() { o.watch(ctx) })
	generator := d.machines.load(s.KAITO, set)
	defer generator.Stop()
	t := &take{
		demo: d, observer: o, generator: generator, view: d.view(),
		script: &script{pace: d.pace, capacity: d.machines.capacity, name: set.Name},
		record: &record{began: map[phase]time.Duration{}},
	}
	defer t.view.close()
	return t.record, t.run(ctx, s)
}

func (d *demo) view() view {
	if d.terminal != nil {
		return &screen{terminal: d.terminal, out: d.out, title: "keda-kaito-scaler: the quick start, live"}
	}
	return &plain{out: d.out}
}

// take is the script, being played.
type take struct {
	*demo
	observer  *observer
	generator generator
	view      view
	script    *script
	record    *record

	story string
}

func (t *take) run(ctx context.Context, s *stack.Stack) error {
	if err := t.follow(ctx, t.script.opening(), 0); err != nil {
		return err
	}
	ticker := time.NewTicker(drawEvery)
	defer ticker.Stop()
	for t.script.phase != over {
		now := t.observer.scene()
		now.Story, now.Phase, now.Offered = t.story, t.script.phase.String(), t.generator.Rate()
		t.record.add(now)
		t.view.show(now, t.record.points)
		next, told, err := t.script.next(now)
		if err != nil {
			return err
		}
		if told {
			if err := t.follow(ctx, next, now.At); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Failed():
			return s.Err()
		case <-ticker.C:
		}
	}
	t.record.load = t.generator.Stats()
	return nil
}

// follow does what a cue says.
func (t *take) follow(ctx context.Context, c cue, at time.Duration) error {
	t.story = c.Story
	t.record.began[c.Phase] = at
	t.generator.SetRate(c.Offered)
	if len(c.Annotate) == 0 {
		return nil
	}
	return t.observer.annotate(ctx, c.Annotate)
}

// keep waits for Ctrl-C while the user looks around.
func (d *demo) keep(ctx context.Context, s *stack.Stack) error {
	d.say("\nThe cluster runs on until Ctrl-C. In another terminal:\n")
	d.say("  export KUBECONFIG=%s", s.Kubeconfig())
	d.say("  kubectl get inferencesets,workspaces,pods,scaledobjects,hpa")
	d.say("  kubectl describe inferenceset phi-4")
	select {
	case <-ctx.Done():
		return nil
	case <-s.Failed():
		return s.Err()
	}
}

// ended checks that no process is left.
func ended(s *stack.Stack) error {
	for _, p := range s.Processes() {
		select {
		case <-p.Done():
		default:
			return fmt.Errorf("process %d (%s) is still there", p.PID(), p.Name())
		}
	}
	return nil
}
