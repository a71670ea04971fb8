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

// fewest finds the smallest fixed fleet that attains the target; if none within
// twice the peak does, it is that one.
func fewest(ctx context.Context, s simulate.Setting, load *simulate.Load) (Outcome, error) {
	played := map[int32]*simulate.Result{}
	enough := func(n int32) (bool, error) {
		result, err := simulate.Run(ctx, s, load, simulate.Static(NameStatic, n))
		if err != nil {
			return false, err
		}
		played[n] = result
		return result.Attainment() >= Target, nil
	}
	peak := max(1, int32(math.Ceil(peakNeed(s, load))))
	low, high := int32(0), 2*peak+1 // low is too few, high is beyond what is tried
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
		case high > 2*peak: // nothing is enough yet: gently up
			n = min(low+2, 2*peak)
		case low == 0: // all are: gently down
			n = max(high-2, 1)
		default:
			n = (low + high) / 2
		}
	}
	if high > 2*peak {
		return Outcome{Result: played[low], Knob: fmt.Sprintf("none: %d replicas don't attain it", low)}, nil
	}
	return Outcome{Result: played[high], Knob: fmt.Sprintf("%d replicas", high)}, nil
}

// foresight looks for the oracle's aim and smoothing that attain the target
// with the fewest GPU-hours. It remembers where it found them: another cold
// start changes little.
type foresight struct {
	oracle simulate.Oracle
	found  bool
}

// smoothings are what is tried at the first cold start of a load.
var smoothings = []simulate.Oracle{
	{Mean: time.Minute, Reach: time.Minute},
	{Mean: 30 * time.Second, Reach: 0},
	{Mean: 3 * time.Minute, Reach: 0},
	{Mean: 5 * time.Minute, Reach: 5 * time.Minute},
}

func (f *foresight) play(ctx context.Context, s simulate.Setting, load *simulate.Load) (Outcome, error) {
	tried := smoothings
	aim := 1.0
	if f.found {
		tried, aim = []simulate.Oracle{f.oracle}, f.oracle.Aim
	}
	var best, most Outcome
	for _, o := range tried {
		o.Aim = aim
		outcome, settled, err := f.aim(ctx, s, load, o)
		if err != nil {
			return Outcome{}, err
		}
		aim = settled.Aim
		if most.Result == nil || outcome.Result.Attainment() > most.Result.Attainment() {
			most = outcome
		}
		if outcome.Result.Attainment() < Target || best.Result != nil && outcome.Result.GPUHours >= best.Result.GPUHours {
			continue
		}
		best, f.oracle, f.found = outcome, settled, true
	}
	if best.Result == nil {
		// Not even with all that it knows.
		most.Knob = "none attains it: " + most.Knob
		return most, nil
	}
	return best, nil
}

// aim finds the greatest aim that attains the target, to half a percent: it
// brackets it in steps that grow, then interpolates.
func (f *foresight) aim(ctx context.Context, s simulate.Setting, load *simulate.Load, o simulate.Oracle) (Outcome, simulate.Oracle, error) {
	const (
		fine  = .005
		tries = 9
	)
	low, high := .3, 1.6 // low attains, or is not worth trying; high doesn't
	var best, least Outcome
	settled := o
	step := .02
	for range tries {
		result, err := simulate.Run(ctx, s, load, o.Policy(NameOracle, load))
		if err != nil {
			return Outcome{}, o, err
		}
		outcome := Outcome{Result: result, Knob: fmt.Sprintf("filled to %.1f %%, mean of %v within %v", 100*o.Aim, o.Mean, o.Reach)}
		if least.Result == nil || result.Attainment() > least.Result.Attainment() {
			least = outcome
		}
		if result.Attainment() >= Target {
			if best.Result == nil || result.GPUHours < best.Result.GPUHours {
				best, settled = outcome, o
			}
			low = o.Aim
		} else {
			high = o.Aim
		}
		if high-low <= fine {
			break
		}
		switch {
		case high == 1.6:
			o.Aim, step = min(low+step, high-fine), 2*step
		case low == .3:
			o.Aim, step = max(high-step, low+fine), 2*step
		default:
			o.Aim = (low + high) / 2
		}
	}
	if best.Result == nil {
		return least, settled, nil
	}
	return best, settled, nil
}
