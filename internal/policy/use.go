package policy

// Use is what the HPA does with the number that a trigger publishes. KEDA
// doesn't tell a scaler; the ScaledObject does.
type Use uint8

const (
	// AverageValue is divided by the replicas and compared with the target. It
	// is that of every ScaledObject of ours.
	AverageValue Use = iota
	// Value is compared with the target as it is.
	Value
	// Formula goes into one of KEDA's scalingModifiers, and what that makes of
	// it only its author knows.
	Formula
)

// Tolerances are how far the HPA lets a metric be off its target without a move, as
// fractions of 1.
type Tolerances struct{ Up, Down float64 }
