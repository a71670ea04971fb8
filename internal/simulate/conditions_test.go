package simulate

import (
	"math"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// watcher keeps n replicas and notes what it is shown.
func watcher(n int32, into *[]seen) Policy {
	return Policy{Name: "watcher", New: func(Setting) (Scaler, error) {
		names := []string{
			"vllm:request_time_per_output_token_seconds", "kaito_ratelimit_rejected_total", "vllm:prefix_cache_queries_total",
			policy.FamilyRunning, policy.FamilyWaiting, policy.FamilyFinished, policy.FamilyTTFT, policy.FamilyPrompt, policy.FamilyKV,
			policy.FamilyCached, policy.FamilyGenerated, policy.FamilySteps,
		}
		return Scaler{
			Families: names, Window: 5 * time.Minute, Up: Free(), Down: Free(),
			Judge: func(fleet sample.Fleet, now time.Time) Call {
				*into = append(*into, seen{at: now, fleet: fleet})
				return Call{Known: true, Total: float64(n), Target: 1}
			},
		}, nil
	}}
}

// calm is a world without chance: cold starts of a minute, no scrape lost.
func calm(replicas int32) Setting {
	return Setting{
		Engine: slowEngine(), SLO: DefaultSLO, ColdStart: time.Minute, Steps: true, PerRequest: true,
		Bounds: policy.Bounds{Min: 1, Max: 20}, Initial: replicas, Seed: 1,
	}
}

// evenly is a load of equal requests, n of them each second for so long.
func evenly(n int, length time.Duration, r Request) *Load {
	load := &Load{Name: "even", Length: length}
	for second := range int(length.Seconds()) {
		for i := range n {
			r.At = float64(second) + float64(i)/float64(n)
			load.Requests = append(load.Requests, r)
		}
	}
	return load
}

// watch plays a load in front of a watcher.
func watch(t *testing.T, s Setting, load *Load) ([]seen, *Result) {
	t.Helper()
	var all []seen
	r := play(t, s, load, watcher(s.Initial, &all))
	return all, r
}

// of is a family of a replica's newest page.
func of(t *testing.T, r *sample.Replica, name string) float64 {
	t.Helper()
	if r.Last == nil {
		t.Fatalf("%s was never read", r.Pod)
	}
	f, found := r.Last.Family(name)
	if !found {
		t.Fatalf("%s has no %s", r.Pod, name)
	}
	if f.Kind == sample.Histogram {
		return f.Buckets.Count()
	}
	return f.Sum
}

// Of 60 requests at once 33 are taken: see the guard. Clients that try again after
// half a second, a second, two and so on are served at last, and each try that was
// refused stands on the page.
func TestRefusedClientsTryAgain(t *testing.T) {
	load := &Load{Name: "burst", Length: 5 * time.Minute}
	for range 60 {
		load.Requests = append(load.Requests, Request{At: 1, In: 200, Out: 60})
	}
	s := calm(1)
	alone, once := watch(t, s, load)
	s.Retries = Retries{Times: 10, After: 500 * time.Millisecond}
	again, all := watch(t, s, load)
	if once.Refused != 27 || all.Refused != 0 || once.Requests != 60 || all.Requests != 60 {
		t.Errorf("%d of %d refused without, %d of %d with ten tries", once.Refused, once.Requests, all.Refused, all.Requests)
	}
	const rejected = "kaito_ratelimit_rejected_total"
	one, other := of(t, &alone[len(alone)-1].fleet.Replicas[0], rejected), of(t, &again[len(again)-1].fleet.Replicas[0], rejected)
	if one != 27 || other < 2*27 {
		t.Errorf("the page has %v refusals without, %v with ten tries", one, other)
	}
	if len(load.Requests) != 60 {
		t.Errorf("the load itself has grown to %d requests", len(load.Requests))
	}
	// A client waits from its first try on, the page counts from the last.
	longest := 0.0
	for _, r := range all.PerRequest {
		longest = max(longest, r.TTFT)
	}
	f, _ := again[len(again)-1].fleet.Replicas[0].Last.Family(policy.FamilyTTFT)
	if sum := 0.; longest < 5 || f.Buckets.Sum <= sum {
		t.Errorf("the longest wait is %v s", longest)
	}
	if got := f.Buckets.Sum; got > float64(len(all.PerRequest))*longest || all.PerRequest[0].Outcome != Served {
		t.Errorf("first tokens took %v s in all", got)
	}
	// After half a second all are still at it.
	s.Retries.Times = 1
	if _, r := watch(t, s, load); r.Refused != 27 {
		t.Errorf("%d refused with one more try", r.Refused)
	}
}

// A client that has waited for ten seconds without a token goes away: it is missed,
// and its place in the queue is free.
func TestClientsLosePatience(t *testing.T) {
	load := evenly(6, 2*time.Minute, Request{In: 200, Out: 60})
	s := calm(1)
	_, patient := watch(t, s, load)
	s.Patience = 4 * time.Second
	pages, r := watch(t, s, load)
	if patient.Cancelled != 0 || r.Cancelled < 20 {
		t.Errorf("%d went away, %d with patience", r.Cancelled, patient.Cancelled)
	}
	served, longest := 0, 0.0
	for _, result := range r.PerRequest {
		if result.Outcome == Served {
			served++
			longest = max(longest, result.TTFT)
		}
	}
	if longest > 4.1 {
		t.Errorf("a first token came after %v s", longest)
	}
	last := &pages[len(pages)-1].fleet.Replicas[0]
	if finished := of(t, last, policy.FamilyFinished); finished > float64(served) || finished < float64(served)-20 {
		t.Errorf("%v have finished on the page, %d were served", finished, served)
	}
	s.Steps = false
	if _, err := Run(t.Context(), s, load, Static("1", 1)); err == nil {
		t.Error("the fluid engine plays what it hasn't")
	}
}

// While requests wait on it a pod's page takes long: longer than a scrape may, it
// times out; not quite as long, it is read, and a scrape late.
func TestPagesAreLateUnderLoad(t *testing.T) {
	load := evenly(6, 2*time.Minute, Request{In: 200, Out: 60})
	load.Length = 10 * time.Minute
	s := calm(1)
	s.LatePages = LatePages{Waiting: 1, Takes: 6 * time.Second}
	pages, _ := watch(t, s, load)
	timedOut := 0
	for _, p := range pages {
		r := &p.fleet.Replicas[0]
		if r.TimedOut.Equal(p.at) {
			timedOut++
			if r.Failure == "" || r.Last != nil && !r.Last.At.Before(p.at) {
				t.Errorf("at %v it timed out and was read: %+v", p.at, r)
			}
		}
	}
	last := &pages[len(pages)-1].fleet.Replicas[0]
	if timedOut < 5 || last.Failure != "" || of(t, last, policy.FamilyWaiting) != 0 {
		t.Errorf("%d of %d pages timed out, the last %+v", timedOut, len(pages), last)
	}
	s.LatePages.Takes = 3 * time.Second
	pages, _ = watch(t, s, load)
	late := 0
	for _, p := range pages {
		r := &p.fleet.Replicas[0]
		if r.Failure != "" {
			t.Fatalf("at %v: %s", p.at, r.Failure)
		}
		if r.Last != nil && p.at.Sub(r.Last.At) == 2*time.Second {
			late++
		}
	}
	if late < 5 {
		t.Errorf("%d pages were late", late)
	}
}

// A pod that flaps is out of the way for as long as it does. Kubernetes tells its
// Ready anew, and everything else of it is as old as it was.
func TestAPodFlaps(t *testing.T) {
	s := calm(1)
	s.Flaps = Flaps{Every: 4 * time.Minute, For: 20 * time.Second}
	pages, r := watch(t, s, evenly(1, 3*time.Minute, Request{In: 10, Out: 5}))
	gone, back := 0, time.Time{}
	for _, p := range pages {
		pod := &p.fleet.Replicas[0]
		if pod.Phase != sample.Serving || pod.Expected != start || pod.Ordered != start || pod.Failure != "" {
			t.Fatalf("at %v it is %+v", p.at, pod)
		}
		if pod.ReadySince.IsZero() {
			gone++
		} else if pod.ReadySince != start {
			back = pod.ReadySince
		}
	}
	if gone < 1 || gone > 2 || back.Sub(start) != 140*time.Second || r.Refused < 15 || r.Refused > 20 || r.Broken > 0 {
		t.Errorf("NotReady in %d turns, Ready again after %v, %d refused, %d broken", gone, back.Sub(start), r.Refused, r.Broken)
	}
}

// An engine that crashes loses its requests and begins anew, with other counters.
func TestAnEngineCrashes(t *testing.T) {
	s := calm(2)
	s.Crashes = Crashes{Every: 4 * time.Minute, Restart: time.Minute}
	pages, r := watch(t, s, evenly(4, 5*time.Minute, Request{In: 200, Out: 60}))
	refused, restarted := 0, 0
	for _, p := range pages {
		for i := range p.fleet.Replicas {
			pod := &p.fleet.Replicas[i]
			if pod.Failure == "connection refused" {
				refused++
				if !pod.ReadySince.IsZero() || pod.Phase != sample.Serving {
					t.Errorf("it is %+v", pod)
				}
			}
			if pod.Last.Restarts == 1 && pod.Last.ProcessStart == 2 {
				restarted++
			}
		}
	}
	if refused != 4 || restarted < 5 || r.Broken < 5 || r.Broken > 30 {
		t.Errorf("unreadable in %d turns, with other counters in %d, %d requests lost", refused, restarted, r.Broken)
	}
	last := pages[len(pages)-1].fleet.Replicas
	few, many := of(t, &last[0], policy.FamilyFinished), of(t, &last[1], policy.FamilyFinished)
	if min(few, many) > .5*max(few, many) {
		t.Errorf("one has finished %v and the other %v since it crashed", few, many)
	}
}

// What is ordered without quota is Broken, says why, and starts once there is some.
func TestAReplicaLacksQuota(t *testing.T) {
	s := calm(1)
	s.NoQuota = NoQuota{From: 0, For: 5 * time.Minute}
	var all []seen
	play(t, s, evenly(1, 10*time.Minute, Request{In: 10, Out: 5}), watcher(2, &all))
	phases := map[sample.Phase]int{}
	for _, p := range all {
		if len(p.fleet.Replicas) == 2 {
			r := &p.fleet.Replicas[1]
			phases[r.Phase]++
			if r.Phase == sample.Broken && (r.Why != "no quota" || p.at.Sub(start) > 5*time.Minute) {
				t.Errorf("at %v it is %+v", p.at.Sub(start), r)
			}
		}
	}
	if all[0].fleet.Replicas[0].Phase != sample.Serving || phases[sample.Broken] < 12 || phases[sample.Serving] < 12 {
		t.Errorf("the second was in the phases %v", phases)
	}
}

// An engine that sleeps says so, and has no requests.
func TestAnEngineSleeps(t *testing.T) {
	s := calm(2)
	s.Asleep = 1
	pages, r := watch(t, s, evenly(2, 3*time.Minute, Request{In: 200, Out: 60}))
	last := pages[len(pages)-1].fleet.Replicas
	if !last[0].Asleep || last[1].Asleep || of(t, &last[0], policy.FamilyFinished) != 0 || of(t, &last[1], policy.FamilyFinished) < 100 || r.Refused > 0 {
		t.Errorf("asleep %t and %t, %d refused", last[0].Asleep, last[1].Asleep, r.Refused)
	}
}

// What a world's pages and Kubernetes don't tell.
func TestWhatIsNotReported(t *testing.T) {
	const perToken = "vllm:request_time_per_output_token_seconds"
	s := calm(1)
	load := evenly(1, time.Minute, Request{In: 10, Out: 5})
	told, _ := watch(t, s, load)
	s.Missing, s.Unmeasured, s.NoTolerance = []string{perToken}, true, true
	untold, _ := watch(t, s, load)
	with, without := told[len(told)-1].fleet, untold[len(untold)-1].fleet
	if of(t, &with.Replicas[0], perToken) == 0 || with.PeakTokensPerMinute == 0 || with.NoTolerance {
		t.Errorf("it is told %+v", with)
	}
	if _, found := without.Replicas[0].Last.Family(perToken); found || without.PeakTokensPerMinute != 0 || !without.NoTolerance {
		t.Errorf("it is told %+v", without)
	}
	// The HPA stays where it is within a tenth.
	s.Initial = 20
	var all []seen
	if r := play(t, s, load, watcher(19, &all)); len(r.Moves) != 0 {
		t.Errorf("an HPA without tolerance of its own moved: %+v", r.Moves)
	}
	s.NoTolerance = false
	if r := play(t, s, load, watcher(19, &all)); len(r.Moves) != 1 {
		t.Errorf("one with its own moved %d times", len(r.Moves))
	}
}

// A replica of several nodes starts with the last of them, and each is paid for.
func TestAReplicaHasSeveralNodes(t *testing.T) {
	s := calm(1)
	s.Spread = .3
	load := evenly(1, 20*time.Minute, Request{In: 10, Out: 5})
	ready := func() (at time.Duration, hours float64) {
		var all []seen
		r := play(t, s, load, watcher(20, &all))
		for _, p := range all {
			for i := range p.fleet.Replicas {
				at += p.fleet.Replicas[i].Expected.Sub(start) / time.Duration(20*len(all)) * time.Duration(min(1, p.fleet.Replicas[i].Phase))
			}
		}
		return at, r.GPUHours
	}
	one, single := ready()
	s.Nodes = 4
	four, all := ready()
	if math.Abs(all/single-4) > .01 || four <= one {
		t.Errorf("%v GPU-hours for four nodes, %v for one; Ready after %v and %v", all, single, four, one)
	}
}

// A benchmark that comes late is told from then on, and not before.
func TestABenchmarkComesLate(t *testing.T) {
	s := calm(1)
	s.MeasuredAfter = time.Minute
	all, _ := watch(t, s, evenly(1, 2*time.Minute, Request{In: 20, Out: 5}))
	for _, one := range all {
		want := s.Engine.PeakTokensPerMinute()
		if one.at.Sub(start) < time.Minute {
			want = 0
		}
		if got := one.fleet.PeakTokensPerMinute; got != want {
			t.Errorf("after %v it is %v tokens a minute, want %v", one.at.Sub(start), got, want)
		}
	}
}
