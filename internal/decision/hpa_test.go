package decision

import "testing"

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
		if got := HPA(tt.total, tt.target, tt.current, 0.1, 0.5); got != tt.want {
			t.Errorf("%s: %v over %v at %d replicas makes %d, want %d", tt.story, tt.total, tt.target, tt.current, got, tt.want)
		}
	}
}
