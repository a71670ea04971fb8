package hpa

import (
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

func TestHPAArithmetic(t *testing.T) {
	for _, tt := range []struct {
		story   string
		total   float64
		target  float64
		current int32
		want    int32
	}{
		{"rounded up", 25, 10, 1, 3},
		{"exactly", 50, 10, 3, 5},
		{"a tenth above is tolerated", 33, 10, 3, 3},
		{"a bit more isn't", 33.1, 10, 3, 4},
		{"half is tolerated", 20, 10, 4, 4},
		{"less isn't", 19.9, 10, 4, 2},
		{"nothing", 0, 10, 4, 0},
		{"from zero", 1, 10, 0, 1},
		{"at zero", 0, 10, 0, 0},
		{"more than an int32 holds", 1e30, 0.001, 1, 1<<31 - 1},
	} {
		if got := Replicas(tt.total, tt.target, tt.current, 0.1, 0.5); got != tt.want {
			t.Errorf("%s: %v over %v at %d replicas makes %d, want %d", tt.story, tt.total, tt.target, tt.current, got, tt.want)
		}
	}
}

// kedaHands is a value as KEDA hands it on.
func kedaHands(x float64) float64 {
	rounded, _ := strconv.ParseFloat(fmt.Sprintf("%.3f", x), 64)
	return rounded
}

// For every size and every size wanted, the HPA goes there as far as its tolerance
// lets it, and as KEDA hands a number on: never beyond on the way down, on which
// users would pay, and no further than its tolerance asks for on the way up.
func TestTheHPAGoesWhereItShouldAtEverySize(t *testing.T) {
	automatic := policy.Trigger{Saturation: &policy.Saturation{}}
	for _, use := range []policy.Use{policy.AverageValue, policy.Value} {
		automatic.Use = use
		for _, fixed := range []bool{false, true} {
			for current := int32(1); current <= 200; current++ {
				h := For(automatic, sample.Fleet{Desired: current, NoTolerance: fixed})
				for wanted := int32(1); wanted <= 200; wanted++ {
					value, told := h.ValueToward(wanted)
					got := h.Replicas(kedaHands(value))
					switch {
					case got != told:
						t.Fatalf("%d → %d, fixed %t, use %d: %v is published, and comes to %d and not %d", current, wanted, fixed, use, value, got, told)
					case got == wanted, fixed && wanted < current && got == current && current-wanted < (current+9)/10:
					case fixed && wanted > current && float64(wanted) <= 1.1*float64(current)+1 && float64(got) <= 1.1*float64(current)+2:
					default:
						t.Fatalf("%d → %d, fixed %t, use %d: %v comes to %d", current, wanted, fixed, use, value, got)
					}
				}
			}
		}
	}
}

// A list's step, and automatic mode's on an HPA that takes one replica in a period,
// is one at every size.
func TestAStepIsOneWhateverTheType(t *testing.T) {
	for _, use := range []policy.Use{policy.AverageValue, policy.Value} {
		for _, fixed := range []bool{false, true} {
			for current := int32(1); current <= 200; current++ {
				trigger := policy.Trigger{List: &policy.List{}}
				trigger.Use = use
				h := For(trigger, sample.Fleet{Desired: current, NoTolerance: fixed})
				for _, direction := range []int32{-1, 0, 1} {
					got := h.Replicas(kedaHands(h.ValueForStep(direction)))
					if paced := min(max(got, current-1), current+1); paced != current+direction || !fixed && got != paced {
						t.Fatalf("%d%+d, fixed %t, use %d: %v comes to %d", current, direction, fixed, use, h.ValueForStep(direction), got)
					}
				}
			}
		}
	}
}

// The HPA counts in thousandths: of 11.7 for 13 replicas it makes exactly 0.9, which
// its tolerance of 10 % holds, and not 0.8999999999999999. What is published for a
// step has to be beyond that.
func TestAStepMovesTheHPAInItsOwnArithmetic(t *testing.T) {
	// As in GetExternalPerPodMetricReplicas and GetUsageRatioReplicaCount.
	moves := func(value float64, current int32) int32 {
		usage, target := int64(math.Round(1000*value)), int64(1000)
		ratio := float64(usage) / (float64(target) * float64(current))
		if 1.0-FixedTolerance <= ratio && ratio <= 1.0+FixedTolerance {
			return current
		}
		return int32(math.Ceil(float64(usage) / float64(target)))
	}
	for current := int32(2); current <= 1000; current++ {
		h := For(policy.Trigger{List: &policy.List{}}, sample.Fleet{Desired: current, NoTolerance: true})
		if value := h.ValueForStep(-1); moves(value, current) >= current {
			t.Errorf("a step down from %d: %v moves nothing", current, value)
		}
		if value := h.ValueForStep(1); moves(value, current) <= current {
			t.Errorf("a step up from %d: %v moves nothing", current, value)
		}
	}
}

// While fewer are Ready than desired, an HPA of the type Value multiplies by less,
// and never goes the other way for it.
func TestAValueIsOfTheReadyPods(t *testing.T) {
	for current := int32(1); current <= 30; current++ {
		for ready := range current + 1 {
			for _, down := range []float64{0, .1, .5} {
				h := Autoscaler{Current: current, Ready: ready, IsValue: true, Target: 1, UpTolerance: down, DownTolerance: down}
				for wanted := int32(1); wanted <= 40; wanted++ {
					value, told := h.ValueToward(wanted)
					got := h.Replicas(kedaHands(value))
					if got != told || (wanted-current)*(got-current) < 0 {
						t.Fatalf("%d of %d Ready → %d: %v comes to %d, told %d", ready, current, wanted, value, got, told)
					}
				}
			}
		}
	}
}
