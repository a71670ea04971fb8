package vllm

// engineFamilies are vLLM's own, in the order of its page.
var engineFamilies = []engineFamily{
	counter("vllm:estimated_flops_per_gpu", "Estimated number of floating point operations per GPU (for Model Flops Utilization calculations).", zero),
	counter("vllm:estimated_read_bytes_per_gpu", "Estimated number of bytes read from memory per GPU (for Model Flops Utilization calculations).", zero),
	counter("vllm:estimated_write_bytes_per_gpu", "Estimated number of bytes written to memory per GPU (for Model Flops Utilization calculations).", zero),
	gauge("vllm:num_requests_running", "Number of requests in model execution batches.",
		func(e *Engine) float64 { return float64(e.Running()) }),
	gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.",
		func(e *Engine) float64 { return float64(e.Waiting()) }),
	{
		name: "vllm:num_requests_waiting_by_reason", kind: "gauge",
		help: "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; 'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of all reasons equals vllm:num_requests_waiting.",
		points: func(e *Engine) []point {
			return []point{
				{after: `,reason="capacity"`, value: float64(e.Waiting())},
				{after: `,reason="deferred"`},
			}
		},
	},
	{
		name: "vllm:engine_sleep_state", kind: "gauge",
		help: "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
		points: func(*Engine) []point {
			return []point{
				{after: `,sleep_state="awake"`, value: 1},
				{after: `,sleep_state="weights_offloaded"`},
				{after: `,sleep_state="discard_all"`},
			}
		},
	},
	gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", (*Engine).KVUsage),
	// The model has no prefix cache: every token is asked for, none is found.
	counter("vllm:prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.", promptTokens),
	counter("vllm:prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", zero),
	counter("vllm:external_prefix_cache_queries", "External prefix cache queries from KV connector cross-instance cache sharing, in terms of number of queried tokens.", zero),
	counter("vllm:external_prefix_cache_hits", "External prefix cache hits from KV connector cross-instance cache sharing, in terms of number of cached tokens.", zero),
	counter("vllm:mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items.", zero),
	counter("vllm:mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items.", zero),
	counter("vllm:num_preemptions", "Cumulative number of preemption from the engine.",
		func(e *Engine) float64 { return float64(e.stats.preemptions) }),
	counter("vllm:prompt_tokens", "Number of prefill tokens processed.", promptTokens),
	{
		name: "vllm:prompt_tokens_by_source", kind: "counter",
		help: "Number of prompt tokens by source.",
		points: func(e *Engine) []point {
			return []point{
				{after: `,source="local_compute"`, value: promptTokens(e)},
				{after: `,source="local_cache_hit"`},
				{after: `,source="external_kv_transfer"`},
			}
		},
	},
	counter("vllm:prompt_tokens_cached", "Number of cached prompt tokens (local + external).", zero),
	counter("vllm:generation_tokens", "Number of generation tokens processed.",
		func(e *Engine) float64 { return float64(e.stats.generationTokens) }),
	{
		name: "vllm:request_success", kind: "counter",
		help: "Count of successfully processed requests.",
		points: func(e *Engine) []point {
			return []point{
				{between: `finished_reason="stop",`, value: float64(e.stats.finished)},
				{between: `finished_reason="length",`},
				{between: `finished_reason="abort",`},
				{between: `finished_reason="error",`},
				{between: `finished_reason="repetition",`},
			}
		},
	},
	histogramOf("vllm:request_prompt_tokens", "Number of prefill tokens processed.", func(s *stats) *histogram { return s.promptLength }),
	histogramOf("vllm:request_generation_tokens", "Number of generation tokens processed.", func(s *stats) *histogram { return s.outputLength }),
	// A histogram in spite of its name.
	histogramOf("vllm:iteration_tokens_total", "Histogram of number of tokens per engine_step.", func(s *stats) *histogram { return s.iterationTokens }),
	histogramOf("vllm:request_max_num_generation_tokens", "Histogram of maximum number of requested generation tokens.", func(s *stats) *histogram { return s.maxOutput }),
	histogramOf("vllm:request_params_n", "Histogram of the n request parameter.", func(s *stats) *histogram { return s.paramN }),
	histogramOf("vllm:request_params_max_tokens", "Histogram of the max_tokens request parameter.", func(s *stats) *histogram { return s.paramMaxTokens }),
	histogramOf("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", func(s *stats) *histogram { return s.ttft }),
	histogramOf("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", func(s *stats) *histogram { return s.itl }),
	histogramOf("vllm:request_time_per_output_token_seconds", "Histogram of time_per_output_token_seconds per request.", func(s *stats) *histogram { return s.perToken }),
	histogramOf("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", func(s *stats) *histogram { return s.e2e }),
	histogramOf("vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", func(s *stats) *histogram { return s.queue }),
	histogramOf("vllm:request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", func(s *stats) *histogram { return s.inference }),
	histogramOf("vllm:request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", func(s *stats) *histogram { return s.prefill }),
	histogramOf("vllm:request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", func(s *stats) *histogram { return s.decode }),
	histogramOf("vllm:request_prefill_kv_computed_tokens", "Histogram of new KV tokens computed during prefill (excluding cached tokens).", func(s *stats) *histogram { return s.prefillTokens }),
}

func counter(name, help string, value func(*Engine) float64) engineFamily {
	return engineFamily{name: name, help: help, kind: "counter", points: single(value)}
}

func gauge(name, help string, value func(*Engine) float64) engineFamily {
	return engineFamily{name: name, help: help, kind: "gauge", points: single(value)}
}

func histogramOf(name, help string, of func(*stats) *histogram) engineFamily {
	return engineFamily{name: name, help: help, kind: "histogram", histogram: of}
}

func single(value func(*Engine) float64) func(*Engine) []point {
	return func(e *Engine) []point { return []point{{value: value(e)}} }
}

func zero(*Engine) float64 { return 0 }

func promptTokens(e *Engine) float64 { return float64(e.stats.promptTokens) }
