package vllm

import (
	"strconv"
	"time"
)

// process writes what every Python process shows of itself.
func (p *page) process() {
	up := p.state.Now.Sub(p.state.Started).Seconds()
	generations := func(name, help string, values ...float64) {
		p.head(name, "counter", help)
		for i, v := range values {
			p.sample(name, `generation="`+strconv.Itoa(i)+`"`, v)
		}
	}
	generations("python_gc_objects_collected_total", "Objects collected during gc", 18285, 1545, 1551)
	generations("python_gc_objects_uncollectable_total", "Uncollectable objects found during GC", 0, 0, 0)
	generations("python_gc_collections_total", "Number of times this generation was collected", 1968, 179, 10)
	p.head("python_info", "gauge", "Python platform information")
	p.sample("python_info", `implementation="CPython",major="3",minor="12",patchlevel="13",version="3.12.13"`, 1)

	single := func(name, kind, help string, v float64) {
		p.head(name, kind, help)
		p.sample(name, "", v)
	}
	single("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", 41203191000)
	single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", 1916729088)
	single("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.",
		seconds(p.state.Started.Truncate(10*time.Millisecond))) // the kernel's clock tick
	single("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
		float64(int(up*120))/100) // a busy loop and a little more
	single("process_open_fds", "gauge", "Number of open file descriptors.", 380)
	single("process_max_fds", "gauge", "Maximum number of open file descriptors.", 1048576)
}

// kaito writes what KAITO's wrapper adds to the page.
func (p *page) kaito() {
	rejected := 0.0
	for _, e := range p.state.Engines {
		rejected += float64(e.stats.rejected)
	}
	const help = "Requests rejected with HTTP 429 by the KAITO queue-depth rate limit guard"
	p.head("kaito_ratelimit_rejected_total", "counter", help)
	p.sample("kaito_ratelimit_rejected_total", "", rejected)
	p.head("kaito_ratelimit_rejected_created", "gauge", help)
	p.sample("kaito_ratelimit_rejected_created", "", p.created("kaito_ratelimit_rejected", ""))

	speed, remaining := 0.0, 0.0
	if len(p.state.Engines) == 0 {
		// 8 GB of weights at 193 MB/s.
		speed = 1.93e8
		remaining = max(41.7-p.state.Now.Sub(p.state.Started).Truncate(100*time.Millisecond).Seconds(), 0)
	}
	p.head("kaito_model_download_speed_bytes_per_second", "gauge", "Current model download speed in bytes per second")
	p.sample("kaito_model_download_speed_bytes_per_second", "", speed)
	p.head("kaito_model_download_remaining_seconds", "gauge", "Estimated remaining time for model download in seconds; -1 when unknown")
	p.sample("kaito_model_download_remaining_seconds", "", remaining)
}

func (p *page) cacheConfig() {
	p.head("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig")
	for i, e := range p.state.Engines {
		m := e.model
		p.sample("vllm:cache_config_info", `_block_size_resolved="True",block_size="`+strconv.Itoa(m.BlockSize)+
			`",cache_dtype="auto",calculate_kv_scales="False",enable_prefix_caching="True",engine="`+strconv.Itoa(i)+
			`",gpu_memory_utilization="0.95",hash_block_size="None",is_attention_free="False",kv_cache_dtype_skip_layers="[]",`+
			`kv_cache_max_concurrency="3.9",kv_cache_memory_bytes="None",kv_cache_size_tokens="`+strconv.Itoa(m.KVBlocks*m.BlockSize)+
			`",kv_offloading_backend="native",kv_offloading_size="None",kv_sharing_fast_prefill="False",`+
			`mamba_block_size="None",mamba_cache_dtype="auto",mamba_cache_mode="none",mamba_page_size_padded="None",`+
			`mamba_ssm_cache_dtype="auto",num_cpu_blocks="None",num_gpu_blocks="`+strconv.Itoa(m.KVBlocks)+
			`",num_gpu_blocks_override="None",prefix_caching_hash_algo="sha256",skip_page_size_padded="None",sliding_window="None",`+
			`user_specified_block_size="False",user_specified_mamba_block_size="False"`, 1)
	}
}

// The API server's routes that the page tells apart.
var httpHandlers = []struct{ handler, method string }{
	{"/v1/chat/completions", "POST"},
	{"/v1/models", "GET"},
	{"none", "GET"},
}

// http writes what the API server's instrumentation shows. The engines keep
// the requests' durations; only completions have any.
func (p *page) http() {
	served, rejected := 0.0, 0.0
	fine, coarse := newHistogram(httpFineBuckets), newHistogram(httpCoarseBuckets)
	for _, e := range p.state.Engines {
		served += float64(e.stats.finished)
		rejected += float64(e.stats.rejected)
		fine.add(e.stats.httpFine)
		coarse.add(e.stats.httpCoarse)
	}
	const help = "Total number of requests by method, status and handler."
	requests := []struct {
		labels string
		value  float64
	}{
		{`handler="/v1/chat/completions",method="POST",status="2xx"`, served},
		{`handler="/v1/chat/completions",method="POST",status="4xx"`, rejected},
		{`handler="/v1/models",method="GET",status="2xx"`, 38},
		{`handler="none",method="GET",status="4xx"`, 2},
	}
	p.head("http_requests_total", "counter", help)
	for _, r := range requests {
		p.sample("http_requests_total", r.labels, r.value)
	}
	p.head("http_requests_created", "gauge", help)
	for _, r := range requests {
		p.sample("http_requests_created", r.labels, p.created("http_requests", r.labels))
	}
	p.httpSizes("http_request_size_bytes", "Content length of incoming requests by handler. Only value of header is respected. Otherwise ignored. No percentile calculated. ", served)
	p.httpSizes("http_response_size_bytes", "Content length of outgoing responses by handler. Only value of header is respected. Otherwise ignored. No percentile calculated. ", served)
	p.httpDurations(fine, coarse)
}

func (p *page) httpSizes(name, help string, served float64) {
	p.head(name, "summary", help)
	for i, h := range httpHandlers {
		n := []float64{served, 38, 2}[i]
		p.sample(name+"_count", `handler="`+h.handler+`"`, n)
		p.sample(name+"_sum", `handler="`+h.handler+`"`, n*4200)
	}
	p.head(name+"_created", "gauge", help)
	for _, h := range httpHandlers {
		labels := `handler="` + h.handler + `"`
		p.sample(name+"_created", labels, p.created(name, labels))
	}
}

func (p *page) httpDurations(fine, coarse *histogram) {
	const (
		fineName   = "http_request_duration_highr_seconds"
		fineHelp   = "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations. "
		coarseName = "http_request_duration_seconds"
		coarseHelp = "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important. "
	)
	p.head(fineName, "histogram", fineHelp)
	p.histogram(fineName, "", "", fine)
	p.head(fineName+"_created", "gauge", fineHelp)
	p.sample(fineName+"_created", "", p.created(fineName, ""))

	p.head(coarseName, "histogram", coarseHelp)
	for i, h := range httpHandlers {
		of := coarse
		if i > 0 {
			of = newHistogram(httpCoarseBuckets)
			of.observe(0.002, []uint64{0, 38, 2}[i])
		}
		p.histogram(coarseName, `handler="`+h.handler+`",`, `method="`+h.method+`"`, of)
	}
	p.head(coarseName+"_created", "gauge", coarseHelp)
	for _, h := range httpHandlers {
		labels := `handler="` + h.handler + `",method="` + h.method + `"`
		p.sample(coarseName+"_created", labels, p.created(coarseName, labels))
	}
}
