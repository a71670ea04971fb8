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

// Archive keeps what was learned beyond the life of a process: some bytes for
// each entry.
type Archive interface {
	Load(ctx context.Context) (map[string][]byte, error)
	// Save keeps the entries and no others. Where not all fit, each namespace and
	// each InferenceSet of one gets its share, with those first that are earlier in
	// the order. It returns the keys of those that were left out.
	Save(ctx context.Context, entries map[string][]byte, order []string) (left []string, err error)
}

const (
	// keepEvery is how often the leader writes what was learned down, and the
	// others read it: in five minutes a fleet teaches little that is new.
	keepEvery = 5 * time.Minute
	// askAgain is how soon an archive that couldn't be read is read again.
	askAgain = 15 * time.Second
	// atTheEnd bounds the last writing of a process that is told to stop: eight
	// ConfigMaps. What is written is packed before, which takes 2 000 fleets a third
	// of a second.
	atTheEnd = 2 * time.Second
	// orphaned is how long an entry is kept that nobody has asked for, since its
	// fleet was seen last: what was learned of a day ago is of no use.
	orphaned = 24 * time.Hour
)

// Keep takes over what the archive has, and keeps it in line with what is
// learned: who leads writes, every so often and in the end, and the others take
// over what the leader knows, so that all of them answer alike. Nobody writes
// who hasn't read what is there, or doesn't lead when the write is due. It ends
// with ctx.
func (j *Judges) Keep(ctx context.Context, archive Archive, leads func() bool) error {
	read := j.read(ctx, archive)
	for {
		wait := keepEvery
		if !read {
			wait = askAgain
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			entries, order := j.pack()
			if read && leads() {
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), atTheEnd)
				defer cancel()
				j.write(last, archive, entries, order)
			}
			return nil
		case <-timer.C:
		}
		if read && leads() {
			entries, order := j.pack()
			if leads() { // still: packing takes its time
				j.write(ctx, archive, entries, order)
			}
		} else if j.read(ctx, archive) {
			read = true
		}
	}
}

// entry is a charge's key in the archive. No name of Kubernetes' has an
// underscore, and no namespace a dot.
func (c charge) entry() string {
	apart := fnv.New32a()
	_, _ = fmt.Fprintf(apart, "%+v %+v", c.page, c.promise)
	return fmt.Sprintf("%s.%s_%08x", c.key.Namespace, c.key.Name, apart.Sum32())
}

// read takes over what the archive has; false if it can't be read.
func (j *Judges) read(ctx context.Context, archive Archive) bool {
	entries, err := archive.Load(ctx)
	if ctx.Err() == nil {
		j.say("what was learned before can't be read, trying again", err)
	}
	if err != nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.recalled = entries
	taken := 0
	for c, m := range j.minds {
		if j.begin(c, m) {
			taken++
		}
	}
	if taken > 0 {
		j.log.V(j.quiet()).Info("took over what was learned", "inferenceSets", taken)
	}
	return true
}

// quiet is the level for what is only news the first time. It needs mu.
func (j *Judges) quiet() int {
	level := 0
	if j.took {
		level = 1
	}
	j.took = true
	return level
}

// begin lets a mind take over what was recalled of its fleet, if anything was. It
// needs mu.
func (j *Judges) begin(c charge, m *mind) bool {
	memory, found := j.recalled[c.entry()]
	if !found {
		return false
	}
	delete(j.recalled, c.entry())
	recalled, err := decision.Recall(memory, time.Now())
	if err != nil {
		j.log.Info("what was learned before can't be used, learning anew", "inferenceSet", c.key, "why", err.Error())
		return false
	}
	m.mu.Lock()
	m.Merge(recalled)
	m.memory = nil
	m.mu.Unlock()
	began, at := recalled.Since()
	j.log.V(1).Info("took over what was learned", "inferenceSet", c.key, "from", began, "until", at)
	return true
}

// pack is all that is learned, and what nobody has asked for yet or lately, with
// the keys in the order in which they are kept where not all fit: those that were
// seen last first, by the hour, so that the order is the same at each write.
func (j *Judges) pack() (entries map[string][]byte, order []string) {
	entries = map[string][]byte{}
	hours := map[string]int64{}
	for c, m := range j.all() {
		if memory, at := m.pack(); memory != nil {
			entries[c.entry()], hours[c.entry()] = memory, at.Unix()/3600
		}
	}
	now := time.Now()
	j.mu.Lock()
	for key, memory := range j.recalled {
		if entries[key] != nil {
			continue
		}
		left, err := decision.Recall(memory, now)
		if err != nil {
			delete(j.recalled, key)
			continue
		}
		if _, at := left.Since(); now.Sub(at) > orphaned {
			delete(j.recalled, key)
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

// write puts what is learned into the archive.
func (j *Judges) write(ctx context.Context, archive Archive, entries map[string][]byte, order []string) {
	left, err := archive.Save(ctx, entries, order)
	j.say("what was learned can't be written down, trying again", err)
	j.Metrics.over(limitLearned, len(left))
	j.mu.Lock()
	news := len(left) > 0 && j.left == 0
	j.left = len(left)
	j.mu.Unlock()
	if news {
		j.log.Info("what was learned doesn't all fit: after a restart of every replica the rest is learned anew",
			"leftOut", len(left), "of", len(entries), "first", left[0])
	}
}

// say logs an error that wasn't there the last time.
func (j *Judges) say(what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	j.mu.Lock()
	news := text != j.said && text != ""
	j.said = text
	j.mu.Unlock()
	if news {
		j.log.Error(err, what)
	}
}
