package scrape

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

// serverEnv makes the test binary a pod instead: a process of its own, so that
// its CPU isn't counted.
const serverEnv = "SCRAPE_BENCH_POD"

func servePod() {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // for a process's life
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	text := []byte(hostilePages[os.Getenv(serverEnv)]())
	go func() {
		// The benchmark holds the other end.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		if os.Getenv(serverEnv) == "one-byte chunks" {
			writeByteChunks(w, text)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text)
	})}
	panic(s.Serve(l))
}

// writeByteChunks answers with text, each byte a chunk, in one write: with a write for
// each, how often the client wakes, and so what a fetch takes, is up to the machine
// (4 to 45 ms were seen for one page).
func writeByteChunks(w http.ResponseWriter, text []byte) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
	for _, c := range text {
		answer = append(answer, '1', '\r', '\n', c, '\r', '\n')
	}
	_, _ = conn.Write(append(answer, "0\r\n\r\n"...))
	_ = conn.Close()
}

func benchPod(b testing.TB, of string) netip.AddrPort {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"="+of)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return netip.MustParseAddrPort(strings.TrimSpace(line))
}

// cpu is what this process has used so far, in user and kernel.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs f b.N times and reports the CPU that each took.
func measure(b *testing.B, f func() error) {
	b.Helper()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	start := cpu()
	for range b.N {
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu()-start)/float64(b.N)/1e3, "cpu-µs/op")
}

func scrapeOnce(r *Reader, addr netip.AddrPort, want []string) func() error {
	return scrapeFor(r, addr, wanting(want...)[0])
}

func scrapeFor(r *Reader, addr netip.AddrPort, want policy.Reading) func() error {
	rep := serving("phi-4-a", addr)
	r.Set(phi, 1, []kaito.Replica{rep}, []policy.Reading{want})
	return scraping(r)
}

// automatic is what automatic mode reads.
func automatic() policy.Reading {
	return policy.Trigger{Saturation: &policy.Saturation{TTFT: policy.DefaultTTFT, ITL: policy.DefaultITL}}.Reading()
}

// scraping scrapes the first pod of the fleet.
func scraping(r *Reader) func() error {
	t := r.fleets[phi].pages[0].targets[0]
	return func() error {
		r.read(context.Background(), t)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.failure != nil {
			return t.failure
		}
		return nil
	}
}

// bareGET fetches the page with the same client as a scrape and throws it away.
func bareGET(c *client, addr netip.AddrPort) func() error {
	l := &link{addr: addr, path: "/metrics"}
	return func() error {
		return c.get(context.Background(), l, "", time.Now().Add(2*time.Second), func(resp *http.Response, _ time.Time) error {
			_, err := io.Copy(io.Discard, resp.Body)
			return err
		})
	}
}

func standardGET(addr netip.AddrPort) func() error {
	c := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	return func() error {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+addr.String()+"/metrics", nil)
		if err != nil {
			return err
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	}
}

func BenchmarkGET(b *testing.B) {
	addr := benchPod(b, "busy")
	b.Run("net_http", func(b *testing.B) { measure(b, standardGET(addr)) })
	b.Run("bare", func(b *testing.B) { measure(b, bareGET(newClient(), addr)) })
	b.Run("scrape", func(b *testing.B) {
		measure(b, scrapeOnce(New(Config{}), addr, []string{waiting}))
	})
	b.Run("scrape_histogram", func(b *testing.B) {
		measure(b, scrapeOnce(New(Config{}), addr, []string{waiting, "vllm:time_to_first_token_seconds"}))
	})
	b.Run("scrape_automatic", func(b *testing.B) {
		measure(b, scrapeFor(New(Config{}), addr, automatic()))
	})
}

// BenchmarkDecode is the same page in memory, and by expfmt for comparison.
func BenchmarkDecode(b *testing.B) {
	text := page.Busy().Text()
	for name, want := range map[string]policy.Reading{
		"gauge":          wanting(waiting)[0],
		"gauge_and_ttft": wanting(waiting, "vllm:time_to_first_token_seconds")[0],
		"automatic":      automatic(),
	} {
		b.Run(name, func(b *testing.B) {
			sel := newSelector(want.Families, want.Limits)
			d, large, body := &scratch{small: make([]byte, smallChunk)}, newChunks(1), strings.NewReader("")
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				body.Reset(text)
				d.reset(sel)
				if f := d.readLines(body, d.small, large, 8<<20); f != nil {
					b.Fatal(f)
				}
				if _, f := d.decode(time.Now(), nil); f != nil {
					b.Fatal(f)
				}
			}
		})
	}
	b.Run("expfmt", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			p := expfmt.NewTextParser(model.UTF8Validation)
			if _, err := p.TextToMetricFamilies(strings.NewReader(text)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

var figures = flag.Bool("figures", false, "measure a scrape against a bare GET, and print the figures")

// TestFigures measures both in turns, a tenth of a second each, and takes
// the median of the rounds' ratios: what else the machine does meets both alike,
// and a round that it disturbs counts like any other.
func TestFigures(t *testing.T) {
	if !*figures {
		t.Skip("only with -figures")
	}
	addr := benchPod(t, "busy")
	bare, scrape := bareGET(newClient(), addr), scrapeOnce(New(Config{}), addr, []string{waiting})
	ratio, extra := compared(t, "scrape", bare, scrape)
	// Each has a reader of its own: to one for over a minute the pod, whose page
	// never changes, is frozen.
	bareSeldom, scrapeSeldom := seldom(t, bare), seldom(t, scrapeOnce(New(Config{}), addr, []string{waiting}))
	fmt.Printf("%v CPU per bare GET, %v per scrape, when the process sleeps for 50 ms before each: what a small fleet is like\n",
		bareSeldom, scrapeSeldom)
	all := math.Inf(1)
	for range 3 { // What else the machine does makes it dearer.
		if again, _ := compared(t, "scrape for automatic mode", bare, scrapeFor(New(Config{}), addr, automatic())); again < all {
			all = again
		}
		if all <= automaticBudget {
			break
		}
	}
	fmt.Printf("figure scrape_cpu_ratio %.3f\nfigure scrape_allocs_extra %.1f\nfigure scrape_automatic_cpu_ratio %.3f\n", ratio, extra, all)
	if all > automaticBudget {
		t.Errorf("a scrape for automatic mode takes %.2f times a bare GET's CPU, at most %g is wanted", all, automaticBudget)
	}
}

// automaticBudget is how many bare GETs a scrape for automatic mode may take.
const automaticBudget = 1.6

// compared is the median of the ratios of two costs, and of the differences of
// their allocations.
func compared(t *testing.T, what string, bare, scrape func() error) (ratio, extra float64) {
	t.Helper()
	perOp(t, bare)
	perOp(t, scrape)
	var ratios, extras []float64
	var bareTotal, scrapeTotal time.Duration
	const rounds = 40
	for i := range rounds {
		// Who comes first takes turns too.
		var of [2]cost
		for _, which := range []int{i % 2, 1 - i%2} {
			of[which] = perOp(t, []func() error{bare, scrape}[which])
		}
		bareTotal += of[0].cpu
		scrapeTotal += of[1].cpu
		ratios = append(ratios, float64(of[1].cpu)/float64(of[0].cpu))
		extras = append(extras, of[1].allocs-of[0].allocs)
	}
	slices.Sort(ratios)
	slices.Sort(extras)
	fmt.Printf("%v CPU per bare GET, %v per %s; half of the %d ratios are from %.3f to %.3f\n",
		bareTotal/rounds, scrapeTotal/rounds, what, rounds, ratios[rounds/4], ratios[rounds*3/4])
	return ratios[rounds/2], extras[rounds/2]
}

// seldom is the CPU time of f when cores and caches have forgotten it since the
// last time, as they have between the scrapes of 100 pods. What it takes to wake
// up counts.
func seldom(t *testing.T, f func() error) time.Duration {
	t.Helper()
	const n = 150
	start := cpu()
	for range n {
		time.Sleep(50 * time.Millisecond)
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	return (cpu() - start) / n
}

// cost is of one operation.
type cost struct {
	cpu    time.Duration
	allocs float64
}

// perOp is the CPU time and the allocations that f takes.
func perOp(t *testing.T, f func() error) cost {
	t.Helper()
	const n = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := cpu()
	for range n {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	used := cpu() - start
	runtime.ReadMemStats(&after)
	return cost{used / n, float64(after.Mallocs-before.Mallocs) / n}
}
