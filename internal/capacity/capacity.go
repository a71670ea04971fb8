// Package capacity learns what one replica can do while the SLO holds. It is pure, and
// its state is of constant size. Loads are shares of a replica's time that it gives to
// tokens; costs are in seconds.
package capacity

import (
	"math"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// bins of load, each a twentieth; requests of KAITO's benchmark, in tokens.
const (
	bins, binWidth            = 24, .05
	benchmarkIn, benchmarkOut = 2048.0, 256.0
)

// What each is worth is in docs/design/automatic-mode.md.
const (
	// priorAlpha is the time of an empty step in seconds, priorTokens KAITO's benchmark
	// in tokens a second, outPerIn a generated token's cost in prompt tokens, until
	// they are known.
	priorAlpha, priorTokens, outPerIn = .010, 15000.0, 3.0
	// noise is the relative variance of a minute's equation beside what few requests add:
	// 5 % of the time per token. drift is what a cost's variance grows by in it.
	noise, drift = .0025, 1e-6
	// assumed requests of the benchmark are beside those of mixHalfLife seconds.
	assumed, mixHalfLife = 3, 600.0
	// halfLife of what is known of a load, in seconds, and most how many answers of it
	// count.
	halfLife, most = 6 * 3600.0, 20000.0
	// ceilingLasts seconds an overload shows the limit: while it does, loads beyond it aren't
	// tried. With 12 h a knee costs 1.14 × static99, with one 1.08.
	ceilingLasts = 3600.0
	// priorAnswers is the weight of the lateness that is assumed: priorLate up to
	// priorFill of the limit, from there geometrically to all at the limit.
	priorAnswers, priorLate, priorFill = 200.0, .002, .7
	// deviation is the standard deviation of the share that is late at little load; .0025 to
	// .005 come to within a tenth of a point.
	deviation = .004
	// echo is what a minute leaves of those before: of the load that what is late is filed
	// by, and of what overloaded replicas worked off.
	echo = .9
	// leastFill is the share of the limit that is always filled. With long prompts 99 % take
	// a fill of .24.
	leastFill = .25
	// slowdown is how many times slower than the fastest ever a minute's tokens must be to
	// count as overloaded, if that is slower than the SLO.
	slowdown = 1.5
)

// Model is what is known. Its zero value knows nothing.
type Model struct {
	// Benchmark is KAITO's, in tokens a second; 0 if it isn't known. Speeds are steps a
	// second on an idle replica, and by how many less with a prompt token and with a
	// generated token a second, relative to a prior that rests on the benchmark;
	// Variance is their covariance.
	Benchmark float64
	Speeds    [3]float64
	Variance  [3][3]float64
	// Prompt, Generated and Requests are decayed sums: the mean request.
	Prompt, Generated, Requests float64
	// Answered and Late are decayed counts by load.
	Answered, Late [bins]float64
	// Before is the greatest load of the last minutes, decayed.
	Before float64
	// Ceiling is the load that overloaded replicas worked off, Met how many seconds ago,
	// Best the greatest with hardly a late answer, Fastest the least time per token.
	Ceiling, Met, Best, Fastest float64
}

// prior: the benchmark fills nine tenths of a replica's time.
func (m *Model) prior() [3]float64 {
	tokens := m.Benchmark
	if tokens <= 0 {
		tokens = priorTokens
	}
	prompt := .9 / tokens * (benchmarkIn + benchmarkOut) / (benchmarkIn + outPerIn*benchmarkOut)
	return [3]float64{priorAlpha, prompt, outPerIn * prompt}
}

// variance is a prior cost's: with a benchmark it may be half as much again, without
// it several times as much.
func (m *Model) variance() float64 {
	if m.Benchmark > 0 {
		return .25
	}
	return 25
}

// SetBenchmark tells KAITO's benchmark, which is of use until minutes were learned from.
func (m *Model) SetBenchmark(tokens float64) {
	if m.Variance[0][0] == 0 && tokens >= 0 && !math.IsInf(tokens, 1) {
		m.Benchmark = tokens
	}
}

// costs are those of an empty step, a prompt token and a generated token.
func (m *Model) costs() [3]float64 {
	c := m.prior()
	if m.Variance[0][0] > 0 {
		idle := min(max(m.Speeds[0], .01), 100)
		c[0] /= idle
		for j := 1; j < len(c); j++ {
			c[j] *= min(max(m.Speeds[j]/idle, .02), 100)
		}
	}
	return c
}

// Cost is the mean request's, Tokens its size in prompt tokens with a generated one as
// outPerIn: a load in these stays what it is when costs are found to be others.
func (m *Model) Cost() float64 { c := m.costs(); return m.request(c[1], c[2]) }

// Tokens is described beside Cost.
func (m *Model) Tokens() float64 { return m.request(1, outPerIn) }

func (m *Model) request(prompt, generated float64) float64 {
	return (prompt*(m.Prompt+assumed*benchmarkIn) + generated*(m.Generated+assumed*benchmarkOut)) / (m.Requests + assumed)
}

// Learning is set while the prior weighs more than what was answered.
func (m *Model) Learning() bool {
	all := 0.0
	for _, answered := range m.Answered {
		all += answered
	}
	return all < priorAnswers
}

// Idle is the time per token of an idle replica.
func (m *Model) Idle() float64 { return m.costs()[0] }

// MeanPrompt is how many tokens of a prompt are computed, on average.
func (m *Model) MeanPrompt() float64 { return m.Prompt / max(m.Requests, 1) }

// Observe takes in what the fleet did in the last so many seconds.
func (m *Model) Observe(i *sample.Interval, elapsed float64) {
	keep := math.Exp2(-elapsed / mixHalfLife)
	m.Prompt, m.Generated, m.Requests = m.Prompt*keep+i.Prompt, m.Generated*keep+i.Generated, m.Requests*keep+i.FirstTokens
	if m.Met += elapsed; m.Met > ceilingLasts {
		m.Ceiling = 0
	}
	aged := math.Exp2(elapsed / 2 / halfLife) // An engine may have become slower.
	m.Fastest, m.Best = m.Fastest*aged, m.Best/aged
	keep = math.Exp2(-elapsed / halfLife)
	for bin, answered := range m.Answered {
		k := keep * min(1, most/max(answered, 1))
		m.Answered[bin] *= k
		m.Late[bin] *= k
	}
}

// Learn takes in a minute of one replica: what requests cost, and how much it worked
// off. It reports whether the replica was overloaded.
func (m *Model) Learn(i *sample.Interval, slo sample.SLO) (overloaded bool) {
	decoded := i.Generated - i.FirstTokens
	if i.Seconds <= 0 || i.FirstTokens <= 0 || !i.Even {
		return false
	}
	slow := false
	if decoded > 0 && i.TokenTime > 0 {
		perToken := i.TokenTime / decoded
		if m.Fastest == 0 || perToken < m.Fastest {
			m.Fastest = perToken
		}
		if slow = perToken > max(slo.PerToken, slowdown*m.Fastest); !slow && !i.Waited {
			// Beyond it a step may be dearer; what matters is what it costs within.
			m.fit(i, perToken)
		}
	}
	c := m.costs()
	done := (c[1]*i.Prompt + c[2]*i.Generated) / i.Seconds
	all, late := i.Answered+i.Refused, i.Late+i.Refused
	overloaded = late > .5*all && (slow || i.Waited)
	switch {
	case overloaded:
		if m.Ceiling == 0 {
			m.Ceiling = done
		}
		m.Ceiling, m.Met = m.Ceiling*echo+done*(1-echo), 0
	case late < .05*all:
		m.Best = max(m.Best, done)
	}
	return overloaded
}

// File files a minute's answers of the whole fleet, of so many replicas, by their load:
// routing, bursts and what one slow replica does to its users are all in it. What is
// late may be so because of the minutes before; the more so the more is late.
func (m *Model) File(i *sample.Interval, replicas float64) {
	all, late := i.Answered+i.Refused, i.Late+i.Refused
	if i.Seconds <= 0 || all <= 0 || replicas <= 0 {
		return
	}
	c := m.costs()
	load := max(c[1]*i.Prompt+c[2]*i.Generated, i.Arrived*m.Cost()) / i.Seconds / replicas
	if late < .5*all {
		m.Before *= echo
	}
	m.Before = max(load, m.Before)
	bin := int(min(m.Before/binWidth, bins-1))
	m.Answered[bin] += all
	m.Late[bin] += late
}

// fit is recursive least squares of 1 ÷ time per token = (1 - beta × prompt tokens a
// second - gamma × generated tokens a second) ÷ alpha. A request's token takes alpha + beta
// × prompt tokens + gamma × requests in its step, and it meets itself and the mean number
// of others there: so this holds at any load, with one gamma in alpha. Times are per
// token, not step: a step gives several with drafts, and engines of a page have their own.
func (m *Model) fit(i *sample.Interval, perToken float64) {
	if m.Variance[0][0] == 0 {
		m.Speeds = [3]float64{1, 1, 1}
		for k := range m.Variance {
			m.Variance[k][k] = m.variance()
		}
	}
	prior := m.prior()
	wrong := min(prior[0]/perToken, 10)
	x := [3]float64{1, -prior[1] * i.Prompt / i.Seconds, -prior[2] * i.Generated / i.Seconds}
	// Relative to the fastest, not to what was measured: slow minutes would weigh most.
	idle := min(prior[0]/m.Fastest, 10)
	variance := (noise + 1/i.FirstTokens) * idle * idle
	var gain [3]float64
	for j := range x {
		for k := range x {
			gain[j] += m.Variance[j][k] * x[k]
		}
		variance += x[j] * gain[j]
		wrong -= x[j] * m.Speeds[j]
	}
	for j := range x {
		m.Speeds[j] += gain[j] / variance * wrong
		for k := range x {
			m.Variance[j][k] -= gain[j] * gain[k] / variance
		}
	}
	for j := range x {
		m.Variance[j][j] = max(m.Variance[j][j], 0) + drift
		// Never less sure than at first.
		for factor, k := min(1, math.Sqrt(m.variance()/m.Variance[j][j])), 0; k < len(x); k++ {
			m.Variance[j][k] *= factor
			m.Variance[k][j] *= factor
		}
	}
}

// Curve is the share of answers that are later than the SLO by a replica's load. It
// never falls as the load rises. Base is the share at little load, which no replica
// more cures, Limit the load that none can exceed for long.
type Curve struct {
	Base, Limit float64
	late        [bins]float64
}

// Curve is what is known, beside the prior. Neighbouring bins are pooled until none is
// below the one before it (isotonic regression by pooling adjacent violators).
func (m *Model) Curve(slo sample.SLO, overloaded bool) Curve {
	// At the limit the mean time per token is the SLO's, or a replica was overloaded.
	c := Curve{Limit: max(1-m.Idle()/slo.PerToken, binWidth)}
	switch {
	case m.Ceiling > 0 && overloaded:
		c.Limit = max(min(c.Limit, m.Ceiling), binWidth)
	case m.Ceiling > 0:
		c.Limit = max(min(c.Limit, max(m.Ceiling, m.Best)), binWidth)
	}
	c.Base = m.little(c.Limit)
	type pool struct {
		late, all float64
		bins      int
	}
	var pools []pool
	from, share := priorFill*c.Limit, priorLate
	for bin := range bins {
		load := (float64(bin) + .5) * binWidth
		guess := c.Base + (1-c.Base)*math.Pow(share, 1-min(max(load-from, 0)/(c.Limit-from), 1))
		p := pool{m.Late[bin] + priorAnswers*guess, m.Answered[bin] + priorAnswers, 1}
		// From the greatest load that enough was seen at it goes on geometrically.
		if m.Answered[bin] >= 5*priorAnswers && load < .95*c.Limit && load > from/2 {
			from, share = load, max(p.late/p.all-c.Base, priorLate/4)
		}
		for n := len(pools) - 1; n >= 0 && pools[n].late*p.all > p.late*pools[n].all; n-- {
			p = pool{pools[n].late + p.late, pools[n].all + p.all, pools[n].bins + p.bins}
			pools = pools[:n]
		}
		pools = append(pools, p)
	}
	bin := 0
	for _, p := range pools {
		for range p.bins {
			c.late[bin] = p.late / p.all
			bin++
		}
	}
	return c
}

// little is the share at the least loads, of so many of them, up to half of the limit,
// that its standard deviation is small beside the budget.
func (m *Model) little(limit float64) float64 {
	late, all := priorAnswers/10*priorLate, priorAnswers/10
	for bin := range int(limit/2/binWidth) + 1 {
		late, all = late+m.Late[bin], all+m.Answered[bin]
		if share := max(late/all, .01); share*(1-share) <= deviation*deviation*all {
			break
		}
	}
	return late / all
}

// Excess is the share of answers that are late because of the load. It is none up to
// leastFill of the limit: never are four times the replicas bought that throughput takes.
func (c *Curve) Excess(load float64) float64 {
	switch {
	case load >= c.Limit:
		return 1
	case load <= leastFill*c.Limit:
		return 0
	}
	x := min(max(load/binWidth-.5, 0), bins-1.001)
	share := c.late[int(x)] + (c.late[int(x)+1]-c.late[int(x)])*(x-math.Floor(x))
	return max(0, share-c.Base) / max(1-c.Base, .01)
}

// Fill is the greatest load at which no more than a share is late because of it.
func (c *Curve) Fill(share float64) float64 {
	low, high := binWidth/2, c.Limit
	for range 20 {
		if middle := (low + high) / 2; c.Excess(middle) <= share {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}
