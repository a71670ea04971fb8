package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
)

// logged is a reader of so many pods, whose log is in lines. scrape makes each of them
// be read once, with that outcome.
func logged(n int) (r *Reader, lines *[]string, scrape func(error)) {
	lines = new([]string)
	r = New(Config{Log: funcr.New(func(_, args string) { *lines = append(*lines, args) }, funcr.Options{})})
	r.Set(phi, int32(n), pods(n), wanting(waiting))
	return r, lines, func(err error) {
		for _, t := range r.fleets[phi].pages[0].targets {
			r.note(t, time.Now(), err)
		}
	}
}

func TestAPodThatFlapsIsReportedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, told, scrape := logged(1)
		for i := range 720 {
			var err error
			if i%2 == 0 {
				err = failf(Refused, "connection refused")
			}
			scrape(err)
			time.Sleep(5 * time.Second)
		}
		if n := len(*told); n < 8 || n > 10 {
			t.Errorf("%d lines in an hour, want 4 and then one every ten minutes", n)
		}
		if last := (*told)[len(*told)-1]; !strings.Contains(last, `"changesLeftOut"=1`) {
			t.Errorf("nothing says what was left out: %s", last)
		}
		for range 240 { // it is well from now on
			scrape(nil)
			time.Sleep(5 * time.Second)
		}
		if last := (*told)[len(*told)-1]; !strings.Contains(last, `"readable again"`) {
			t.Errorf("the log ends with %s", last)
		}
	})
}

func TestOurOwnLackIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, told, scrape := logged(1000)
		lack := networkFailure("connecting", os.NewSyscallError("socket", syscall.EMFILE))
		for range 100 {
			scrape(lack)
			time.Sleep(5 * time.Second)
		}
		scrape(nil)
		want := []string{`"level"=0 "msg"="pods can't be read for want of something that the scaler needs itself" "reason"="local" ` +
			`"words"="the scaler has no file descriptor left (its limit, such as ulimit -n)"`}
		if diff := cmp.Diff(want, *told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		time.Sleep(2 * time.Minute)
		scrape(lack)
		if len(*told) != 2 {
			t.Errorf("another lack makes %d lines", len(*told)-1)
		}
		r.Forget(phi)
	})
}

func TestWhatIsLackingIsNamed(t *testing.T) {
	for errno, words := range map[syscall.Errno]string{
		syscall.EMFILE: "descriptor", syscall.ENFILE: "descriptor", syscall.EACCES: "allowed", syscall.EPERM: "allowed",
		syscall.EADDRNOTAVAIL: "port", syscall.ENOBUFS: "memory", syscall.ENOMEM: "memory",
	} {
		r := New(Config{})
		r.client.dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
		}
		r.Set(phi, 1, []kaito.Replica{serving("phi-4-a", nowhere(1))}, wanting(waiting))
		f := failureOf(scraping(r)())
		if f.reason() != Local || !strings.Contains(f.Error(), "the scaler") || !strings.Contains(f.Error(), words) {
			t.Errorf("%v: %s, %v", errno, f.reason(), f)
		}
	}
}

func TestAMeshInStrictModeIsNamed(t *testing.T) {
	for _, answered := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := piped(t, atOnce, func(_ int, c net.Conn) {
				if answered {
					_, _ = io.WriteString(c, okHead+"Content-Length: 59152\r\n\r\nvllm:")
				}
				_ = c.Close()
			})
			f := failureOf(scraping(r)())
			if f.reason() != Reset || strings.Contains(f.Error(), "PeerAuthentication in STRICT mode") == answered {
				t.Errorf("answered %t: %v", answered, f)
			}
			r.Forget(phi)
		})
	}
}

// What a pod says of itself in a failure is cut short: it is kept, logged and told.
func TestAFailuresWordsAreShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := piped(t, atOnce, func(_ int, c net.Conn) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%s\r\n\r\n", strings.Repeat("x", 16000))
		})
		if f := failureOf(scraping(r)()); f.reason() != BadHTTP || len(f.Error()) > 400 {
			t.Errorf("%s: %d bytes: %.500s", f.reason(), len(f.Error()), f.Error())
		}
		r.Forget(phi)
	})
}

// Thousands of scrapes that hang at once must not take much.
func TestAHungScrapeIsSmall(t *testing.T) {
	if racing {
		t.Skip("measures memory")
	}
	addr := rawPod(t, "127.0.0.1:0", untilGone)
	r := New(Config{})
	sel := newSelector([]string{waiting}, nil)
	const n = 300
	used := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before := used()
	targets := make([]*target, n)
	ended := make(chan error, n)
	for i := range targets {
		targets[i] = &target{link: link{addr: addr, path: "/metrics"}}
		go func() {
			_, err := r.fetch(t.Context(), targets[i], sel, "", time.Now().Add(time.Minute))
			ended <- err
		}()
	}
	eventually(t, "all connected", func() bool {
		for _, tg := range targets {
			if tg.link.idle() == nil {
				return false
			}
		}
		return true
	})
	each := (used() - before) / n
	t.Logf("%d bytes each, the pods' side of the connections included", each)
	if each > 32<<10 {
		t.Errorf("a hung scrape takes %d bytes", each)
	}
	for _, tg := range targets {
		tg.link.drop()
	}
	for range n {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	}
}
