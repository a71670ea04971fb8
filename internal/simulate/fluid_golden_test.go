package simulate

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// The fluid engine's results of November 2026, before there was another one:
// adding one must not move a digit of what was published. The policies are those
// that are only of simulations, so that nothing else moves one. What attained the SLO
// is by its judging at the bounds of buckets since.
func TestTheFluidEnginesFiguresStand(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("other processors round a multiplication and an addition at once")
	}
	for _, tt := range []struct {
		engine int
		kind   *Kind
		policy Policy
		want   string
	}{
		{0, &Conversation, Spare("llm-d", .8, 5), "7108 of 27206, refused 4928, broken 100, 17.746854038919107 51.43532245122587, 2.5583333333333336 GPU-hours, 1.0429380413228782 wasted, peak 4, 8 moves, engine 499783.0802603036"},
		{1, &Code, Concurrency("knative", 100), "17165 of 61120, refused 19952, broken 44, 3.1956730820785344 45.69961780328123, 4.2125 GPU-hours, 2.708891717203344 wasted, peak 8, 22 moves, engine 1.1623448693371003e+06"},
		{2, &Conversation, Static("2", 2), "3536 of 16061, refused 961, broken 0, 19.39246657338596 82.53859313460455, 2 GPU-hours, 0.5524957361856024 wasted, peak 2, 0 moves, engine 306853.6094621834"},
	} {
		s := slow(world(), 3)
		s.EvaluatedBefore = 0 // as the figures were
		s.Engine = slow(Setting{Engine: Engines[tt.engine]}, 3).Engine
		r := play(t, s, loadOn(&s.Engine, tt.kind, Spikes(.2, 20*time.Minute, 8*time.Minute), 3, time.Hour), tt.policy)
		got := fmt.Sprintf("%d of %d, refused %d, broken %d, %v %v, %v GPU-hours, %v wasted, peak %d, %d moves, engine %v",
			r.Attained, r.Requests, r.Refused, r.Broken, r.TTFT50, r.TTFT99, r.GPUHours, r.WastedHours, r.Peak, len(r.Moves), s.Engine.PeakTokensPerMinute())
		if got != tt.want {
			t.Errorf("%s, %s: got\n%s\nwant\n%s", s.Engine.Name, tt.policy.Name, got, tt.want)
		}
	}
}
