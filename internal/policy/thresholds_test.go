package policy

import "testing"

// One threshold for both directions leaves no room between them, which is its
// user's choice: at the threshold itself nothing moves.
func TestBothThresholdsOfAMetricMayBeTheSame(t *testing.T) {
	got, _, err := Parse(Request{Annotations: ask("max-replicas", "5", "metrics",
		`[{name: vllm:num_requests_waiting, type: gauge, upthreshold: 5, downthreshold: 5}]`)})
	if err != nil {
		t.Fatal(err)
	}
	if m := got.List.Metrics[0]; m.Up != 5 || m.Down != 5 {
		t.Errorf("up %g, down %g: want 5 for both", m.Up, m.Down)
	}
}
