package scaler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// shelf is an store in memory.
type shelf struct {
	mu      sync.Mutex
	entries map[string][]byte
	order   []string
	saves   int
	broken  error
	// most is how many entries have room, 0 for any number.
	most int
}

func (s *shelf) Load(context.Context) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.entries), s.broken
}

func (s *shelf) Save(ctx context.Context, entries map[string][]byte, order []string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil && ctx.Err() == nil {
		s.entries = maps.Clone(entries)
		s.saves++
		s.order = order
	}
	if s.most > 0 && len(order) > s.most {
		return order[s.most:], errors.Join(s.broken, ctx.Err())
	}
	return nil, errors.Join(s.broken, ctx.Err())
}

func TestWhatIsLearnedOutlivesTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &loaded{began: time.Now().Add(-time.Hour), desired: 2, pods: []string{"a-0", "b-0"}, rps: 5}
		kept := &shelf{entries: map[string][]byte{"default.gone_00000000": {1, 2, 3}}}
		began := time.Now()

		leader := NewEvaluationLoop(l, ready, logr.Discard())
		leader.SetTriggers(phi4, []policy.Trigger{saturating})
		ctx, stop := context.WithCancel(t.Context())
		var keeping sync.WaitGroup
		keeping.Go(func() { _ = leader.RunCheckpoints(ctx, kept, ready) })
		at(t, leader, 12*time.Minute)
		if kept.saves != 2 {
			t.Errorf("written %d times in 12 minutes", kept.saves)
		}
		stop()
		keeping.Wait()
		if kept.saves != 3 || len(kept.entries) != 1 {
			t.Errorf("written %d times by its end, with %d entries", kept.saves, len(kept.entries))
		}

		var said []string
		log := funcr.New(func(_, args string) { said = append(said, args) }, funcr.Options{})
		next := NewEvaluationLoop(l, ready, log)
		next.SetTriggers(phi4, []policy.Trigger{saturating})
		ctx, stop = context.WithCancel(t.Context())
		keeping.Go(func() { _ = next.RunCheckpoints(ctx, kept, func() bool { return false }) })
		synctest.Wait()
		if since := learnsSince(next); since.Sub(began) > 30*time.Second {
			t.Errorf("it has known the fleet since %v", since.Sub(began))
		}
		if len(said) != 1 || !strings.Contains(said[0], `"checkpoint loaded" "inferenceSets"=1`) {
			t.Errorf("log: %q", said)
		}
		saves := kept.saves
		time.Sleep(20 * time.Minute)
		stop()
		keeping.Wait()
		if kept.saves != saves {
			t.Error("one that doesn't lead has written")
		}
	})
}

// experience is what a leader has written of default/phi-4 after ten minutes.
func experience(t *testing.T) (memory []byte) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &loaded{began: time.Now().Add(-time.Hour), desired: 2, pods: []string{"a-0", "b-0"}, rps: 5}
		j := NewEvaluationLoop(l, ready, logr.Discard())
		j.SetTriggers(phi4, []policy.Trigger{saturating})
		at(t, j, 10*time.Minute)
		entries, order := j.checkpoint()
		if len(order) != 1 {
			t.Fatalf("learned of %q", order)
		}
		memory = entries[order[0]]
	})
	return memory
}

// crowd is a replica of the scaler that has learned of so many fleets.
func crowd(t testing.TB, memory []byte, n int) *EvaluationLoop {
	t.Helper()
	j := NewEvaluationLoop(&loaded{}, ready, logr.Discard())
	j.pending = map[string][]byte{}
	for i := range n {
		trigger := saturating
		trigger.InferenceSet = fmt.Sprintf("phi-%d", i)
		c, _ := fleetKeyOf(trigger)
		j.pending[c.checkpointKey()] = memory
		j.SetTriggers(c.inferenceSet, []policy.Trigger{trigger})
	}
	return j
}

// hasty is an store that notes how much time it is given for a write.
type hasty struct {
	shelf
	left time.Duration
}

func (h *hasty) Save(ctx context.Context, entries map[string][]byte, order []string) ([]string, error) {
	if deadline, bounded := ctx.Deadline(); bounded {
		h.left = time.Until(deadline)
	}
	return h.shelf.Save(ctx, entries, order)
}

// The last write of a process that is told to stop has its whole time for the
// ConfigMaps: what was learned of 2 000 fleets is packed before it begins.
func TestTheLastCheckpointIsInTimeFor2000Fleets(t *testing.T) {
	const fleets = 2000
	j := crowd(t, experience(t), fleets)
	kept := &hasty{}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := j.RunCheckpoints(ctx, kept, ready); err != nil {
		t.Fatal(err)
	}
	if kept.saves != 1 || len(kept.entries) != fleets {
		t.Errorf("written %d times, %d entries", kept.saves, len(kept.entries))
	}
	if kept.left < finalSaveTimeout-200*time.Millisecond {
		t.Errorf("%v are left for the write of %v", kept.left, finalSaveTimeout)
	}
	// What hasn't been learned since isn't packed again.
	if again, _ := j.checkpoint(); &again[kept.order[0]][0] != &kept.entries[kept.order[0]][0] {
		t.Error("packed again without having learned anything")
	}
}

// BenchmarkCheckpoint is the packing of 2 000 fleets, of which all have learned
// something since the last time.
func BenchmarkCheckpoint(b *testing.B) {
	var memory []byte
	j := NewEvaluationLoop(&loaded{began: time.Now().Add(-time.Hour), desired: 2, pods: []string{"a-0", "b-0"}, rps: 5}, ready, logr.Discard())
	j.SetTriggers(phi4, []policy.Trigger{saturating})
	for c, m := range j.scalers {
		for at := -10 * time.Minute; at <= 0; at += decision.Interval {
			fleet, _ := j.fleets.Fleet(c.inferenceSet, c.page)
			m.Update(saturating, fleet, time.Now().Add(at))
		}
		memory, _ = m.marshal()
	}
	j = crowd(b, memory, 2000)
	b.ReportAllocs()
	for b.Loop() {
		for _, m := range j.scalers {
			m.state = nil
		}
		j.checkpoint()
	}
}

// What doesn't fit into the ConfigMaps is said once and counted each time; what
// nobody asks for any more goes by age.
func TestWhatDoesNotFitTheCheckpointIsLogged(t *testing.T) {
	memory := experience(t)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * time.Minute) // it was written then
		registry := prometheus.NewRegistry()
		var said []string
		j := NewEvaluationLoop(fleets{}, ready, funcr.New(func(_, args string) { said = append(said, args) }, funcr.Options{}))
		j.Metrics = NewMetrics(registry, fleets{})
		kept := &shelf{most: 2, entries: map[string][]byte{}}
		for _, name := range []string{"a", "b", "c"} {
			kept.entries["default."+name+"_0badcafe"] = memory
		}
		ctx, stop := context.WithCancel(t.Context())
		var keeping sync.WaitGroup
		keeping.Go(func() { _ = j.RunCheckpoints(ctx, kept, ready) })
		time.Sleep(11 * time.Minute)
		kept.mu.Lock()
		saves := kept.saves
		kept.mu.Unlock()
		if got := gather(t, registry); saves != 2 || !slices.Equal(got, []string{"over_limit_total{limit=checkpoints} 2"}) ||
			len(said) != 1 || !strings.Contains(said[0], `"leftOut"=1 "of"=3 "first"="default.c_0badcafe"`) {
			t.Errorf("written %d times, counted %q, said %q", saves, got, said)
		}
		time.Sleep(24 * time.Hour)
		stop()
		keeping.Wait()
		if len(kept.entries) != 0 {
			t.Errorf("%d entries of InferenceSets that nobody has asked for in a day", len(kept.entries))
		}
	})
}

// Nothing is written over what couldn't be read, and nothing is told twice.
func TestAStoreThatCannotBeReadIsNotOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &loaded{began: time.Now().Add(-time.Hour), desired: 1, pods: []string{"a-0"}, rps: 5}
		kept := &shelf{broken: errors.New("no route to host")}
		var said []string
		j := NewEvaluationLoop(l, ready, funcr.New(func(_, args string) { said = append(said, args) }, funcr.Options{}))
		j.SetTriggers(phi4, []policy.Trigger{saturating})
		ctx, stop := context.WithCancel(t.Context())
		var keeping sync.WaitGroup
		keeping.Go(func() { _ = j.RunCheckpoints(ctx, kept, ready) })
		at(t, j, 10*time.Minute)
		if kept.saves > 0 || len(said) != 1 {
			t.Errorf("written %d times, log %q", kept.saves, said)
		}
		kept.mu.Lock()
		kept.broken, kept.entries = nil, map[string][]byte{}
		c, _ := fleetKeyOf(saturating)
		kept.entries[c.checkpointKey()] = []byte("whatever")
		kept.mu.Unlock()
		time.Sleep(6 * time.Minute)
		stop()
		keeping.Wait()
		if kept.saves == 0 {
			t.Error("never written once it was back")
		}
		if len(said) != 2 || !strings.Contains(said[1], "learning starts again") {
			t.Errorf("log %q", said)
		}
	})
}

// In an upgrade the leader is of the earlier version for a while. What it keeps is not
// adopted, which is logged once, and not written over before the lease goes over.
func TestStateOfAnEarlierVersionIsLeftToItsLeader(t *testing.T) {
	earlier := experience(t)
	version := earlier[0] // comes first
	earlier[0]--
	synctest.Test(t, func(t *testing.T) {
		l := &loaded{began: time.Now().Add(-time.Hour), desired: 2, pods: []string{"a-0", "b-0"}, rps: 5}
		c, _ := fleetKeyOf(saturating)
		key := c.checkpointKey()
		kept := &shelf{entries: map[string][]byte{key: earlier}}
		var said []string
		var leads atomic.Bool
		began := time.Now()
		j := NewEvaluationLoop(l, ready, funcr.New(func(_, args string) { said = append(said, args) }, funcr.Options{}))
		j.SetTriggers(phi4, []policy.Trigger{saturating})
		ctx, stop := context.WithCancel(t.Context())
		var keeping sync.WaitGroup
		keeping.Go(func() { _ = j.RunCheckpoints(ctx, kept, leads.Load) })
		at(t, j, 20*time.Minute)
		if kept.saves > 0 || kept.entries[key][0] == version {
			t.Errorf("written %d times before it led", kept.saves)
		}
		if len(said) != 1 || !strings.Contains(said[0], "learning starts again") || !strings.Contains(said[0], "another version") {
			t.Errorf("log: %q", said)
		}
		if learnsSince(j).Before(began) {
			t.Errorf("it has known the fleet since %v", learnsSince(j))
		}
		leads.Store(true)
		time.Sleep(6 * time.Minute)
		stop()
		keeping.Wait()
		if kept.saves == 0 || kept.entries[key][0] != version {
			t.Errorf("written %d times since it leads", kept.saves)
		}
	})
}

// Who no longer leads when a write is due doesn't write, the last one included.
func TestOnlyWhoLeadsNowWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &loaded{began: time.Now().Add(-time.Hour), desired: 2, pods: []string{"a-0", "b-0"}, rps: 5}
		kept := &shelf{}
		var leads atomic.Bool
		leads.Store(true)
		j := NewEvaluationLoop(l, ready, logr.Discard())
		j.SetTriggers(phi4, []policy.Trigger{saturating})
		ctx, stop := context.WithCancel(t.Context())
		var keeping sync.WaitGroup
		keeping.Go(func() { _ = j.RunCheckpoints(ctx, kept, leads.Load) })
		at(t, j, 6*time.Minute)
		leads.Store(false)
		time.Sleep(20 * time.Minute)
		stop()
		keeping.Wait()
		if kept.saves != 1 {
			t.Errorf("written %d times, want once, before the Lease was lost", kept.saves)
		}
	})
}
