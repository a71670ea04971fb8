package scaler

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
)

// CheckpointStore keeps what was learned beyond the life of a process: some bytes for
// each entry.
type CheckpointStore interface {
	Load(ctx context.Context) (map[string][]byte, error)
	// Save keeps the entries and no others. Where not all fit, each namespace and
	// each InferenceSet of one gets its share, with those first that are earlier in
	// the order. It returns the keys of those that were left out.
	Save(ctx context.Context, entries map[string][]byte, order []string) (left []string, err error)
}

const (
	// checkpointInterval is how often the leader writes what was learned down, and the
	// others read it: in five minutes a fleet teaches little that is new.
	checkpointInterval = 5 * time.Minute
	// loadRetry is how soon an store that couldn't be read is read again.
	loadRetry = 15 * time.Second
	// finalSaveTimeout bounds the last writing of a process that is told to stop: eight
	// ConfigMaps. What is written is packed before, which takes 2 000 fleets a third
	// of a second.
	finalSaveTimeout = 2 * time.Second
	// maxPendingAge is how long an entry is kept that nobody has asked for, since its
	// fleet was seen last: what was learned of a day ago is of no use.
	maxPendingAge = 24 * time.Hour
)

// RunCheckpoints loads the checkpoint and keeps it up to date until ctx is done, so
// that all replicas of the scaler recommend alike: the leader saves at every interval
// and at the end, the others load what it saved. A replica that could not load saves
// nothing, so that it never overwrites what it doesn't know.
func (l *EvaluationLoop) RunCheckpoints(ctx context.Context, store CheckpointStore, leads func() bool) error {
	loaded := l.load(ctx, store)
	for wait(ctx, checkpointWait(loaded)) {
		if !loaded || !leads() {
			loaded = l.load(ctx, store) || loaded
			continue
		}
		// Marshaling 2 000 fleets takes a third of a second: it may no longer lead.
		if entries, order := l.checkpoint(); leads() {
			l.save(ctx, store, entries, order)
		}
	}
	if !loaded {
		return nil
	}
	if entries, order := l.checkpoint(); leads() {
		final, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalSaveTimeout)
		defer cancel()
		l.save(final, store, entries, order)
	}
	return nil
}

func checkpointWait(loaded bool) time.Duration {
	if loaded {
		return checkpointInterval
	}
	return loadRetry
}

// wait is false once ctx is done, else true after that time.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// load merges what the store has into the scalers; false if it can't be read.
func (l *EvaluationLoop) load(ctx context.Context, store CheckpointStore) bool {
	entries, err := store.Load(ctx)
	if ctx.Err() == nil {
		l.logError("checkpoint can't be read, retrying", err)
	}
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = entries
	merged := 0
	for c, m := range l.scalers {
		if l.mergePending(c, m) {
			merged++
		}
	}
	if merged > 0 {
		l.log.V(l.loadedLevel()).Info("checkpoint loaded", "inferenceSets", merged)
	}
	return true
}

// loadedLevel is the level for what is only news the first time. It needs mu.
func (l *EvaluationLoop) loadedLevel() int {
	level := 0
	if l.loaded {
		level = 1
	}
	l.loaded = true
	return level
}

// checkpoint is all that is learned, and what nobody has asked for yet or lately, with
// the keys in the order in which they are kept where not all fit: those that were
// seen last first, by the hour, so that the order is the same at each write.
func (l *EvaluationLoop) checkpoint() (entries map[string][]byte, order []string) {
	entries = map[string][]byte{}
	hours := map[string]int64{}
	for c, m := range l.all() {
		if state, at := m.marshal(); state != nil {
			entries[c.checkpointKey()], hours[c.checkpointKey()] = state, at.Unix()/3600
		}
	}
	now := time.Now()
	l.mu.Lock()
	for key, state := range l.pending {
		if entries[key] != nil {
			continue
		}
		scaler, err := decision.Unmarshal(state, now)
		if err != nil {
			delete(l.pending, key)
			continue
		}
		if _, at := scaler.Learned(); now.Sub(at) > maxPendingAge {
			delete(l.pending, key)
		} else {
			entries[key], hours[key] = state, at.Unix()/3600
		}
	}
	l.mu.Unlock()
	order = slices.SortedFunc(maps.Keys(entries), func(a, b string) int {
		return cmp.Or(cmp.Compare(hours[b], hours[a]), cmp.Compare(a, b))
	})
	return entries, order
}

// save writes the entries, and logs once what doesn't fit.
func (l *EvaluationLoop) save(ctx context.Context, store CheckpointStore, entries map[string][]byte, order []string) {
	left, err := store.Save(ctx, entries, order)
	l.logError("checkpoint can't be written, retrying", err)
	l.Metrics.countDropped(limitCheckpoints, len(left))
	l.mu.Lock()
	news := len(left) > 0 && l.leftOut == 0
	l.leftOut = len(left)
	l.mu.Unlock()
	if news {
		l.log.Info("checkpoint doesn't fit the ConfigMaps: after a restart of every replica the rest is learned again",
			"leftOut", len(left), "of", len(entries), "first", left[0])
	}
}

// logError logs an error that wasn't there the last time.
func (l *EvaluationLoop) logError(what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	l.mu.Lock()
	news := text != l.lastError && text != ""
	l.lastError = text
	l.mu.Unlock()
	if news {
		l.log.Error(err, what)
	}
}
