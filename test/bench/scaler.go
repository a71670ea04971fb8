//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/scaler"
	"github.com/kaito-project/keda-kaito-scaler/internal/scrape"
)

const (
	namespace = "default"
	metric    = "vllm:num_requests_waiting"
	service   = "keda-kaito-scaler-svc"
)

func key(set int) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: "model-" + strconv.Itoa(set)}
}

// hello is the first that the scaler's process tells.
type hello struct {
	// Address is where it answers KEDA, whose certificate Client is.
	Address string
	Client  certs.Data
	// Peak is as in usage, without any pod.
	Peak int64
}

// seen is what it answers to "usage", or to "look".
type seen struct {
	// CPU is what the process has used so far, in user and kernel.
	CPU time.Duration
	// Peak is the most memory it ever had resident, in bytes.
	Peak int64
	// Ages are how old the newest sample of each healthy pod is.
	Ages []time.Duration
}

// scalerProcess is the scaler's process, seen from outside.
type scalerProcess struct {
	*child
	hello hello
}

func (b *bench) startScaler() (*scalerProcess, error) {
	c, err := startChild("-be=scaler", "-pods="+strconv.Itoa(b.pods), "-per-set="+strconv.Itoa(b.perSet),
		"-one-in="+strconv.Itoa(b.oneIn), "-port="+strconv.Itoa(b.port), "-interval="+b.interval.String(), "-profiles="+b.profiles, "-guarded="+strconv.FormatBool(b.guarded))
	if err != nil {
		return nil, err
	}
	s := &scalerProcess{child: c}
	if err := c.answer(&s.hello); err != nil {
		c.stop()
		return nil, fmt.Errorf("start the scaler: %w", err)
	}
	return s, nil
}

func (s *scalerProcess) do(what string) (answer seen, err error) {
	if _, err := fmt.Fprintln(s.in, what); err != nil {
		return answer, err
	}
	err = s.answer(&answer)
	return answer, err
}

// cpuWithin is the CPU that it uses while it is left alone for so long.
func (s *scalerProcess) cpuWithin(length time.Duration) (time.Duration, error) {
	before, err := s.do("usage")
	if err != nil {
		return 0, err
	}
	time.Sleep(length)
	after, err := s.do("usage")
	return after.CPU - before.CPU, err
}

// silent hears what the scaler says and tells nobody.
type silent struct{}

func (silent) OnRecommendation(context.Context, string, policy.Trigger, decision.Recommendation) {}

// gcPercent is the product's own, of cmd/keda-kaito-scaler.
const gcPercent = 25

// beScaler is the scaler's process: what the product has, with fleets that no
// API server told of.
func (b *bench) beScaler() error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	source, client, err := certificates()
	if err != nil {
		return err
	}
	reader := scrape.New(scrape.Config{Interval: b.interval})
	loop := scaler.NewEvaluationLoop(reader, func() bool { return true }, logr.Discard())
	answers := &scaler.Service{Fleets: reader, Recommender: loop, Observer: silent{}, Started: func() bool { return true }}
	ended := make(chan error, 3)
	go func() { ended <- reader.Run(ctx) }()
	go func() { ended <- loop.Run(ctx) }()
	go func() {
		ended <- scaler.Serve(ctx, address, source.TLSConfig(), scaler.DefaultConnectionAge, answers, &scaler.Watchdog{})
	}()
	defer func() {
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil {
				log.Print(err)
			}
		}
	}()
	if err := tell(hello{Address: address, Client: client, Peak: usage().Peak}); err != nil {
		return err
	}
	for set := range b.sets() {
		trigger := triggerOf(set, b.guarded)
		reader.Set(key(set), int32(b.perSet), b.members(set), []policy.Reading{trigger.Reading()})
		loop.SetTriggers(key(set), []policy.Trigger{trigger})
	}
	stop, err := b.profile()
	if err != nil {
		return err
	}
	defer stop()
	return b.obey(reader)
}

// obey answers until there is no more to answer.
func (b *bench) obey(reader *scrape.Reader) error {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		s := usage()
		if in.Text() == "look" {
			s.Ages = b.ages(reader)
		}
		if err := tell(s); err != nil {
			return err
		}
	}
	return nil
}

// triggerOf is a threshold as annotations have it, or without its guard.
func triggerOf(set int, guarded bool) policy.Trigger {
	trigger := policy.Trigger{Namespace: namespace, InferenceSet: key(set).Name, Queue: policy.Queue{Metric: metric, Target: 10}}
	if guarded {
		trigger.Queue.Guard = &policy.Saturation{TTFT: policy.DefaultTTFT, ITL: policy.DefaultITL}
	}
	return trigger
}

func (b *bench) members(set int) []kaito.Replica {
	members := make([]kaito.Replica, b.perSet)
	for i := range members {
		pod := set*b.perSet + i
		name := "model-" + strconv.Itoa(set) + "-" + strconv.Itoa(i)
		members[i] = kaito.Replica{
			Workspace: name, Pod: name + "-0", UID: types.UID("uid-" + strconv.Itoa(pod)),
			Address: address(pod, b.port), Phase: sample.Serving, Ready: true,
		}
	}
	return members
}

// ages of the healthy pods' newest samples; one that has none counts an hour.
func (b *bench) ages(reader *scrape.Reader) []time.Duration {
	ages := make([]time.Duration, 0, b.pods)
	for set := range b.sets() {
		fleet, _ := reader.Fleet(key(set), policy.Page{})
		now := time.Now()
		for i, r := range fleet.Replicas {
			switch {
			case hangs(set*b.perSet+i, b.oneIn):
			case r.Last == nil:
				ages = append(ages, time.Hour)
			default:
				ages = append(ages, now.Sub(r.Last.At))
			}
		}
	}
	return ages
}

// freeAddress may be taken by another until it is listened on, which would be
// seen at once: scaler.Serve fails.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// certificates are made as the leader makes them.
func certificates() (*certs.Source, certs.Data, error) {
	now := time.Now()
	rules := certs.NewRules(certs.Names{Namespace: namespace, Service: service}, 0)
	var b certs.Bundle
	for {
		step := rules.Plan(b, now).Step
		if step.Op == certs.None {
			break
		}
		var err error
		if b, err = rules.Apply(b, step, now); err != nil {
			return nil, nil, err
		}
	}
	source := certs.NewSource()
	_, err := source.Load(b.Server, now)
	return source, b.Client, err
}

// profile writes the profiles, if any are asked for, when it is stopped.
func (b *bench) profile() (stop func(), err error) {
	if b.profiles == "" {
		return func() {}, nil
	}
	prefix := b.profiles + strconv.Itoa(b.pods)
	cpu, err := os.Create(prefix + ".cpu.pprof") //nolint:gosec // whoever runs this names it
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = cpu.Close()
		heap, err := os.Create(prefix + ".heap.pprof") //nolint:gosec // as above
		if err != nil {
			log.Print(err)
			return
		}
		_ = pprof.WriteHeapProfile(heap)
		_ = heap.Close()
	}, nil
}

func usage() seen {
	var s seen
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err == nil {
		s.CPU = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	// Linux alone has it; u.Maxrss would count what ran before exec too.
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			s.Peak = kb << 10
		}
	}
	return s
}
