package main

const (
	survey = "decision/survey.go"
	queue  = "decision/queue.go"
	list   = "decision/list.go"
	hpa    = "decision/hpa.go"
	value  = "decision/value.go"
)

// mutants are thirty mistakes, one for each rule.
var mutants = []mutant{
	{
		"a sample speaks for its pod for as long as the freshness, and no longer", survey,
		"now.Sub(r.Last.At) > freshness", "now.Sub(r.Last.At) > 2*freshness",
	},
	{
		"after the grace a pod that can't be read stands for the largest readable one at most", survey,
		"silent(replica, m.metric, now) > fleet.Grace", "silent(replica, m.metric, now) > 2*fleet.Grace",
	},
	{
		"a pod that can't be read could have any load", survey,
		"s.high += m.greatest(s.largest) * float64(open)", "s.high += s.largest * float64(open)",
	},
	{
		"with readings missing, up only where the least total asks for it", queue,
		"q.makes(low) > q.current", "q.makes(high) > q.current",
	},
	{
		"with readings missing, down only where the greatest total allows it", queue,
		"q.makes(high) < q.current", "q.makes(low) < q.current",
	},
	{
		"the HPA holds on target × desired, and not on target × ready", hpa,
		"return h.target * float64(h.current)", "return h.target * float64(h.ready)",
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
		"l.UpCooldown - now.Sub(raised(fleet))", "l.UpCooldown/2 - now.Sub(raised(fleet))",
	},
	{
		"a list's step down waits for the cooldown of a step up too", list,
		"last := raised(fleet)", "var last time.Time",
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
		"case exceeds(f.low, m.Up):", "case f.low >= m.Up:",
	},
	{
		"at its lower threshold a metric isn't below it", list,
		"case exceeds(m.Down, f.high):", "case f.high <= m.Down:",
	},
	{
		"a histogram without observations is idle only if nothing ran or waited", "decision/measure.go",
		"case quiet == still:", "case quiet >= untold:",
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
		"what was watched for less than a window releases nothing", "decision/scaler.go",
		"left := window - now.Sub(m.watched)", "left := window/2 - now.Sub(m.watched)",
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
