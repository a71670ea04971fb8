package scrape

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

// decode reads a page as if it came over the network in steps of n bytes.
func decode(t *testing.T, text string, want ...string) (reading, *Failure) {
	t.Helper()
	d := &decoder{}
	d.reset(newSelector(want, nil))
	if f := d.readLines(strings.NewReader(text), make([]byte, smallChunk), newChunks(1), 8<<20); f != nil {
		return reading{}, f
	}
	return d.decode(time.Unix(1000, 0), nil)
}

func families(t *testing.T, text string, want ...string) []sample.Family {
	t.Helper()
	p, f := decode(t, text, want...)
	if f != nil {
		t.Fatalf("the page is refused: %v", f)
	}
	return p.sample.Families()
}

func TestARealShapedPage(t *testing.T) {
	text := page.Busy().Text()
	if n := len(text); n < 56000 || n > 62000 {
		t.Errorf("the page has %d bytes, a real one has 59 KB", n)
	}
	p, f := decode(t, text, "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:prompt_tokens_total")
	if f != nil {
		t.Fatal(f)
	}
	want := []sample.Family{
		{Name: "vllm:num_requests_waiting", Kind: sample.Gauge, Sum: 7, Engines: 1},
		{Name: "vllm:kv_cache_usage_perc", Kind: sample.Gauge, Sum: 0.82, Engines: 1},
		{Name: "vllm:prompt_tokens_total", Kind: sample.Counter, Sum: 61234 * 1155, Engines: 1},
	}
	if diff := cmp.Diff(want, p.sample.Families()); diff != "" {
		t.Error(diff)
	}
	if p.running != 180 || p.step != 551042 || p.asleep || p.sample.ProcessStart != 1796099847.6 {
		t.Errorf("got running %v, steps %v, asleep %v, start %v", p.running, p.step, p.asleep, p.sample.ProcessStart)
	}
}

func gauge(name string, sum float64, engines int) sample.Family {
	return sample.Family{Name: name, Kind: sample.Gauge, Sum: sum, Engines: engines}
}

func TestPages(t *testing.T) {
	inf := math.Inf(1)
	const head = "# TYPE vllm:num_requests_waiting gauge\n"
	for name, c := range map[string]struct {
		page string
		want []string
		got  []sample.Family
	}{
		"names are exact": {
			page: head + "vllm:num_requests_waiting{engine=\"0\"} 3.0\n" +
				"vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 900\n" +
				"vllm:num_requests_waiting_total 800\nvllm:num_requests_waitin 700\n",
			want: []string{waiting},
			got:  []sample.Family{gauge(waiting, 3, 1)},
		},
		"several engines are added up": {
			page: head + "vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 3\nvllm:num_requests_waiting{engine=\"1\",model_name=\"m\"} 4\n",
			want: []string{waiting},
			got:  []sample.Family{gauge(waiting, 7, 2)},
		},
		"pids are one engine's": {
			page: head + "vllm:num_requests_waiting{engine=\"0\",pid=\"12\"} 0\nvllm:num_requests_waiting{engine=\"0\",pid=\"13\"} 4\n",
			want: []string{waiting},
			got:  []sample.Family{gauge(waiting, 4, 1)},
		},
		"labels with escapes, spaces and braces": {
			page: head + `vllm:num_requests_waiting{model_name="a \"b\", c}= \\",engine="0"} 3` + "\n" +
				`vllm:num_requests_waiting { model_name = "a # b" , engine = "1" , } 4 ` + "\n",
			want: []string{waiting},
			got:  []sample.Family{gauge(waiting, 7, 2)},
		},
		"timestamps, tabs and CRLF": {
			page: "# HELP vllm:num_requests_waiting x\r\n# TYPE vllm:num_requests_waiting gauge\r\nvllm:num_requests_waiting\t3 1796100000123\r\n\r\n",
			want: []string{waiting},
			got:  []sample.Family{gauge(waiting, 3, 1)},
		},
		"no TYPE line": {
			page: "vllm:num_requests_waiting 3\n",
			want: []string{waiting},
			got:  []sample.Family{{Name: waiting, Sum: 3, Engines: 1}},
		},
		"NaN is unknown": {
			page: head + "vllm:num_requests_waiting{engine=\"0\"} NaN\nvllm:num_requests_waiting{engine=\"1\"} 4\nvllm:kv_cache_usage_perc 0.5\n",
			want: []string{waiting, "vllm:kv_cache_usage_perc"},
			got:  []sample.Family{{Name: "vllm:kv_cache_usage_perc", Sum: 0.5, Engines: 1}},
		},
		"infinite is unknown": {
			page: head + "vllm:num_requests_waiting +Inf\n",
			want: []string{waiting},
		},
		"a malformed line costs its family alone": {
			page: head + "vllm:num_requests_waiting{engine=\"0} 3\nvllm:num_requests_waiting{engine=\"1\"} 3\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n",
			want: []string{waiting, "vllm:kv_cache_usage_perc"},
			got:  []sample.Family{{Name: "vllm:kv_cache_usage_perc", Sum: 0.5, Engines: 1}},
		},
		"a line without a value": {
			page: head + "vllm:num_requests_waiting{engine=\"1\"}\nvllm:kv_cache_usage_perc 0.5\n",
			want: []string{waiting, "vllm:kv_cache_usage_perc"},
			got:  []sample.Family{{Name: "vllm:kv_cache_usage_perc", Sum: 0.5, Engines: 1}},
		},
		"a page that breaks off may end in half a number": {
			page: head + "vllm:kv_cache_usage_perc 0.5\nvllm:num_requests_waiting 12",
			want: []string{waiting, "vllm:kv_cache_usage_perc"},
			got:  []sample.Family{{Name: "vllm:kv_cache_usage_perc", Sum: 0.5, Engines: 1}},
		},
		"a misspelled metric is unknown": {
			page: head + "vllm:num_requests_waiting 12\n",
			want: []string{"vllm:num_request_waiting"},
		},
		"a counter with several series": {
			page: "# TYPE vllm:request_success_total counter\n" +
				"vllm:request_success_total{engine=\"0\",finished_reason=\"stop\"} 3\nvllm:request_success_total{engine=\"0\",finished_reason=\"length\"} 4\n",
			want: []string{"vllm:request_success_total"},
			got:  []sample.Family{{Name: "vllm:request_success_total", Kind: sample.Counter, Sum: 7, Engines: 1}},
		},
		"a histogram of two engines": {
			page: "# TYPE vllm:q histogram\n" +
				"vllm:q_bucket{engine=\"0\",le=\"0.5\"} 1\nvllm:q_bucket{engine=\"0\",le=\"1.0\"} 2\nvllm:q_bucket{engine=\"0\",le=\"+Inf\"} 4\nvllm:q_count{engine=\"0\"} 4\nvllm:q_sum{engine=\"0\"} 7\n" +
				"vllm:q_bucket{engine=\"1\",le=\"0.5\"} 10\nvllm:q_bucket{engine=\"1\",le=\"1.0\"} 20\nvllm:q_bucket{engine=\"1\",le=\"+Inf\"} 40\nvllm:q_count{engine=\"1\"} 40\nvllm:q_sum{engine=\"1\"} 70\n" +
				"# TYPE vllm:q_created gauge\nvllm:q_created 1.79e9\n",
			want: []string{"vllm:q"},
			got: []sample.Family{{
				Name: "vllm:q", Kind: sample.Histogram, Engines: 2,
				Buckets: sample.Buckets{Le: []float64{.5, 1, inf}, Cumulative: []float64{11, 22, 44}, Sum: 77},
			}},
		},
		"a histogram that descends": {
			page: "# TYPE vllm:q histogram\nvllm:q_bucket{le=\"0.5\"} 3\nvllm:q_bucket{le=\"+Inf\"} 2\nvllm:q_sum 7\n",
			want: []string{"vllm:q"},
		},
		"a histogram without +Inf": {
			page: "# TYPE vllm:q histogram\nvllm:q_bucket{le=\"0.5\"} 3\nvllm:q_sum 7\n",
			want: []string{"vllm:q"},
		},
		"engines with different buckets": {
			page: "# TYPE vllm:q histogram\nvllm:q_bucket{engine=\"0\",le=\"0.5\"} 3\nvllm:q_bucket{engine=\"0\",le=\"+Inf\"} 3\nvllm:q_bucket{engine=\"1\",le=\"+Inf\"} 3\n",
			want: []string{"vllm:q"},
		},
		"one line of a histogram that isn't wanted whole": {
			page: "# TYPE vllm:q histogram\n" + strings.Repeat("vllm:q_bucket{le=\"0.5\"} 3\n", 50) + "vllm:q_count 5\nvllm:q_sum 7\n",
			want: []string{"vllm:q_count"},
			got:  []sample.Family{{Name: "vllm:q_count", Sum: 5, Engines: 1}},
		},
		"a family without a TYPE line after an unwanted histogram": {
			page: "# TYPE vllm:q histogram\n" + strings.Repeat("vllm:q_bucket{le=\"0.5\"} 3\n", 50) + "vllm:q_count 5\nvllm:q_sum 7\n" +
				"vllm:kv 1\n" + strings.Repeat("vllm:q_q_bucket{le=\"0.5\"} 3\n", 50),
			want: []string{"vllm:kv"},
			got:  []sample.Family{{Name: "vllm:kv", Sum: 1, Engines: 1}},
		},
		"a summary adds up to nothing": {
			page: "# TYPE vllm:s summary\nvllm:s{quantile=\"0.5\"} 3\nvllm:s_sum 7\nvllm:s_count 2\n",
			want: []string{"vllm:s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Something of vLLM's is always there.
			got := families(t, c.page+"vllm:other 1\n", c.want...)
			if strings.HasSuffix(c.page, "12") {
				got = families(t, c.page, c.want...)
			}
			if diff := cmp.Diff(c.got, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatAPageIs(t *testing.T) {
	for name, c := range map[string]struct {
		page   string
		reason Reason
	}{
		"serving":        {page.Busy().Text(), OK},
		"the stub":       {page.Stub(), ModelLoading},
		"HTML":           {"<!DOCTYPE html>\n<html><body>vllm: is here</body></html>\n", BadContent},
		"JSON":           {"{\"num_requests_waiting\": 3,\n \"vllm\": 1}\n", BadContent},
		"short JSON":     {"{}", BadContent},
		"another system": {"# TYPE up gauge\nup{job=\"a long enough line\"} 1\n", NotVLLM},
		"empty":          {"", NotVLLM},
		"comments":       {"# vllm:num_requests_waiting 3\n\n", NotVLLM},
		"a long line":    {"{" + strings.Repeat("x", 1<<20) + "\n", BadContent},
	} {
		if _, f := decode(t, c.page, waiting); f.reason() != c.reason {
			t.Errorf("%s: got %q (%v), want %q", name, f.reason(), f, c.reason)
		}
	}
}

func TestASleepingEngineIsRead(t *testing.T) {
	p := page.Busy()
	p.Engines, p.Asleep = 2, true
	if got, f := decode(t, p.Text(), waiting); f != nil || !got.asleep {
		t.Errorf("got %+v, %v", got, f)
	}
}

func TestALineLongerThanAnyBuffer(t *testing.T) {
	long := `vllm:cache_config_info{config="` + strings.Repeat("x", 3*chunk) + "\"} 1\n"
	text := "# TYPE vllm:num_requests_waiting gauge\n" + long + "vllm:num_requests_waiting 3\n" + long + "vllm:kv_cache_usage_perc 0.5\n"
	got := families(t, text, waiting, "vllm:cache_config_info", "vllm:kv_cache_usage_perc")
	want := []sample.Family{gauge(waiting, 3, 1), {Name: "vllm:kv_cache_usage_perc", Sum: 0.5, Engines: 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Whatever the pieces a page comes in, it says the same.
func TestEveryWayToCutAPage(t *testing.T) {
	text := page.Busy().Text()
	want := families(t, text, waiting, "vllm:time_to_first_token_seconds")
	for _, n := range []int{1, 7, 100, 4095, 4096, 4097, 65535, 65537} {
		d := &decoder{}
		d.reset(newSelector([]string{waiting, "vllm:time_to_first_token_seconds"}, nil))
		if f := d.readLines(&pieces{text, n}, make([]byte, smallChunk), newChunks(1), 8<<20); f != nil {
			t.Fatal(f)
		}
		p, f := d.decode(time.Unix(1000, 0), nil)
		if f != nil {
			t.Fatal(f)
		}
		if diff := cmp.Diff(want, p.sample.Families()); diff != "" {
			t.Errorf("in pieces of %d: %s", n, diff)
		}
	}
}

// pieces is a reader that gives n bytes at a time.
type pieces struct {
	left string
	n    int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.left == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.n)], p.left)
	p.left = p.left[n:]
	return n, nil
}

// Of a histogram with a limit no bounds below it are kept.
func TestAHistogramIsCutToItsLimit(t *testing.T) {
	const name, inf = "vllm:time_to_first_token_seconds", "+Inf"
	var page strings.Builder
	page.WriteString("vllm:num_requests_waiting 3\n# TYPE " + name + " histogram\n")
	for i, le := range []string{"0.5", "1", "2.5", "5", inf} {
		fmt.Fprintf(&page, "%s_bucket{handle=\"0.01\",le=%q} %d\n", name, le, 10*i+10)
	}
	page.WriteString(name + "_count 50\n" + name + "_sum 77\n")
	text := page.String()
	last := math.Inf(1)
	for _, tt := range []struct {
		limit          float64
		le, cumulative []float64
	}{
		{2, []float64{2.5, 5, last}, []float64{30, 40, 50}},
		{2.5, []float64{2.5, 5, last}, []float64{30, 40, 50}},
		{math.Nextafter(2.5, 3), []float64{2.5, 5, last}, []float64{30, 40, 50}},
		{.1, []float64{.5, 1, 2.5, 5, last}, []float64{10, 20, 30, 40, 50}},
		{60, []float64{last}, []float64{50}},
		{last, []float64{last}, []float64{50}},
		{math.NaN(), []float64{.5, 1, 2.5, 5, last}, []float64{10, 20, 30, 40, 50}},
	} {
		d, limits := &decoder{}, map[string]float64{}
		if !math.IsNaN(tt.limit) {
			limits[name] = tt.limit
		}
		d.reset(newSelector([]string{name}, limits))
		if f := d.readLines(strings.NewReader(text), make([]byte, smallChunk), newChunks(1), 8<<20); f != nil {
			t.Fatal(f)
		}
		var last *sample.Sample
		for range 2 { // the second one borrows the first one's bounds
			p, f := d.decode(time.Unix(1000, 0), last)
			if f != nil {
				t.Fatal(f)
			}
			want := sample.Buckets{Le: tt.le, Cumulative: tt.cumulative, Sum: 77}
			if diff := cmp.Diff(want, p.sample.Families()[0].Buckets); diff != "" {
				t.Errorf("limit %v: %s", tt.limit, diff)
			}
			last = p.sample
		}
	}
}

func TestOpenMetrics(t *testing.T) {
	text := "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{engine=\"0\"} 3.0\n" +
		"# TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total{engine=\"0\"} 17 1796100000.5\nvllm:prompt_tokens_created{engine=\"0\"} 1.79e9\n" +
		"# TYPE vllm:q histogram\nvllm:q_bucket{le=\"0.5\"} 3 # {trace_id=\"a\"} 0.3 1796100000.5\nvllm:q_bucket{le=\"+Inf\"} 4\nvllm:q_count 4\nvllm:q_sum 7\n# EOF\n"
	d := &decoder{}
	d.reset(newSelector([]string{waiting, "vllm:prompt_tokens_total", "vllm:q"}, nil))
	d.openMetrics = true
	if f := d.readLines(strings.NewReader(text), make([]byte, smallChunk), newChunks(1), 8<<20); f != nil {
		t.Fatal(f)
	}
	p, f := d.decode(time.Unix(1000, 0), nil)
	if f != nil {
		t.Fatal(f)
	}
	want := []sample.Family{
		gauge(waiting, 3, 1),
		{Name: "vllm:prompt_tokens_total", Kind: sample.Counter, Sum: 17, Engines: 1},
		{Name: "vllm:q", Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{Le: []float64{.5, math.Inf(1)}, Cumulative: []float64{3, 4}, Sum: 7}},
	}
	if diff := cmp.Diff(want, p.sample.Families()); diff != "" {
		t.Error(diff)
	}
}

// The bounds of a process's buckets are kept once, however many samples are.
func TestSamplesShareTheirBounds(t *testing.T) {
	d, sel := &decoder{}, newSelector([]string{"vllm:time_to_first_token_seconds"}, nil)
	var last *sample.Sample
	for i := range 2 {
		d.reset(sel)
		if f := d.readLines(strings.NewReader(page.Busy().Text()), make([]byte, smallChunk), newChunks(1), 8<<20); f != nil {
			t.Fatal(f)
		}
		p, f := d.decode(time.Unix(int64(i), 0), last)
		if f != nil {
			t.Fatal(f)
		}
		if last != nil && &last.Families()[0].Buckets.Le[0] != &p.sample.Families()[0].Buckets.Le[0] {
			t.Error("the second sample has bounds of its own")
		}
		last = p.sample
	}
}

// excerpt keeps what a page is read for and some of the rest: the fuzzer would
// take minutes over each whole page.
func excerpt(text string) string {
	var kept strings.Builder
	i := 0
	for line := range strings.Lines(text) {
		if i++; i%40 == 0 || strings.Contains(line, "num_requests") || strings.Contains(line, "prompt_tokens_total") ||
			strings.Contains(line, "time_to_first") && i%3 == 0 || strings.Contains(line, "+Inf") && strings.Contains(line, "first_token") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func FuzzDecode(f *testing.F) {
	two := page.Busy()
	two.Engines = 2
	for _, text := range []string{
		excerpt(page.Busy().Text()), excerpt(two.Text()), page.Stub(), "<html>", "{}", "vllm:num_requests_waiting{engine=\"0} 3\n",
		"# TYPE g gauge\ng{a=\"1\"} 1\ng{a=\"1\"} 2\n# TYPE hist histogram\nhist_bucket{le=\"+Inf\"} 1\nhist_sum 1\n", strings.Repeat("g{engine=\"0\"} 1\n", 100),
	} {
		f.Add([]byte(text), false, uint16(4096))
		f.Add([]byte(text), true, uint16(77))
	}
	want := []string{waiting, "vllm:time_to_first_token_seconds", "vllm:prompt_tokens_total", "g", "hist"}
	sel, large := newSelector(want, nil), newChunks(1)
	f.Fuzz(func(t *testing.T, text []byte, openMetrics bool, n uint16) {
		d := &decoder{}
		d.reset(sel)
		d.openMetrics, d.gather = openMetrics, true
		if f := d.readLines(&pieces{string(text), int(n)%chunk + 1}, make([]byte, smallChunk), large, 1<<20); f != nil {
			return
		}
		p, fail := d.decode(time.Unix(1000, 0), nil)
		if fail != nil {
			return
		}
		if len(p.names) > maxNames || !p.missing && p.names != nil {
			t.Errorf("missing %t, %d names", p.missing, len(p.names))
		}
		for _, name := range p.names {
			if len(name) > maxName+len("_total") || strings.ContainsAny(name, " \n") {
				t.Errorf("name %q", name)
			}
		}
		for _, family := range p.sample.Families() {
			if why, unusable := p.sample.Unusable(family.Name); unusable {
				t.Errorf("%+v is usable, and %s", family, why)
			}
			if family.Engines > maxEngines || len(family.Buckets.Le) > maxBounds {
				t.Errorf("%d engines, %d buckets", family.Engines, len(family.Buckets.Le))
			}
			if math.IsNaN(family.Sum) || math.IsInf(family.Sum, 0) || family.Engines < 1 || !slices.Contains(want, family.Name) {
				t.Errorf("got %+v", family)
			}
			if b := family.Buckets; family.Kind == sample.Histogram && (!slices.IsSorted(b.Le) || !slices.IsSorted(b.Cumulative) || !math.IsInf(b.Le[len(b.Le)-1], 1)) {
				t.Errorf("got %+v", b)
			}
		}
	})
}
