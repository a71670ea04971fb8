package scrape

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		servePod()
	}
	goleak.VerifyTestMain(m)
}

var phi = types.NamespacedName{Namespace: "default", Name: "phi-4"}

const waiting = "vllm:num_requests_waiting"

// serving is a Ready replica whose pod is at that address.
func serving(name string, addr netip.AddrPort) kaito.Replica {
	return kaito.Replica{Workspace: name, Pod: name + "-0", UID: types.UID(name), Address: addr, Phase: sample.Serving, Ready: true}
}

// vllm is a pod on loopback that serves whatever handler does.
func vllm(t *testing.T, handler http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(strings.TrimPrefix(s.URL, "http://"))
}

func page200(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

// run starts the reader for as long as the test lasts.
func run(t *testing.T, cfg Config) *Reader {
	t.Helper()
	r := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
	return r
}

// eventually polls, because the scrapes are real ones.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

func fleetOf(t *testing.T, r *Reader) []sample.Replica {
	t.Helper()
	f, ok := r.Fleet(phi, policy.Page{})
	if !ok {
		t.Fatal("the fleet isn't known")
	}
	return f.Replicas
}

func TestAReadyPodIsReadAndAGoneOneIsDropped(t *testing.T) {
	r := run(t, Config{Interval: time.Second})
	addr := vllm(t, page200(page.Busy().Text()))
	starting := kaito.Replica{Workspace: "phi-4-b", Phase: sample.Starting, Why: "waits for a node"}
	r.Set(phi, 2, []kaito.Replica{serving("phi-4-a", addr), starting}, wanting(waiting))
	if r.Swept() {
		t.Error("swept before anything was read")
	}
	eventually(t, "a sample", func() bool { return fleetOf(t, r)[0].Last != nil })
	replicas := fleetOf(t, r)
	if f, ok := replicas[0].Last.Family(waiting); !ok || f.Sum != 7 {
		t.Errorf("got %+v", replicas[0].Last)
	}
	if replicas[1].Last != nil || replicas[1].Phase != sample.Starting || replicas[1].Pod != "phi-4-b" {
		t.Errorf("the starting replica is %+v", replicas[1])
	}
	// A sample is there a moment before its scrape is counted.
	eventually(t, "a sweep", r.Swept)
	r.Forget(phi)
	if _, ok := r.Fleet(phi, policy.Page{}); ok {
		t.Error("still there after Forget")
	}
}

func TestFleetsThatWantTheSameShareASelector(t *testing.T) {
	r := New(Config{})
	other := types.NamespacedName{Namespace: "default", Name: "other"}
	r.Set(phi, 1, nil, wanting(waiting))
	r.Set(other, 1, nil, wanting(waiting))
	if r.fleets[phi].pages[0].selector != r.fleets[other].pages[0].selector {
		t.Error("two fleets that want the same have a selector each")
	}
	r.Set(other, 1, nil, wanting("vllm:kv_cache_usage_perc"))
	if r.fleets[phi].pages[0].selector == r.fleets[other].pages[0].selector {
		t.Error("a fleet that wants something else now still has the old selector")
	}
	r.Forget(phi)
	r.Forget(other)
	if n := len(r.selectors); n != 0 {
		t.Errorf("%d selectors are kept for nobody", n)
	}
}

// wanting asks for these families of the usual page.
// What the samples of all pods have in common, names and bounds, is there once.
func TestPodsShareTheBoundsOfTheirHistograms(t *testing.T) {
	const ttft = "vllm:time_to_first_token_seconds"
	pod := vllm(t, page200("vllm:num_requests_waiting 1\n# TYPE "+ttft+" histogram\n"+
		ttft+"_bucket{le=\"1\"} 2\n"+ttft+"_bucket{le=\"+Inf\"} 3\n"+ttft+"_sum 4\n"))
	r := New(Config{})
	bounds := map[*float64]bool{}
	for _, name := range []string{"phi-4-a", "phi-4-b"} {
		r.Set(phi, 1, []kaito.Replica{serving(name, pod)}, wanting(ttft))
		if err := scraping(r)(); err != nil {
			t.Fatal(err)
		}
		f, _ := fleetOf(t, r)[0].Last.Family(ttft)
		bounds[&f.Buckets.Le[0]] = true
	}
	if len(bounds) != 1 {
		t.Error("each of two pods has bounds of its own")
	}
	r.Forget(phi)
}

func wanting(families ...string) []policy.Reading {
	return []policy.Reading{{Families: families}}
}
