package ports

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// registry has so many series, and counts how often it is gathered.
type registry struct {
	*prometheus.Registry
	times int
	err   error
}

func newRegistry(series int) *registry {
	r := &registry{Registry: prometheus.NewRegistry()}
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "a_level", Help: "Help."}, []string{"inferenceset"})
	r.MustRegister(gauge)
	for i := range series {
		gauge.WithLabelValues(fmt.Sprintf("an-inferenceset-with-a-rather-long-name-%d", i)).Set(float64(i))
	}
	return r
}

func (r *registry) Gather() ([]*dto.MetricFamily, error) {
	r.times++
	if r.err != nil {
		return nil, r.err
	}
	return r.Registry.Gather() //nolint:wrapcheck // a test
}

// startMetrics serves a registry's metrics on loopback, and returns what a scrape
// from elsewhere gets.
func startMetrics(t *testing.T, gatherer prometheus.Gatherer, authorizer *Authorizer) (address string, scrape func(context.Context) (string, error)) {
	t.Helper()
	var config net.ListenConfig
	free, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ServeMetrics(ctx, address, gatherer, authorizer, logr.Discard()) }()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: insecure()}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	scheme := "http"
	if authorizer != nil {
		scheme = "https"
	}
	scrape = func(ctx context.Context) (string, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+"/metrics", nil)
		if err != nil {
			return "", err
		}
		request.Header.Set("Authorization", "Bearer prometheus")
		answer, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			return "", err
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		if err == nil && answer.StatusCode != http.StatusOK {
			err = errors.New(answer.Status)
		}
		return string(body), err
	}
	for {
		if _, err := scrape(t.Context()); err == nil || t.Context().Err() != nil {
			return address, scrape
		}
	}
}

func TestWhoReadsSlowlyTakesLittle(t *testing.T) {
	const series, budget = 20_000, 16 << 20
	r := newRegistry(series)
	address, scrape := startMetrics(t, r, nil)
	before := taken()
	var dialer net.Dialer
	for range 500 {
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			continue // closed in favour of another one already
		}
		defer func() { _ = conn.Close() }()
		_ = conn.(*net.TCPConn).SetReadBuffer(1 << 10)
		_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: scaler\r\n\r\n")
	}
	page, err := scrape(t.Context())
	if got := strings.Count(page, "a_level{"); err != nil || got != series {
		t.Errorf("Prometheus gets %d series, %v; want %d", got, err, series)
	}
	if after := taken(); after > before+budget {
		t.Errorf("takes %d KB, want %d KB at most", (after-before)>>10, budget>>10)
	}
}

// taken is what the process has in use now, its goroutines' stacks too.
func taken() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func TestAllWhoAskWithinASecondGetTheSamePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(3)
		page := &metricsPage{gatherer: r, log: logr.Discard()}
		for range 30 {
			answer := httptest.NewRecorder()
			page.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
			want := "# HELP a_level Help.\n# TYPE a_level gauge\na_level{inferenceset=\"an-inferenceset-with-a-rather-long-name-0\"} 0.0\n"
			if got := answer.Body.String(); !strings.HasPrefix(strings.ReplaceAll(got, "} 0\n", "} 0.0\n"), want) {
				t.Fatalf("a page of %q", got)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if r.times != 3 {
			t.Errorf("gathered %d times in 3 s, want 3", r.times)
		}
	})
}

func TestMetricsThatCannotBeGatheredAreAnErrorToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(3)
		r.err = errors.New("collected before")
		lines := 0
		page := &metricsPage{gatherer: r, log: funcr.New(func(string, string) { lines++ }, funcr.Options{})}
		get := func() int {
			time.Sleep(pageAge)
			answer := httptest.NewRecorder()
			page.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
			return answer.Code
		}
		for range 5 {
			if got := get(); got != http.StatusInternalServerError {
				t.Errorf("status %d, want 500", got)
			}
		}
		if lines != 1 {
			t.Errorf("told %d times, want once", lines)
		}
		r.err = nil
		if got := get(); got != http.StatusOK {
			t.Errorf("status %d, want 200", got)
		}
	})
}

func TestThereIsNothingButMetrics(t *testing.T) {
	address, _ := startMetrics(t, newRegistry(1), nil)
	for path, want := range map[string]int{"/": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound, "/metrics": http.StatusOK} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Close = true
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, answer.Status, want)
		}
	}
}

func TestAMetricsPortThatIsTakenIsAnError(t *testing.T) {
	taken := newPort(t, Limits{Connections: 1})
	address := taken.Addr().String()
	err := ServeMetrics(t.Context(), address, newRegistry(1), nil, logr.Discard())
	if err == nil || !strings.HasPrefix(err.Error(), "listen on "+address+": ") {
		t.Errorf("error %v, want one that names the address", err)
	}
}
