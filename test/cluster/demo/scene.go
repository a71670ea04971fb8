package main

import (
	"slices"
	"time"
)

// scene is everything that the demo shows of one moment. It holds plain values,
// so that what is drawn can be tested without a cluster.
type scene struct {
	// At is the time since the YAML was applied.
	At time.Duration
	// Story says what is happening now, in words for a person.
	Story string
	// Phase is the script's, for a column of plain lines.
	Phase string
	// Offered is the load, in requests per second.
	Offered float64

	Set      inferenceSet
	Replicas []replica
	// Published is what the scaler answered KEDA, as the external metrics API
	// serves it to the HPA.
	Published reading
	KEDA      scaledObject
	HPA       autoscaler
	// Events are those on the InferenceSet, oldest first.
	Events []event
	// Trouble is what the demo could not read last time, "" if all is well.
	Trouble string
}

// inferenceSet is what `kubectl get inferenceset` shows.
type inferenceSet struct {
	Name string
	// Wanted is spec.replicas, Ready status.readyReplicas.
	Wanted, Ready int32
}

// replica is one Workspace with its simulated pod.
type replica struct {
	Name string
	// Stage is where KAITO is with it: awaiting node … ready, terminating.
	Stage string
	// Counted tells whether its load counts: it serves its users' requests, and
	// not KAITO's start-up benchmark.
	Counted bool
	Ready   bool
	// Running and Waiting are requests, Seats the most that can run at once.
	Running, Waiting, Seats int
}

// reading is a number, or unknown.
type reading struct {
	Value float64
	Known bool
}

// scaledObject is what KEDA says of the ScaledObject.
type scaledObject struct {
	Exists bool
	// Ready and Active are its conditions: True, False or Unknown.
	Ready, Active string
}

// autoscaler is what `kubectl get hpa` and `kubectl describe hpa` show.
type autoscaler struct {
	Exists bool
	// Targets is as kubectl prints it, such as 25/10 (avg).
	Targets string
	// Target is the value wanted for each replica, Current what the HPA saw
	// for each replica at its last sync.
	Target  float64
	Current reading
	// Desired is status.desiredReplicas.
	Desired, Min, Max int32
	Up, Down          rules
	// Reason and Message are its most telling condition.
	Reason, Message string
}

// rules are an HPA's behaviour in one direction: one replica per Cooldown, and
// only what was wanted throughout Window.
type rules struct {
	Window, Cooldown time.Duration
}

// event is one on the InferenceSet.
type event struct {
	// At is the time since the YAML was applied.
	At           time.Duration
	Reason, Note string
	Warning      bool
}

// waiting is the queue of all replicas whose load counts.
func (s scene) waiting() int {
	n := 0
	for _, r := range s.Replicas {
		if r.Counted {
			n += r.Waiting
		}
	}
	return n
}

// serving counts the replicas that answer their users.
func (s scene) serving() int {
	n := 0
	for _, r := range s.Replicas {
		if r.Counted && r.Ready {
			n++
		}
	}
	return n
}

// recommendation is the scaler's latest word on how many replicas there should be.
func (s scene) recommendation() (event, bool) {
	reasons := []string{"ScalingUp", "ScalingDown", "ScalingSteady", "ScalingHeld", "LoadUnknown"}
	for _, e := range slices.Backward(s.Events) {
		if slices.Contains(reasons, e.Reason) {
			return e, true
		}
	}
	return event{}, false
}

// point is what the plots keep of a scene.
type point struct {
	At time.Duration
	// Offered is in requests per second, Waiting in requests.
	Offered float64
	Waiting int
	// Wanted is spec.replicas, Serving how many of them answer.
	Wanted, Serving int
	Published       reading
	Targets         string
}

func (s scene) point() point {
	return point{
		At: s.At, Offered: s.Offered, Waiting: s.waiting(),
		Wanted: int(s.Set.Wanted), Serving: s.serving(),
		Published: s.Published, Targets: s.HPA.Targets,
	}
}
