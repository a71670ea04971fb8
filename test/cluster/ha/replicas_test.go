package ha

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/load"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// windowed are annotations for a fleet that is judged by what its replicas saw
// within twelve seconds, which leaves two replicas as they are.
func windowed() map[string]string {
	return map[string]string{
		"auto-provision": "true", "max-replicas": "5", "evaluationwindow": "0", "scaleupcooldown": "1", "scaledowncooldown": "1",
		"metrics": `[{"name": "vllm:time_to_first_token_seconds", "type": "histogram", "upthreshold": "100", "downthreshold": "0", "metriccachewindow": "12"}]`,
	}
}

// busy sends requests to a fleet at a constant rate.
func (f *fleet) busy() {
	for _, pod := range shared.KAITO.Serving(f.Namespace, f.NamespacedName.Name) {
		pod.Unpin()
	}
	g := load.Start(func() []*vllm.Pod { return shared.KAITO.Serving(f.Namespace, f.NamespacedName.Name) }, load.Options{})
	g.SetRate(4)
	f.Cleanup(g.Stop)
}

// answer is a line of a scaler's log.
type answer struct {
	Message      string `json:"msg"`
	InferenceSet struct {
		Namespace string `json:"namespace"`
	} `json:"inferenceSet"`
	Confidence string  `json:"confidence"`
	Value      float64 `json:"value"`
	Reason     string  `json:"reason"`
}

// answers are those that a scaler gave about the fleet.
func (f *fleet) answers(scaler *stack.Scaler) []answer {
	f.Helper()
	var all []answer
	for line := range strings.Lines(logOf(f.T, scaler)) {
		var a answer
		if strings.Contains(line, f.Namespace) && json.Unmarshal([]byte(line), &a) == nil && a.Message == "answered" {
			all = append(all, a)
		}
	}
	return all
}

// answering is the scaler that has most of the connections.
func (s *site) answering() string {
	names := slices.Sorted(maps.Keys(s.scalers))
	return slices.MaxFunc(names, func(a, b string) int {
		return s.front.Connections(s.scalers[a].GRPC) - s.front.Connections(s.scalers[b].GRPC)
	})
}

// windowFull waits until the fleet is judged by full windows, and every scaler
// has them.
func (f *fleet) windowFull(s *site) {
	f.Helper()
	eventually(f.T, patience, "the window is full", func() error {
		last := f.answers(s.scalers[s.answering()])
		if len(last) == 0 || last[len(last)-1].Confidence != "measured" {
			return fmt.Errorf("answers: %+v", last[max(0, len(last)-1):])
		}
		return nil
	})
	pause(f.T, 12*time.Second) // of history for whoever has not been asked
}

func (s *site) other(than string) string {
	for name := range s.scalers {
		if name != than {
			return name
		}
	}
	s.Fatal("there is no other scaler")
	return ""
}

// Two scalers under constant load, killed one after the other, both at once, and
// replaced by two others: nothing moves.
func TestNothingMovesWhileScalersAreKilledAndReplaced(t *testing.T) {
	s := newSite(t)
	f, byHand, slow := newFleet(t, provided()), newFleet(t, nil), newFleet(t, windowed())
	slow.busy()
	s.ready("a", "b")
	byHand.byHand(s.front.Address())
	f.scaled()
	byHand.scaled()
	slow.windowFull(s)
	ours := byHand.holding(s.front.Address(), time.Second)
	var ends []func()
	for _, fleet := range []*fleet{f, byHand, slow} {
		ends = append(ends, fleet.still())
	}
	step := func(what string, most int, do func()) {
		t.Helper()
		made, failed := ours.so()
		keda := kedaLogFromNow(t)
		do()
		f.answered(s, 3)
		ours.atLeast(t, made+3)
		_, after := ours.so()
		t.Logf("%s: of our polls %d failed", what, len(after)-len(failed))
		// gRPC tries an address again .8 to 1.2 s after it led to a dead scaler, so two
		// polls that are a second apart can both fail for one connection.
		if n := len(after) - len(failed); n > 2*most {
			t.Errorf("%s: %d of our polls failed, want %d at most: %q", what, n, 2*most, after[len(failed):])
		}
		for _, fleet := range []*fleet{f, byHand} {
			lost := keda.failures(fleet)
			n := stack.Missed(stack.Times(lost))
			t.Logf("%s: of KEDA's calls about %s %d failed, within %d polls 5 s apart", what, fleet.Namespace, len(lost), n)
			if n > most {
				t.Errorf("%s: %d of KEDA's polls about %s failed, want %d at most:\n%s", what, n, fleet.Namespace, most, strings.Join(lost, "\n"))
			}
		}
	}

	victim := s.answering()
	survivor := s.scalers[s.other(victim)]
	unasked := len(slow.answers(survivor))
	step("the answering replica is killed", 1, func() { s.kill(victim) })
	eventually(t, patience, "the survivor is asked about windows", func() error {
		if n := len(slow.answers(survivor)) - unasked; n < 2 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	for _, a := range slow.answers(survivor)[unasked:] {
		if a.Confidence != "measured" || a.Value != 2 {
			t.Errorf("the survivor answered %+v, want from its own history", a)
		}
	}
	step("another one comes", 0, func() { s.ready("c") })
	leader := s.leader()
	step("the leader is killed", 1, func() { s.kill(leader) })
	step("another one comes", 0, func() { s.ready("d") })
	for _, name := range []string{"e", "f"} {
		old := s.other("e")
		step("a rolling replacement, one up", 0, func() { s.ready(name) })
		step("a rolling replacement, one down", 1, func() { s.stop(old) })
	}

	ours.rest()
	for _, name := range slices.Collect(maps.Keys(s.scalers)) {
		s.kill(name)
	}
	pause(t, 3*time.Second) // everybody is dead, and the HPA goes on looking
	s.ready("g", "h")
	f.answered(s, 3)
	for _, end := range ends {
		end()
	}
	f.scaled()
	byHand.scaled()
}

// outage is how long the API server is away: 40 seconds, which is longer than a
// Lease, unless the environment says otherwise, such as OUTAGE=10m.
func outage(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("OUTAGE")
	if text == "" {
		return 40 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("OUTAGE: %v", err)
	}
	return d
}

// The API server is away. Answers go on from memory, nothing moves, and when it
// is back nobody storms it.
func TestAnswersOutliveTheAPIServer(t *testing.T) {
	away := outage(t)
	s := newSite(t)
	f := newFleet(t, provided())
	s.ready("a", "b")
	f.scaled()
	leader := s.leader()
	follower := s.other(leader)
	ofLeader := f.holding(s.scalers[leader].GRPC, 500*time.Millisecond)
	ofFollower := f.holding(s.scalers[follower].GRPC, 500*time.Millisecond)
	still := f.still()

	took, err := shared.Outage(t.Context(), func() { pause(t, away) })
	if err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	t.Logf("the API server was away for %s", took.Round(time.Second))
	least := int(away/(500*time.Millisecond)) * 7 / 8 // two cores are busy now and then
	ofLeader.wantPolls(t, "a client of the leader", least, 0)
	ofFollower.wantPolls(t, "a client of the follower", least, 0)

	t.Logf("%s leads, %s after the API server came back; before %s did", s.leader(), time.Since(back).Round(time.Second), leader)
	f.scaled()
	f.answered(s, 3)
	still()
	ofLeader.stop()
	ofFollower.stop()
	ofLeader.wantPolls(t, "a client of the leader", least+10, 0)
	ofFollower.wantPolls(t, "a client of the follower", least+10, 0)
	for name, scaler := range s.scalers {
		if err := scaler.Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What they see is new: two pods become busier.
	for _, pod := range shared.KAITO.Serving(f.Namespace, f.NamespacedName.Name) {
		pod.SetWaiting(14)
	}
	eventually(t, patience, "more replicas are desired", func() error {
		if n, err := f.desired(); err != nil || n < 3 {
			return fmt.Errorf("%d are desired, %w", n, err)
		}
		return nil
	})

	wantNoStorm(t, back)
	f.wantFewEvents()

	// The stand-in for KAITO waits up to a minute before it looks for the API
	// server again; the next test needs it.
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if err := shared.KAITO.AwaitReady(ctx, f.Namespace, f.NamespacedName.Name, 3); err != nil {
		t.Fatal(err)
	}
}

// wantNoStorm looks at what the scalers asked of an API server that is back.
func wantNoStorm(t *testing.T, back time.Time) {
	t.Helper()
	storm := map[string]int{}
	for _, request := range requests(t) {
		begun := request.Verb != "watch" || request.Stage == "ResponseStarted"
		// The Lease is renewed every two seconds, for as long as this test takes.
		if request.Received.After(back) && begun && request.Verb != "get" && request.Object.Resource != "leases" {
			storm[request.Verb+" "+request.Object.Resource]++
		}
	}
	t.Logf("after the API server came back the scalers asked for %v", storm)
	for what, n := range storm {
		// Each scaler watches what it watches again, the three Secrets apart;
		// one of them begins anew.
		if n > 10 {
			t.Errorf("%d times %s after the API server came back", n, what)
		}
	}
}

// events is how often each reason came to the fleet's owner.
func (f *fleet) events() map[string]int {
	f.Helper()
	var events eventsv1.EventList
	if err := shared.Client.List(f.Context(), &events, client.InNamespace(f.Namespace)); err != nil {
		f.Fatal(err)
	}
	times := map[string]int{}
	for i := range events.Items {
		e := &events.Items[i]
		switch {
		case e.ReportingController != "keda-kaito-scaler":
		case e.Series != nil:
			times[e.Reason] += int(e.Series.Count)
		default:
			times[e.Reason]++
		}
	}
	return times
}

// wantFewEvents wants no more events on a fleet than its story has: it was
// provided for, was steady, and was steady again at another size.
func (f *fleet) wantFewEvents() {
	f.Helper()
	n := 0
	for reason, times := range f.events() {
		n += times
		f.Logf("event %s, %d times", reason, times)
	}
	// Two scalers tell of the same verdicts.
	if n > 20 {
		f.Errorf("%d events on %s, want a story", n, f.NamespacedName)
	}
}

// A process that was suspended wakes up with old readings, an old Lease and old
// connections. None of them does harm.
func TestASuspendedScalerDoesNoHarm(t *testing.T) {
	s := newSite(t)
	f, slow := newFleet(t, provided()), newFleet(t, windowed())
	slow.busy()
	s.ready("a", "b")
	f.scaled()
	leader := s.leader()
	still, slowStill := f.still(), slow.still()
	ours := f.holding(s.scalers[leader].GRPC, time.Second)
	before := secretVersions(t)

	process, err := os.FindProcess(s.scalers[leader].PID())
	if err != nil {
		t.Fatal(err)
	}
	ours.rest()
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	pause(t, time.Minute)
	if next := s.leader(); next == leader {
		t.Error("a suspended process still leads after a minute, a Lease is 15s long")
	}
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	ours.resume()
	ours.atLeast(t, 10)
	ours.stop()
	still()
	slowStill()
	for _, a := range append(f.answers(s.scalers[leader]), slow.answers(s.scalers[leader])...) {
		if a.Confidence != "unknown" && a.Value != 20 && a.Value != 2 { // unknown is an error for KEDA
			t.Errorf("answered %+v, want 20 or two replicas", a)
		}
	}
	if after := secretVersions(t); !slices.Equal(before, after) {
		t.Errorf("the Secrets were written: from %v to %v", before, after)
	}
	if err := s.scalers[leader].Err(); err != nil {
		t.Error(err)
	}
	if got, want := leafOf(t, certs.ServerSecret).NotAfter, time.Now(); got.Before(want) {
		t.Errorf("the server's certificate ended at %s", got)
	}
}
