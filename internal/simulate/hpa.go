package simulate

import (
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/hpa"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// Behaviour is one direction of an HPA's behaviour with one policy of type
// Pods.
type Behaviour struct {
	// Window is the stabilisation window.
	Window time.Duration
	// Pods may be added or removed in each Period.
	Pods   int32
	Period time.Duration
	// Tolerance is a fraction of 1.
	Tolerance float64
}

// Paced is the behaviour that the scaler writes for a policy's pace.
func Paced(p policy.Pace) Behaviour {
	return Behaviour{Window: p.Window, Pods: p.Step, Period: p.Cooldown, Tolerance: p.Tolerance}
}

// Free lets the recommendation through as it is.
func Free() Behaviour { return Behaviour{Pods: math.MaxInt16, Period: syncPeriod} }

// HPA is Kubernetes' HorizontalPodAutoscaler with one external metric of type
// AverageValue. Its arithmetic is that of the controller: the tolerance, then
// the stabilisation windows, then the policies, then the bounds. Source:
// normalizeDesiredReplicasWithBehaviors in
// k8s.io/kubernetes/pkg/controller/podautoscaler/horizontal.go.
type HPA struct {
	Up, Down Behaviour
	Bounds   policy.Bounds

	recommendations []change
	// ups and downs are the changes of the scale that its policies count.
	ups, downs []change
}

type change struct {
	at       time.Time
	replicas int32
}

// Sync is one run of the controller: from the metric's total and the scale's
// current replicas to the replicas that it writes.
func (h *HPA) Sync(total, target float64, current int32, now time.Time) int32 {
	if len(h.recommendations) == 0 {
		h.recommendations = append(h.recommendations, change{now, current})
	}
	// Outside of the bounds it looks at no metric: neither windows nor policies
	// count, and nothing is recommended.
	if bounded := h.Bounds.Clamp(current); bounded != current && current != 0 {
		h.scaled(current, bounded, now)
		return bounded
	}
	wanted := hpa.Replicas(total, target, current, h.Up.Tolerance, h.Down.Tolerance)
	desired := h.limit(h.stabilise(wanted, current, now), current, now)
	h.scaled(current, desired, now)
	return desired
}

// scaled notes a change for the policies to count.
func (h *HPA) scaled(current, desired int32, now time.Time) {
	switch {
	case desired > current:
		h.ups = store(h.ups, change{now, desired - current}, h.Up.Period)
	case desired < current:
		h.downs = store(h.downs, change{now, current - desired}, h.Down.Period)
	}
}

// stabilise takes the lowest recommendation of the upward window and the
// highest of the downward one.
func (h *HPA) stabilise(wanted, current int32, now time.Time) int32 {
	up, down := wanted, wanted
	var kept []change
	for _, r := range h.recommendations {
		if age := now.Sub(r.at); age < max(h.Up.Window, h.Down.Window) {
			kept = append(kept, r)
			if age < h.Up.Window {
				up = min(up, r.replicas)
			}
			if age < h.Down.Window {
				down = max(down, r.replicas)
			}
		}
	}
	kept = append(kept, change{now, wanted})
	h.recommendations = kept
	return min(max(current, up), down)
}

// limit applies the policies and the bounds.
func (h *HPA) limit(desired, current int32, now time.Time) int32 {
	added, removed := since(h.ups, now, h.Up.Period), since(h.downs, now, h.Up.Period)
	if desired > current {
		// What was done within the period is taken back before the policy
		// counts, and a limit below the current replicas doesn't lower them.
		ceiling := max(current, current-added+removed+h.Up.Pods)
		return min(desired, ceiling, h.Bounds.Max)
	}
	added, removed = since(h.ups, now, h.Down.Period), since(h.downs, now, h.Down.Period)
	floor := min(current, current-added+removed-h.Down.Pods)
	return min(max(desired, floor, h.Bounds.Min), h.Bounds.Max)
}

func since(changes []change, now time.Time, period time.Duration) int32 {
	var n int32
	for _, c := range changes {
		if now.Sub(c.at) < period {
			n += c.replicas
		}
	}
	return n
}

// store adds a change in the place of one that its direction's policy counts no
// longer, as the controller does.
func store(changes []change, c change, period time.Duration) []change {
	for i := len(changes) - 1; i >= 0; i-- {
		if c.at.Sub(changes[i].at) > period {
			changes[i] = c
			return changes
		}
	}
	return append(changes, c)
}
