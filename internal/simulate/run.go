package simulate

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

const (
	// scrapeInterval is the scaler's default, syncPeriod the HPA's.
	scrapeInterval = 5 * time.Second
	syncPeriod     = 15 * time.Second
	// termination is a pod's terminationGracePeriodSeconds: so long after its
	// deletion its node is still paid for.
	termination = 30 * time.Second
)

// start is when every simulation begins: a time that means nothing.
var start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// replica is one Workspace.
type replica struct {
	name    string
	ordered time.Time
	// ready is when it gets to serve; never for one that is stuck.
	ready   time.Time
	serving bool
	stuck   bool
	number  uint64
	// engine is nil while it is down.
	engine  machine
	history sample.History
	failure string
	// readySince is when it became Ready last; zero while it isn't, until back.
	readySince, back time.Time
	// timedOut is when its page last took too long; pending is one that comes late.
	timedOut time.Time
	pending  *sample.Sample
	// starts is how often its engine was started again.
	starts int32
	asleep bool
}

// seat is an engine with what every arrival asks of it at hand.
type seat struct {
	*clock
	machine
	// number is the replica's.
	number uint64
}

// run is a simulation under way.
type run struct {
	Setting
	load    *Load
	scaler  Scaler
	hpa     HPA
	rand    *rand.Rand
	tally   *tally
	desired int32
	named   int
	// begun is how many engines of steps there were: each draws its own lots.
	begun uint64
	// replicas in order of creation; serving are those that were Ready once.
	replicas []*replica
	serving  []*replica
	// engines are of those that take requests, in the order of serving.
	engines []seat
	// attempts are nil if nobody tries again.
	attempts *attempts
	// names are the families that pages have.
	names []string
	paces *paces
	turn  int
	gpu   time.Duration
	moves []change
	told  []Move
	peak  int32
	// call is the scaler's latest, if it was made before the HPA asks.
	call    Call
	raised  time.Time
	lowered time.Time
	// histogram is set if the scaler reads any.
	histogram bool
}

// Run plays the load under the policy. It ends early, with the context's error,
// once the context does.
func Run(ctx context.Context, s Setting, load *Load, p Policy) (*Result, error) {
	if err := s.check(load); err != nil {
		return nil, err
	}
	scaler, err := p.New(s)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", p.Name, err)
	}
	r := newRun(s, load, scaler)
	if scaler.Plan != nil {
		r.desired = max(1, scaler.Plan(0))
		r.peak = r.desired
	}
	r.moves = []change{{start, r.desired}}
	for range r.desired {
		r.order(start)
		last := r.replicas[len(r.replicas)-1]
		last.asleep = int32(len(r.replicas)) <= s.Asleep //nolint:gosec // far fewer
		r.serve(last)
	}
	if err := r.play(ctx); err != nil {
		return nil, err
	}
	return r.result(p.Name), nil
}

// newRun has no replica yet.
func newRun(s Setting, load *Load, scaler Scaler) *run {
	var tries *attempts
	if s.Retries.Times > 0 {
		tries = newAttempts(load, s.Retries, s.Seed+2)
		load = tries.load
	}
	if scaler.WhenAsked {
		s.EvaluatedBefore = 0
	}
	r := &run{
		Setting: s, load: load, scaler: scaler, attempts: tries,
		hpa:     HPA{Up: scaler.Up, Down: scaler.Down, Bounds: s.Bounds},
		rand:    random(s.Seed + 1),
		paces:   pacesOf(&s.Engine),
		desired: s.Initial, peak: s.Initial,
		tally: &tally{
			slo: s.judged(), engine: &s.Engine, attempts: tries, from: s.WarmUp.Seconds(), load: load,
			minutes: make([]Minute, int(math.Ceil(load.Length.Minutes()))),
		},
	}
	if s.PerRequest {
		r.tally.results = make([]RequestResult, len(load.Requests))
	}
	if s.NoTolerance {
		r.hpa.Up.Tolerance, r.hpa.Down.Tolerance = .1, .1
	}
	for _, name := range scaler.Families {
		if slices.Contains(s.Missing, name) {
			continue
		}
		r.names = append(r.names, name)
		if f, found := families[name]; found && f(new(page)).Kind == sample.Histogram {
			r.histogram = true
		}
	}
	return r
}

// play runs to the load's end in turns of a scrape interval.
func (r *run) play(ctx context.Context) error {
	next := 0
	for at := time.Duration(0); at < r.load.Length; at += scrapeInterval {
		end := (at + scrapeInterval).Seconds()
		next = r.arrivals(next, end)
		now := start.Add(at + scrapeInterval)
		for _, replica := range r.serving {
			if replica.engine != nil {
				replica.engine.advance(end)
			}
		}
		r.lives(now)
		r.disturb(now)
		r.scrape(now)
		if (at+scrapeInterval)%syncPeriod == 0 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.sync(now)
		}
		if r.EvaluatedBefore > 0 && (at+scrapeInterval+r.EvaluatedBefore)%syncPeriod == 0 {
			r.evaluate(now)
		}
		r.note(at)
	}
	return nil
}

// note writes the minute down that has just ended.
func (r *run) note(at time.Duration) {
	if (at+scrapeInterval)%time.Minute != 0 {
		return
	}
	m := &r.tally.minutes[int(at/time.Minute)]
	m.Desired, m.Ready = r.desired, int32(len(r.serving)) //nolint:gosec // far fewer
	for _, replica := range r.serving {
		if replica.engine == nil {
			continue
		}
		running, waiting := replica.engine.occupied()
		m.Waiting += int32(waiting) //nolint:gosec // ≤ 2 × MaxSeqs
		m.Running += int32(running) //nolint:gosec // ≤ MaxSeqs
	}
}

// lives lets replicas get ready.
func (r *run) lives(now time.Time) {
	for _, replica := range r.replicas {
		if !replica.serving && !replica.stuck && !replica.ready.After(now) && !r.broken(replica, now) {
			r.serve(replica)
		}
	}
}

func (r *run) serve(replica *replica) {
	replica.serving = true
	replica.readySince = replica.ready
	at := replica.ready.Sub(start).Seconds()
	replica.engine = r.machine(max(0, at))
	r.serving = append(r.serving, replica)
	r.connect()
}

// connect gives requests to those replicas that take any.
func (r *run) connect() {
	r.engines = r.engines[:0]
	for _, replica := range r.serving {
		if replica.back.IsZero() && !replica.asleep {
			r.engines = append(r.engines, seat{replica.engine.head(), replica.engine, replica.number})
		}
	}
}

// machine are the engines of a replica that serves from a time on.
func (r *run) machine(at float64) machine {
	return newPod(r.EnginesPerPod, func() machine {
		if !r.Steps {
			return newEngine(r.paces, r.load, r.tally, at, r.histogram)
		}
		r.begun++
		s := newSteps(&r.Engine, r.load, r.tally, at, r.histogram, r.Seed+r.begun<<32)
		s.patience = r.Patience.Seconds()
		if r.Sessions.Shared > 0 {
			s.cache = &prefixCache{Sessions: r.Sessions, seed: r.Seed, attempts: r.attempts, used: make([]int, r.Sessions.Count)}
		}
		return s
	})
}

// order makes a Workspace.
func (r *run) order(now time.Time) {
	takes := time.Duration(0)
	for range max(1, r.Nodes) {
		takes = max(takes, time.Duration(float64(r.ColdStart)*math.Exp(r.Spread*r.rand.NormFloat64()-r.Spread*r.Spread/2)))
	}
	fresh := &replica{
		name: fmt.Sprintf("replica-%d-0", r.named), number: uint64(r.named), ordered: now, ready: now.Add(takes), //nolint:gosec // not below 0
		stuck: r.Stuck > 0 && r.rand.Float64() < r.Stuck,
	}
	if now.Equal(start) {
		fresh.ready, fresh.stuck = start, false
	}
	if end := start.Add(r.NoQuota.From + r.NoQuota.For); r.broken(fresh, now) {
		fresh.ready = end.Add(takes)
	}
	r.named++
	r.replicas = append(r.replicas, fresh)
}

// remove deletes one Workspace as KAITO does: those that don't serve first,
// then any.
func (r *run) remove(now time.Time) {
	victim := -1
	for i, replica := range r.replicas {
		if !replica.serving {
			victim = i
		}
	}
	if victim < 0 {
		victim = r.rand.IntN(len(r.replicas))
	}
	gone := r.replicas[victim]
	r.replicas = append(r.replicas[:victim], r.replicas[victim+1:]...)
	r.pay(gone, now.Add(termination))
	if !gone.serving {
		return
	}
	i := slices.Index(r.serving, gone)
	r.serving = slices.Delete(r.serving, i, i+1)
	r.connect()
	if gone.engine == nil {
		return
	}
	// vLLM ends its requests with itself.
	for _, id := range gone.engine.unfinished() {
		r.tally.lost(id)
	}
}

// pay adds the time of a replica that is released.
func (r *run) pay(replica *replica, released time.Time) {
	from := replica.ordered
	if scored := start.Add(r.WarmUp); from.Before(scored) {
		from = scored
	}
	r.gpu += max(0, released.Sub(from)) * time.Duration(max(1, r.Nodes))
}

func (r *run) scrape(now time.Time) {
	if r.scaler.Judge == nil {
		return
	}
	for _, replica := range r.serving {
		lost := r.Loss > 0 && r.rand.Float64() < r.Loss
		switch {
		case replica.engine == nil:
			replica.failure, replica.pending = "connection refused", nil
		case lost:
			replica.failure = "no answer within 4.5s"
		case r.latePage(replica, now):
		default:
			replica.failure = ""
			replica.history.Add(r.read(replica, now), r.scaler.Window)
		}
	}
}

// evaluate is the scaler's turn.
func (r *run) evaluate(now time.Time) {
	if r.scaler.Judge != nil {
		r.call = r.scaler.Judge(r.fleet(now), now)
	}
}

// sync is the HPA's turn.
func (r *run) sync(now time.Time) {
	to, reason := r.desired, ""
	switch {
	case r.scaler.Plan != nil:
		to = max(1, r.scaler.Plan(now.Sub(start)))
	case r.scaler.Judge != nil:
		if r.EvaluatedBefore == 0 {
			r.evaluate(now)
		}
		if !r.call.Known {
			return
		}
		to, reason = r.hpa.Sync(r.call.Total, r.call.Target, r.desired, now), r.call.Reason
	}
	if to == r.desired {
		return
	}
	r.moves = append(r.moves, change{now, to})
	r.told = append(r.told, Move{At: now.Sub(start), From: r.desired, To: to, Reason: reason})
	if to > r.desired {
		r.raised = now
	} else {
		r.lowered = now
	}
	for range to - r.desired {
		r.order(now)
	}
	for range r.desired - to {
		r.remove(now)
	}
	r.desired, r.peak = to, max(r.peak, to)
	if r.scaler.Plan != nil {
		r.lives(now.Add(r.ColdStart * 10)) // at once: they were ordered in time
	}
}

// fleet is what the scaler knows.
func (r *run) fleet(now time.Time) sample.Fleet {
	fleet := sample.Fleet{
		Desired: r.desired, Freshness: 3 * scrapeInterval, Interval: scrapeInterval,
		Grace: 10 * time.Minute, Raised: r.raised, Lowered: r.lowered,
		PeakTokensPerMinute: r.benchmark(now), NoTolerance: r.NoTolerance,
		Replicas: make([]sample.Replica, 0, len(r.replicas)),
	}
	for _, replica := range r.replicas {
		known := sample.Replica{Pod: replica.name, Ordered: replica.ordered, Phase: sample.Starting}
		switch {
		case replica.serving:
			known.Phase, known.Expected, known.ReadySince = sample.Serving, replica.ready, replica.readySince
			known.History, known.Last, known.Failure = replica.history, replica.history.Newest(), replica.failure
			known.TimedOut, known.Asleep = replica.timedOut, replica.asleep
		case r.broken(replica, now) && now.Sub(replica.ordered) >= time.Minute:
			known.Phase, known.Why = sample.Broken, "no quota"
		}
		fleet.Replicas = append(fleet.Replicas, known)
	}
	return fleet
}

// benchmark is what KAITO's told of a replica by now, in tokens a minute; 0 if nothing.
func (r *run) benchmark(now time.Time) float64 {
	if r.Unmeasured || now.Sub(start) < r.MeasuredAfter {
		return 0
	}
	return r.Engine.PeakTokensPerMinute() * float64(max(1, r.EnginesPerPod))
}

func (r *run) result(name string) *Result {
	end := start.Add(r.load.Length)
	for _, replica := range r.replicas {
		r.pay(replica, end)
	}
	t := r.tally
	result := &Result{
		Load: r.load.Name, Policy: name, Seed: r.Seed,
		Refused: t.refused, Broken: t.broken, PerRequest: t.results,
		TTFT50: t.quantile(.5), TTFT99: t.quantile(.99),
		GPUHours: r.gpu.Hours(), Reversals: reversals(r.moves, start.Add(r.WarmUp), 2*r.ColdStart),
		Turns: turns(r.moves, start.Add(r.WarmUp)), Incurable: t.incurable,
		Peak: r.peak, Moves: r.told, Reason: r.call.Reason, Minutes: t.minutes,
	}
	if r.scaler.Plan != nil {
		// Its replicas came ready: their cold starts are paid for all the same.
		for i, m := range r.moves[1:] {
			if m.at.Before(start.Add(r.WarmUp)) {
				continue
			}
			result.GPUHours += max(0, float64(m.replicas-r.moves[i].replicas)) * r.ColdStart.Hours()
		}
	}
	result.Unfinished = r.late()
	result.Cancelled = t.cancelled
	result.Requests = t.answered + t.refused + t.broken + t.impatient + result.Unfinished
	result.Attained = t.attained
	load := *r.load
	if r.attempts != nil {
		load.Requests = load.Requests[:r.attempts.given]
	}
	in, out := load.Mean()
	work := float64(result.Requests) / r.Capacity(in, out)
	result.WastedHours = max(0, result.GPUHours-work/3600)
	return result
}

// late is how many of those in flight wait for their first token although it is
// late: they have missed their SLO; what else is in flight has neither met nor missed
// it.
func (r *run) late() (n int) {
	for _, replica := range r.serving {
		if replica.engine == nil {
			continue
		}
		for _, id := range replica.engine.silent() {
			request := &r.load.Requests[r.attempts.origin(id)]
			limit := r.tally.slo.TTFT
			if r.Steps {
				limit = r.tally.slo.limit(request) // the fluid engine's figures are without it
			}
			if r.load.Length.Seconds()-request.At > limit+2 {
				n++
			}
		}
	}
	return n
}
