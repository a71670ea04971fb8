package main

const (
	total     = "aggregate/total.go"
	threshold = "decision/threshold.go"
	list      = "decision/list.go"
	hpa       = "hpa/hpa.go"
	value     = "aggregate/value.go"
)

// mutants are mistakes, one for each rule.
var mutants = []mutant{
	{
		"a sample speaks for its pod for as long as the freshness, and no longer", "aggregate/lookup.go",
		"now.Sub(r.Last.At) > freshness", "now.Sub(r.Last.At) > 2*freshness",
	},
	{
		"after the grace a pod that can't be read stands for the largest readable one at most", total,
		"UnreadFor(replica, m.metric, now) > fleet.Grace", "UnreadFor(replica, m.metric, now) > 2*fleet.Grace",
	},
	{
		"a pod that can't be read could have any load", total,
		"s.High += m.maximum(s.largest) * float64(open)", "s.High += s.largest * float64(open)",
	},
	{
		"with readings missing, up only where the least total asks for it", threshold,
		"q.Replicas(low) > q.Current", "q.Replicas(high) > q.Current",
	},
	{
		"with readings missing, down only where the greatest total allows it", threshold,
		"q.Replicas(high) < q.Current", "q.Replicas(low) < q.Current",
	},
	{
		"the HPA holds on target × desired, and not on target × ready", hpa,
		"return h.Target * float64(h.Current)", "return h.Target * float64(h.Ready)",
	},
	{
		"upwards the HPA tolerates what its behaviour says", hpa,
		"ratio <= 1+up", "ratio <= 1+2*up",
	},
	{
		"downwards the HPA tolerates what its behaviour says", hpa,
		"ratio >= 1-down", "ratio >= 1-up",
	},
	{
		"a part of a replica is a whole one", hpa,
		"math.Ceil(usage/each)", "math.Floor(usage/each)",
	},
	{
		"a list's step up waits for its cooldown", list,
		"l.UpCooldown - now.Sub(lastScaleUp(fleet))", "l.UpCooldown/2 - now.Sub(lastScaleUp(fleet))",
	},
	{
		"a list's step down waits for the cooldown of a step up too", list,
		"last := lastScaleUp(fleet)", "var last time.Time",
	},
	{
		"AND goes up when all are above, and the unknown isn't passed over", list,
		"up = min(up, f.above)", "if f.above != maybe {\n\t\t\t\tup = min(up, f.above)\n\t\t\t}",
	},
	{
		"OR goes up when any is above, and the unknown isn't passed over", list,
		"up = max(up, f.above)", "if f.above != maybe {\n\t\t\t\tup = max(up, f.above)\n\t\t\t}",
	},
	{
		"at its upper threshold a metric isn't above it", list,
		"case aggregate.Exceeds(f.Low, m.Up):", "case f.Low >= m.Up:",
	},
	{
		"at its lower threshold a metric isn't below it", list,
		"case aggregate.Exceeds(m.Down, f.High):", "case f.High <= m.Down:",
	},
	{
		"a histogram without observations is idle only if nothing ran or waited", "aggregate/metric.go",
		"case quiet == idleThroughout:", "case quiet >= notReported:",
	},
	{
		"a pod's value of a ratio is the mean over its engines", "sample/sample.go",
		"return f.Sum / float64(f.Engines)", "return f.Sum",
	},
	{
		"what counted before a restart isn't compared with what counts after it", "sample/window.go",
		"if prev.sameProcess(s) && Continues(&before, &f) {", "if Continues(&before, &f) {",
	},
	{
		"a window's delta begins at the newest sample before it", "sample/window.go",
		"if s := h.samples[i]; !s.At.After(start) {", "if s := h.samples[i]; s.At.After(start) {",
	},
	{
		"a time-out is evidence of load for a minute after a loaded reading", "sample/fleet.go",
		"age <= EvidenceLasts", "age <= 2*EvidenceLasts",
	},
	{
		"replicas stay within the bounds", "policy/policy.go",
		"return min(max(n, b.Min), b.Max)", "return max(n, b.Min)",
	},
	{
		"the guard goes by the present load, and not by what is foretold", "decision/guard.go",
		"case load.Present > float64(less):", "case load.Need > float64(less):",
	},
	{
		"a replica that starts for longer than its budget isn't counted on", "decision/member.go",
		"now.Sub(r.Ordered) > sample.StartBudget", "now.Sub(r.Ordered) > 2*sample.StartBudget",
	},
	{
		"a Value is multiplied by the pods that are Ready", hpa,
		"math.Ceil(ratio*float64(ready))", "math.Ceil(ratio*float64(current))",
	},
	{
		"a rate is per second of the window, and of a pod that is younger too", value,
		"gained.Value / max(gained.Spans, m.window.Length).Seconds()", "gained.Value / max(gained.Spans, time.Second).Seconds()",
	},
	{
		"a metric that isn't given is the queue", "policy/parser.go",
		"return DefaultMetric\n", "return FamilyRunning\n",
	},
	{
		"a metric is found by the name that vLLM had for it before", "policy/names.go",
		"return []string{r.now, r.old}", "return []string{r.now}",
	},
	{
		"an upper threshold may be the lower one", "policy/list.go",
		"if m.Up < m.Down {", "if m.Up <= m.Down {",
	},
	{
		"nodeCountLimit counts whole replicas", "policy/annotations.go",
		"allowed := *req.NodeCountLimit / int64(per)", "allowed := (*req.NodeCountLimit + int64(per) - 1) / int64(per)",
	},
}
