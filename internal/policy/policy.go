// Package policy holds what the owner of an InferenceSet asked for. It reads
// the annotations and the metadata of a KEDA trigger, checks them, fills in the
// defaults, and writes the trigger's metadata. Beyond it no map of strings
// travels: everything is a Policy or a Trigger. It is pure.
package policy

import "time"

// Policy is a checked and complete request for scaling.
type Policy struct {
	Bounds Bounds
	// Queue is what is asked for unless there is a List or Saturation.
	Queue Queue
	// List is nil unless the InferenceSet has a metric list.
	List *List
	// Saturation is nil if there is a threshold or a metric list.
	Saturation *Saturation
	// Up and Down are the guard rails that the HPA enforces on each direction.
	Up, Down Pace
}

// Bounds are the replicas that scaling stays between, 1 ≤ Min ≤ Max. The zero
// value is of a trigger written by hand, which doesn't tell.
type Bounds struct {
	Min, Max int32
}

// Clamp is the number of replicas within the bounds that is nearest to n.
func (b Bounds) Clamp(n int32) int32 {
	if b == (Bounds{}) {
		return n
	}
	return min(max(n, b.Min), b.Max)
}

// Pace is how fast the HPA may go in one direction.
type Pace struct {
	// Window is the HPA's stabilisation window, 0 s to 1 h: upwards the lowest
	// recommendation within it counts, downwards the highest.
	Window time.Duration
	// Cooldown is the time in which the HPA goes by Step replicas at most, 1 s
	// to 30 min.
	Cooldown time.Duration
	// Step is ≥ 1, and 1 for all but saturation.
	Step int32
	// Tolerance is how far total ÷ (Target × replicas) may be off 1 without a
	// step, as a fraction of 1.
	Tolerance float64
}

// The defaults are those that KAITO's documentation shows for an InferenceSet
// with a threshold.
const (
	// DefaultMetric is vLLM's gauge of requests that wait for a place in the
	// running batch.
	DefaultMetric = "vllm:num_requests_waiting"

	// DefaultMin is one replica: KEDA's own default would be zero.
	DefaultMin int32 = 1

	// UpTolerance is the HPA's usual one.
	UpTolerance = 0.1
	// DownTolerance keeps a replica until the queue is under half of what the
	// fleet is meant for: a GPU takes minutes to come back.
	DownTolerance = 0.5
)

func defaultUp() Pace {
	return Pace{Window: 60 * time.Second, Cooldown: 300 * time.Second, Step: 1, Tolerance: UpTolerance}
}

func defaultDown() Pace {
	return Pace{Window: 300 * time.Second, Cooldown: 600 * time.Second, Step: 1, Tolerance: DownTolerance}
}

// listUp is KAITO's for a metric list. The HPA wants to see the verdict for the
// whole window, beside the window that a metric has of its own. It tolerates
// nothing, because what is published is a number of replicas.
func listUp() Pace {
	return Pace{Window: 60 * time.Second, Cooldown: 300 * time.Second, Step: 1}
}

// listDown is the same for the way down, of which the window is the cooldown.
func listDown() Pace {
	return Pace{Window: 300 * time.Second, Cooldown: 300 * time.Second, Step: 1}
}
