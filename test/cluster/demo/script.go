package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// pace is how fast the demo goes.
type pace struct {
	// HPASync is how often the HPA looks.
	HPASync time.Duration
	// Defaults is how long after the YAML the default windows stay.
	Defaults time.Duration
	// Calm is how long the load is one that the first replica copes with, Rise
	// the least time of the one that it doesn't.
	Calm, Rise time.Duration
	// Read is how long a story stands before the next, at the least.
	Read time.Duration
	// Window, UpCooldown and DownCooldown are the shortened ones, in whole
	// seconds.
	Window, UpCooldown, DownCooldown time.Duration
	// More is the load that the first replica doesn't cope with, in what it can do.
	More float64
	// Rush is the load of the rush hour in what one replica can do, and Enough the
	// number of serving replicas at which it has shown what it should.
	Rush   float64
	Enough int
	// Rest is the load after it, so that replicas go which have requests.
	Rest float64
	// Startup is how long KAITO's stages take, minutes in real life.
	Startup kaito.Stages
	// Patience is how long a phase may take beyond its own time.
	Patience time.Duration
}

// leisurely is the pace for people: Kubernetes' own timing, and a new replica
// that serves just before the HPA looks again.
func leisurely() pace {
	return pace{
		HPASync: 15 * time.Second, Defaults: time.Minute,
		Calm: 8 * time.Second, Rise: 25 * time.Second, Read: 6 * time.Second,
		// Less than HPASync, so that each look of the HPA may take a step.
		Window: 5 * time.Second, UpCooldown: 10 * time.Second, DownCooldown: 10 * time.Second,
		Startup: kaito.Stages{
			Node: 3 * time.Second, Download: 3 * time.Second, Engine: 2 * time.Second, Benchmark: 4 * time.Second,
		},
		Patience: 2 * time.Minute,
		More:     1.15, Rush: 2.8, Enough: 4,
	}
}

// onEngines is the same pace for real engines. One serves before the next may be ordered:
// two full replicas ask for a fourth.
func (p pace) onEngines() pace {
	p.Startup.Engine = 0 // it takes what it takes: the first one's 40 s of CPU
	p.UpCooldown, p.DownCooldown = 30*time.Second, 15*time.Second
	p.More, p.Rush, p.Enough, p.Rest = 1.4, 2.4, 3, .25
	p.Patience = 4 * time.Minute
	return p
}

// laptop is phi-4-mini on an A100 with an eighth of the seats: it shows in
// seconds, on a laptop's CPU, what takes the real thing minutes.
func laptop() vllm.Model {
	m := vllm.Phi4MiniA100()
	m.MaxNumSeqs, m.MaxWaiting = 32, 32
	return m
}

// The size of a request, in tokens.
const promptTokens, outputTokens = 200, 200

// capacity is what one replica can do, in requests per second.
func capacity(m vllm.Model) float64 {
	return m.PeakTokensPerMinute(promptTokens, outputTokens) / 60 / (promptTokens + outputTokens)
}

// phase is a part of the script.
type phase int

const (
	starting phase = iota // the first replica comes
	calm                  // a load that it copes with
	rising                // a load that it doesn't, under the default windows
	faster                // the windows have been shortened
	rush                  // a load for several replicas
	quiet                 // no load any more
	over
)

func (p phase) String() string {
	return [...]string{"starting", "calm", "rising", "faster", "rush", "quiet", "over"}[p]
}

// script is the demo's plot. It is a function of what is seen: it waits for
// things to happen, not for a clock.
type script struct {
	pace     pace
	capacity float64
	name     string

	phase phase
	// since is when the phase began.
	since time.Duration
	// enoughSince is when enough replicas served first; zero before.
	enoughSince time.Duration
}

// cue is what the script wants done.
type cue struct {
	Phase phase
	Story string
	// Offered is the load from now on, in requests per second.
	Offered float64
	// Annotate are annotations to put on the InferenceSet.
	Annotate []annotation
}

type annotation struct{ Key, Value string }

// opening is the cue to begin with.
func (s *script) opening() cue {
	return cue{Phase: starting, Story: "The YAML is applied. KAITO brings up the first replica; the scaler writes a " +
		"ScaledObject, and KEDA makes an HPA of it. Nothing serves yet, so the scaler holds: unknown is never zero."}
}

// next looks at a scene and returns a cue if the story goes on. The error says
// what has not happened in time.
func (s *script) next(now scene) (cue, bool, error) {
	if s.phase == over {
		return cue{}, false, nil
	}
	for s.due(now) {
		s.phase++
		s.since = now.At
		if c, told := s.begin(now); told {
			return c, true, nil
		}
	}
	if now.At-s.since > s.allowed() {
		return cue{}, false, fmt.Errorf("not within %s: %s", s.allowed(), s.missing(now))
	}
	return cue{}, false, nil
}

// due tells whether the phase has shown what it should.
func (s *script) due(now scene) bool {
	in := now.At - s.since
	switch s.phase {
	case starting:
		return up(now)
	case calm:
		return in >= s.pace.Calm
	case rising:
		return now.At >= s.pace.Defaults && in >= s.pace.Rise && noticed(now)
	case faster:
		return in >= s.pace.Read && s.shortened(now.HPA)
	case rush:
		if s.enoughSince == 0 && now.serving() >= s.pace.Enough {
			s.enoughSince = now.At
		}
		return s.enoughSince > 0 && now.At-s.enoughSince >= s.pace.Read
	case quiet:
		return down(now)
	case over:
	}
	return false
}

// up tells whether everything stands.
func up(now scene) bool {
	return now.serving() > 0 && now.HPA.Exists && now.KEDA.Ready == "True" && now.Published.Known
}

// noticed tells whether the HPA knows of the queue: beyond its tolerance of 10 %.
func noticed(now scene) bool {
	return now.HPA.Current.Known && now.HPA.Current.Value > 1.1*now.HPA.Target
}

// shortened tells whether the new windows have reached the HPA.
func (s *script) shortened(hpa autoscaler) bool {
	return hpa.Up == rules{s.pace.Window, s.pace.UpCooldown} && hpa.Down == rules{s.pace.Window, s.pace.DownCooldown}
}

// down tells whether one idle replica is left.
func down(now scene) bool {
	return now.Set.Wanted == 1 && now.Set.Ready == 1 && len(now.Replicas) == 1 && now.waiting() == 0
}

// allowed is how long the phase may take.
func (s *script) allowed() time.Duration {
	own := map[phase]time.Duration{
		calm: s.pace.Calm, rising: s.pace.Defaults + s.pace.Rise, faster: s.pace.Read,
		rush:  time.Duration(s.pace.Enough-1) * (s.pace.UpCooldown + s.pace.HPASync),
		quiet: time.Duration(s.pace.Enough) * (s.pace.DownCooldown + s.pace.HPASync),
	}
	return own[s.phase] + s.pace.Patience
}

func (s *script) missing(now scene) string {
	switch s.phase {
	case starting:
		return fmt.Sprintf("a first replica that serves (%d do), an HPA (exists: %t), a ScaledObject that KEDA calls Ready (%q) "+
			"and a value (known: %t)", now.serving(), now.HPA.Exists, now.KEDA.Ready, now.Published.Known)
	case rising:
		return fmt.Sprintf("a queue that the HPA knows of: its TARGETS are %s at %d waiting", now.HPA.Targets, now.waiting())
	case faster:
		return fmt.Sprintf("the shortened windows in the HPA: it has +1 per %s, −1 per %s", now.HPA.Up.Cooldown, now.HPA.Down.Cooldown)
	case rush:
		return fmt.Sprintf("%d serving replicas under load: %d are wanted, %d serve", s.pace.Enough, now.Set.Wanted, now.serving())
	case quiet:
		return fmt.Sprintf("one replica again after the load: %d are wanted, %d are there", now.Set.Wanted, len(now.Replicas))
	case calm, over:
	}
	return "the time of phase " + s.phase.String()
}

// begin is the cue of the phase that begins; false for one without.
func (s *script) begin(now scene) (cue, bool) {
	c := cue{Phase: s.phase}
	switch s.phase {
	case calm:
		c.Offered = round(0.6 * s.capacity)
		c.Story = fmt.Sprintf("Load: %g requests a second. One replica copes with about %.0f, so nobody waits.", c.Offered, s.capacity)
	case rising:
		c.Offered = round(s.pace.More * s.capacity)
		c.Story = fmt.Sprintf("Load: %g requests a second, more than one replica can do: the queue grows and TARGETS rise. "+
			"The default window wants to see that for %.0f s before the first step.", c.Offered, now.HPA.Up.Window.Seconds())
	case faster:
		c.Offered = round(s.pace.More * s.capacity)
		c.Annotate = s.shorter()
		c.Story = "The demo now shortens the windows: " + s.command()
	case rush:
		c.Offered = round(s.pace.Rush * s.capacity)
		c.Story = fmt.Sprintf("Rush hour: %g requests a second. One replica at a time, at most one per cooldown of %.0f s; "+
			"KAITO's guard turns away what the full queues can't take.", c.Offered, s.pace.UpCooldown.Seconds())
	case quiet:
		c.Offered = round(s.pace.Rest * s.capacity)
		c.Story = "The load is over"
		if c.Offered > 0 {
			c.Story = fmt.Sprintf("Little load is left, %g a second", c.Offered)
		}
		c.Story += fmt.Sprintf(": the queues run empty, and replicas go one at a time, at most one per %.0f s.", s.pace.DownCooldown.Seconds())
	case starting, over:
		return cue{}, false
	}
	return c, true
}

// shorter are the annotations with the shortened windows.
func (s *script) shorter() []annotation {
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.0f", d.Seconds()) }
	const prefix = "scaledobject.kaito.sh/"
	return []annotation{
		{prefix + "evaluationwindow", seconds(s.pace.Window)},
		{prefix + "scaleupcooldown", seconds(s.pace.UpCooldown)},
		{prefix + "scaledowncooldown", seconds(s.pace.DownCooldown)},
	}
}

// command is what a user would type for the same.
func (s *script) command() string {
	words := []string{"kubectl annotate inferenceset", s.name}
	for _, a := range s.shorter() {
		words = append(words, a.Key+"="+a.Value)
	}
	return strings.Join(words, " ")
}

// round leaves whole requests a second, of less than five also halves.
func round(x float64) float64 {
	if x < 5 {
		return math.Round(2*x) / 2
	}
	return math.Round(x)
}
