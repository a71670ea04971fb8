//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// How many pods attack at once: what they take together is divided by that, so
// that what the collector happens to leave lying about counts less.
const hostilePods = 8

// honestPods are those of the tenant who means well.
const honestPods = 2

// interval is the shortest that can be set, five times as often as usual: an
// attack gets the most turns within five minutes.
const interval = time.Second

// campaign is all that attacks, and what is attacked.
type campaign struct {
	stack *stack.Stack
	world world
	// honest are the pods of the tenant who means well, pods all others. Each
	// process's are on a port of its own.
	honest, pods      *child
	honestPort, port  int
	fetcher, stranger *child
	// trigger is the honest tenant's.
	trigger  map[string]string
	out      io.Writer
	profiles string
	// allowed is the CPU in ms that a scrape may take beside twice a fetch's.
	allowed float64

	pod, kept, health, triggers, ratio, unanswered figure
}

// part is a part of the attack, on a scaler of its own: what one has left behind
// isn't taken for what another one does.
type part struct {
	name  string
	args  []string
	fight func(*campaign, context.Context, *target) error
}

var parts = []part{
	{"pages", nil, (*campaign).attackByPages},
	{"strangers", nil, (*campaign).attackByStrangers},
	{"tokens", []string{"--metrics-secure"}, (*campaign).attackByTokens},
	{"triggers", nil, (*campaign).attackByTriggers},
}

func partNames() []string {
	names := []string{keptName}
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// attack does everything and returns the figures, as far as it came.
func attack(ctx context.Context, o options, progress io.Writer) (_ []figure, err error) {
	if o.binary == "" {
		return nil, errors.New("which program? say -binary")
	}
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return nil, err
	}
	c := &campaign{
		out: progress, profiles: o.profiles,
		pod:        figure{name: "attack_pod_mb", budget: 4, unit: "MB"},
		kept:       figure{name: "attack_pod_kept_mb", budget: 1, unit: "MB"},
		health:     figure{name: "attack_health_mb", budget: 32, unit: "MB"},
		triggers:   figure{name: "attack_triggers_mb", budget: 32, unit: "MB"},
		ratio:      figure{name: "attack_scrape_ratio", budget: 2, unit: "times"},
		unanswered: figure{name: "attack_unanswered", unit: "calls", worst: "none"},
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := c.start(ctx, binary); err != nil {
		return nil, err
	}
	wanted := func(name string) bool { return o.only == "" || slices.Contains(strings.Split(o.only, ","), name) }
	var k *keeper
	var errs []error
	if wanted(keptName) {
		if k, err = c.startKept(ctx); err != nil {
			return nil, fmt.Errorf("what is kept: %w", err)
		}
	}
	playing, cancel := context.WithTimeout(ctx, longest-beforeKept)
	defer cancel()
	for _, p := range parts {
		if !wanted(p.name) {
			continue
		}
		if err := c.play(playing, p); err != nil {
			errs = append(errs, fmt.Errorf("attack by %s: %w", p.name, err))
		}
	}
	if k != nil {
		if err := c.endKept(ctx, k); err != nil {
			errs = append(errs, fmt.Errorf("what is kept: %w", err))
		}
	}
	return c.figures(), errors.Join(errs...)
}

// beforeKept is time for the last that is measured.
const beforeKept = 15 * time.Second

func (c *campaign) figures() []figure {
	return []figure{c.pod, c.kept, c.health, c.triggers, c.ratio, c.unanswered}
}

// say tells how far it is.
func (c *campaign) say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.out, "attack: "+format+"\n", args...)
}

// start starts the API server and everybody but the scaler.
func (c *campaign) start(ctx context.Context, binary string) error {
	for _, role := range []struct {
		name string
		to   **child
	}{{honest, &c.honest}, {"pods", &c.pods}, {"fetcher", &c.fetcher}, {"stranger", &c.stranger}} {
		started, err := startChild(role.name)
		if err != nil {
			return err
		}
		*role.to = started
	}
	for from, port := range map[*child]*int{c.honest: &c.honestPort, c.pods: &c.port} {
		var answer podsAnswer
		if err := from.ask(ctx, podsQuestion{}, &answer); err != nil {
			return err
		}
		*port = answer.Port
	}
	var err error
	if c.stack, err = stack.Start(ctx, stack.Options{Bare: true, NoScaler: true, Binary: binary, Out: c.out}); err != nil {
		return err
	}
	c.world = world{client: c.stack.Client, scaler: "127.0.0.1:1"}
	for _, namespace := range []string{honest, hostile} {
		if err := c.world.namespace(ctx, namespace); err != nil {
			return err
		}
	}
	if err := c.world.inferenceSet(ctx, honest, honest, honestPods, map[string]string{
		"scaledobject.kaito.sh/auto-provision": "true", "scaledobject.kaito.sh/max-replicas": "5",
		"scaledobject.kaito.sh/threshold": "10",
	}); err != nil {
		return err
	}
	for i := range honestPods {
		if err := c.world.replica(ctx, honest, honest, i, podIP(honestNet, i), c.honestPort); err != nil {
			return err
		}
	}
	return c.fleet(ctx)
}

// fleet is the hostile tenant's, whose pods nobody reads yet.
func (c *campaign) fleet(ctx context.Context) error {
	if err := c.world.inferenceSet(ctx, hostile, hostile, hostilePods, nil); err != nil {
		return err
	}
	for i := range hostilePods {
		if err := c.world.replica(ctx, hostile, hostile, i, podIP(hostileNet, i), c.port); err != nil {
			return err
		}
	}
	return nil
}

func (c *campaign) stop() error {
	var err error
	if c.stack != nil {
		err = c.stack.Stop()
	}
	for _, one := range []*child{c.honest, c.pods, c.fetcher, c.stranger} {
		if one != nil {
			one.stop()
		}
	}
	return err
}

// target is the scaler under attack.
type target struct {
	*stack.Scaler
	gauge
	*caller
	// resting is the greatest resident set without an attack, in bytes, and live0
	// the live heap.
	resting, live0 int64
}

// startScaler starts one and waits until it is ready.
func (c *campaign) startScaler(ctx context.Context, name string, more ...string) (*target, error) {
	pprof, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	args := append([]string{
		"--scrape-interval=" + interval.String(), "--scrape-timeout=" + interval.String(), "--pprof-address=" + pprof,
		// Each has to write, and the one for what is kept lives beside the others.
		"--leader-elect=false",
	}, more...)
	scaler, err := c.stack.StartScaler(ctx, "scaler-"+name, args...)
	if err != nil {
		return nil, err
	}
	t := &target{Scaler: scaler, gauge: gauge{pid: scaler.PID(), pprof: pprof}}
	return t, c.stack.AwaitReady(ctx, scaler)
}

// play starts a scaler, and has it attacked while KEDA and a kubelet call.
func (c *campaign) play(ctx context.Context, p part) error {
	began := time.Now()
	t, err := c.startScaler(ctx, p.name, append([]string{"--watch-namespaces=" + honest + "," + hostile}, p.args...)...)
	if err != nil {
		return err
	}
	defer func() { _ = t.Stop(10 * time.Second) }()
	if t.caller, err = c.call(ctx, t.Scaler); err != nil {
		return err
	}
	calls, over := context.WithCancel(ctx)
	defer over()
	var calling sync.WaitGroup
	calling.Go(func() {
		if err := t.caller.run(calls); err != nil {
			c.say("KEDA's calls: %v", err)
		}
	})
	if err = c.rest(ctx, t); err == nil {
		err = p.fight(c, ctx, t)
	}
	if c.profiles != "" {
		err = errors.Join(err, c.profile(ctx, t, p.name))
	}
	over()
	calling.Wait()
	if err == nil {
		err = c.stack.Err()
	}
	made, failed, p99, longest := t.summary()
	c.unanswered.value += float64(failed)
	if failed > 0 {
		c.unanswered.worst = p.name
	}
	c.say("%s: %d of %d calls of KEDA's and probes unanswered, p99 %s, longest %s; it took %s", p.name, failed, made,
		p99.Round(time.Millisecond), longest.Round(time.Millisecond), time.Since(began).Round(time.Second))
	return err
}

// call gets KEDA's certificate and waits until the honest fleet is answered for.
func (c *campaign) call(ctx context.Context, scaler *stack.Scaler) (*caller, error) {
	secret, err := c.world.secret(ctx, stack.Namespace)
	if err != nil {
		return nil, err
	}
	if c.trigger == nil {
		if c.trigger, err = c.world.provisioned(ctx, honest, honest); err != nil {
			return nil, err
		}
	}
	k, err := newCaller(scaler.GRPC, scaler.Health, secret, c.trigger, c.out)
	if err != nil {
		return nil, err
	}
	return k, eventually(ctx, "an answer for the honest fleet", func(ctx context.Context) error {
		return errors.Join(k.anew(ctx), k.probe(ctx, ""))
	})
}

// rest measures what the scaler takes when nobody attacks. So many calls as KEDA
// makes in minutes let the collector run as it would then.
func (c *campaign) rest(ctx context.Context, t *target) error {
	t.under("rest")
	var err error
	if t.live0, err = t.live(ctx); err != nil {
		return err
	}
	if err := t.forgetPeak(); err != nil {
		return err
	}
	if err := t.caller.burst(ctx, 6000); err != nil {
		return err
	}
	if t.resting, err = t.peak(); err != nil {
		return err
	}
	c.say("the scaler at rest: %.1f MB resident at most, %.1f MB of live heap", float64(t.resting)/mb, float64(t.live0)/mb)
	return nil
}

// freeAddress may be taken by another until it is listened on, which would be
// seen at once: the scaler ends.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// profile keeps a part's profiles, for whoever asks why.
func (c *campaign) profile(ctx context.Context, t *target, name string) error {
	for _, what := range []string{"heap", "allocs", "goroutine"} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.pprof+"/debug/pprof/"+what, http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(c.profiles, name+"."+what+".pprof"), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// pause waits, or ends with the context.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
