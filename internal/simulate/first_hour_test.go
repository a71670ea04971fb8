package simulate

import (
	"strings"
	"testing"
	"time"
)

// What docs/automatic-mode.md promises of a fleet of which nothing is known: in its first
// hour it serves no fewer as promised than KAITO's annotation
// for one metric with its default, 10 waiting requests for each replica.
func TestTheFirstHourIsNoWorseThanAThreshold(t *testing.T) {
	falls := func(t time.Duration) float64 { return max(.1, 1-t.Hours()) }
	for n, tt := range []struct {
		story   string
		kind    *Kind
		shape   Shape
		initial int32
		start   time.Duration
	}{
		{"a first load, all at once", &Conversation, Step(0, 2*time.Minute), 1, 5 * time.Minute},
		{"steady, with replicas enough", &Code, Steady(), 3, 2 * time.Minute},
		{"it grows", &Conversation, Sawtooth(.1, time.Hour), 1, 10 * time.Minute},
		{"it falls, with replicas to spare", &Conversation, falls, 4, time.Minute},
		{"on and off", &Code, Spikes(.1, 20*time.Minute, 10*time.Minute), 1, 2 * time.Minute},
	} {
		for i, engine := range Engines {
			if (n+i)%3 == 2 { // two of three will do: the time
				continue
			}
			s := world()
			s.Engine, s.Initial, s.ColdStart, s.Seed, s.Bounds.Max = engine, tt.initial, tt.start, 101+uint64(i), 30
			const replicas = 1.2
			peak := replicas * engine.Capacity(tt.kind.In.mean(), tt.kind.Out.mean(), DefaultSLO.ITL)
			load := Generate(tt.story, tt.kind, tt.shape, peak, time.Hour, s.Seed)
			queue := play(t, s, load, QueueTarget("kaito-queue", 10))
			mine := play(t, s, load, Automatic("automatic"))
			if rounding := .001; mine.Attainment() < queue.Attainment()-rounding {
				t.Errorf("%s, %s: %.4f attained with %.1f GPU-hours, by a threshold %.4f with %.1f",
					tt.story, engine.Name, mine.Attainment(), mine.GPUHours, queue.Attainment(), queue.GPUHours)
			}
		}
	}
}

// Before a few hundred requests are answered it says that it goes by the benchmark.
func TestAFleetOfWhichLittleIsKnownSaysSo(t *testing.T) {
	for _, engine := range Engines {
		s := world()
		s.Engine, s.Seed = engine, 101
		peak := .03 * engine.Capacity(Conversation.In.mean(), Conversation.Out.mean(), DefaultSLO.ITL)
		r := play(t, s, Generate("first", &Conversation, Steady(), peak, 3*time.Minute, s.Seed), Automatic("automatic"))
		if !strings.HasSuffix(r.Reason, "; still learning what a replica can do") {
			t.Errorf("%s: %s", engine.Name, r.Reason)
		}
	}
}

// A fleet of one that is met by its first load, eight replicas' worth at once,
// orders that and not twice as many: the mean request is known within a minute.
func TestAFirstLoadIsNotOrderedForTwice(t *testing.T) {
	for _, kind := range []*Kind{&Conversation, &Code} {
		for _, engine := range []Engine{Engines[0], Engines[2]} {
			s := world()
			s.Engine, s.Seed, s.Bounds.Max = engine, 101, 48
			peak := 8 * engine.Capacity(kind.In.mean(), kind.Out.mean(), DefaultSLO.ITL)
			load := Generate("first", kind, Step(0, 2*time.Minute), peak, 7*time.Minute, s.Seed)
			// While the one that serves refuses more than it takes, nobody knows how many
			// clients there are: it orders up to four times those that serve, and two.
			if r := play(t, s, load, Automatic("automatic")); r.Peak < 6 || r.Peak > 20 {
				t.Errorf("%s on %s: %d are ordered for eight replicas' worth", kind.Name, engine.Name, r.Peak)
			}
		}
	}
}
