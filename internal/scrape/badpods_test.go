package scrape

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

// rawPod listens on address and does to each connection what serve does, once
// it has the request.
func rawPod(t *testing.T, address string, serve func(c net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Skipf("can't listen on %s: %v", address, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				context.AfterFunc(ctx, func() { _ = c.Close() })
				defer func() { _ = c.Close() }()
				if _, err := c.Read(make([]byte, 4096)); err == nil {
					serve(c)
				}
			}()
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		<-done
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

const okHead = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"

// untilGone waits for the other end to hang up.
func untilGone(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// endless is 10 GB of well-formed page.
func endless(w io.Writer) {
	block := bytes.Repeat([]byte("vllm:something{engine=\"0\",model_name=\""+strings.Repeat("phi-4-mini-instruct", 10)+"\"} 1.0\n"), 1000)
	for range 10 << 30 / len(block) {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func TestBadPods(t *testing.T) {
	elsewhere := atomic.Int64{}
	other := vllm(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	t.Cleanup(func() {
		if elsewhere.Load() != 0 {
			t.Error("a redirect was followed")
		}
	})
	closed := rawPod(t, "127.0.0.1:0", func(net.Conn) {})
	for _, c := range []struct {
		name   string
		serve  func(c net.Conn)
		reason Reason
		words  string
	}{
		{"a 10 GB body", func(c net.Conn) {
			_, _ = io.WriteString(c, okHead+"Content-Length: 10737418240\r\n\r\n")
			endless(c)
		}, TooLarge, "8 MiB"},
		{"a 10 GB body without a length", func(c net.Conn) {
			_, _ = io.WriteString(c, okHead+"Connection: close\r\n\r\n")
			endless(c)
		}, TooLarge, "8 MiB"},
		{"lines without end", func(c net.Conn) {
			_, _ = io.WriteString(c, okHead+"Connection: close\r\n\r\n")
			for {
				if _, err := c.Write(bytes.Repeat([]byte("a 1\n"), 1<<12)); err != nil {
					return
				}
			}
		}, TooLarge, "over 45000 lines"},
		{"an endless line", func(c net.Conn) {
			_, _ = io.WriteString(c, okHead+"Connection: close\r\n\r\nvllm:num_requests_waiting{model=\"")
			for {
				if _, err := c.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
					return
				}
			}
		}, TooLarge, "8 MiB"},
		{"an endless header", func(c net.Conn) {
			_, _ = io.WriteString(c, okHead)
			for {
				if _, err := c.Write(bytes.Repeat([]byte("X-Padding: xxxxxxxxxxxxxxxx\r\n"), 1000)); err != nil {
					return
				}
			}
		}, BadHTTP, "header is over 16 KiB"},
		{"gzip, which nobody asked for", func(c net.Conn) {
			_, _ = io.WriteString(c, okHead+"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\nvllm:something 1.0\n\n")
			untilGone(c)
		}, BadContent, `encoding "gzip", which was not asked for`},
		{"protobuf, which nobody asked for", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.google.protobuf; encoding=delimited\r\nContent-Length: 0\r\n\r\n")
			untilGone(c)
		}, BadContent, `"application/vnd.google.protobuf", which was not asked for`},
		{"brotli", func(c net.Conn) {
			_, _ = io.WriteString(c, okHead+"Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx")
			untilGone(c)
		}, BadContent, "br"},
		{"one byte at a time", func(c net.Conn) {
			drip(c, okHead+"Connection: close\r\n\r\n"+page.Busy().Text())
		}, Timeout, "took too long"},
		{"one byte of a header at a time", func(c net.Conn) {
			drip(c, okHead+"X-Padding: "+strings.Repeat("x", 10000))
		}, Timeout, "took too long"},
		{"a redirect to another host", func(c net.Conn) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 302 Found\r\nLocation: http://%s/metrics\r\nContent-Length: 0\r\n\r\n", other)
			untilGone(c)
		}, Redirect, "isn't followed"},
		{"a header without its body", func(c net.Conn) {
			_, _ = io.WriteString(c, okHead+"Content-Length: 59152\r\n\r\n")
			untilGone(c)
		}, Timeout, "reading the page took too long"},
		{"accepted and silent", untilGone, Timeout, "waiting for the page took too long"},
		{"a reset in mid-body", func(c net.Conn) {
			_, _ = io.WriteString(c, okHead+"Content-Length: 59152\r\n\r\n# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting 3\n")
			_ = c.(*net.TCPConn).SetLinger(0)
		}, Reset, "connection ended"},
		{"an end in mid-body", func(c net.Conn) {
			_, _ = io.WriteString(c, okHead+"Content-Length: 59152\r\n\r\nvllm:num_requests_waiting 3\n")
		}, Reset, "connection ended"},
		{"hung up on", func(net.Conn) {}, Reset, "connection ended"},
		{"not HTTP", func(c net.Conn) {
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.6\r\n")
			untilGone(c)
		}, BadHTTP, "header"},
		{"503", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
			untilGone(c)
		}, Status, "HTTP 503"},
		{"HTML", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n")
			untilGone(c)
		}, BadContent, "text/html"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bad := rawPod(t, "127.0.0.1:0", c.serve)
			good := vllm(t, page200(page.Busy().Text()))
			// Where another fault is to be found, a busy machine must find it in
			// time: the race detector reads 8 MiB in half a second, or in two.
			cfg := Config{Interval: 4 * time.Second, Timeout: 4 * time.Second}
			if c.reason == Timeout {
				cfg = Config{Interval: 2 * time.Second, Timeout: 1500 * time.Millisecond}
			}
			r := run(t, cfg)
			r.Set(phi, 2, []kaito.Replica{serving("bad", bad), serving("good", good)}, wanting(waiting))
			eventually(t, "both scraped", func() bool {
				f := fleetOf(t, r)
				return f[0].Failure != "" && f[1].Last != nil
			})
			f := fleetOf(t, r)
			target := r.fleets[phi].pages[0].targets[0]
			if got := target.reason(); got != c.reason || !strings.Contains(f[0].Failure, c.words) {
				t.Errorf("got %q: %s; want %q with %q", got, f[0].Failure, c.reason, c.words)
			}
			if f[0].Last != nil || f[1].Failure != "" {
				t.Errorf("the bad pod is %+v, the good one %+v", f[0], f[1])
			}
		})
	}
	t.Run("nothing listens", func(t *testing.T) {
		r := run(t, Config{Interval: time.Second})
		gone := netip.AddrPortFrom(closed.Addr(), 1)
		r.Set(phi, 1, []kaito.Replica{serving("bad", gone)}, wanting(waiting))
		eventually(t, "a failure", func() bool { return fleetOf(t, r)[0].Failure != "" })
		if got := fleetOf(t, r)[0].Failure; got != "connection refused" {
			t.Errorf("got %q", got)
		}
	})
}

// drip writes a byte every 10 ms: far slower than any pod, and never silent.
func drip(c net.Conn, text string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := range len(text) {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return
		}
		<-tick.C
	}
}

// A hundred pods of 10 GB each, all at once, cost no more than their buffers.
func TestMemoryStaysFlat(t *testing.T) {
	bad := rawPod(t, "127.0.0.1:0", func(c net.Conn) {
		_, _ = io.WriteString(c, okHead+"Connection: close\r\n\r\n")
		endless(c)
	})
	r := New(Config{Interval: time.Second, MaxBytes: 2 << 20})
	sel := newSelector([]string{waiting}, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const pods = 100
	errs := make(chan error, pods)
	for range pods {
		go func() {
			l := &target{link: link{addr: bad, path: "/metrics"}}
			defer l.link.drop()
			_, err := r.fetch(t.Context(), l, sel, "", time.Now().Add(20*time.Second))
			errs <- err
		}()
	}
	for range pods {
		if err := <-errs; err == nil {
			t.Error("a page without end was read")
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

func TestAnIPv6Pod(t *testing.T) {
	text := page.Busy().Text()
	addr := rawPod(t, "[::1]:0", func(c net.Conn) {
		_, _ = fmt.Fprintf(c, okHead+"Content-Length: %d\r\n\r\n%s", len(text), text)
		untilGone(c)
	})
	r := run(t, Config{Interval: time.Second})
	r.Set(phi, 1, []kaito.Replica{serving("six", addr)}, wanting(waiting))
	eventually(t, "a sample", func() bool { return fleetOf(t, r)[0].Last != nil })
}

// vLLM's server closes connections that idled for five seconds, which is just
// when the next scrape comes.
func TestAConnectionThatThePodClosedIsDialledAnew(t *testing.T) {
	text := page.Busy().Text()
	var conns atomic.Int64
	addr := rawPod(t, "127.0.0.1:0", func(c net.Conn) {
		conns.Add(1)
		_, _ = fmt.Fprintf(c, okHead+"Content-Length: %d\r\n\r\n%s", len(text), text)
	})
	once := scrapeOnce(New(Config{}), addr, []string{waiting})
	for range 3 {
		if err := once(); err != nil {
			t.Error(err)
		}
	}
	if conns.Load() != 3 {
		t.Errorf("%d connections for 3 scrapes", conns.Load())
	}
}

func TestAConnectionIsKept(t *testing.T) {
	var conns atomic.Int64
	text := page.Busy().Text()
	addr := rawPod(t, "127.0.0.1:0", func(c net.Conn) {
		conns.Add(1)
		for {
			_, _ = fmt.Fprintf(c, okHead+"Content-Length: %d\r\n\r\n%s", len(text), text)
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	r := New(Config{})
	once := scrapeOnce(r, addr, []string{waiting})
	for range 5 {
		if err := once(); err != nil {
			t.Error(err)
		}
	}
	if conns.Load() != 1 {
		t.Errorf("%d connections for 5 scrapes", conns.Load())
	}
	r.Forget(phi)
}
