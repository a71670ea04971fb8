package decision

import (
	"testing"
	"time"
)

// BenchmarkUpdate is one judgement of a fleet of five that has been known for a
// day, in a minute that was evaluated before.
func BenchmarkUpdate(b *testing.B) {
	var m Scaler
	workers := make([]*worker, 5)
	for i := range workers {
		workers[i] = worksAt(float64(3 + i))
	}
	f := thinks(&m, saturates(), 0, 10*time.Minute, 5, workers...)
	m.Update(saturates(), f, t0.Add(10*time.Minute))
	b.ReportAllocs()
	for b.Loop() {
		m.Update(saturates(), f, t0.Add(10*time.Minute))
	}
}
