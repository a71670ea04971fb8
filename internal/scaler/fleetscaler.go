package scaler

import (
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// fleetKey is what one scaler evaluates. Other SLOs are learned anew: which answers
// were late is a part of what is learned.
type fleetKey struct {
	inferenceSet types.NamespacedName
	page         policy.Page
	slo          policy.Saturation
}

// fleetKeyOf is false for a trigger that learns nothing.
func fleetKeyOf(trigger policy.Trigger) (fleetKey, bool) {
	slo := trigger.Learned()
	if slo == nil {
		return fleetKey{}, false
	}
	return fleetKey{keyOf(trigger), trigger.Page, *slo}, true
}

// checkpointKey is a fleet's key in the store. No name of Kubernetes' has an
// underscore, and no namespace a dot.
func (c fleetKey) checkpointKey() string {
	apart := fnv.New32a()
	_, _ = fmt.Fprintf(apart, "%+v %+v", c.page, c.slo)
	return fmt.Sprintf("%s.%s_%08x", c.inferenceSet.Namespace, c.inferenceSet.Name, apart.Sum32())
}

// fleetScaler is a decision.Scaler that several use.
type fleetScaler struct {
	// turn is the fleet's own. It never changes.
	turn uint32
	// unusable says why what was loaded of it last couldn't be used, as was logged. The
	// loop's mu guards it.
	unusable string
	// mu guards what follows. It is held while a fleet is evaluated, which waits for
	// nobody.
	mu sync.Mutex
	decision.Scaler
	// trigger is the newest of those that the scaler is for.
	trigger policy.Trigger
	// state is what marshal returned; nil once there is an update after it.
	state []byte
}

// marshal is the state for the store, and when it was updated; nil if nothing was
// learned. It is cached until the next update.
func (m *fleetScaler) marshal() (state []byte, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == nil {
		var err error
		if m.state, err = m.MarshalBinary(); err != nil {
			panic(fmt.Sprintf("marshal a fleet's state: %v", err)) // a buffer takes everything
		}
	}
	_, at = m.Learned()
	return m.state, at
}
