package scrape

import (
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

const firstToken = "vllm:time_to_first_token_seconds"

// lines is a text of n lines, each made from its number, after a page of the usual
// kind without the family that they are of.
func lines(n int, format string) string {
	var b strings.Builder
	for line := range strings.Lines(page.Busy().Text()) {
		if !strings.Contains(line, firstToken) {
			b.WriteString(line)
		}
	}
	b.WriteString("# TYPE " + firstToken + " histogram\n")
	for i := range n {
		fmt.Fprintf(&b, format+"\n", i)
	}
	return b.String()
}

const mib = 1 << 20

// hostilePages are what a pod might serve to hurt us, by name; "busy" is an honest
// one.
var hostilePages = map[string]func() string{
	"busy":    func() string { return page.Busy().Text() },
	"buckets": func() string { return lines(40000, firstToken+`_bucket{le="%d"} 1`) },
	"bounds":  func() string { return lines(2000, firstToken+`_bucket{le="%d"} 1`) },
	"engines": func() string { return lines(35000, `vllm:num_requests_waiting{engine="%d"} 1`) },
	"series":  func() string { return lines(1990, `vllm:num_requests_waiting{engine="0",pid="%d"} 1`) },
	"twice": func() string {
		return lines(1990, `vllm:num_requests_waiting{engine="0",n="%[1]d"} 1`+"\n"+firstToken+`_bucket{n="%[1]d",le="1"} 2`)
	},
	"blank": func() string { return strings.Repeat("\n", 8*mib) },
	"short": func() string { return strings.Repeat("a 1\n", 2*mib) },
	"look-alike": func() string {
		return strings.Repeat("vllm:num_requests_waitinh 1\nvllm:num_requests_runninh 1\n", 19500)
	},
	"one letter":  func() string { return strings.Repeat("gh 1\n", 39999) },
	"other types": func() string { return strings.Repeat("# TYPE h gauge\n# TYPE h histogram\n", 19999) },
	"types":       func() string { return strings.Repeat("# TYPE vllm:num_requests_waitinh gauge\n", 39000) },
	"histograms":  func() string { return strings.Repeat("# TYPE a histogram\n", 39000) },
	"leaps":       func() string { return strings.Repeat("# TYPE a histogram\n"+strings.Repeat("x", 60<<10)+"\n", 130) },
	"escapes": func() string {
		return lines(500, `vllm:num_requests_waiting{engine="0",n="%d`+strings.Repeat(`\"`, 1900)+`"} 1`)
	},
	"labels": func() string {
		return lines(500, `vllm:num_requests_waiting{n="%d",`+strings.Repeat(`a="",`, 700)+`} 1`)
	},
	"bad lines": func() string { return lines(1990, `vllm:num_requests_waiting{n="%d"} 1x`) },
	"numbers": func() string {
		return lines(1990, `vllm:num_requests_waiting{n="%d"} 9007199254740993.000000000000000000000000000000000001e-291`)
	},
	"spaces":     func() string { return lines(120, `vllm:num_requests_waiting{n="%d"`+strings.Repeat(" ", 4000)+`} 1`) },
	"one line":   func() string { return strings.Repeat("x", 8*mib-1) + "\n" },
	"no newline": func() string { return "vllm:num_requests_waiting{a=\"" + strings.Repeat("x", 8*mib-100) },
	"8 MiB": func() string {
		return strings.Repeat("vllm:something{a=\""+strings.Repeat("x", 180)+"\"} 1\n", 8*mib/202)
	},
	"one-byte chunks": func() string { return page.Busy().Text()[:20000] + "\n" },
}

// everything is what a metric list of the widest kind, with automatic mode beside it,
// would ask for.
func everything() policy.Reading {
	reading := policy.Trigger{Saturation: &policy.Saturation{}}.Reading()
	reading.Limits = nil
	reading.Families = append(reading.Families, waiting, "vllm:kv_cache_usage_perc", "vllm:e2e_request_latency_seconds", "vllm:request_queue_time_seconds", "g", "h")
	reading.Window = time.Hour
	return reading
}

// Whatever a page has on it, it takes no more than twice the CPU of fetching it and
// throwing it away, and a millisecond.
func TestAHostilePageCostsLittle(t *testing.T) {
	if racing || testing.Short() {
		t.Skip("measures time")
	}
	for name := range hostilePages {
		t.Run(name, func(t *testing.T) {
			addr := benchPod(t, name)
			r := New(Config{})
			r.Set(phi, 1, []kaito.Replica{serving("phi-4-a", addr)}, []policy.Reading{everything()})
			bare, scrape := bareGET(newClient(), addr), scraping(r)
			least := func(f func() error) time.Duration {
				best := time.Duration(math.MaxInt64)
				for range 15 {
					start := cpu()
					_ = f()
					best = min(best, cpu()-start)
				}
				return best
			}
			fetched, scraped := least(bare), least(scrape)
			t.Logf("fetched %v, scraped %v", fetched, scraped)
			if scraped > 2*fetched+time.Millisecond {
				t.Errorf("a scrape takes %v of CPU, a fetch %v", scraped, fetched)
			}
			r.Forget(phi)
		})
	}
}

// One pod takes less than 4 MB while it is read, and 1 MB of it is kept, over an hour
// of pages that are as large as they may be.
func TestAHostilePodTakesLittleMemory(t *testing.T) {
	if racing {
		t.Skip("measures memory")
	}
	for name, text := range hostilePages {
		page := text()
		t.Run(name, func(t *testing.T) {
			reading := everything()
			sel := newSelector(reading.Families, nil)
			tg := &target{container: container{readySinceStart: true}}
			heap := func() int64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.GC() // pools are emptied by the second one
				runtime.ReadMemStats(&m)
				return int64(m.HeapAlloc)
			}
			before := heap()
			d, small, large := &decoder{}, make([]byte, smallChunk), newChunks(1)
			for i := range 750 {
				// Each page has a process of its own and other names, so that nothing is
				// shared and nothing can be left out.
				own := fmt.Sprintf("process_start_time_seconds %d\n# TYPE name_%d gauge\n", i, i) + page
				if i > 20 && len(page) > mib {
					break
				}
				d.reset(sel)
				d.gather = true
				if f := d.readLines(strings.NewReader(own), small, large, 9*mib); f != nil {
					continue
				}
				if p, f := d.decode(time.Unix(int64(i*5), 0), tg.last()); f == nil {
					tg.filter.missing = true
					tg.filter.addNames(&p, sel, p.sample.At)
					tg.freeze.moved = time.Time{} // it isn't frozen
					_ = tg.took(&p, reading.Window)
				}
			}
			reads := heap() - before
			runtime.KeepAlive(d)
			runtime.KeepAlive(small)
			runtime.KeepAlive(large)
			keeps := heap() - before
			t.Logf("%d kB while it is read, %d kB of it kept, %d samples", reads>>10, keeps>>10, tg.history.Len())
			if reads > 4<<20 || keeps > 1<<18 {
				t.Errorf("%d kB while it is read, %d kB kept: want 4096 and 256 for each of four pages", reads>>10, keeps>>10)
			}
			runtime.KeepAlive(tg)
			runtime.KeepAlive(page)
			runtime.KeepAlive(sel)
		})
	}
}

func TestAFamilyThatIsTooLargeCostsNoOther(t *testing.T) {
	kv := sample.Family{Name: "vllm:kv_cache_usage_perc", Kind: sample.Gauge, Sum: 0.82, Engines: 1}
	for _, tt := range []struct{ page, family, why string }{
		{"buckets", firstToken, "too_many_series: " + firstToken + " has 40000 series on its page; 2000 of one metric are read, and 4000 in all"},
		{"bounds", firstToken, "too_many_series: " + firstToken + " has over 200 buckets"},
		{"engines", waiting, "too_many_series: " + waiting + " has 35001 series on its page; 2000 of one metric are read, and 4000 in all"},
		{"bad lines", waiting, "a line of " + waiting + " can't be parsed"},
	} {
		p, f := decode(t, hostilePages[tt.page](), tt.family, kv.Name)
		if f != nil {
			t.Fatal(f)
		}
		if diff := cmp.Diff([]sample.Family{kv}, p.sample.Families()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.page, diff)
		}
		if why, _ := p.sample.Unusable(tt.family); why != tt.why {
			t.Errorf("%s: %q, want %q", tt.page, why, tt.why)
		}
		if p.missing {
			t.Errorf("%s: a family that is there is missing", tt.page)
		}
	}
	wide := lines(65, waiting+`{engine="%d"} 1`)
	p, _ := decode(t, wide, waiting)
	if why, _ := p.sample.Unusable(waiting); why != "too_many_series: "+waiting+" has over 64 different engines or models" {
		t.Errorf("65 engines: %q", why)
	}
	long := lines(1, waiting+`{n="%d`+strings.Repeat("x", 5000)+`"} 1`)
	p, _ = decode(t, long, waiting)
	if why, _ := p.sample.Unusable(waiting); why != "a line of "+waiting+" is over 4096 bytes" {
		t.Errorf("a long line: %q", why)
	}
}

// The page's own bound costs the largest family, whichever comes first.
func TestThePagesBoundCostsTheLargestFamily(t *testing.T) {
	const format = `vllm:%s{n="%d",x="` + "%s" + `"} 1` + "\n"
	var b strings.Builder
	b.WriteString("vllm:small 1\n")
	for i := range 1900 {
		fmt.Fprintf(&b, format, "a", i, strings.Repeat("x", 300))
	}
	for i := range 1000 {
		fmt.Fprintf(&b, format, "b", i, "")
	}
	for i := range 1900 {
		fmt.Fprintf(&b, format, "c", i, "")
	}
	p, f := decode(t, b.String(), "vllm:a", "vllm:b", "vllm:c", "vllm:small")
	if f != nil {
		t.Fatal(f)
	}
	for name, want := range map[string]bool{"vllm:a": false, "vllm:b": true, "vllm:c": true, "vllm:small": true} {
		if _, ok := p.sample.Family(name); ok != want {
			t.Errorf("%s: usable %t, want %t", name, ok, want)
		}
	}
}

// Prometheus keeps the first of two lines of the same series.
func TestASeriesThatIsThereTwiceCountsOnce(t *testing.T) {
	got := families(t, "# TYPE vllm:num_requests_waiting gauge\n"+
		`vllm:num_requests_waiting{engine="0",model_name="m"} 3`+"\n"+
		`vllm:num_requests_waiting{ model_name = "m", engine="0" } 7`+"\n"+
		`vllm:num_requests_waiting{engine="1",model_name="m"} 3`+"\n"+
		`vllm:num_requests_waiting{engine="m",model_name="1"} 3`+"\n", waiting)
	if diff := cmp.Diff([]sample.Family{gauge(waiting, 9, 3)}, got); diff != "" {
		t.Error(diff)
	}
	got = families(t, strings.Repeat("vllm:num_requests_waiting 3\n", 3), waiting)
	if diff := cmp.Diff([]sample.Family{{Name: waiting, Sum: 3, Engines: 1}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestShortNamesAreRead(t *testing.T) {
	const text = "# TYPE g gauge\ng 1\ng_longer_than_any 7\ngh 1\n# TYPE hist histogram\nhist_bucket{le=\"+Inf\"} 2\nhist_sum 3\n# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting 4\n"
	want := []sample.Family{
		gauge("g", 1, 1),
		{Name: "hist", Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{Le: []float64{math.Inf(1)}, Cumulative: []float64{2}, Sum: 3}},
		gauge(waiting, 4, 1),
	}
	if diff := cmp.Diff(want, families(t, text, "g", "hist", waiting)); diff != "" {
		t.Error(diff)
	}
}

func TestOtherEnginesAreRead(t *testing.T) {
	for name, text := range map[string]string{
		"sglang:num_queue_reqs":          `# TYPE sglang:num_queue_reqs gauge` + "\n" + `sglang:num_queue_reqs{model_name="m",tp_rank="0"} 4` + "\n",
		"tgi_queue_size":                 "# TYPE tgi_queue_size gauge\ntgi_queue_size 4\n",
		"ray_vllm_num_requests_waiting":  "# TYPE ray_vllm_num_requests_waiting gauge\n" + `ray_vllm_num_requests_waiting{WorkerId="a"} 4` + "\n",
		"DCGM_FI_DEV_GPU_UTIL":           "# TYPE DCGM_FI_DEV_GPU_UTIL gauge\nDCGM_FI_DEV_GPU_UTIL 4\n",
		"ray_vllm:num_requests_waiting1": "ray_vllm:num_requests_waiting1 4\n",
	} {
		if got := families(t, text, name); len(got) != 1 || got[0].Sum != 4 {
			t.Errorf("%s: %+v", name, got)
		}
		_, f := decode(t, text, waiting)
		if f.reason() != NotVLLM || !strings.Contains(f.Error(), "none that is asked for ("+waiting+")") {
			t.Errorf("%s without what is asked for: %v", name, f)
		}
	}
}

// What is taken here is what Prometheus takes.
func FuzzSeries(f *testing.F) {
	seeds := []string{
		`{engine="0",model_name="phi-4"} 3.0`, `{engine="0",le="0.005",model_name="phi-4"} 123456789012345.0`, `{engine="01",le="1",n="",m="",o=""} .5`,
		`{engine="0",model_name="phi-4"`, `{engine="0",model_name="phi-4""} 1`, ` 1234567890123456`, ` 0.30000000000000`, ` 5.`, ` .`, ` 3`, "\t3 1796100000123", `{a="b\"c\\",le="+Inf"} 1e9`, ` { a = "b" , c = "d" , } NaN `,
		`{} 1`, `{a="b"}3`, `{a="b"} 0x1p-2`, `{a="b"} 1_0`, `{"a"="b"} 1`, `{a="b} 1`, `{,} 1`, `{a="\xff"} -Inf -5`, ` 3 #`,
	}
	for _, line := range seeds {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		if strings.ContainsAny(rest, "\n\r\x00") || !endsName([]byte(rest)) || len(rest) > maxLine {
			return
		}
		p := textparse.NewPromParser([]byte("name"+rest+"\n"), labels.NewSymbolTable(), false)
		entry, err := p.Next()
		var s series
		_, ok := s.parse([]byte(rest), false)
		// Lines before it have no say.
		for _, before := range append(seeds, rest) {
			after := series{}
			after.parse([]byte(before), false)
			_, again := after.parse([]byte(rest), false)
			if s.known, after.known = [4]label{}, [4]label{}; ok != again || ok && !reflect.DeepEqual(numberless(s), numberless(after)) {
				t.Errorf("%q is %v %+v, after %q it is %v %+v", rest, ok, s, before, again, after)
			}
		}
		if err != nil || entry != textparse.EntrySeries {
			if ok {
				t.Errorf("%q is taken, Prometheus says %v", rest, err)
			}
			return
		}
		text, _, value := p.Series()
		var l labels.Labels
		p.Labels(&l)
		if !ok {
			if len(text) < len("name"+rest) && !strings.ContainsAny(rest, `"`) {
				t.Errorf("%q isn't taken, Prometheus reads %v", rest, value)
			}
			return
		}
		if math.Float64bits(value) != math.Float64bits(s.value) && !(math.IsNaN(value) && math.IsNaN(s.value)) {
			t.Errorf("%q: %v, Prometheus reads %v", rest, s.value, value)
		}
		if le := l.Get("le"); !strings.Contains(rest, `\`) && strings.Count(rest, `le`) <= 1 && le != string(s.le) {
			t.Errorf("%q: le %q, Prometheus reads %q", rest, s.le, le)
		}
	})
}

// numberless is a series whose value is in its id: no NaN is like itself.
func numberless(s series) series {
	s.id ^= math.Float64bits(s.value)
	s.value = 0
	return s
}

// As many large buffers are made as are lent at once, and no more.
func TestBuffersAreUsedAgain(t *testing.T) {
	c := newChunks(2)
	first := c.borrow()
	c.giveBack(first)
	if again := c.borrow(); &again[0] != &first[0] {
		t.Error("another buffer is made while one is free")
	}
	if c.borrow() == nil || c.borrow() != nil {
		t.Error("two buffers are not lent to two, or lent to three")
	}
}

// A line may be of two names. That one of them has too many lines says nothing of the
// other, which has fewer.
func TestAFloodOfOneNameIsCountedForOthersToo(t *testing.T) {
	var page strings.Builder
	page.WriteString("# TYPE g histogram\ng_sum 1\ng_count 1\n")
	for i := range maxSeries + 1 {
		_, _ = fmt.Fprintf(&page, "g_bucket{le=\"%d\"} 1\n", i)
	}
	d := &decoder{}
	d.reset(newSelector([]string{"g", "g_bucket"}, nil))
	if f := d.readLines(strings.NewReader(page.String()), make([]byte, smallChunk), newChunks(1), 8<<20); f != nil {
		t.Fatal(f)
	}
	if d.flaws[0] != tooManySeries || d.flaws[1] != tooManySeries {
		t.Errorf("g is %v, g_bucket %v: want both too many", d.flaws[0], d.flaws[1])
	}
}

// The lines of a family that is too large are counted to the last.
func TestAFloodIsCounted(t *testing.T) {
	const lines = 3 * maxSeries
	d := &decoder{}
	d.reset(newSelector([]string{"g", "h"}, nil))
	page := strings.Repeat("g{a=\"1\"} 1\n", lines) + "h 7\n"
	if f := d.readLines(strings.NewReader(page), make([]byte, smallChunk), newChunks(1), 8<<20); f != nil {
		t.Fatal(f)
	}
	if d.count[0] != lines || d.count[1] != 1 || d.flaws[1] != sound {
		t.Errorf("%d lines of g, %d of h, which is %v: want %d, 1 and sound", d.count[0], d.count[1], d.flaws[1], lines)
	}
}
