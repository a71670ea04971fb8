package main

// mechanisms are what can be left out, after the whole policy.
var mechanisms = []mechanism{
	{name: "nothing"},
	{"budget-loop", "automatic", "3*min(used, 1)", "0*min(used, 1)"},
	{"peak-cap", "automatic", "ratio = min(ratio, max(1, f.Most/f.Level))", "ratio = min(ratio, 1e9)"},
	{"certain-load", "automatic", "least := f.atLeast * cost / n.fill", "least := 0 * f.atLeast * cost / n.fill"},
	{"hidden-demand", "automatic", "if f.saturated {", "if f.saturated && false {"},
	{"refused-in-part", "automatic", "tries = 3.0", "tries = 1.0"},
	{"release-pause", "automatic", "max(2*time.Minute, s.coldStart()/2)", "0*time.Minute"},
	{"regrets", "automatic", "math.Exp2(s.Regrets)", "math.Exp2(0*s.Regrets)"},
	{"room-on-the-way-down", "automatic", "&f.curve, allowed/room)", "&f.curve, allowed)"},
	{"long-window", "automatic", "leastWindow, coldStarts = 15 * time.Minute, 3", "leastWindow, coldStarts = 15 * time.Minute, 1"},
	{"timeouts-as-evidence", "automatic", "evident++", "evident += 0"},
	{"replacement", "automatic", "f.replaced++", "f.replaced += 0"},
	{"attainable-slo", "automatic", "idle > .9*slo.PerToken {", "idle > 1e9*slo.PerToken {"},
	{
		"time-for-long-prompts", "automatic",
		"slo.FirstToken += math.Floor(s.Model.MeanPrompt() / longPrompt)", "slo.FirstToken += 0 * math.Floor(longPrompt)",
	},
	{"season", "forecast", "known = known && f.seen >= priorMinutes/2", "known = false && f.seen >= priorMinutes/2"},
	{"isolated-bursts", "forecast", "value > sudden*level", "value > 1e9*sudden*level"},
	{"long-mean", "forecast", "off*off*smooth <= 3*3*squares", "off*off*smooth < 0*squares"},
	{"even-minutes", "capacity", "|| !i.Even {", "{"},
	{"base", "capacity", "c.Base = m.little(c.Limit)", "c.Base = 0 * m.little(c.Limit)"},
	{"limit-while-overloaded", "capacity", "case m.Ceiling > 0 && overloaded:", "case m.Ceiling > 0 && overloaded && m.Met < 0:"},
	{"least-fill", "capacity", "case load <= leastFill*c.Limit:", "case load <= 0*leastFill*c.Limit:"},
}
