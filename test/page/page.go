// Package page writes metrics pages as vLLM pods serve them under KAITO, for
// tests and benchmarks.
package page

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Pod is what a simulated vLLM pod would tell: a page of the families, labels,
// number format and size (59 KB for one engine) that vLLM 0.25 and later serve
// under KAITO, whose only API server counts for all engines of a pod.
type Pod struct {
	Waiting, Running, KV float64
	// Steps is vllm:iteration_tokens_total_count, Requests the count of every
	// histogram of requests.
	Steps, Requests float64
	// Start is process_start_time_seconds.
	Start   float64
	Engines int
	Asleep  bool
}

// Busy is a pod under load.
func Busy() Pod {
	return Pod{Waiting: 7, Running: 180, KV: 0.82, Steps: 551042, Requests: 61234, Start: 1796099847.6, Engines: 1}
}

const startup = 1796100000.0003238

var (
	seconds  = []float64{0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
	tokens   = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}
	ttft     = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	perToken = []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	stepSize = []float64{1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}
	highRes  = []float64{.01, .025, .05, .075, .1, .25, .5, .75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60}
)

type histogramFamily struct {
	name, help string
	le         []float64
}

var vllmHistograms = []histogramFamily{
	{"request_prompt_tokens", "Number of prefill tokens processed.", tokens},
	{"request_generation_tokens", "Number of generation tokens processed.", tokens},
	{"iteration_tokens_total", "Histogram of number of tokens per engine_step.", stepSize},
	{"request_max_num_generation_tokens", "Histogram of maximum number of requested generation tokens.", tokens},
	{"request_params_n", "Histogram of the n request parameter.", []float64{1, 2, 5, 10, 20}},
	{"request_params_max_tokens", "Histogram of the max_tokens request parameter.", tokens},
	{"time_to_first_token_seconds", "Histogram of time to first token in seconds.", ttft},
	{"inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", perToken},
	{"request_time_per_output_token_seconds", "Histogram of time_per_output_token_seconds per request.", perToken},
	{"e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", seconds},
	{"request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", seconds},
	{"request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", seconds},
	{"request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", seconds},
	{"request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", seconds},
	{"request_prefill_kv_computed_tokens", "Histogram of new KV tokens computed during prefill (excluding cached tokens).", tokens},
}

// counterFamily has a value for each finished request: of its series, if it has a label,
// for the first alone.
type counterFamily struct {
	name, help, label string
	values            []string
	each              float64
}

var vllmCounters = []counterFamily{
	{"estimated_flops_per_gpu", "Estimated number of floating point operations per GPU (for Model Flops Utilization calculations).", "", nil, 0},
	{"estimated_read_bytes_per_gpu", "Estimated number of bytes read from memory per GPU (for Model Flops Utilization calculations).", "", nil, 0},
	{"estimated_write_bytes_per_gpu", "Estimated number of bytes written to memory per GPU (for Model Flops Utilization calculations).", "", nil, 0},
	{"prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.", "", nil, 1155},
	{"prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", "", nil, 0},
	{"external_prefix_cache_queries", "External prefix cache queries from KV connector cross-instance cache sharing, in terms of number of queried tokens.", "", nil, 0},
	{"external_prefix_cache_hits", "External prefix cache hits from KV connector cross-instance cache sharing, in terms of number of cached tokens.", "", nil, 0},
	{"mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items.", "", nil, 0},
	{"mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items.", "", nil, 0},
	{"num_preemptions", "Cumulative number of preemption from the engine.", "", nil, 0},
	{"prompt_tokens", "Number of prefill tokens processed.", "", nil, 1155},
	{"prompt_tokens_by_source", "Number of prompt tokens by source.", "source", []string{"local_compute", "local_cache_hit", "external_kv_transfer"}, 1155},
	{"prompt_tokens_cached", "Number of cached prompt tokens (local + external).", "", nil, 0},
	{"generation_tokens", "Number of generation tokens processed.", "", nil, 211},
	{"request_success", "Count of successfully processed requests.", "finished_reason", []string{"stop", "length", "abort", "error", "repetition"}, 1},
}

// writer writes as Python's prometheus_client does.
type writer struct{ strings.Builder }

func (w *writer) family(name, kind, help string) {
	_, _ = fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (w *writer) sample(name, labels string, v float64) {
	_, _ = fmt.Fprintf(w, "%s%s %s\n", name, labels, pythonFloat(v))
}

// pythonFloat is Python's repr of a float.
func pythonFloat(v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if v >= 1e6 || v <= -1e6 {
		s = strconv.FormatFloat(v, 'e', -1, 64)
	} else if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func (w *writer) histogram(name, help string, le []float64, labels func(extra string) string, count float64) {
	w.family(name, "histogram", help)
	for i, bound := range append(slices.Clip(le), 0) {
		bucket := pythonFloat(bound)
		if i == len(le) {
			bucket = "+Inf"
		}
		// Half of what is left in each bucket, the rest in the last.
		share := count
		if i < len(le) {
			share = float64(int(count * (1 - 1/float64(int(2)<<i))))
		}
		w.sample(name+"_bucket", labels(`le="`+bucket+`"`), share)
	}
	w.sample(name+"_count", labels(""), count)
	w.sample(name+"_sum", labels(""), count*le[2]*1.0137)
}

// Text is the pod's page.
func (p Pod) Text() string {
	w := &writer{}
	p.process(w)
	p.gauges(w)
	for _, c := range vllmCounters {
		p.counter(w, c)
	}
	for _, h := range vllmHistograms {
		count := p.Requests
		if h.name == "iteration_tokens_total" {
			count = p.Steps
		}
		name := "vllm:" + h.name
		// A histogram's lines for all engines stand under one TYPE line.
		for e := range p.Engines {
			part := &writer{}
			part.histogram(name, h.help, h.le, func(extra string) string { return engineLabels(e, extra) }, count)
			text := part.String()
			if e > 0 {
				text = afterComments(text)
			}
			w.WriteString(text)
		}
		w.family(name+"_created", "gauge", h.help)
		p.each(w, name+"_created", startup)
	}
	p.cacheConfig(w)
	p.kaito(w)
	p.web(w)
	return w.String()
}

func afterComments(s string) string {
	for strings.HasPrefix(s, "#") {
		_, s, _ = strings.Cut(s, "\n")
	}
	return s
}

// created is when the series of each handler were made.
func (p Pod) created(w *writer, name, help string, handlers []string, more string) {
	w.family(name, "gauge", help)
	for _, h := range handlers {
		w.sample(name, "{"+h+more+"}", startup)
	}
}

// engineLabels puts le where Python sorts it: after engine, before model_name.
func engineLabels(e int, extra string) string {
	if extra == "" {
		return fmt.Sprintf(`{engine="%d",model_name="phi-4-mini-instruct"}`, e)
	}
	if extra < "model_name" {
		return fmt.Sprintf(`{engine="%d",%s,model_name="phi-4-mini-instruct"}`, e, extra)
	}
	return fmt.Sprintf(`{engine="%d",model_name="phi-4-mini-instruct",%s}`, e, extra)
}

func (p Pod) each(w *writer, name string, v float64) {
	for e := range p.Engines {
		w.sample(name, engineLabels(e, ""), v)
	}
}

func (p Pod) process(w *writer) {
	for _, name := range []string{"python_gc_objects_collected_total", "python_gc_objects_uncollectable_total", "python_gc_collections_total"} {
		w.family(name, "counter", "Objects collected during gc")
		for g := range 3 {
			w.sample(name, fmt.Sprintf(`{generation="%d"}`, g), float64(int(18285)>>(4*g)))
		}
	}
	w.family("python_info", "gauge", "Python platform information")
	w.sample("python_info", `{implementation="CPython",major="3",minor="12",patchlevel="13",version="3.12.13"}`, 1)
	for i, name := range []string{"process_virtual_memory_bytes", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_max_fds"} {
		kind := "gauge"
		if strings.HasSuffix(name, "_total") {
			kind = "counter"
		}
		w.family(name, kind, "Of the process.")
		w.sample(name, "", []float64{4.1e10, 1.9e9, 9431.27, 380, 1048576}[i])
	}
	w.family("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.")
	w.sample("process_start_time_seconds", "", p.Start)
}

// kaito is what KAITO's wrapper adds.
func (p Pod) kaito(w *writer) {
	const rejected = "Requests rejected with HTTP 429 by the KAITO queue-depth rate limit guard"
	w.family("kaito_ratelimit_rejected_total", "counter", rejected)
	w.sample("kaito_ratelimit_rejected_total", "", 412)
	w.family("kaito_ratelimit_rejected_created", "gauge", rejected)
	w.sample("kaito_ratelimit_rejected_created", "", startup)
	w.family("kaito_model_download_speed_bytes_per_second", "gauge", "Current model download speed in bytes per second")
	w.sample("kaito_model_download_speed_bytes_per_second", "", 0)
	w.family("kaito_model_download_remaining_seconds", "gauge", "Estimated remaining time for model download in seconds; -1 when unknown")
	w.sample("kaito_model_download_remaining_seconds", "", 0)
}

func (p Pod) gauges(w *writer) {
	w.family("vllm:num_requests_running", "gauge", "Number of requests in model execution batches.")
	p.each(w, "vllm:num_requests_running", p.Running)
	w.family("vllm:num_requests_waiting", "gauge", "Number of requests waiting to be processed.")
	p.each(w, "vllm:num_requests_waiting", p.Waiting)
	w.family("vllm:num_requests_waiting_by_reason", "gauge", "Number of waiting requests, by reason.")
	w.family("vllm:engine_sleep_state", "gauge", "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake.")
	awake := 1.0
	if p.Asleep {
		awake = 0
	}
	for e := range p.Engines {
		w.sample("vllm:num_requests_waiting_by_reason", engineLabels(e, `reason="capacity"`), p.Waiting)
		w.sample("vllm:num_requests_waiting_by_reason", engineLabels(e, `reason="deferred"`), 0)
		w.sample("vllm:engine_sleep_state", engineLabels(e, `sleep_state="awake"`), awake)
		w.sample("vllm:engine_sleep_state", engineLabels(e, `sleep_state="weights_offloaded"`), 1-awake)
		w.sample("vllm:engine_sleep_state", engineLabels(e, `sleep_state="discard_all"`), 0)
	}
	w.family("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.")
	p.each(w, "vllm:kv_cache_usage_perc", p.KV)
}

func (p Pod) cacheConfig(w *writer) {
	w.family("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig")
	for e := range p.Engines {
		w.sample("vllm:cache_config_info", `{_block_size_resolved="True",block_size="16",cache_dtype="auto",calculate_kv_scales="False",enable_prefix_caching="True",engine="`+
			strconv.Itoa(e)+`",gpu_memory_utilization="0.84",hash_block_size="None",is_attention_free="False",kv_cache_dtype_skip_layers="[]",`+
			`kv_cache_max_concurrency="2.6",kv_cache_memory_bytes="None",kv_cache_size_tokens="344064",kv_offloading_backend="native",kv_offloading_size="None",`+
			`kv_sharing_fast_prefill="False",mamba_block_size="None",mamba_cache_dtype="auto",mamba_cache_mode="none",mamba_page_size_padded="None",`+
			`mamba_ssm_cache_dtype="auto",num_cpu_blocks="None",num_gpu_blocks="21504",num_gpu_blocks_override="None",prefix_caching_hash_algo="sha256",`+
			`skip_page_size_padded="None",sliding_window="None",user_specified_block_size="False",user_specified_mamba_block_size="False"}`, 1)
	}
}

func (p Pod) counter(w *writer, c counterFamily) {
	for _, suffix := range []string{"_total", "_created"} {
		name, kind, value, rest := "vllm:"+c.name+suffix, "counter", p.Requests*c.each, 0.0
		if suffix == "_created" {
			kind, value, rest = "gauge", startup, startup
		}
		w.family(name, kind, c.help)
		if c.label == "" {
			p.each(w, name, value)
			continue
		}
		for e := range p.Engines {
			for i, v := range c.values {
				of := rest
				if i == 0 {
					of = value
				}
				w.sample(name, engineLabels(e, c.label+`="`+v+`"`), of)
			}
		}
	}
}

// web is what the API server's own instrumentation adds.
func (p Pod) web(w *writer) {
	handlers := []string{`handler="/v1/chat/completions",method="POST"`, `handler="/v1/models",method="GET"`, `handler="none",method="GET"`}
	const requests, bytes = "Total number of requests by method, status and handler.", "Content length by handler."
	w.family("http_requests_total", "counter", requests)
	for _, h := range handlers {
		w.sample("http_requests_total", "{"+h+`,status="2xx"}`, p.Requests)
	}
	p.created(w, "http_requests_created", requests, handlers, `,status="2xx"`)
	for _, name := range []string{"http_request_size_bytes", "http_response_size_bytes"} {
		w.family(name, "summary", bytes)
		for _, h := range handlers {
			handler, _, _ := strings.Cut(h, ",")
			w.sample(name+"_count", "{"+handler+"}", p.Requests)
			w.sample(name+"_sum", "{"+handler+"}", p.Requests*4200)
		}
		p.created(w, name+"_created", bytes, handlers, "")
	}
	one := func(extra string) string { return "{" + strings.Join(slicesOf(extra), ",") + "}" }
	const fine, coarse = "http_request_duration_highr_seconds", "http_request_duration_seconds"
	const fineHelp, coarseHelp = "Latency with many buckets but no API specific labels.", "Latency with only few buckets by handler."
	w.histogram(fine, fineHelp, highRes, one, p.Requests)
	p.created(w, fine+"_created", fineHelp, []string{""}, "")
	for i, h := range handlers {
		part := &writer{}
		part.histogram(coarse, coarseHelp, []float64{.1, .5, 1}, func(extra string) string {
			return "{" + strings.Join(append([]string{h}, slicesOf(extra)...), ",") + "}"
		}, p.Requests)
		text := part.String()
		if i > 0 {
			text = afterComments(text)
		}
		w.WriteString(text)
	}
	p.created(w, coarse+"_created", coarseHelp, handlers, "")
}

func slicesOf(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// Stub is what KAITO's downloader answers while there is no vLLM yet.
func Stub() string {
	w := &writer{}
	w.family("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.")
	w.sample("process_start_time_seconds", "", 1796099960)
	w.family("kaito_model_download_speed_bytes_per_second", "gauge", "Current model download speed in bytes per second")
	w.sample("kaito_model_download_speed_bytes_per_second", "", 193e6)
	w.family("kaito_model_download_remaining_seconds", "gauge", "Estimated remaining time for model download in seconds; -1 when unknown")
	w.sample("kaito_model_download_remaining_seconds", "", 41.7)
	return w.String()
}
