package engines

import (
	"math/rand/v2"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// Stretch is a part of a load, in which the rate goes evenly from one to another, in
// requests a second.
type Stretch struct {
	Length   time.Duration
	From, To float64
}

// Length is that of all stretches.
func Length(stretches []Stretch) (sum time.Duration) {
	for _, s := range stretches {
		sum += s.Length
	}
	return sum
}

// rate is the load's at a time.
func rate(stretches []Stretch, at time.Duration) float64 {
	for _, s := range stretches {
		if at < s.Length {
			return s.From + (s.To-s.From)*float64(at)/float64(s.Length)
		}
		at -= s.Length
	}
	return 0
}

// Requests are those of a load, with exponential gaps and exponential token counts of
// these means: the same ones for the same seed.
func Requests(stretches []Stretch, prompt, output int, seed uint64) []load.Request {
	most := 0.0
	for _, s := range stretches {
		most = max(most, s.From, s.To)
	}
	random := rand.New(rand.NewPCG(seed, 0x7468696e))
	var kept []load.Request
	for _, r := range load.Poisson(most, Length(stretches), prompt, output, seed) {
		if random.Float64()*most < rate(stretches, r.At) {
			kept = append(kept, r)
		}
	}
	return kept
}

// simulated is the same load for the simulator, so much later.
func simulated(requests []load.Request, length, later time.Duration) *simulate.Load {
	l := &simulate.Load{Name: "requests", Length: length + later}
	for _, r := range requests {
		l.Requests = append(l.Requests, simulate.Request{
			At: (r.At + later).Seconds(), In: int32(r.Prompt), Out: int32(r.Output),
		})
	}
	return l
}
