package provision

import (
	"crypto/sha256"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// eventDedup remembers the last events of each InferenceSet, so that an event and a
// log line come once for each transition. It holds some 300 bytes for
// each InferenceSet that asks for scaling, until it is deleted or asks no more.
type eventDedup struct {
	// mu guards entries.
	mu      sync.Mutex
	entries map[types.NamespacedName]*entry
}

// entry is one InferenceSet's.
type entry struct {
	// state is one of states, "" for none.
	state string
	// last is the last event on the ScaledObject.
	last digest
	// warnings are the last ones beside it, by their reason.
	warnings map[string]digest
	// refused is the last event on triggers that aren't answered, which an
	// InferenceSet has whether or not it asks for scaling.
	refused digest
}

// digest stands for a text, which may be as long as annotations are: 256 kB. The
// zero value is that of no text.
type digest [sha256.Size]byte

func digestOf(text string) digest {
	if text == "" {
		return digest{}
	}
	return sha256.Sum256([]byte(text))
}

func newEventDedup() *eventDedup { return &eventDedup{entries: map[types.NamespacedName]*entry{}} }

// entry is called with mu held.
func (d *eventDedup) entry(key types.NamespacedName) *entry {
	e := d.entries[key]
	if e == nil {
		e = &entry{warnings: map[string]digest{}}
		d.entries[key] = e
	}
	return e
}

// setState notes the state of an InferenceSet, and returns the one before too.
func (d *eventDedup) setState(key types.NamespacedName, state string) (before, after string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if state == "" && d.entries[key] == nil {
		return "", "" // most InferenceSets of a cluster may never ask
	}
	e := d.entry(key)
	before, e.state = e.state, state
	if state == "" && e.last == (digest{}) && e.refused == (digest{}) {
		delete(d.entries, key)
	}
	return before, state
}

// isNew notes the text of an event, and tells whether it is something else than before.
func (d *eventDedup) isNew(key types.NamespacedName, text string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, now := d.entry(key), digestOf(text)
	if e.last == now {
		return false
	}
	e.last = now
	return true
}

// isNewWarning is the same for a warning beside it. An InferenceSet that is
// found as it should be has no new ones: the scaler before this one recorded them.
func (d *eventDedup) isNewWarning(key types.NamespacedName, reason, note string, written bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entry(key)
	before, known := e.warnings[reason]
	now := digestOf(note)
	e.warnings[reason] = now
	return note != "" && now != before && (known || written)
}

// isNewRefusal is the same for what concerns an InferenceSet that doesn't ask too.
func (d *eventDedup) isNewRefusal(key types.NamespacedName, note string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if note == "" && d.entries[key] == nil {
		return false
	}
	e, now := d.entry(key), digestOf(note)
	before := e.refused
	e.refused = now
	return note != "" && now != before
}

// forget drops one that doesn't exist any more, but for its state.
func (d *eventDedup) forget(key types.NamespacedName) {
	d.isNewRefusal(key, "")
	d.clear(key)
}

// clear drops the last events.
func (d *eventDedup) clear(key types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.entries[key]; e != nil {
		e.last, e.warnings = digest{}, map[string]digest{}
	}
}
