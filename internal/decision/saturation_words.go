package decision

import (
	"fmt"
	"strings"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// words is the reason for a move, or for none.
func (n need) words(fleet sample.Fleet, to int32, s Saturation) string {
	var b strings.Builder
	switch {
	case to != fleet.Desired:
		fmt.Fprintf(&b, "%d → %d", fleet.Desired, to)
	case n.replicas < to:
		fmt.Fprintf(&b, "%d stays for now, %d would do", to, n.replicas)
	default:
		fmt.Fprintf(&b, "%d is right", to)
	}
	fmt.Fprintf(&b, ": demand %.1f replicas (throughput)", n.demand)
	for _, part := range []struct {
		amount float64
		name   string
	}{{n.growth, "growth"}, {n.burst, "burst"}, {n.backlog, "backlog"}, {n.alarm, "latency"}} {
		if part.amount >= .05 {
			fmt.Fprintf(&b, ", %.1f %s", part.amount, part.name)
		}
	}
	if s.Bounds.Max > 0 && n.replicas == s.Bounds.Max {
		fmt.Fprintf(&b, "; %d is the maximum", s.Bounds.Max)
	}
	if n.coming > 0 {
		fmt.Fprintf(&b, "; %d starting", n.coming)
	}
	if n.late > 0 {
		fmt.Fprintf(&b, "; %d overdue or broken and not counted on", n.late)
	}
	if n.learning {
		b.WriteString("; still learning what a replica can do")
	}
	return b.String()
}
