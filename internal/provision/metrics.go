package provision

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// result is what a look at an InferenceSet came to.
type result string

const (
	// ignored is for one that asks for nothing and has nothing.
	ignored result = "ignored"
	// waiting is for an object or a namespace that is about to end, and for an
	// earlier version's time as long as that may still answer KEDA.
	waiting result = "waiting"
	// stale is for a write that was refused because the cache is behind.
	stale     result = "stale"
	unchanged result = "unchanged"
	created   result = "created"
	updated   result = "updated"
	adopted   result = "adopted"
	removed   result = "removed"
	// refused is for annotations that can't be understood where no ScaledObject
	// is in force, outdated where the last valid one is.
	refused     result = "refused"
	outdated    result = "outdated"
	conflicting result = "conflicting"
	failed      result = "failed"
)

// inForce tells whether the ScaledObject is as asked for.
func (r result) inForce() bool {
	return r == unchanged || r == created || r == updated || r == adopted
}

// provisioned is the state of an InferenceSet that has what it asks for. The
// other states have the names of their results.
const provisioned = "provisioned"

var states = []string{provisioned, string(refused), string(outdated), string(conflicting), string(failed)}

// state is where the result leaves an InferenceSet, "" for nowhere. What has yet
// to end leaves it where it was.
func (r result) state() (state string, known bool) {
	switch r {
	case unchanged, created, updated, adopted:
		return provisioned, true
	case refused, outdated, conflicting, failed:
		return string(r), true
	case ignored, removed:
		return "", true
	case waiting, stale:
	}
	return "", false
}

// metrics count InferenceSets and looks at them. None has a label from a user's
// object.
type metrics struct {
	sets       *prometheus.GaugeVec
	reconciles *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		sets: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "keda_kaito_scaler_provision_inferencesets",
			Help: "InferenceSets that ask for scaling, by what became of it. Only the leader knows.",
		}, []string{"state"}),
		reconciles: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keda_kaito_scaler_provision_reconciles_total",
			Help: "Looks at an InferenceSet's annotations and its ScaledObject, by what they came to.",
		}, []string{"result"}),
	}
	if registerer == nil {
		return m, nil
	}
	var err1, err2 error
	m.sets, err1 = register(registerer, m.sets)
	m.reconciles, err2 = register(registerer, m.reconciles)
	m.sets.Reset() // of a Controller before us, which has ended
	return m, errors.Join(err1, err2)
}

// register returns the collector that is registered: another one if a
// Controller for another version of KAITO's API ran before in this process.
func register[C prometheus.Collector](registerer prometheus.Registerer, c C) (C, error) {
	err := registerer.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if there, ok := already.ExistingCollector.(C); ok {
			return there, nil
		}
	}
	if err != nil {
		return c, fmt.Errorf("register metrics: %w", err)
	}
	return c, nil
}

func (m *metrics) countReconcile(did result) { m.reconciles.WithLabelValues(string(did)).Inc() }

// moveState counts an InferenceSet under another state than before.
func (m *metrics) moveState(before, after string) {
	if before == after {
		return
	}
	for _, state := range states {
		gauge := m.sets.WithLabelValues(state) // also to show a zero
		switch state {
		case before:
			gauge.Dec()
		case after:
			gauge.Inc()
		}
	}
}
