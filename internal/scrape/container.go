package scrape

import "github.com/kaito-project/keda-kaito-scaler/internal/kaito"

// container is the container of a pod whose engine is read.
type container struct {
	// restarts is how often it was restarted.
	restarts int32
	// readySinceStart is set once it has been Ready: KAITO's start-up benchmark, whose load
	// is nobody's, is over by then.
	readySinceStart bool
}

// firstSeen is that of a Serving pod that was never seen before. One that never
// restarted has been Ready, even if it isn't now and nobody here saw it.
func firstSeen(r *kaito.Replica) container {
	return container{restarts: r.Restarts, readySinceStart: r.Restarts == 0}
}

// see takes over what Kubernetes says of it.
func (c *container) see(r *kaito.Replica) {
	if c.restarts != r.Restarts {
		*c = container{restarts: r.Restarts}
	}
	if r.Ready || r.ReadySinceStart {
		c.readySinceStart = true
	}
}
