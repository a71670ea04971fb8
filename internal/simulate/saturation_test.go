package simulate

import (
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// slow has replicas that serve so many times fewer requests a second: as long a
// load of as many replicas is played in so much less time, which the race detector
// makes ten times as long.
func slow(s Setting, times float64) Setting {
	s.Engine.Beta *= times
	s.Engine.Gamma *= times
	return s
}

func loadOn(e *Engine, kind *Kind, shape Shape, replicas float64, length time.Duration) *Load {
	peak := replicas * e.Capacity(kind.In.mean(), kind.Out.mean(), DefaultSLO.ITL)
	return Generate(kind.Name, kind, shape, peak, length, 1)
}

func loadOf(kind *Kind, shape Shape, replicas float64, length time.Duration) *Load {
	return loadOn(&Engines[0], kind, shape, replicas, length)
}

func TestASteadyLoadKeepsItsReplicas(t *testing.T) {
	s := slow(world(), 3)
	s.Initial = 5
	r := play(t, s, loadOn(&s.Engine, &Conversation, Steady(), 3.2, 6*time.Hour), Automatic("automatic"))
	if r.Attainment() < .99 || r.Reversals > 0 || r.GPUHours > 6*5.2 {
		t.Errorf("%.4f attained, %d reversals, %.1f GPU-hours where five replicas are 30", r.Attainment(), r.Reversals, r.GPUHours)
	}
}

// Half a working day: it costs less than the fleet for its peak, and keeps the
// promise.
func TestADayIsFollowed(t *testing.T) {
	for kind, times := range map[*Kind]float64{&Conversation: 3, &Code: 1.5} {
		s := slow(world(), times)
		s.Initial, s.WarmUp = 3, time.Hour
		load := loadOn(&s.Engine, kind, Days(.25), 5, 12*time.Hour)
		r := play(t, s, load, Automatic("automatic"))
		static := float64(r.Peak) * (load.Length - s.WarmUp).Hours()
		if r.Attainment() < .98 || r.Reversals > 10 {
			t.Errorf("%s: %.4f attained, %d reversals", kind.Name, r.Attainment(), r.Reversals)
		}
		if r.GPUHours > .85*static {
			t.Errorf("%s: %.1f GPU-hours, its peak of %d kept up takes %.1f", kind.Name, r.GPUHours, r.Peak, static)
		}
	}
}

// The first ramp of a day, on replicas that can do less than their tokens say: at
// loads that none was seen at there is room for swings.
func TestAFirstRampIsFollowed(t *testing.T) {
	ramp := func(at time.Duration) float64 { return .3 + .7*min(1, max(0, (at.Hours()-2)/4)) }
	s := world()
	s.Engine, s.Initial, s.WarmUp = Engines[1], 4, time.Hour
	if r := play(t, s, loadOn(&s.Engine, &Conversation, ramp, 6, 6*time.Hour), Automatic("automatic")); r.Attainment() < .97 {
		t.Errorf("%.4f attained", r.Attainment())
	}
}

// For a burst of five minutes that came once no fleet stands idle for hours. One
// that comes again finds it ready.
func TestABurstThatCameOnceIsLetGo(t *testing.T) {
	bursts := []time.Duration{time.Hour, 105 * time.Minute, 150 * time.Minute}
	shape := func(at time.Duration) float64 {
		for _, burst := range bursts {
			if at >= burst && at < burst+5*time.Minute {
				return 1
			}
		}
		return .125
	}
	s := slow(world(), 3)
	s.Initial = 1
	r := play(t, s, loadOn(&s.Engine, &Conversation, shape, 6, bursts[2]), Automatic("automatic"))
	had := func(at time.Duration) (n int32) {
		for _, m := range r.Moves {
			if m.At < at {
				n = m.To
			}
		}
		return n
	}
	if n := had(bursts[0] + 10*time.Minute); n < 5 {
		t.Errorf("%d replicas for a burst of six replicas' worth", n)
	}
	if n := had(bursts[1]); n > 3 {
		t.Errorf("%d replicas 40 minutes after the only burst, for a load of one", n)
	}
	if n := had(bursts[2]); n < 5 {
		t.Errorf("%d replicas when the burst comes for the third time", n)
	}
}

func TestABurstIsOrderedForAtOnce(t *testing.T) {
	s := world()
	s.Initial = 2
	var first time.Duration
	var from, to int32
	for _, m := range play(t, s, loadOf(&Conversation, Step(.2, time.Hour), 5, 90*time.Minute), Automatic("automatic")).Moves {
		if m.At < time.Hour {
			from = m.To
		} else if to = max(to, m.To); m.To >= 5 && first == 0 {
			first = m.At - time.Hour
		}
	}
	if first == 0 || first > 2*time.Minute || to > 8 {
		t.Errorf("from %d to five replicas %v after the step, at most %d", from, first, to)
	}
}

// Replicas that never come are neither waited for nor ordered anew.
func TestStuckReplicasAreNotOrderedAgain(t *testing.T) {
	s := world()
	s.Stuck, s.Initial = 1, 1
	s.Bounds = policy.Bounds{Min: 1, Max: 30}
	r := play(t, s, loadOf(&Conversation, Steady(), 3, 2*time.Hour), Automatic("automatic"))
	// One replica that refuses most of it tells of more than three, and in the
	// first hour half as much again may come.
	if r.Peak > 9 {
		t.Errorf("%d were ordered for a load of three", r.Peak)
	}
}
