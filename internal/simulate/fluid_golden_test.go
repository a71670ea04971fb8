package simulate

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// The fluid engine's results of November 2026, before there was another one:
// adding one must not move a digit of what was published.
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
		{0, &Conversation, QueueTarget("queue", 10), "6223 of 26777, refused 10283, broken 9, 22.481183735255694 56.20476559616068, 1.85 GPU-hours, 0.30854705483667444 wasted, peak 3, 8 moves, engine 499783.0802603036"},
		{1, &Code, Concurrency("knative", 100), "15312 of 58994, refused 18944, broken 29, 5.128117172066091 45.69961780328123, 4.316666666666666 GPU-hours, 2.8385260256482265 wasted, peak 8, 21 moves, engine 1.1623448693371003e+06"},
		{2, &Conversation, MetricList("list", 10, 30), "3405 of 15636, refused 6279, broken 6, 37.15797130748358 87.56519345650194, 1.4083333333333332 GPU-hours, 0 wasted, peak 2, 5 moves, engine 308847.1849865951"},
	} {
		s := slow(world(), 3)
		s.Engine = slow(Setting{Engine: Engines[tt.engine]}, 3).Engine
		r := play(t, s, loadOn(&s.Engine, tt.kind, Spikes(.2, 20*time.Minute, 8*time.Minute), 3, time.Hour), tt.policy)
		got := fmt.Sprintf("%d of %d, refused %d, broken %d, %v %v, %v GPU-hours, %v wasted, peak %d, %d moves, engine %v",
			r.Attained, r.Requests, r.Refused, r.Broken, r.TTFT50, r.TTFT99, r.GPUHours, r.WastedHours, r.Peak, len(r.Moves), s.Engine.PeakTokensPerMinute())
		if got != tt.want {
			t.Errorf("%s, %s: got\n%s\nwant\n%s", s.Engine.Name, tt.policy.Name, got, tt.want)
		}
	}
}
