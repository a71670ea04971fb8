package simulate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// follow lets an HPA run every 15 s on totals, against a target of 10, and
// returns the replicas after each.
func follow(h *HPA, replicas int32, totals ...float64) []int32 {
	var all []int32
	for i, total := range totals {
		replicas = h.Sync(total, 10, replicas, start.Add(time.Duration(i)*syncPeriod))
		all = append(all, replicas)
	}
	return all
}

func repeat(total float64, n int) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = total
	}
	return all
}

func TestTheHPA(t *testing.T) {
	bounds := policy.Bounds{Min: 1, Max: 10}
	for name, tt := range map[string]struct {
		hpa    HPA
		from   int32
		totals []float64
		want   []int32
	}{
		"without limits it follows": {
			HPA{Up: Free(), Down: Free(), Bounds: bounds}, 1, []float64{25, 99, 10, 500, 0}, []int32{3, 10, 1, 10, 1},
		},
		"a tenth more is within the tolerance": {
			HPA{Up: Behaviour{Pods: 9, Period: syncPeriod, Tolerance: .1}, Down: Free(), Bounds: bounds},
			2,
			[]float64{22, 22.1},
			[]int32{2, 3},
		},
		"up waits for the lowest of a minute": {
			HPA{Up: Behaviour{Pods: 9, Period: syncPeriod, Window: time.Minute}, Down: Free(), Bounds: bounds},
			// The first sync notes the current replicas as a recommendation.
			1, repeat(30, 6),
			[]int32{1, 1, 1, 1, 3, 3},
		},
		"down waits for the highest of a minute": {
			HPA{Up: Free(), Down: Behaviour{Pods: 9, Period: syncPeriod, Window: time.Minute}, Bounds: bounds},
			5, append([]float64{50}, repeat(10, 5)...),
			[]int32{5, 5, 5, 5, 1, 1},
		},
		"one pod a minute upwards": {
			HPA{Up: Behaviour{Pods: 1, Period: time.Minute}, Down: Free(), Bounds: bounds},
			1, repeat(90, 10),
			[]int32{2, 2, 2, 2, 3, 3, 3, 3, 4, 4},
		},
		"one pod a minute downwards": {
			HPA{Up: Free(), Down: Behaviour{Pods: 1, Period: time.Minute}, Bounds: bounds},
			5, repeat(10, 6),
			[]int32{4, 4, 4, 4, 3, 3},
		},
		"beyond its bounds it goes back at once, whatever the windows": {
			HPA{
				Up: Free(), Down: Behaviour{Pods: 1, Period: time.Minute, Window: time.Minute},
				Bounds: bounds,
			},
			14, repeat(140, 2),
			[]int32{10, 10},
		},
		"what was removed may be added again": {
			HPA{Up: Behaviour{Pods: 1, Period: time.Minute}, Down: Behaviour{Pods: 2, Period: time.Minute}, Bounds: bounds},
			5,
			[]float64{10, 90},
			[]int32{3, 6},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, follow(&tt.hpa, tt.from, tt.totals...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The HPA is told what the scaler knew at its own turn: a load that comes after that is
// answered a period later.
func TestTheHPAIsToldWhatTheScalerKnewBefore(t *testing.T) {
	for before, want := range map[time.Duration]time.Duration{
		0: 30 * time.Second, 5 * time.Second: 30 * time.Second, 10 * time.Second: 45 * time.Second, 15 * time.Second: 45 * time.Second,
	} {
		s := world()
		s.EvaluatedBefore = before
		// Two replicas are right from 22 s on: the turn 10 s before the HPA's second
		// doesn't know.
		knows := Policy{Name: "knows", New: func(Setting) (Scaler, error) {
			return Scaler{Up: Free(), Down: Free(), Judge: func(_ sample.Fleet, now time.Time) Call {
				total := 1.0
				if now.Sub(start) >= 22*time.Second {
					total = 2
				}
				return Call{Known: true, Total: total, Target: 1}
			}}, nil
		}}
		r := play(t, s, &Load{Name: "none", Length: 2 * time.Minute}, knows)
		if len(r.Moves) != 1 || r.Moves[0].At != want {
			t.Errorf("evaluated %s before: %+v, want a move at %s", before, r.Moves, want)
		}
	}
}

// Whoever evaluates when the HPA asks isn't asked before, and every scenario is played
// with recommendations as old as real ones.
func TestRecommendationsAreAsOldAsRealOnes(t *testing.T) {
	for seed, want := range map[uint64]time.Duration{1: 10 * time.Second, 2: 15 * time.Second, 3: 5 * time.Second} {
		for _, sc := range append(Generated(), Adverse()...) {
			e, slo := sc.On(&Engines[0], DefaultSLO)
			if got := sc.Setting(e, slo, time.Minute, seed).EvaluatedBefore; got != want {
				t.Errorf("%s, seed %d: evaluated %s before, want %s", sc.Name, seed, got, want)
			}
		}
	}
	for _, p := range []Policy{QueueTarget("queue", 10), Automatic("automatic"), GuardedQueue("guarded", 10), Concurrency("knative", 100)} {
		scaler, err := p.New(world())
		if err != nil {
			t.Fatal(err)
		}
		if alone := p.Name == "queue" || p.Name == "knative"; scaler.WhenAsked != alone {
			t.Errorf("%s evaluates when it is asked: %t", p.Name, scaler.WhenAsked)
		}
	}
}
