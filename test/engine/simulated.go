package engine

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// Simulated is what a simulated engine makes of these requests, in the order of their
// times.
func Simulated(ctx context.Context, physics simulate.Engine, requests []load.Request) ([]load.Result, error) {
	setting := simulate.Setting{Engine: physics, SLO: simulate.DefaultSLO, Steps: true, PerRequest: true, Seed: 1}
	result, err := simulate.Run(ctx, setting, Given(requests), simulate.Static("1", 1))
	if err != nil {
		return nil, err
	}
	outcomes := map[simulate.Outcome]load.Outcome{
		simulate.Served: load.Served, simulate.Refused: load.Refused, simulate.Cancelled: load.Cancelled,
	}
	results := make([]load.Result, len(requests))
	for i, r := range result.PerRequest {
		outcome, known := outcomes[r.Outcome]
		if !known {
			return nil, fmt.Errorf("simulated request %d is %s", i, r.Outcome)
		}
		results[i] = load.Result{Request: requests[i], Outcome: outcome, TTFT: duration(r.TTFT), PerToken: duration(r.PerToken)}
	}
	return results, nil
}

// Watched has a simulated engine serve these requests, and judge see its fleet of one each
// time that the HPA asks, with pages read as often as the scaler does by default.
func Watched(
	ctx context.Context, physics simulate.Engine, requests []load.Request,
	families []string, window time.Duration, judge func(sample.Fleet, time.Time),
) error {
	policy := simulate.Policy{Name: "watched", New: func(simulate.Setting) (simulate.Scaler, error) {
		return simulate.Scaler{
			Families: families, Window: window,
			Judge: func(fleet sample.Fleet, now time.Time) simulate.Call {
				judge(fleet, now)
				return simulate.Call{}
			},
		}, nil
	}}
	setting := simulate.Setting{Engine: physics, SLO: simulate.DefaultSLO, Steps: true, Seed: 1, Initial: 1}
	setting.Bounds.Min, setting.Bounds.Max = 1, 10
	_, err := simulate.Run(ctx, setting, Given(requests), policy)
	return err
}

// Given is a load of the simulator with these requests, in the order of their times. It
// ends two minutes or more after the last.
func Given(requests []load.Request) *simulate.Load {
	given := &simulate.Load{Name: "given", Length: 2 * time.Minute}
	for i, r := range requests {
		given.Requests = append(given.Requests, simulate.Request{At: r.At.Seconds(), In: int32(r.Prompt), Out: int32(r.Output)})
		given.Length = max(given.Length, (r.At + 3*time.Minute).Truncate(time.Minute))
		if r.Cancel == 0 {
			continue
		}
		if given.Cancels == nil {
			given.Cancels = make([]float64, len(requests))
			for j := range given.Cancels {
				given.Cancels[j] = math.Inf(1)
			}
		}
		given.Cancels[i] = r.Cancel.Seconds()
	}
	return given
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
