package scrape

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

// piped is a reader of one pod at the other end of a pipe, in a bubble's time. dial
// says how long connecting takes; serve answers one request after the other.
func piped(t *testing.T, dial func(ctx context.Context) error, serve func(n int, c net.Conn)) *Reader {
	t.Helper()
	r := New(Config{})
	r.client.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		if err := dial(ctx); err != nil {
			return nil, err
		}
		ours, theirs := net.Pipe()
		go func() {
			defer func() { _ = theirs.Close() }()
			in := bufio.NewReader(theirs)
			for n := 0; ; n++ {
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				serve(n, theirs)
			}
		}()
		return ours, nil
	}
	r.Set(phi, 1, []kaito.Replica{serving("phi-4-a", nowhere(1))}, wanting(waiting))
	return r
}

func atOnce(context.Context) error { return nil }

func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func answer(c net.Conn, parts ...func()) {
	text := page.Busy().Text()
	_, _ = fmt.Fprintf(c, okHead+"Content-Length: %d\r\n\r\n%s", len(text), text[:1000])
	for _, p := range parts {
		p()
	}
	_, _ = io.WriteString(c, text[1000:])
}

// vLLM's API server makes its page in one go, and a saturated one takes seconds to
// come to it.
func TestALatePageCountsAndIsOfItsFirstByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := piped(t, atOnce, func(_ int, c net.Conn) {
			time.Sleep(3 * time.Second)
			answer(c, func() { time.Sleep(time.Second) })
		})
		start := time.Now()
		if err := scraping(r)(); err != nil {
			t.Fatalf("a page that took 4 s: %v", err)
		}
		f := fleetOf(t, r)[0]
		if f.Last == nil || f.Last.At.Sub(start) != 3*time.Second {
			t.Errorf("the sample is of %v, want 3 s after the scrape began", f.Last)
		}
		if !f.TimedOut.IsZero() {
			t.Errorf("timed out at %s", f.TimedOut)
		}
		r.Forget(phi)
	})
}

func TestWhatATimeoutSays(t *testing.T) {
	for _, tt := range []struct {
		name     string
		dial     func(context.Context) error
		scrapes  int
		words    string
		timedOut bool
	}{
		{"nobody accepts", hangs, 1, "connecting took too long" + isolationWords, false},
		{"silent on a connection that was kept", atOnce, 2, "waiting for the page took too long", true},
		{"accepted, and then silent", atOnce, 1, "waiting for the page took too long", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := piped(t, tt.dial, func(n int, c net.Conn) {
				if n == 0 && tt.scrapes == 2 {
					answer(c)
					return
				}
				_, _ = io.Copy(io.Discard, c)
			})
			once := scraping(r)
			for range tt.scrapes {
				_ = once()
			}
			f := fleetOf(t, r)[0]
			if f.Failure != tt.words || f.TimedOut.IsZero() == tt.timedOut {
				t.Errorf("%s: %q, timed out at %s; want %q", tt.name, f.Failure, f.TimedOut, tt.words)
			}
			if tt.timedOut && !f.TimedOut.Equal(time.Now()) {
				t.Errorf("%s: timed out at %s, now it is %s", tt.name, f.TimedOut, time.Now())
			}
			r.Forget(phi)
		})
	}
}

// KAITO's production stack lets nobody in but its own namespace: all pods are Ready
// and none takes a connection. One that isn't so is no sign of that.
func TestAFleetThatTakesNoConnectionIsReportedAsBehindANetworkPolicy(t *testing.T) {
	const words = "connecting took too long"
	for _, tt := range []struct {
		name string
		edit func(pods []kaito.Replica)
		// answers are those that take connections, and refuses that refuse them.
		answers, refuses string
		want             string
	}{
		{name: "none does", want: words + ", as behind a NetworkPolicy that doesn't let the scaler's namespace in " +
			"(in KAITO's production stack, list it in networkPolicy.allowedIngressNamespaces)"},
		{name: "one starts", edit: func(pods []kaito.Replica) { pods[0].Phase = sample.Starting }, want: words + isolationWords},
		{name: "one answers", answers: "[fd00::1]:5000", want: words},
		{name: "one refuses", refuses: "[fd00::1]:5000", want: words},
		{name: "one isn't Ready", edit: func(pods []kaito.Replica) { pods[0].Ready = false }, want: words},
		{name: "one has no address", edit: func(pods []kaito.Replica) { pods[0].Address = netip.AddrPort{} }, want: words},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := New(Config{})
			r.client.dial = func(ctx context.Context, _, address string) (net.Conn, error) {
				switch address {
				case tt.refuses:
					return nil, syscall.ECONNREFUSED
				case tt.answers:
					ours, theirs := net.Pipe()
					go func() {
						defer func() { _ = theirs.Close() }()
						if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
							answer(theirs)
						}
					}()
					return ours, nil
				}
				return nil, hangs(ctx)
			}
			pods := []kaito.Replica{serving("phi-4-a", netip.MustParseAddrPort("[fd00::1]:5000")), serving("phi-4-b", netip.MustParseAddrPort("[fd00::2]:5000"))}
			if tt.edit != nil {
				tt.edit(pods)
			}
			r.Set(phi, 2, pods, wanting(waiting))
			for _, f := range r.fleets {
				for _, target := range f.pages[0].live() {
					r.read(t.Context(), target)
				}
			}
			if got := fleetOf(t, r)[1].Failure; got != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			}
			r.Forget(phi)
		})
	}
}

// Pods that were read before may be a lost node's: it takes two minutes to believe.
func TestAFleetThatWasReadIsNoNetworkPolicysAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := atOnce
		r := piped(t, func(ctx context.Context) error { return dial(ctx) }, func(_ int, c net.Conn) {
			answer(c)
			_ = c.Close()
		})
		once := scraping(r)
		if err := once(); err != nil {
			t.Fatal(err)
		}
		dial = hangs
		for _, tt := range []struct {
			after time.Duration
			want  string
		}{{time.Minute, "connecting took too long"}, {2 * time.Minute, "connecting took too long" + isolationWords}} {
			time.Sleep(tt.after)
			_ = once()
			if got := fleetOf(t, r)[0].Failure; got != tt.want {
				t.Errorf("%s later: %q, want %q", tt.after, got, tt.want)
			}
		}
		r.Forget(phi)
	})
}

// A prompt of 128 000 tokens that isn't cut into pieces makes the page stand still for
// 64 s. An engine that stands for longer is frozen, and whether anybody waits for it is
// known.
func TestAFrozenEngineTellsOfItsDemand(t *testing.T) {
	type state struct{ frozen, demand bool }
	p := func(second int, queue, rejected float64) *reading {
		is := at(second, 106, 500)
		is.waiting, is.rejected = queue, rejected
		return is
	}
	for _, tt := range []struct {
		name  string
		pages []*reading
		want  state
	}{
		{"a long prompt", []*reading{p(0, 3, 0), p(64, 3, 5)}, state{false, false}},
		{"nobody waits", []*reading{p(0, 0, 0), p(130, 0, 0)}, state{true, false}},
		{"requests wait", []*reading{p(0, 3, 0), p(130, 3, 0)}, state{true, true}},
		{"requests were refused before it froze", []*reading{p(0, 0, 7), p(130, 0, 7)}, state{true, false}},
		{"requests were refused since it froze", []*reading{p(0, 0, 7), p(30, 0, 8), p(130, 0, 8)}, state{true, true}},
	} {
		r := New(Config{})
		r.Set(phi, 1, []kaito.Replica{serving("phi-4-a", nowhere(1))}, wanting(waiting))
		tg := r.fleets[phi].pages[0].targets[0]
		for _, page := range tt.pages {
			tg.ended(tg.took(page, 0), page.sample.At)
		}
		f := fleetOf(t, r)[0]
		if got := (state{f.Frozen, f.FrozenDemand}); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
		tg.ended(failf(Timeout, "hung"), time.Now())
		if f := fleetOf(t, r)[0]; f.Frozen || f.FrozenDemand {
			t.Errorf("%s: still frozen after a scrape that told nothing", tt.name)
		}
	}
}

func TestTheQueueAndRefusalsAreReadWhateverIsAskedFor(t *testing.T) {
	text := "vllm:num_requests_waiting 3\nkaito_ratelimit_rejected_total 8\nvllm:kv_cache_usage_perc 0.5\n"
	if got, f := decode(t, text, "vllm:kv_cache_usage_perc"); f != nil || got.waiting != 3 || got.rejected != 8 || got.sample.Len() != 1 {
		t.Errorf("got %+v, %v", got, f)
	}
}

// A pod that joins every half second keeps nobody waiting.
func TestPodsThatJoinDontKeepAProcessUnready(t *testing.T) {
	inBubble(t, never, func(r *Reader, _ *book) {
		r.Set(phi, 100, pods(100), wanting(waiting))
		if r.Swept() {
			t.Error("swept before anything was read")
		}
		for i := range 12 {
			time.Sleep(500 * time.Millisecond)
			r.Set(phi, 100, pods(101+i), wanting(waiting))
		}
		synctest.Wait()
		if !r.Swept() {
			t.Error("not swept though all that were there at first have been read")
		}
	})
}

func TestASweepHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{}) // which nobody runs
		r.Set(phi, 100, pods(100), wanting(waiting))
		for range 14 {
			if r.Swept() {
				t.Fatal("swept though nothing was read")
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		if !r.Swept() {
			t.Error("not swept after three intervals")
		}
	})
}

func TestALoopThatStandsStillIsNotOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		onTime := func(want bool, when string) {
			t.Helper()
			synctest.Wait()
			if got := r.OnTime(time.Now()); got != want {
				t.Errorf("%s: on time %t, want %t", when, got, want)
			}
		}
		time.Sleep(time.Minute)
		onTime(true, "before it began")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(time.Hour)
		onTime(true, "nothing to read for an hour")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		time.Sleep(29 * time.Second)
		onTime(true, "still for 29 s")
		time.Sleep(3 * time.Second)
		onTime(false, "still for half a minute")
	})
}

func TestTheTimeoutIsNearTheInterval(t *testing.T) {
	for interval, want := range map[time.Duration]time.Duration{
		time.Second: 900 * time.Millisecond, 5 * time.Second: 4500 * time.Millisecond, time.Minute: 54 * time.Second,
	} {
		c := Config{Interval: interval}
		if c.fillIn(); c.Timeout != want {
			t.Errorf("interval %v: %v, want %v", interval, c.Timeout, want)
		}
	}
}
