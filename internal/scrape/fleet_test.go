package scrape

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

func TestEachPageHasItsOwnReadings(t *testing.T) {
	other := vllm(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/engine/metrics" {
			http.NotFound(w, req)
			return
		}
		_, _ = w.Write([]byte("vllm:num_requests_waiting 3\n"))
	})
	usual := vllm(t, page200(page.Busy().Text()))
	elsewhere := policy.Page{Port: other.Port(), Path: "/engine/metrics"}
	missing := policy.Page{Port: other.Port(), Path: "/nowhere"}
	service := policy.Page{Port: 80, Timeout: 900 * time.Millisecond}
	r := run(t, Config{Interval: time.Second})
	r.Set(phi, 1, []kaito.Replica{serving("phi-4-a", usual)}, []policy.Reading{
		{Families: []string{waiting}},
		{Page: elsewhere, Families: []string{waiting}},
		{Page: missing, Families: []string{waiting}},
		{Page: service, Families: []string{"vllm:kv_cache_usage_perc"}},
	})
	eventually(t, "all pages read", r.Swept)
	for _, tt := range []struct {
		page    policy.Page
		family  string
		sum     float64
		failure string
	}{
		{policy.Page{}, waiting, 7, ""},
		{elsewhere, waiting, 3, ""},
		{missing, "", 0, "HTTP 404 instead of 200"},
		{service, "vllm:kv_cache_usage_perc", 0.82, ""},
	} {
		f, ok := r.Fleet(phi, tt.page)
		if !ok || len(f.Replicas) != 1 {
			t.Fatalf("%+v: %t, %+v", tt.page, ok, f)
		}
		is := f.Replicas[0]
		if is.Failure != tt.failure || (tt.failure == "") != (is.Last != nil) {
			t.Errorf("%+v: %+v, want failure %q", tt.page, is, tt.failure)
		}
		if tt.failure != "" || is.Last == nil {
			continue
		}
		if said := is.Last.Families(); len(said) != 1 || said[0].Name != tt.family || said[0].Sum != tt.sum {
			t.Errorf("%+v: %+v, want %s of %g alone", tt.page, said, tt.family, tt.sum)
		}
	}
	if _, ok := r.Fleet(phi, policy.Page{Path: "/other"}); ok {
		t.Error("a page that nobody asked for is known")
	}
}

// A readiness gate asks who is Ready, and for no page.
func TestAFleetWithoutAPageIsItsReplicas(t *testing.T) {
	pod := vllm(t, func(http.ResponseWriter, *http.Request) { t.Error("the pod is read") })
	r := run(t, Config{Interval: time.Second})
	since := time.Now().Add(-time.Minute)
	replica := serving("phi-4-a", pod)
	replica.Since = since
	r.Set(phi, 2, []kaito.Replica{replica}, nil)
	f, ok := r.Fleet(phi, policy.NoPage)
	if !ok || f.Desired != 2 || len(f.Replicas) != 1 || !f.Replicas[0].ReadySince.Equal(since) || f.Replicas[0].Phase != sample.Serving {
		t.Errorf("%t, %+v", ok, f)
	}
	if _, ok := r.Fleet(phi, policy.Page{}); ok {
		t.Error("the usual page is known, which nobody asked for")
	}
	r.Forget(phi)
	if _, ok := r.Fleet(phi, policy.NoPage); ok {
		t.Error("a forgotten fleet is known")
	}
}

func TestAPageThatNobodyAsksForAnyMoreIsReadNoMore(t *testing.T) {
	inBubble(t, never, func(r *Reader, b *book) {
		both := []policy.Reading{{Families: []string{waiting}}, {Page: policy.Page{Port: 8000}, Families: []string{waiting}}}
		r.Set(phi, 1, pods(1), both)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := len(b.times("pod-0")); n != 2 {
			t.Errorf("two pages were read %d times within an interval", n)
		}
		r.Set(phi, 1, pods(1), both[1:])
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := len(b.times("pod-0")); n != 3 {
			t.Errorf("the one page left was read %d times within an interval", n-2)
		}
		r.Set(phi, 1, pods(1), nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := len(b.times("pod-0")); n != 3 || len(r.selectors) != 0 {
			t.Errorf("no page is left: read %d times, %d selectors", n-3, len(r.selectors))
		}
	})
}

// sampled hands a target a reading, as a scrape does.
func sampled(r *Reader, at time.Time) {
	t := r.fleets[phi].pages[0].targets[0]
	_ = t.took(&reading{sample: &sample.Sample{At: at}}, t.set.keep)
}

func TestAWindowIsWhatTheHistoriesKeep(t *testing.T) {
	start := time.Unix(1796100000, 0)
	r := New(Config{Interval: 5 * time.Second})
	set := func(window time.Duration, families ...string) {
		r.Set(phi, 1, pods(1), []policy.Reading{{Families: families, Window: window}})
	}
	kept := func() int {
		f, _ := r.Fleet(phi, policy.Page{})
		return f.Replicas[0].History.Len()
	}
	at := start
	sample := func(n int) {
		for range n {
			at = at.Add(5 * time.Second)
			sampled(r, at)
		}
	}
	set(0, waiting)
	sample(10)
	if got := kept(); got != 1 {
		t.Errorf("%d samples without a window, want the newest alone", got)
	}
	set(30*time.Second, waiting)
	sample(20)
	if got := kept(); got != 8 {
		t.Errorf("%d samples for 30 s at 5 s, want the 7 of the window and the one before it", got)
	}
	set(60*time.Second, waiting, "vllm:kv_cache_usage_perc")
	if got := kept(); got != 8 {
		t.Errorf("%d samples once the window is longer, want the 8 that there were", got)
	}
	sample(3)
	if got := kept(); got != 11 {
		t.Errorf("%d samples while the longer window fills, want 11", got)
	}
	set(10*time.Second, waiting)
	sample(1)
	if got := kept(); got != 4 {
		t.Errorf("%d samples for 10 s, want 4", got)
	}
}

func TestAFleetKnowsWhenItWasRaisedAndLowered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Interval: 10 * time.Second, NoTolerance: true})
		moves := func() [2]time.Time {
			f, _ := r.Fleet(phi, policy.Page{})
			return [2]time.Time{f.Raised, f.Lowered}
		}
		want := func(raised, lowered time.Time) {
			t.Helper()
			if diff := cmp.Diff([2]time.Time{raised, lowered}, moves()); diff != "" {
				t.Errorf("raised and lowered (-want +got):\n%s", diff)
			}
		}
		r.Set(phi, 3, pods(1), wanting(waiting))
		want(time.Time{}, time.Time{})
		time.Sleep(time.Minute)
		up := time.Now()
		r.Set(phi, 4, pods(1), wanting(waiting))
		want(up, time.Time{})
		time.Sleep(time.Minute)
		r.Set(phi, 4, pods(2), wanting(waiting))
		want(up, time.Time{})
		down := time.Now()
		r.Set(phi, 2, pods(2), wanting(waiting))
		want(up, down)
		f, _ := r.Fleet(phi, policy.Page{})
		if f.Interval != 10*time.Second || f.Freshness != 30*time.Second || !f.NoTolerance {
			t.Errorf("interval %v, freshness %v, no tolerance %t", f.Interval, f.Freshness, f.NoTolerance)
		}
		if diff := cmp.Diff([]sample.Rise{{At: up, From: 3}}, f.Rises); diff != "" {
			t.Errorf("rises (-want +got):\n%s", diff)
		}
		time.Sleep(sample.RisesLast)
		late := time.Now()
		r.Set(phi, 3, pods(2), wanting(waiting))
		f, _ = r.Fleet(phi, policy.Page{})
		if diff := cmp.Diff([]sample.Rise{{At: late, From: 2}}, f.Rises); diff != "" {
			t.Errorf("those of long ago (-want +got):\n%s", diff)
		}
	})
}

func TestAReplicaKeepsKAITOsWordAndItsOrder(t *testing.T) {
	ordered := time.Unix(1796100000, 0)
	r := New(Config{})
	r.Set(phi, 1, []kaito.Replica{{
		Workspace: "phi-4-a", Phase: sample.Starting, Ordered: ordered, Why: "NodeClaimNotReady",
	}}, wanting(waiting))
	f, _ := r.Fleet(phi, policy.Page{})
	want := sample.Replica{
		Pod: "phi-4-a", Phase: sample.Starting, Ordered: ordered, Why: "NodeClaimNotReady", Failure: "NodeClaimNotReady",
	}
	if diff := cmp.Diff(want, f.Replicas[0], cmp.AllowUnexported(sample.History{})); diff != "" {
		t.Errorf("replica (-want +got):\n%s", diff)
	}
}

// What kaito refuses to give an address for is unreadable, for that reason.
func TestAPodThatMustNotBeReadSaysWhy(t *testing.T) {
	r := New(Config{})
	const why = "the pod is on its node's network"
	refused := kaito.Replica{Workspace: "phi-4-a", Pod: "phi-4-a-0", UID: "a", Phase: sample.Serving, NoAddress: why}
	r.Set(phi, 1, []kaito.Replica{refused}, []policy.Reading{{Page: policy.Page{Port: 22}, Families: []string{waiting}}})
	f, _ := r.Fleet(phi, policy.Page{Port: 22})
	if is := f.Replicas[0]; is.Failure != why || is.Phase != sample.Serving || is.Last != nil {
		t.Errorf("%+v, want a replica that serves and is unreadable for %q", is, why)
	}
	if len(r.byDue) > 0 {
		t.Error("it is going to be dialled")
	}
}

func TestNothingButThePodItselfIsDialled(t *testing.T) {
	rep := serving("a", netip.MustParseAddrPort("10.0.0.7:5000"))
	for port, want := range map[uint16]string{0: "10.0.0.7:5000", 80: "10.0.0.7:5000", 8000: "10.0.0.7:8000", 443: "10.0.0.7:443"} {
		if got := address(&rep, policy.Page{Port: port}).String(); got != want {
			t.Errorf("port %d is read at %s, want %s", port, got, want)
		}
	}
}

func TestAPagesTimeoutIsBoundedByTheInterval(t *testing.T) {
	r := New(Config{Interval: 5 * time.Second, Timeout: 2 * time.Second})
	for asked, want := range map[time.Duration]time.Duration{
		0: 2 * time.Second, 500 * time.Millisecond: 500 * time.Millisecond, 3 * time.Second: 3 * time.Second, 30 * time.Second: 5 * time.Second,
	} {
		rep := serving("a", nowhere(1))
		if got := r.newTarget(&pageSet{page: policy.Page{Timeout: asked}}, &rep).timeout; got != want {
			t.Errorf("%v was asked for: %v, want %v", asked, got, want)
		}
	}
}

// A clock that jumps doesn't make a replica older: its times are the API
// server's when they are first seen, and this process's from then on.
func TestAReplicasAgeIsMeasuredOnOurOwnClock(t *testing.T) {
	r := New(Config{})
	ordered := time.Now().Add(-time.Minute).Truncate(time.Second) // as the API server has it
	ready := ordered.Add(30 * time.Second)
	known := func(since time.Time, workspaces ...string) sample.Replica {
		t.Helper()
		var replicas []kaito.Replica
		for _, name := range workspaces {
			replicas = append(replicas, kaito.Replica{Workspace: name, Phase: sample.Starting, Ordered: ordered, Since: since})
		}
		r.Set(phi, 1, replicas, wanting(waiting))
		f, _ := r.Fleet(phi, policy.Page{})
		return f.Replicas[len(workspaces)-1]
	}
	first := known(ready, "phi-4-a")
	if !first.Ordered.Equal(ordered) || !first.ReadySince.Equal(ready) {
		t.Fatalf("ordered at %s and ready at %s, want %s and %s", first.Ordered, first.ReadySince, ordered, ready)
	}
	if !strings.Contains(first.Ordered.String(), " m=") {
		t.Errorf("%s has no reading of the monotonic clock", first.Ordered)
	}
	// Another replica before it, and the same one again.
	if again := known(ready, "phi-4-0", "phi-4-a"); again.Ordered != first.Ordered || again.ReadySince != first.ReadySince {
		t.Errorf("seen again: %s and %s, want %s and %s", again.Ordered, again.ReadySince, first.Ordered, first.ReadySince)
	}
	if again := known(ready.Add(time.Second), "phi-4-a"); !again.ReadySince.Equal(ready.Add(time.Second)) {
		t.Errorf("ready anew at %s, and known since %s", ready.Add(time.Second), again.ReadySince)
	}
	if never := known(time.Time{}, "phi-4-a"); !never.ReadySince.IsZero() {
		t.Errorf("never ready, and known since %s", never.ReadySince)
	}
}
