package scrape

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

func gathered(t *testing.T, text string, openMetrics bool, want ...string) []string {
	t.Helper()
	d := &decoder{}
	d.reset(newSelector(want, nil))
	d.gather, d.openMetrics = true, openMetrics
	if f := d.readLines(strings.NewReader(text), make([]byte, smallChunk), newChunks(1), 8<<20); f != nil {
		t.Fatal(f)
	}
	p, f := d.decode(time.Unix(1000, 0), nil)
	if f != nil {
		t.Fatal(f)
	}
	return p.names
}

func TestWhichNamesAreTold(t *testing.T) {
	const text = "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting 3\n" +
		"# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total 7\n" +
		"# TYPE vllm:prompt_tokens_created gauge\nvllm:prompt_tokens_created 1.79e9\n" +
		"# TYPE vllm:lora histogram\n" +
		"# TYPE up gauge\nup 1\n" +
		"# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc NaN\n"
	all := []string{waiting, "vllm:prompt_tokens_total", "vllm:lora", "up", "vllm:kv_cache_usage_perc"}
	for _, tt := range []struct {
		name string
		want []string
		told []string
	}{
		{"a metric that is there", []string{waiting}, nil},
		{"a misspelled one", []string{"vllm:num_request_waiting"}, all},
		{"one of two", []string{waiting, "vllm:num_request_waiting"}, all},
		{"a part of a name", []string{"vllm:num_requests"}, all},
		{"the older of two names", []string{"vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"}, nil},
		{"a value that can't be used", []string{"vllm:kv_cache_usage_perc"}, nil},
		{"a family without series yet", []string{"vllm:lora"}, nil},
		{"neither of two names", []string{"vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"}, all},
	} {
		if diff := cmp.Diff(tt.told, gathered(t, text, false, tt.want...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if got := gathered(t, strings.ReplaceAll(text, "tokens_total counter", "tokens counter"), true, "vllm:x"); !slices.Equal(got, all) {
		t.Errorf("OpenMetrics: %q, want %q", got, all)
	}
}

func TestNamesAreBounded(t *testing.T) {
	var text strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&text, "# TYPE vllm:metric_%d gauge\nvllm:metric_%d 1\n", i, i)
	}
	if got := gathered(t, text.String(), false, "vllm:x"); len(got) != 200 || got[199] != "vllm:metric_199" {
		t.Errorf("%d names, want 200", len(got))
	}
}

// A page may answer a hint with what it names alone, which is no list of names.
func TestNamesAreOfAWholePage(t *testing.T) {
	whole := page.Busy().Text()
	var hints []bool
	addr := vllm(t, func(w http.ResponseWriter, req *http.Request) {
		hinted := req.URL.RawQuery != ""
		hints = append(hints, hinted)
		if hinted {
			_, _ = w.Write([]byte("# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1\n"))
			return
		}
		_, _ = w.Write([]byte(whole))
	})
	r := New(Config{})
	once := scrapeOnce(r, addr, []string{"vllm:num_request_waiting"})
	target := r.fleets[phi].pages[0].targets[0]
	scrape := func() []string {
		t.Helper()
		if err := once(); err != nil {
			t.Fatal(err)
		}
		return target.last().Names
	}
	for range 3 {
		names := scrape()
		if !slices.Contains(names, waiting) || len(names) > 200 || slices.Contains(names, "vllm:prompt_tokens_created") {
			t.Errorf("names are %q", names)
		}
	}
	target.filter.namesAt = target.filter.namesAt.Add(-namesEvery)
	_ = scrape()
	if want := []bool{false, true, true, false}; !slices.Equal(hints, want) {
		t.Errorf("hinted %v, want %v: the names are looked at once a minute", hints, want)
	}
	// The metric comes at last.
	whole += "# TYPE vllm:num_request_waiting gauge\nvllm:num_request_waiting 4\n"
	target.filter.namesAt = target.filter.namesAt.Add(-namesEvery)
	if names := scrape(); names != nil {
		t.Errorf("names are told though nothing is missing: %q", names)
	}
	r.Forget(phi)
}

func TestNamesComeAgainOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tg, sel := &target{}, newSelector([]string{waiting}, nil)
		lacking := func(names ...string) []string {
			p := &reading{missing: true, names: names, sample: &sample.Sample{}}
			tg.filter.addNames(p, sel, time.Now())
			return p.sample.Names
		}
		if !tg.filter.namesDue(sel, time.Now()) {
			t.Error("not due at first")
		}
		if got := lacking("a"); !slices.Equal(got, []string{"a"}) {
			t.Errorf("names are %q", got)
		}
		time.Sleep(59 * time.Second)
		if tg.filter.namesDue(sel, time.Now()) {
			t.Error("due again within a minute")
		}
		if got := lacking(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("names are %q between two looks", got)
		}
		time.Sleep(time.Second)
		if !tg.filter.namesDue(sel, time.Now()) || !tg.filter.namesDue(newSelector([]string{"x"}, nil), time.Now()) {
			t.Error("not due after a minute")
		}
	})
}
