package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// metricName is what Prometheus allows as a metric's name. It is a path segment
// of the external metrics API too, which every such name is.
var metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]{0,254}$`)

// ruleMetric is what is said of any other name.
const ruleMetric = "must be the name of a Prometheus metric, such as " + DefaultMetric

// renamed are the metrics that vLLM called otherwise before a version.
var renamed = []struct{ old, now, since string }{
	{"vllm:gpu_cache_usage_perc", usagePerc, "0.10"},
	{"vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds", "0.11"},
}

// usagePerc is a ratio from 0 to 1, in spite of its name.
const usagePerc = "vllm:kv_cache_usage_perc"

// What tells an idle engine from one that is stalled, when a histogram has no
// new observation.
const (
	FamilyRunning = "vllm:num_requests_running"
	FamilyWaiting = DefaultMetric
	// FamilyFinished counts requests that were served to their end. One that its client
	// cancels is in none of its reasons, abort included (vLLM 0.25.1).
	FamilyFinished = "vllm:request_success_total"
)

// Names are what a metric may be called on a page, best first: the name that
// was asked for, then the one that older or newer versions of vLLM have for it.
func Names(metric string) []string {
	if metric == FamilyCached {
		return []string{FamilyCached, FamilyHits}
	}
	for _, r := range renamed {
		switch metric {
		case r.old:
			return []string{r.old, r.now}
		case r.now:
			return []string{r.now, r.old}
		}
	}
	return []string{metric}
}

// current is the newest name of a metric.
func current(metric string) string {
	for _, r := range renamed {
		if metric == r.old {
			return r.now
		}
	}
	return metric
}

// families are the names to look for on a page, sorted, each once.
func families(metrics ...string) []string {
	var names []string
	for _, m := range metrics {
		names = append(names, Names(m)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// suffixTotal ends the names of Prometheus' counters.
const suffixTotal = "_total"

// FamilySteps is a histogram of batches of output, although it is called like a
// counter: of steps, but for those that work off nothing but pieces of prompts. With
// several API servers each counts its part of a batch.
const FamilySteps = "vllm:iteration_tokens_total"

// Counts tells by its name that a metric is a counter.
func Counts(metric string) bool {
	return strings.HasSuffix(metric, suffixTotal) && metric != FamilySteps
}

// noteMetric says what the author of a metric's name and of its upper threshold
// should know.
func (p *parser) noteMetric(metric string, up float64, kind Kind) {
	switch {
	case kind == Gauge && Counts(metric):
		p.note("%s is a counter by its name: it only grows, so that it can't be compared with %s. Give aggregation: rate to compare what it gains a second",
			metric, number(up))
	case kind == Counter && !Counts(metric):
		p.note("%s is no counter by its name, which would end in %s: only a counter has a rate", metric, suffixTotal)
	}
	for _, r := range renamed {
		if metric == r.old {
			p.note("%s is %s since vLLM %s: whichever a page has is read", r.old, r.now, r.since)
		}
	}
	if current(metric) == usagePerc && up > 1 {
		p.note("%s goes from 0 to 1: it is never above %s", metric, number(up))
	}
}

// Nearest is the candidate with the least edit distance to word, case aside, if
// it is near enough to be a slip: a third of the word at most.
func Nearest(word string, candidates []string) (string, bool) {
	best, least := "", len(word)/3+1
	// Nobody mistypes so much, and the cost grows with the square.
	if len(word) > 128 {
		return "", false
	}
	for _, candidate := range candidates {
		if len(candidate) > 2*len(word)+1 {
			continue // further away than a third of the word
		}
		if d := distance(strings.ToLower(word), strings.ToLower(candidate)); d < least {
			best, least = candidate, d
		}
	}
	return best, best != ""
}

// distance is Levenshtein's: the least number of letters to insert, delete or
// replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// number is a threshold as people write it.
func number(x float64) string { return fmt.Sprintf("%g", x) }
