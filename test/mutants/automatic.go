package main

const (
	load  = "forecast/forecast.go"
	model = "capacity/capacity.go"
	auto  = "automatic/automatic.go"
	need  = "automatic/need.go"
)

// automaticMutants are mistakes in automatic mode's packages.
var automaticMutants = []mutant{
	{
		"what is late is judged at a bound that isn't below the SLO", "sample/interval.go",
		"le >= limit*(1-1e-9) &&", "le > limit*(1+1e-9) &&",
	},
	{
		"tokens that the prefix cache served are no work", "sample/interval.go",
		"value(policy.FamilyPrompt) - value(policy.FamilyCached)", "value(policy.FamilyPrompt)",
	},
	{
		"a request that waits has arrived", "sample/interval.go",
		"Arrived: r.first - from.first + r.waiting - from.waiting", "Arrived: r.first - from.first",
	},
	{
		"a minute in which a load came has no one load", "sample/interval.go",
		"uneven*max(min(a, b), few)", "uneven*max(min(a, b), 1000*few)",
	},
	{
		"only minutes of one load teach", model,
		"i.FirstTokens <= 0 || !i.Even {", "i.FirstTokens <= 0 {",
	},
	{
		"an overload teaches no costs", model,
		"!slow && !i.Waited", "!i.Waited",
	},
	{
		"a request's tokens cost what minutes showed", model,
		"m.Speeds[j] += gain[j] / variance * wrong", "m.Speeds[j] += gain[j] / variance * wrong / 8",
	},
	{
		"an overloaded replica shows its limit", model,
		"m.Ceiling, m.Met = m.Ceiling*echo+done*(1-echo), 0", "m.Ceiling, m.Met = 0, 0",
	},
	{
		"the share that is late never falls with the load", model,
		"n >= 0 && pools[n].late*p.all > p.late*pools[n].all", "n >= 0 && pools[n].late*p.all < p.late*pools[n].all",
	},
	{
		"what is late at any load doesn't count", model,
		"return max(0, share-c.Base) / max(1-c.Base, .01)", "return share",
	},
	{
		"a load beyond the limit is late", model,
		"case load >= c.Limit:", "case load >= 2*c.Limit:",
	},
	{
		"errors are of predictions that were made a horizon before", load,
		"then := minute - ahead\n", "then := minute - 1\n",
	},
	{
		"one burst may be chance", load,
		"chance := s.Burst > 0 &&", "chance := false && s.Burst > 0 &&",
	},
	{
		"a second burst is no chance", load,
		"(s.Earlier == 0 || s.Burst-s.Earlier > isolated)", "(s.Earlier == 0 || true)",
	},
	{
		"a season knows of what has not begun", load,
		"f.Level = max(level, next)", "f.Level = min(next, now)",
	},
	{
		"a season that didn't come is forgotten", load,
		"return next * min((today+.01*next)/(before+.01*next), 2), true", "return next * max(1, (today+.01*next)/(before+.01*next)), true",
	},
	{
		"no more is reckoned with than a day had, and the growth beyond it", load,
		"return max(after, before, now+growth*(now-before))", "return 100 * max(after, before, now+growth*(now-before))",
	},
	{
		"a load that differs by chance is the mean of a long time", load,
		"off*off*smooth <= 3*3*squares", "off*off*smooth < 0*squares",
	},
	{
		"a load that has changed is what it was in the last minutes", load,
		"off*off*smooth <= 3*3*squares", "off*off*smooth <= 1e9*squares",
	},
	{
		"a series takes over only from one that has known it for longer", load,
		"s.Last != 0 && s.First <= other.First", "s.Last != 0 && s.First < other.First",
	},
	{
		"nothing is released before a whole window was watched", need,
		"< desired && now.Sub(s.Watched) < window:", "< desired && now.Sub(s.Watched) < 0:",
	},
	{
		"nothing is released while a pod can't be read", need,
		"case f.read+f.givenUp < f.serving:", "case f.read+f.givenUp < 0:",
	},
	{
		"a release that was taken back makes the next wait longer", need,
		"math.Exp2(s.Regrets)", "1",
	},
	{
		"what had no room in the window isn't released", need,
		"most = max(most, float64(s.Needs[m%kept]))", "most = max(n.spare, 0*float64(s.Needs[m%kept]))",
	},
	{
		"replicas that don't come are replaced", need,
		"p.bounded(math.Ceil(n) + float64(f.replaced))", "p.bounded(math.Ceil(n))",
	},
	{
		"while more is refused than taken four times the replicas do", need,
		"float64(f.serving<<blindSteps+2)", "float64(f.serving<<(blindSteps+3)+2)",
	},
	{
		"only what was seen before its first Ready teaches a cold start", auto,
		"s.starting[name] && r.ReadySince", "r.ReadySince",
	},
	{
		"a replacement that is stuck too isn't replaced", auto,
		"< 10*time.Second {", "< 10*time.Hour {",
	},
	{
		"a sleeping engine is no capacity", auto,
		"if r.Asleep || !r.HasLoad(f.Freshness, now) {", "if !r.HasLoad(f.Freshness, now) {",
	},
	{
		"a replica that has just become Ready has no share of the load", auto,
		"!r.HasLoad(f.Freshness, now) {", "r.Phase != sample.Serving {",
	},
	{
		"while replicas start or don't come, what is late uses up no budget", auto,
		"if f.serving >= int(f.Desired) {", "if true {",
	},
	{
		"time-outs under load bring two steps up at most", auto,
		"min(int(now.Sub(f.at)/(30*time.Second)), blindSteps)", "int(now.Sub(f.at)/(30*time.Second))",
	},
	{
		"time-outs soon after a rise bring none", auto,
		"(f.at.Before(f.Raised) || f.at.Sub(f.Raised) > leastWindow)", "true",
	},
	{
		"an SLO that an idle replica can't keep isn't bought off", auto,
		"slo.PerToken = 2 * idle", "slo.PerToken *= 1",
	},
	{
		"what is late by chance comes in lumps, and uses up no budget", auto,
		"s.Missed = s.Missed*keep + f.total.Late - f.curve.Base*f.total.Answered + f.total.Refused",
		"s.Missed = s.Missed*keep + max(0, f.total.Late-f.curve.Base*f.total.Answered) + f.total.Refused",
	},
}
