package decision

import (
	"fmt"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/text"
)

// readinessGate is the gate of version 0.6: 1 while every desired replica is Ready, else
// 0. Its formula asks for more only behind it, so that a step isn't asked for twice.
// It goes by Kubernetes' own word: a pod that is too busy for its probe closes it, as
// it did before.
func readinessGate(fleet sample.Fleet) Recommendation {
	ready := int32(0)
	for i := range fleet.Replicas {
		if r := &fleet.Replicas[i]; r.Phase == sample.Serving && !r.ReadySince.IsZero() {
			ready++
		}
	}
	v := Recommendation{Confidence: Measured, Replicas: fleet.Desired}
	if ready >= fleet.Desired {
		v.Value = 1
	}
	v.Reason = fmt.Sprintf("%s for the formula: %d Ready of %s desired", text.Number(v.Value), ready, text.CountReplicas(int(fleet.Desired)))
	return v
}
