package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Triggers that ask for different things have different digests, whatever it is
// that they differ in; those that ask for the same have one, whatever the bounds.
func TestADigestTellsTriggersApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := triggers().Draw(t, "a"), triggers().Draw(t, "b")
		a.Bounds, b.Bounds = Bounds{}, Bounds{}
		same := true
		ma, mb := a.Metadata(""), b.Metadata("")
		for key, value := range ma {
			same = same && mb[key] == value
		}
		same = same && len(ma) == len(mb)
		if (a.Digest() == b.Digest()) != same {
			t.Fatalf("%v and %v have the digests %x and %x", ma, mb, a.Digest(), b.Digest())
		}
		bounded := a
		bounded.Bounds = Bounds{Min: 1, Max: 8}
		if bounded.Digest() != a.Digest() {
			t.Fatal("another maximum makes another trigger")
		}
	})
	list := Trigger{List: &List{Metrics: []Metric{{Name: "x", Up: 2, Down: 1, Window: time.Minute}}}}
	other := Trigger{List: &List{Metrics: []Metric{{Name: "x", Up: 3, Down: 1, Window: time.Minute}}}}
	if list.Digest() == other.Digest() {
		t.Error("lists with two thresholds have one digest")
	}
}

func BenchmarkDigest(b *testing.B) {
	trigger := Trigger{Namespace: "default", InferenceSet: "phi-4", Queue: Queue{Metric: DefaultMetric, Target: 10}}
	b.ReportAllocs()
	for b.Loop() {
		trigger.Digest()
	}
}
