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
		{0, &Conversation, Spare("llm-d", .8, 5), "6684 of 26514, refused 4793, broken 45, 19.39246657338596 54.56773358850551, 2.5458333333333334 GPU-hours, 1.0195203263474717 wasted, peak 4, 9 moves, engine 499783.0802603036"},
		{1, &Code, Concurrency("knative", 100), "15843 of 58992, refused 18944, broken 29, 5.128117172066091 45.69961780328123, 4.316666666666666 GPU-hours, 2.838576137206724 wasted, peak 8, 21 moves, engine 1.1623448693371003e+06"},
		{2, &Conversation, Static("2", 2), "3391 of 15633, refused 724, broken 0, 14.00953045834431 82.53859313460455, 2 GPU-hours, 0.4836797571664584 wasted, peak 2, 0 moves, engine 306853.6094621834"},
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
