package provision

import (
	"crypto/sha256"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// ledger remembers what each InferenceSet's owner was told last, so that an
// event and a log line come once for each transition. It holds some 300 bytes for
// each InferenceSet that asks for scaling, until it is deleted or asks no more.
type ledger struct {
	// mu guards entries.
	mu      sync.Mutex
	entries map[types.NamespacedName]*entry
}

// entry is one InferenceSet's.
type entry struct {
	// state is one of states, "" for none.
	state string
	// said is the last thing said of the ScaledObject.
	said digest
	// notes is what was said beside it, by the event's reason.
	notes map[string]digest
	// mentioned is what was said whether or not the InferenceSet asks for scaling.
	mentioned digest
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

func newLedger() *ledger { return &ledger{entries: map[types.NamespacedName]*entry{}} }

// entry is called with mu held.
func (l *ledger) entry(key types.NamespacedName) *entry {
	e := l.entries[key]
	if e == nil {
		e = &entry{notes: map[string]digest{}}
		l.entries[key] = e
	}
	return e
}

// enter notes the state of an InferenceSet, and returns the one before too.
func (l *ledger) enter(key types.NamespacedName, state string) (before, after string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if state == "" && l.entries[key] == nil {
		return "", "" // most InferenceSets of a cluster may never ask
	}
	e := l.entry(key)
	before, e.state = e.state, state
	if state == "" && e.said == (digest{}) && e.mentioned == (digest{}) {
		delete(l.entries, key)
	}
	return before, state
}

// news notes what is said, and tells whether it is something else than before.
func (l *ledger) news(key types.NamespacedName, said string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, now := l.entry(key), digestOf(said)
	if e.said == now {
		return false
	}
	e.said = now
	return true
}

// note is the same for what is said beside it. The first note of an
// InferenceSet that is found as it should be is none: a scaler before this one
// has told it.
func (l *ledger) note(key types.NamespacedName, reason, note string, written bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(key)
	before, known := e.notes[reason]
	now := digestOf(note)
	e.notes[reason] = now
	return note != "" && now != before && (known || written)
}

// mention is the same for what concerns an InferenceSet that doesn't ask too.
func (l *ledger) mention(key types.NamespacedName, note string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if note == "" && l.entries[key] == nil {
		return false
	}
	e, now := l.entry(key), digestOf(note)
	before := e.mentioned
	e.mentioned = now
	return note != "" && now != before
}

// gone forgets one that doesn't exist any more, but for its state.
func (l *ledger) gone(key types.NamespacedName) {
	l.mention(key, "")
	l.clear(key)
}

// clear forgets what was said.
func (l *ledger) clear(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[key]; e != nil {
		e.said, e.notes = digest{}, map[string]digest{}
	}
}
