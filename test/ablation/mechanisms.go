package main

// mechanisms are what can be left out, after the whole policy.
var mechanisms = []mechanism{
	{name: "nothing"},
	{
		"budget-loop", "automatic/need.go",
		"return p.Budget * math.Pow(steep, 1-3*min(used, 1))", "return p.Budget + 0*used*math.Pow(steep, 1)",
	},
	{"backlog", "automatic/need.go", "n.backlog = max(0, f.waiting*s.Model.Cost()/start-free)", "n.backlog = 0 * start * free"},
	{"peak-cap", "automatic/need.go", "ratio = min(ratio, max(1, f.Most/f.Level))", "ratio = min(ratio, 1e9)"},
	{"release-pause", "automatic/need.go", "max(2*time.Minute, s.coldStart()/2)", "0*time.Minute"},
	{"room-on-the-way-down", "automatic/need.go", "n.spare = replicas(&outlook, cost, &f.curve, allowed/room)", "n.spare = replicas(&outlook, cost, &f.curve, allowed)"},
	{"long-window", "automatic/automatic.go", "leastWindow, coldStarts = 15 * time.Minute, 3", "leastWindow, coldStarts = 15 * time.Minute, 1"},
	{"refused-in-part", "automatic/automatic.go", "refusedCounts = .4", "refusedCounts = 1.0"},
	{"timeouts-as-evidence", "automatic/automatic.go", "evident++", "evident += 0"},
	{"replacement", "automatic/automatic.go", "f.replaced++", "f.replaced += 0"},
	{
		"attainable-slo", "automatic/automatic.go",
		"if idle := s.Model.Idle(); idle > .9*slo.PerToken {", "if idle := s.Model.Idle(); idle > 1e9*slo.PerToken {",
	},
	{
		"time-for-long-prompts", "automatic/automatic.go",
		"slo.FirstToken += math.Floor(s.Model.MeanPrompt() / longPrompt)", "slo.FirstToken += 0 * math.Floor(longPrompt)",
	},
	{"season", "forecast/forecast.go", "if known && proven && predicted", "if false && known && proven && predicted"},
	{"isolated-bursts", "forecast/forecast.go", "if ratio > sudden {", "if ratio > 1e9*sudden {"},
	{"jumps", "forecast/forecast.go", "return s.Lasted+1 >= (s.Announced+1)/2", "return false"},
	{"lines", "forecast/forecast.go", "if s.Errors[i].Minutes < priorMinutes/2 {", "if m.line || s.Errors[i].Minutes < priorMinutes/2 {"},
	{"weights", "forecast/forecast.go", "weight = math.Pow(least/mean, favour)", "weight = 1 + 0*favour"},
	{"base", "capacity/capacity.go", "c.Base = m.little(c.Limit)", "c.Base = 0 * m.little(c.Limit)"},
	{"least-fill", "capacity/capacity.go", "case load <= leastFill*c.Limit:", "case load <= 0*leastFill*c.Limit:"},
	{"limit-while-overloaded", "capacity/capacity.go", "case m.Ceiling > 0 && overloaded:", "case m.Ceiling > 0 && overloaded && false:"},
}
