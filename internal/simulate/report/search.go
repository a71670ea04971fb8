package report

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// Target is the attainment that every comparison is made at.
const Target = .99

// fewest finds the smallest fixed fleet that attains the target; if none up to
// four times the peak does, it is that one.
func (k *Known) fewest(ctx context.Context, s simulate.Setting, load *simulate.Load) (Outcome, error) {
	played := map[int32]*simulate.Result{}
	enough := func(n int32) (bool, error) {
		result, err := k.fleet(ctx, s, load, n)
		if err != nil {
			return false, err
		}
		played[n] = result
		return result.Attainment() >= Target, nil
	}
	peak := max(1, int32(math.Ceil(peakNeed(s, load))))
	most := 4*peak + 4
	low, high := int32(0), most+1 // low is too few, high is beyond what is tried
	for n := peak; high-low > 1; {
		ok, err := enough(n)
		if err != nil {
			return Outcome{}, err
		}
		if ok {
			high = n
		} else {
			low = n
		}
		switch {
		case high > most: // nothing is enough yet: gently up
			n = min(low+max(2, low/4), most)
		case low == 0: // all are: gently down
			n = max(high-max(2, high/8), 1)
		default:
			n = (low + high) / 2
		}
	}
	if high > most {
		return Outcome{Result: played[low], Knob: fmt.Sprintf("none: %d replicas don't attain it", low)}, nil
	}
	return Outcome{Result: played[high], Knob: fmt.Sprintf("%d replicas", high)}, nil
}

// foresight looks for the oracle's aim and smoothing that attain the target
// with the fewest GPU-hours. It remembers where it found them: another cold
// start changes little, nor does another seed of the same load.
type foresight struct {
	known  *Known
	oracle simulate.Oracle
	found  bool
	best   Outcome
}

// smoothings are what is tried at the first cold start of a load's first seed.
var smoothings = []simulate.Oracle{
	{Mean: time.Minute, Reach: time.Minute},
	{Mean: 5 * time.Minute, Reach: 5 * time.Minute},
	{Mean: 30 * time.Second, Reach: 5 * time.Minute},
	{Mean: 3 * time.Minute, Reach: 0},
}

func (f *foresight) play(ctx context.Context, s simulate.Setting, load *simulate.Load) (Outcome, error) {
	carried := !f.found && f.known.Oracle != nil
	if carried {
		f.oracle, f.found = *f.known.Oracle, true
	}
	outcome, err := f.search(ctx, s, load)
	if err == nil && carried && f.best.Result == nil {
		// With this seed's chance another smoothing may.
		f.found = false
		outcome, err = f.search(ctx, s, load)
	}
	if f.found && f.known.Oracle == nil {
		f.known.Oracle = &simulate.Oracle{Aim: f.oracle.Aim, Mean: f.oracle.Mean, Reach: f.oracle.Reach}
	}
	return outcome, err
}

// search tries the smoothing that was found before, or else all of them.
func (f *foresight) search(ctx context.Context, s simulate.Setting, load *simulate.Load) (Outcome, error) {
	tried, aim := smoothings, .95
	if f.found {
		tried, aim = []simulate.Oracle{f.oracle}, f.oracle.Aim
	}
	f.best = Outcome{}
	var most Outcome
	for _, o := range tried {
		o.Aim = aim
		outcome, err := f.aim(ctx, s, load, o)
		if err != nil {
			return Outcome{}, err
		}
		if most.Result == nil || outcome.Result.Attainment() > most.Result.Attainment() {
			most = outcome
		}
		if f.found {
			aim = f.oracle.Aim
		}
	}
	if f.best.Result == nil {
		// Not even with all that it knows.
		most.Knob = "none attains it: " + most.Knob
		return most, nil
	}
	return f.best, nil
}

// bracket is what is known of how misses grow with the aim: below low.aim the
// target is attained, at high.aim it isn't.
type bracket struct {
	low, high           point
	hasLow, hasHigh     bool
	narrowest, farthest float64
}

// point is an aim with its misses, on the scale of frontiers.
type point struct{ aim, misses float64 }

func (b *bracket) add(p point) {
	if p.misses >= misses(Target) {
		b.low, b.hasLow = p, true
	} else {
		b.high, b.hasHigh = p, true
	}
}

// next is where to look now: between the two, where a straight line meets the
// target, and near neither end; on one side alone, as far away as the misses
// are, at a slope that most loads have.
func (b *bracket) next() (aim float64, more bool) {
	const slope = 5 // a tenth of aim more are three times the misses
	switch goal := misses(Target); {
	case b.hasLow && b.hasHigh:
		width := b.high.aim - b.low.aim
		if width <= b.narrowest || b.low.misses-goal < .01 {
			return 0, false
		}
		along := (b.low.misses - goal) / (b.low.misses - b.high.misses)
		return b.low.aim + width*min(max(along, .15), .85), true
	case b.hasLow:
		aim = b.low.aim + min(max((b.low.misses-goal)/slope, .01), .2)
	default:
		aim = b.high.aim - min(max((goal-b.high.misses)/slope, .01)*1.2, .25)
	}
	return aim, aim > .2 && aim < b.farthest
}

// aim finds the greatest aim that attains the target, to a third of a percent.
// It gives up where the best found so far costs less already: lower aims cost
// more still.
func (f *foresight) aim(ctx context.Context, s simulate.Setting, load *simulate.Load, o simulate.Oracle) (Outcome, error) {
	const tries = 9
	b := bracket{narrowest: .003, farthest: 1.8}
	var most Outcome
	for range tries {
		result, err := simulate.Run(ctx, s, load, o.Policy(NameOracle, load))
		if err != nil {
			return Outcome{}, err
		}
		outcome := Outcome{Result: result, Knob: fmt.Sprintf("filled to %.1f %%, mean of %s within %s", 100*o.Aim, span(o.Mean.Seconds()), span(o.Reach.Seconds()))}
		if most.Result == nil || result.Attainment() > most.Result.Attainment() {
			most = outcome
		}
		cheaper := f.best.Result == nil || result.GPUHours < f.best.Result.GPUHours
		attained := result.Attainment() >= Target
		if attained && cheaper {
			f.best, f.oracle, f.found = outcome, o, true
		}
		if !attained && !cheaper {
			break
		}
		b.add(point{o.Aim, misses(result.Attainment())})
		aim, more := b.next()
		if !more {
			break
		}
		o.Aim = aim
	}
	return most, nil
}
