package scrape

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

// nowhere is an address that a test of the schedule never dials.
func nowhere(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5000)
}

// book notes when each pod was read.
type book struct {
	mu sync.Mutex
	// mu guards at.
	at map[string][]time.Time
}

func (b *book) note(t *target) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at[t.id] = append(b.at[t.id], time.Now())
}

func (b *book) times(id string) []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at[id]
}

// inBubble runs a reader whose scrapes do what hung says: nothing, or nothing
// until the timeout.
func inBubble(t *testing.T, hung func(id string) bool, story func(r *Reader, b *book)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &book{at: map[string][]time.Time{}}
		r := New(Config{})
		r.scrape = func(ctx context.Context, t *target) {
			b.note(t)
			if hung(t.id) {
				select {
				case <-ctx.Done():
				case <-time.After(r.cfg.Timeout):
				}
				t.ended(failf(Timeout, "hung"), time.Now())
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		story(r, b)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func never(string) bool { return false }

func pods(n int) []kaito.Replica {
	replicas := make([]kaito.Replica, n)
	for i := range replicas {
		replicas[i] = serving("pod-"+strconv.Itoa(i), nowhere(i))
	}
	return replicas
}

func TestEachPodHasItsOwnMomentInTheInterval(t *testing.T) {
	inBubble(t, never, func(r *Reader, b *book) {
		r.Set(phi, 100, pods(100), wanting(waiting))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !r.Swept() {
			t.Error("not swept after an interval")
		}
		time.Sleep(45 * time.Second)
		synctest.Wait()
		tenths := map[int]int{}
		for i := range 100 {
			times := b.times("pod-" + strconv.Itoa(i))
			if len(times) != 10 {
				t.Fatalf("pod %d was read %d times in 10 intervals", i, len(times))
			}
			for j := 1; j < len(times); j++ {
				if gap := times[j].Sub(times[j-1]); gap != 5*time.Second {
					t.Fatalf("pod %d was read %v after the time before", i, gap)
				}
			}
			tenths[int(times[0].UnixMilli()%5000/500)]++
		}
		for tenth, n := range tenths {
			if n > 25 {
				t.Errorf("%d of 100 pods are read in tenth %d of the interval", n, tenth)
			}
		}
	})
}

func TestANewPodIsReadWithinAnInterval(t *testing.T) {
	inBubble(t, never, func(r *Reader, b *book) {
		time.Sleep(17 * time.Second)
		r.Set(phi, 1, pods(1), wanting(waiting))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := len(b.times("pod-0")); n != 1 {
			t.Errorf("read %d times within its first interval", n)
		}
		r.Set(phi, 0, nil, wanting(waiting))
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(b.times("pod-0")); n != 1 {
			t.Errorf("read %d times after it was gone", n-1)
		}
	})
}

// 2 000 pods of 10 000 hang. So do 6 000, more than half of all.
func TestHungPodsDelayNobody(t *testing.T) {
	for _, hung := range []int{2000, 6000} {
		inBubble(t, func(id string) bool {
			n, _ := strconv.Atoi(strings.TrimPrefix(id, "pod-"))
			return n < hung
		}, func(r *Reader, b *book) {
			r.Set(phi, 10000, pods(10000), wanting(waiting))
			time.Sleep(15 * time.Second)
			synctest.Wait()
			for i := hung; i < 10000; i++ {
				times := b.times("pod-" + strconv.Itoa(i))
				if len(times) != 3 {
					t.Fatalf("%d hung: pod %d was read %d times in 3 intervals", hung, i, len(times))
				}
				for j := 1; j < len(times); j++ {
					if gap := times[j].Sub(times[j-1]); gap != 5*time.Second {
						t.Fatalf("%d hung: pod %d was read %v after the time before", hung, i, gap)
					}
				}
			}
		})
	}
}

// 10 000 pods come to hang in the same interval, and nobody knew: a hundred others
// are read as ever.
func TestAFleetThatHangsAtOnceDelaysNobody(t *testing.T) {
	start := time.Now()
	inBubble(t, func(id string) bool {
		n, _ := strconv.Atoi(strings.TrimPrefix(id, "pod-"))
		return n >= 100
	}, func(r *Reader, b *book) {
		r.Set(phi, 10100, pods(10100), wanting(waiting))
		time.Sleep(30 * time.Second)
		synctest.Wait()
		for i := range 100 {
			times := b.times("pod-" + strconv.Itoa(i))
			if len(times) != 6 {
				t.Fatalf("pod %d was read %d times in 6 intervals", i, len(times))
			}
			for j := 1; j < len(times); j++ {
				if gap := times[j].Sub(times[j-1]); gap != 5*time.Second {
					t.Fatalf("pod %d was read %v after the time before", i, gap)
				}
			}
		}
		for i := 100; i < 10100; i++ {
			if n := len(b.times("pod-" + strconv.Itoa(i))); n < 3 {
				t.Fatalf("pod %d, which hangs, was read %d times in 30 s", i, n)
			}
		}
	})
	t.Log(time.Since(start))
}

func TestPools(t *testing.T) {
	l := pool{limit: 2}
	a, b, c, d := &target{}, &target{}, &target{}, &target{}
	if !l.enter(a) || !l.enter(b) || l.enter(c) || l.enter(d) {
		t.Fatal("two slots are not for two")
	}
	c.gone = true
	l.busy++ // one was handed over
	if next := l.leave(); next != nil {
		t.Error("a slot that was one too many goes to somebody")
	}
	if next := l.leave(); next != d {
		t.Error("the slot doesn't go to the first who still waits for it")
	}
	next, after := l.leave(), l.leave()
	if next != nil || after != nil || l.busy != 0 {
		t.Errorf("%d slots taken by nobody", l.busy)
	}
}

// reading is a page of the engine's at a time.
func at(second int, running, step float64) *reading {
	return &reading{running: running, step: step, sample: &sample.Sample{At: time.Unix(1796100000+int64(second), 0)}}
}

func TestAFrozenEngine(t *testing.T) {
	tg := &target{container: container{readySinceStart: true}}
	for _, c := range []struct {
		second        int
		running, step float64
		want          Reason
	}{
		{0, 106, 500, OK},
		{5, 106, 510, OK},
		{125, 106, 510, OK},
		{126, 106, 510, Frozen}, // 121 s without a step
		{130, 106, 510, Frozen},
		{135, 106, 511, OK}, // it moves again
		{140, 0, 511, OK},
		{300, 0, 511, OK}, // idle, not frozen
		{305, 3, 511, OK}, // its first request
		{310, 3, 520, OK},
	} {
		if got := tg.took(at(c.second, c.running, c.step), 0).reason(); got != c.want {
			t.Errorf("after %d s: got %q, want %q", c.second, got, c.want)
		}
	}
	if last := tg.last().At.Unix(); last != 1796100310 {
		t.Errorf("the newest sample is of %d", last)
	}
}

// A container that was restarted answers with KAITO's benchmark before it is
// Ready: nothing of that is load.
func TestARestartedContainerCountsFromItsNextReady(t *testing.T) {
	tg, now := &target{}, time.Unix(1796100000, 0)
	rep := serving("a", nowhere(1))
	tg.see(&rep, now)
	if f := tg.took(at(0, 1, 1), 0); f != nil {
		t.Fatal(f)
	}
	rep.Ready = false // saturated: still counts
	tg.see(&rep, now)
	if f := tg.took(at(5, 1, 2), 0); f != nil {
		t.Fatal(f)
	}
	rep.Restarts++
	tg.see(&rep, now)
	if f := tg.took(at(10, 256, 3), 0); f.reason() != Unproven {
		t.Errorf("the benchmark of a restarted container counts: %v", f)
	}
	rep.Ready = true
	tg.see(&rep, now)
	if f := tg.took(at(15, 1, 4), 0); f != nil || tg.last().Restarts != 1 {
		t.Errorf("got %v, %+v", f, tg.last())
	}
}

// The watch was down while the restarted container turned Ready, and then too
// busy: its pod's conditions tell.
func TestARestartedContainerThatTurnedReadyUnseenCounts(t *testing.T) {
	tg, now := &target{}, time.Unix(1796100000, 0)
	rep := serving("a", nowhere(1))
	rep.Ready, rep.Restarts, rep.ReadySinceStart = false, 1, true
	tg.see(&rep, now)
	if f := tg.took(at(5, 256, 3), 0); f != nil {
		t.Error(f)
	}
}

func TestTransitionsAreReportedOnce(t *testing.T) {
	var broken atomic.Bool
	addr := vllm(t, func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(page.Busy().Text()))
	})
	var told []string
	r := New(Config{Log: funcr.New(func(_, args string) { told = append(told, args) }, funcr.Options{})})
	once := scrapeOnce(r, addr, []string{waiting})
	for _, b := range []bool{false, true, true, false, false} {
		broken.Store(b)
		_ = once()
	}
	r.Forget(phi)
	const of = `"level"=0 "msg"="pod's metrics page" "namespace"="default" "inferenceSet"="phi-4" "pod"="phi-4-a-0" `
	want := []string{
		of + `"reason"="http_status" "words"="HTTP 503 instead of 200"`,
		of + `"reason"="" "words"="readable again"`,
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// Hints save what they can, and a pod that answers less for them isn't hinted.
func TestAHintIsNeverReliedOn(t *testing.T) {
	var asked []bool
	addr := vllm(t, func(w http.ResponseWriter, req *http.Request) {
		hinted := req.URL.RawQuery != ""
		asked = append(asked, hinted)
		if hinted {
			_, _ = w.Write([]byte("vllm:num_requests_running 1\n"))
			return
		}
		_, _ = w.Write([]byte(page.Busy().Text()))
	})
	r := New(Config{})
	once := scrapeOnce(r, addr, []string{waiting})
	for range 4 {
		if err := once(); err != nil {
			t.Error(err)
		}
		if _, ok := r.fleets[phi].pages[0].targets[0].last().Family(waiting); !ok {
			t.Error("the hint cost a reading")
		}
	}
	r.Forget(phi)
	if want := []bool{false, true, false, false, false}; !slices.Equal(asked, want) {
		t.Errorf("hinted %v, want %v: the second scrape asks twice", asked, want)
	}
}
