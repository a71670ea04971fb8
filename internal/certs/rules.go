package certs

import (
	"fmt"
	"time"
)

// Rules are what the certificates have to obey.
type Rules struct {
	Names Names
	// LeafLife is how long a leaf lasts, > 0. It is renewed at two thirds.
	LeafLife time.Duration
	// CALife is how long a CA lasts, ≥ 10 × LeafLife: its successor is made at
	// two thirds, and what is left must see the old leaves out.
	CALife time.Duration
	// Overlap is how long a new CA is published before it signs, > 0 and
	// ≤ LeafLife: by then every replica and KEDA know it. Those that don't are
	// convinced by the old CA's signature under the new one.
	Overlap time.Duration
}

const (
	// DefaultLeafLife is a year: KEDA may not read a renewed leaf before it
	// restarts, and the four months after two thirds of a year are longer than
	// the three between two releases of KEDA.
	DefaultLeafLife = 365 * 24 * time.Hour
	// MinLeafLife is the least that a user may ask for. A third of it, 20
	// minutes, is what an outage of the API server may take.
	MinLeafLife = time.Hour
	// DefaultCALife is ten years, or ten lives of a leaf if that is more.
	DefaultCALife = 10 * 365 * 24 * time.Hour
	// DefaultOverlap is a day: replicas learn of a new CA within seconds,
	// unless they are cut off from the API server.
	DefaultOverlap = 24 * time.Hour

	caLives = 10
)

// NewRules are the rules of a usual installation. A leafLife of zero stands for
// the default.
func NewRules(names Names, leafLife time.Duration) Rules {
	if leafLife == 0 {
		leafLife = DefaultLeafLife
	}
	return Rules{
		Names:    names,
		LeafLife: leafLife,
		CALife:   max(DefaultCALife, caLives*leafLife),
		Overlap:  min(DefaultOverlap, leafLife),
	}
}

// Validate tells what is wrong with the rules. It doesn't insist on
// MinLeafLife, which is a matter for the command line.
func (r Rules) Validate() error {
	if err := r.Names.Validate(); err != nil {
		return err
	}
	// Certificates count in seconds; less would renew without end.
	if r.LeafLife < 3*time.Second {
		return fmt.Errorf("certificate duration %s: must be at least 3s", r.LeafLife)
	}
	if r.CALife < caLives*r.LeafLife {
		return fmt.Errorf("CA duration %s is below %d × certificate duration %s", r.CALife, caLives, r.LeafLife)
	}
	if r.Overlap <= 0 || r.Overlap > r.LeafLife {
		return fmt.Errorf("overlap %s: must be above 0 and at most the certificate duration %s", r.Overlap, r.LeafLife)
	}
	return nil
}
