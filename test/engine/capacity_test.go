package engine

import (
	"math"
	"testing"
	"time"
)

// ordinary is a course of a live vLLM 0.25.1: twenty minutes of OrdinaryLoad
// (make engines-capacity records it).
const ordinary = "testdata/ordinary-load.csv.gz"

func readOrdinary(t *testing.T) Course {
	t.Helper()
	c, err := ReadCourse(ordinary, time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheCapacityOfALiveEngineIsLearned(t *testing.T) {
	if err := CompareCapacity(t, readOrdinary(t)); err != nil {
		t.Error(err)
	}
}

// What is learned of a simulated engine is what is learned of a live one with the same
// requests: the simulator's pages are as good.
func TestAsMuchIsLearnedOfASimulatedEngine(t *testing.T) {
	physics := SlowGPU()
	live := readOrdinary(t).Learned(physics.PeakTokensPerMinute())
	simulated, err := LearnedOfSimulated(t.Context(), physics, OrdinaryLoad(20*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if !(math.Abs(live/simulated-1) <= .1) {
		t.Errorf("it learns %.2f/s of a live engine, %.2f/s of a simulated one", live, simulated)
	}
}

func TestTheCapacityIsBetweenTwoRates(t *testing.T) {
	rates := []float64{1, 2, 4}
	if got := Capacity(rates, []float64{.01, .01, .03}); got != 3 {
		t.Errorf("got %v, want 3", got)
	}
	if got := Capacity(rates, []float64{.01, .01, .01}); !math.IsNaN(got) {
		t.Errorf("got %v beyond all rates", got)
	}
}
