package scaler

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
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

// RunCheckpoints takes over what the store has, and keeps it in line with what is
// learned: who leads writes, every so often and in the end, and the others take
// over what the leader knows, so that all of them answer alike. Nobody writes
// who hasn't read what is there, or doesn't lead when the write is due. It ends
// with ctx.
func (j *EvaluationLoop) RunCheckpoints(ctx context.Context, store CheckpointStore, leads func() bool) error {
	read := j.load(ctx, store)
	for {
		wait := checkpointInterval
		if !read {
			wait = loadRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			entries, order := j.checkpoint()
			if read && leads() {
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalSaveTimeout)
				defer cancel()
				j.save(last, store, entries, order)
			}
			return nil
		case <-timer.C:
		}
		if read && leads() {
			entries, order := j.checkpoint()
			if leads() { // still: packing takes its time
				j.save(ctx, store, entries, order)
			}
		} else if j.load(ctx, store) {
			read = true
		}
	}
}

// checkpointKey is a fleet's key in the store. No name of Kubernetes' has an
// underscore, and no namespace a dot.
func (c fleetKey) checkpointKey() string {
	apart := fnv.New32a()
	_, _ = fmt.Fprintf(apart, "%+v %+v", c.page, c.slo)
	return fmt.Sprintf("%s.%s_%08x", c.inferenceSet.Namespace, c.inferenceSet.Name, apart.Sum32())
}

// load takes over what the store has; false if it can't be read.
func (j *EvaluationLoop) load(ctx context.Context, store CheckpointStore) bool {
	entries, err := store.Load(ctx)
	if ctx.Err() == nil {
		j.logError("what was learned before can't be read, trying again", err)
	}
	if err != nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending = entries
	taken := 0
	for c, m := range j.scalers {
		if j.mergePending(c, m) {
			taken++
		}
	}
	if taken > 0 {
		j.log.V(j.loadedLevel()).Info("took over what was learned", "inferenceSets", taken)
	}
	return true
}

// loadedLevel is the level for what is only news the first time. It needs mu.
func (j *EvaluationLoop) loadedLevel() int {
	level := 0
	if j.loaded {
		level = 1
	}
	j.loaded = true
	return level
}

// mergePending lets a scaler take over what was loaded of its fleet, if anything was. It
// needs mu.
func (j *EvaluationLoop) mergePending(c fleetKey, m *fleetScaler) bool {
	memory, found := j.pending[c.checkpointKey()]
	if !found {
		return false
	}
	delete(j.pending, c.checkpointKey())
	recalled, err := decision.Unmarshal(memory, time.Now())
	if err != nil {
		if m.unusable == err.Error() { // A leader of another version goes on writing it.
			return false
		}
		m.unusable = err.Error()
		j.log.Info("what was learned before can't be used, learning anew", "inferenceSet", c.inferenceSet, "why", err.Error())
		return false
	}
	m.mu.Lock()
	m.Merge(recalled)
	m.state = nil
	m.mu.Unlock()
	began, at := recalled.Learned()
	j.log.V(1).Info("took over what was learned", "inferenceSet", c.inferenceSet, "from", began, "until", at)
	return true
}

// checkpoint is all that is learned, and what nobody has asked for yet or lately, with
// the keys in the order in which they are kept where not all fit: those that were
// seen last first, by the hour, so that the order is the same at each write.
func (j *EvaluationLoop) checkpoint() (entries map[string][]byte, order []string) {
	entries = map[string][]byte{}
	hours := map[string]int64{}
	for c, m := range j.all() {
		if memory, at := m.marshal(); memory != nil {
			entries[c.checkpointKey()], hours[c.checkpointKey()] = memory, at.Unix()/3600
		}
	}
	now := time.Now()
	j.mu.Lock()
	for key, memory := range j.pending {
		if entries[key] != nil {
			continue
		}
		left, err := decision.Unmarshal(memory, now)
		if err != nil {
			delete(j.pending, key)
			continue
		}
		if _, at := left.Learned(); now.Sub(at) > maxPendingAge {
			delete(j.pending, key)
		} else {
			entries[key], hours[key] = memory, at.Unix()/3600
		}
	}
	j.mu.Unlock()
	order = slices.SortedFunc(maps.Keys(entries), func(a, b string) int {
		return cmp.Or(cmp.Compare(hours[b], hours[a]), cmp.Compare(a, b))
	})
	return entries, order
}

// save puts what is learned into the store.
func (j *EvaluationLoop) save(ctx context.Context, store CheckpointStore, entries map[string][]byte, order []string) {
	left, err := store.Save(ctx, entries, order)
	j.logError("what was learned can't be written down, trying again", err)
	j.Metrics.countDropped(limitCheckpoints, len(left))
	j.mu.Lock()
	news := len(left) > 0 && j.leftOut == 0
	j.leftOut = len(left)
	j.mu.Unlock()
	if news {
		j.log.Info("what was learned doesn't all fit: after a restart of every replica the rest is learned anew",
			"leftOut", len(left), "of", len(entries), "first", left[0])
	}
}

// logError logs an error that wasn't there the last time.
func (j *EvaluationLoop) logError(what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	j.mu.Lock()
	news := text != j.lastError && text != ""
	j.lastError = text
	j.mu.Unlock()
	if news {
		j.log.Error(err, what)
	}
}
