package main

import (
	"fmt"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/load"
)

// record is what the demo keeps of its run.
type record struct {
	points []point
	// began is when each phase began.
	began map[phase]time.Duration
	last  scene
	load  load.Stats
}

func (r *record) add(s scene) {
	r.points = append(r.points, s.point())
	r.last = s
}

// check is something that the demo claims to have shown.
type check struct {
	OK   bool
	Text string
}

// slack is how much two steps may seem to be nearer to each other than they
// were: they are looked for every second.
const slack = 2 * time.Second

// checks compares what was seen with what should have been.
func (r *record) checks(p pace) []check {
	steps := r.steps()
	peak := int(largest(r.points, wanted, 0))
	shortened := r.began[faster]
	held, targets := r.before(shortened)
	ups, downs := apart(steps, 1), apart(steps, -1)
	quietFor := r.last.At - r.began[quiet]
	return []check{
		{r.created() && r.last.HPA.Exists, fmt.Sprintf(
			"The scaler wrote ScaledObject %s, and KEDA made HPA keda-hpa-%[1]s of it.", r.last.Set.Name)},
		{held == 1, fmt.Sprintf(
			"The default windows held the first step back while TARGETS rose to %s.", targets)},
		{peak >= 3, fmt.Sprintf("Under load: 1 → %d replicas.", peak)},
		{r.last.Set.Wanted == 1 && r.last.Set.Ready == 1, fmt.Sprintf(
			"After the load: back to %d replica %.0f s after its end.", r.last.Set.Wanted, quietFor.Seconds())},
		{
			single(steps) && ups+slack >= p.UpCooldown && downs+slack >= p.DownCooldown,
			fmt.Sprintf("One replica at a time: %d up, %d down; ups %s apart or more, downs %s (cooldowns %.0f and %.0f s).",
				count(steps, 1), count(steps, -1), seconds(ups), seconds(downs), p.UpCooldown.Seconds(), p.DownCooldown.Seconds()),
		},
		{r.load.Unserved+r.load.Lost == 0 && r.load.Sent > 0, requests(r.load)},
	}
}

// requests says what came of them.
func requests(s load.Stats) string {
	text := fmt.Sprintf("%d requests taken, %d turned away by full queues (429), %d without a replica to go to",
		s.Sent, s.Refused, s.Unserved)
	if s.Cut+s.Lost > 0 {
		text += fmt.Sprintf(", %d cut off by a replica's end, %d lost otherwise", s.Cut, s.Lost)
	}
	return text + "."
}

// created tells whether the owner was told of the ScaledObject.
func (r *record) created() bool {
	for _, e := range r.last.Events {
		if e.Reason == "ScaledObjectCreated" {
			return true
		}
	}
	return false
}

// before is the most replicas wanted, and the last TARGETS seen, before a time.
func (r *record) before(at time.Duration) (most int, targets string) {
	for _, p := range r.points {
		if p.At > at {
			break
		}
		most, targets = max(most, p.Wanted), p.Targets
	}
	return most, targets
}

// step is a change of the replicas wanted.
type step struct {
	At time.Duration
	By int
}

func (r *record) steps() []step {
	var steps []step
	for i := 1; i < len(r.points); i++ {
		// 0 is an InferenceSet that was not read yet.
		if by := r.points[i].Wanted - r.points[i-1].Wanted; by != 0 && r.points[i-1].Wanted > 0 {
			steps = append(steps, step{r.points[i].At, by})
		}
	}
	return steps
}

func single(steps []step) bool {
	for _, s := range steps {
		if s.By != 1 && s.By != -1 {
			return false
		}
	}
	return true
}

func count(steps []step, sign int) int {
	n := 0
	for _, s := range steps {
		if s.By*sign > 0 {
			n++
		}
	}
	return n
}

// never is the distance of steps that were not two.
const never = time.Hour

// apart is the least time between two steps in one direction.
func apart(steps []step, sign int) time.Duration {
	least, last := never, time.Duration(-1)
	for _, s := range steps {
		if s.By*sign < 0 {
			continue
		}
		if last >= 0 {
			least = min(least, s.At-last)
		}
		last = s.At
	}
	return least
}

func seconds(d time.Duration) string {
	if d == never {
		return "–"
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}
