package engines

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

func TestRequestsGoToTheEngineWithTheFewest(t *testing.T) {
	serving := []string{"a", "b"}
	p := NewPicker(func() []string { return serving })
	first, second := p.Pick(), p.Pick()
	if first == second {
		t.Errorf("two requests went to %s", first)
	}
	p.Done(first)
	if got := p.Pick(); got != first {
		t.Errorf("the next went to %s, which is busy", got)
	}
	serving = []string{"a", "b", "c"}
	if got := p.Pick(); got != "c" {
		t.Errorf("a new engine gets nothing: %s does", got)
	}
	serving = nil
	if got := p.Pick(); got != "" {
		t.Errorf("%s was picked of none", got)
	}
}

// stub is an engine that ends when it is told to.
type stub struct {
	kaito.Engine
	stopped, killed bool
}

func (s *stub) Stop(time.Duration) { s.stopped = true }
func (s *stub) Kill()              { s.killed = true }

func TestWhatAnEngineHadAtItsEndIsCutAndTheRestIsLost(t *testing.T) {
	var ends Ends
	s := &stub{}
	e, err := ends.Watch(func(string) (kaito.Engine, error) { return s, nil })("127.0.0.9")
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	e.Stop(time.Second)
	e.Kill()
	after := time.Now()
	if !s.stopped || !s.killed {
		t.Error("the engine wasn't told")
	}
	const ending, other = "http://127.0.0.9:5000", "http://127.0.0.8:5000"
	cut, lost := ends.Lost([]load.Result{
		{Outcome: load.Broken, Engine: ending, Sent: before},
		{Outcome: load.Broken, Engine: ending, Sent: after},
		{Outcome: load.Broken, Engine: other, Sent: before},
		{Outcome: load.Unserved},
		{Outcome: load.Failed, Engine: ending, Sent: before},
		{Outcome: load.Served},
		{Outcome: load.Refused},
		{Outcome: load.Cancelled},
	})
	if len(cut) != 1 || len(lost) != 4 {
		t.Errorf("%d cut, %d lost", len(cut), len(lost))
	}
	failing := ends.Watch(func(string) (kaito.Engine, error) { return nil, errors.New("no") })
	if e, err := failing("127.0.0.7"); e != nil || err == nil {
		t.Errorf("an engine that didn't start: %v, %v", e, err)
	}
}

func TestAnEngineServesAtItsReplicasAddress(t *testing.T) {
	const port = 5000
	pod, err := vllm.Start(vllm.Options{Mode: vllm.Refused})
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	behind, err := vllm.Start(vllm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	f, err := forward(pod.IP(), behind.IP(), port)
	if err != nil {
		t.Fatal(err)
	}
	get := func() (string, error) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + pod.Addr() + "/metrics") //nolint:noctx // ends with the pod
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	if page, err := get(); err != nil || !strings.Contains(page, "vllm:num_requests_running") {
		t.Errorf("%v: %.100q", err, page)
	}
	if running, waiting := Occupied(t.Context(), "http://"+pod.Addr()); running != 0 || waiting != 0 {
		t.Errorf("%d run and %d wait on an idle engine", running, waiting)
	}
	behind.SetWaiting(7)
	if _, waiting := Occupied(t.Context(), "http://"+pod.Addr()); waiting != 7 {
		t.Errorf("%d wait, want 7", waiting)
	}

	// A connection outlives the end of listening, as an engine's does, and no longer.
	conn, err := net.Dial("tcp4", pod.Addr()) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	f.refuse()
	if _, err := get(); err == nil {
		t.Error("an engine that ends takes new connections")
	}
	if _, err := fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: engine\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 15)); err != nil || n == 0 {
		t.Errorf("a connection from before is of no use: %v", err)
	}
	f.close()
	if _, err := io.Copy(io.Discard, conn); err == nil {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is still open")
		}
	}
}

func TestALoadHasTheRatesOfItsStretches(t *testing.T) {
	stretches := []Stretch{{100 * time.Second, 2, 2}, {100 * time.Second, 2, 10}, {100 * time.Second, 10, 10}}
	requests := Requests(stretches, 100, 150, 3)
	if diff := cmp.Diff(requests, Requests(stretches, 100, 150, 3)); diff != "" {
		t.Errorf("another time others: %s", diff)
	}
	var counts [3]int
	for _, r := range requests {
		counts[int(r.At/(100*time.Second))]++
	}
	for i, want := range [3]float64{200, 600, 1000} {
		// Three standard deviations.
		if got := float64(counts[i]); math.Abs(got-want) > 3*math.Sqrt(want) {
			t.Errorf("%v requests in stretch %d, want about %v", got, i, want)
		}
	}
	if got := rate(stretches, time.Hour); got != 0 {
		t.Errorf("%v requests a second after the end", got)
	}
}

func TestWhatIsMeasuredIsComparedWithManySimulations(t *testing.T) {
	s := SpreadOf([]float64{math.NaN(), 4, 1, 2, 3, 5})
	if diff := cmp.Diff(Spread{1.2, 3, 4.8}, s); diff != "" {
		t.Error(diff)
	}
	for x, want := range map[float64]bool{3.1: true, 1.3: true, 4.7: true, 1.1: false, 6: false} {
		if got := s.Holds(x, .1); got != want {
			t.Errorf("%v is as simulated: %v", x, got)
		}
	}
	if !s.Holds(6, 3) || !math.IsNaN(SpreadOf(nil).Median) {
		t.Error("what is near enough isn't, or nothing has a median")
	}
}

// An engine that has ended isn't used again, so a fleet that goes down and up again may
// need more than stood by.
func TestAReplicaWithoutAnEngineOnStandbyStartsOne(t *testing.T) {
	started := &stub{}
	s := Standby{more: func(string) (kaito.Engine, error) { return started, nil }}
	if e, err := s.Start("127.0.0.1"); e != started || err != nil {
		t.Errorf("got %v, %v", e, err)
	}
}

// At twice the speed a request comes in half the time and has half the tokens, so that it
// takes half of an engine's.
func TestASpeededLoadIsAsMuchForAnEngine(t *testing.T) {
	of := &simulate.Load{Requests: []simulate.Request{{At: 10, In: 100, Out: 50}, {At: 20, In: 30_000, Out: 1}}}
	want := []load.Request{{At: 5 * time.Second, Prompt: 50, Output: 25}, {At: 10 * time.Second, Prompt: longestPrompt, Output: 1}}
	if got := Speeded(of, 2, 1, 1); !cmp.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	if n := len(Speeded(Hour(1), 2, .25, 1)); n < 2500 || n > 5000 {
		t.Errorf("a quarter of the hour are %d requests", n)
	}
}

func TestATraceIsTurnedToItsPeak(t *testing.T) {
	trace := &simulate.Load{Length: time.Hour}
	for _, at := range []float64{0, 1000, 2000, 2010, 2020, 3000} {
		trace.Requests = append(trace.Requests, simulate.Request{At: at, In: int32(at), Out: 1})
	}
	var got []float64
	for _, r := range FromPeak(trace).Requests {
		got = append(got, r.At)
	}
	if want := []float64{0, 10, 20, 1000, 1600, 2600}; !cmp.Equal(got, want) {
		t.Errorf("the requests are at %v, want %v", got, want)
	}
}

// world is one in which the simulator orders replicas.
func world() *World {
	stretches := []Stretch{{time.Minute, 1, 1}, {2 * time.Minute, 5, 5}}
	return &World{
		Engine: engine.SlowGPU(), SLO: simulate.DefaultSLO, ColdStart: 30 * time.Second, Max: 4, Initial: 1,
		Requests: Requests(stretches, 100, 150, 1), Length: Length(stretches) + 30*time.Second,
	}
}

func TestBothRunsAreCountedAlike(t *testing.T) {
	w := world()
	runs, err := w.Simulate(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		if len(r.Ordered) != 210 || r.Ordered[0] != 1 || r.Ordered[209] < 2 || len(r.Told) == 0 || !(r.Attained > .1 && r.Attained < 1) {
			t.Errorf("got %+v", r)
		}
	}
	if cmp.Equal(runs[0].Ordered, runs[1].Ordered) {
		t.Error("two places in the HPA's turn make no difference")
	}
	results := make([]load.Result, len(w.Requests))
	for i := range results {
		results[i] = load.Result{Request: w.Requests[i], Outcome: load.Served, TTFT: time.Second, PerToken: 50 * time.Millisecond}
	}
	results[0].PerToken = 76 * time.Millisecond // 75 are wanted
	results[1].Outcome = load.Refused
	got := w.Measured(Course{1, 2, 3}, results, 4)
	if want := 1 - 2/float64(len(results)); math.Abs(got.Attained-want) > 1e-9 || got.Refused != 1 || got.Cut != 4 || got.Ordered.Minutes() != .1 {
		t.Errorf("got %+v", got)
	}
}

func TestThePictureHasBothCourses(t *testing.T) {
	w := world()
	runs, err := w.Simulate(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	p := Picture{Title: "a title", Subtitle: []string{"a < b"}, World: w, Real: runs[0], Simulated: runs, Serving: runs[1].Ordered}
	svg := p.SVG()
	var tree struct{}
	if err := xml.Unmarshal([]byte(svg), &tree); err != nil {
		t.Errorf("it isn't XML: %v", err)
	}
	for _, want := range []string{"a title", "median of 5 simulations", "requests a second", "replicas", "missed the SLO", "3 min"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Error("it has numbers that are none")
	}
	if again := p.SVG(); again != svg {
		t.Error("drawn again it is another")
	}
}

func TestCapacityIsThatOfAFullBatch(t *testing.T) {
	gpu := engine.SlowGPU()
	// 16 at once, each 100 steps of 46 ms, and 60 ms for each prompt.
	if got := Capacity(&gpu, 200, 100); math.Abs(got-1/(.2875+.06)) > 1e-9 {
		t.Errorf("%v requests a second", got)
	}
}
