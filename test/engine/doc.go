// Package engine runs real vLLM engines on a machine without a GPU: it installs
// vLLM's CPU build, gives it a tiny model with random weights, and has a plugin make
// each step last as long as on a GPU. Scheduler, KV cache, API server and metrics page
// are vLLM's own. README.md says how.
package engine
