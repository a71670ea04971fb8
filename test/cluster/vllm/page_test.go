package vllm

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// saturated returns a page of so many engines under load.
func saturated(t testing.TB, engines int) []byte {
	t.Helper()
	s := State{Model: "phi-4-mini-instruct", Started: start, Now: at(300)}
	for range engines {
		e := NewEngine(Phi4MiniA100(), start)
		e.SetBenchmark(start, 293, 1155, 211)
		e.Advance(at(300))
		s.Engines = append(s.Engines, e)
	}
	var b bytes.Buffer
	if err := WritePage(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func parse(t *testing.T, page []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func TestPageIsOfTheRealSize(t *testing.T) {
	for engines, want := range map[int][2]int{1: {55_000, 63_000}, 2: {90_000, 110_000}} {
		page := saturated(t, engines)
		t.Logf("%d engines: %d bytes, %d lines", engines, len(page), bytes.Count(page, []byte("\n")))
		if len(page) < want[0] || len(page) > want[1] {
			t.Errorf("%d engines: %d bytes, want %d to %d", engines, len(page), want[0], want[1])
		}
	}
	if lines := bytes.Count(saturated(t, 1), []byte("\n")); lines != 646 {
		t.Errorf("%d lines, want 646", lines)
	}
}

// The families of a page, by kind, *_created gauges left out.
var wantFamilies = map[string]string{
	"gauge": `kaito_model_download_remaining_seconds kaito_model_download_speed_bytes_per_second
		process_max_fds process_open_fds process_resident_memory_bytes process_start_time_seconds
		process_virtual_memory_bytes python_info vllm:cache_config_info vllm:engine_sleep_state
		vllm:kv_cache_usage_perc vllm:num_requests_running vllm:num_requests_waiting
		vllm:num_requests_waiting_by_reason`,
	"counter": `http_requests_total kaito_ratelimit_rejected_total process_cpu_seconds_total
		python_gc_collections_total python_gc_objects_collected_total python_gc_objects_uncollectable_total
		vllm:estimated_flops_per_gpu_total vllm:estimated_read_bytes_per_gpu_total
		vllm:estimated_write_bytes_per_gpu_total vllm:external_prefix_cache_hits_total
		vllm:external_prefix_cache_queries_total vllm:generation_tokens_total vllm:mm_cache_hits_total
		vllm:mm_cache_queries_total vllm:num_preemptions_total vllm:prefix_cache_hits_total
		vllm:prefix_cache_queries_total vllm:prompt_tokens_by_source_total vllm:prompt_tokens_cached_total
		vllm:prompt_tokens_total vllm:request_success_total`,
	"histogram": `http_request_duration_highr_seconds http_request_duration_seconds
		vllm:e2e_request_latency_seconds vllm:inter_token_latency_seconds vllm:iteration_tokens_total
		vllm:request_decode_time_seconds vllm:request_generation_tokens vllm:request_inference_time_seconds
		vllm:request_max_num_generation_tokens vllm:request_params_max_tokens vllm:request_params_n
		vllm:request_prefill_kv_computed_tokens vllm:request_prefill_time_seconds vllm:request_prompt_tokens
		vllm:request_queue_time_seconds vllm:request_time_per_output_token_seconds
		vllm:time_to_first_token_seconds`,
	"summary": `http_request_size_bytes http_response_size_bytes`,
}

func TestPageHasTheRealFamilies(t *testing.T) {
	got, want := map[string]string{}, map[string]string{}
	created := 0
	for name, f := range parse(t, saturated(t, 1)) {
		if strings.HasSuffix(name, "_created") {
			created++
			continue
		}
		got[name] = strings.ToLower(f.GetType().String())
	}
	for kind, names := range wantFamilies {
		for name := range strings.FieldsSeq(names) {
			want[name] = kind
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("families (-want +got):\n%s", diff)
	}
	// Every counter and histogram of prometheus_client's own has one; the
	// process collector's and the garbage collector's have none.
	if want := len(want) - len(strings.Fields(wantFamilies["gauge"])) - 4; created != want {
		t.Errorf("%d *_created families, want %d", created, want)
	}
}

func TestPageShowsTheEngine(t *testing.T) {
	e := NewEngine(Phi4MiniA100(), start)
	for range 281 {
		e.Submit(start, 1000, 500)
	}
	e.Advance(at(14))
	var b bytes.Buffer
	if err := WritePage(&b, State{Model: "m", Started: start, Now: at(14), Engines: []*Engine{e, NewEngine(Phi4MiniA100(), start)}}); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`vllm:num_requests_running{engine="0",model_name="m"} 256.0`,
		`vllm:num_requests_waiting{engine="0",model_name="m"} 25.0`,
		`vllm:num_requests_waiting{engine="1",model_name="m"} 0.0`,
		`vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 25.0`,
		`vllm:prompt_tokens_total{engine="0",model_name="m"} 256000.0`,
		`vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 0.0`,
		`vllm:time_to_first_token_seconds_bucket{engine="0",le="20.0",model_name="m"} 256.0`,
		`process_start_time_seconds 1.7954208e+09`,
	} {
		if !strings.Contains(b.String(), line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	families := parse(t, b.Bytes())
	if n := families["vllm:time_to_first_token_seconds"].GetMetric()[0].GetHistogram().GetSampleCount(); n != 256 {
		t.Errorf("%d first tokens, want 256", n)
	}
}

func TestStubPageHasNothingOfVLLMs(t *testing.T) {
	var b bytes.Buffer
	if err := WritePage(&b, State{Started: start, Now: at(10)}); err != nil {
		t.Fatal(err)
	}
	families := parse(t, b.Bytes())
	if strings.Contains(b.String(), "vllm:") || families["kaito_model_download_speed_bytes_per_second"] == nil {
		t.Errorf("the stub's page:\n%s", b.String())
	}
}

func TestNumbersAsPythonWritesThem(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.0", 1: "1.0", 0.2052: "0.2052", 256: "256.0", 999999: "999999.0", 1e6: "1e+06", 1285914: "1.285914e+06",
		7.393704514422798e+07: "7.393704514422798e+07", 1.2920374e+10: "1.2920374e+10", 5e-05: "5e-05", math.Inf(1): "+Inf", -12345678: "-12345678.0",
	} {
		if got := formatFloat(v); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
}

func BenchmarkWritePage(b *testing.B) {
	e := NewEngine(Phi4MiniA100(), start)
	e.SetBenchmark(start, 293, 1155, 211)
	e.Advance(at(300))
	s := State{Model: "phi-4-mini-instruct", Started: start, Now: at(300), Engines: []*Engine{e}}
	b.ReportAllocs()
	for b.Loop() {
		var out bytes.Buffer
		_ = WritePage(&out, s)
	}
}
