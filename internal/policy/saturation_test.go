package policy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestABoundAloneAsksForSaturation(t *testing.T) {
	usual := &Saturation{TTFT: 2500 * time.Millisecond, ITL: 75 * time.Millisecond}
	down := Pace{Window: 30 * time.Second, Cooldown: time.Minute, Step: 1}
	for _, tt := range []struct {
		name string
		req  Request
		want Policy
	}{
		{
			"max-replicas",
			Request{Annotations: ask("max-replicas", "8")},
			Policy{Bounds: Bounds{Min: 1, Max: 8}, Saturation: usual, Up: Pace{Cooldown: 15 * time.Second, Step: 8}, Down: down},
		},
		{
			"nodeCountLimit",
			Request{Annotations: ask(), NodeCountLimit: new(int64(10)), NodesPerReplica: 2},
			Policy{Bounds: Bounds{Min: 1, Max: 5}, Saturation: usual, Up: Pace{Cooldown: 15 * time.Second, Step: 5}, Down: down},
		},
		{
			"other promises",
			Request{Annotations: ask("max-replicas", "3", "ttft-slo", "1500ms", "itl-slo", "0.1s")},
			Policy{
				Bounds: Bounds{Min: 1, Max: 3}, Saturation: &Saturation{TTFT: 1500 * time.Millisecond, ITL: 100 * time.Millisecond},
				Up: Pace{Cooldown: 15 * time.Second, Step: 3}, Down: down,
			},
		},
		{
			"a large fleet",
			Request{Annotations: ask("max-replicas", "35")},
			Policy{
				Bounds: Bounds{Min: 1, Max: 35}, Saturation: usual, Up: Pace{Cooldown: 15 * time.Second, Step: 35},
				Down: Pace{Window: 30 * time.Second, Cooldown: time.Minute, Step: 3},
			},
		},
		{
			"with another pace",
			Request{Annotations: ask("max-replicas", "8",
				"evaluationwindow", "2m", "scaleupcooldown", "60", "scaledowncooldown", "10m")},
			Policy{
				Bounds: Bounds{Min: 1, Max: 8}, Saturation: usual,
				Up:   Pace{Window: 2 * time.Minute, Cooldown: time.Minute, Step: 1},
				Down: Pace{Window: 2 * time.Minute, Cooldown: 10 * time.Minute, Step: 1},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, notes, err := Parse(tt.req)
			if err != nil || len(notes) > 0 {
				t.Fatal(err, notes)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("policy (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAThresholdIsGuardedUnlessItIsTurnedOff(t *testing.T) {
	usual := &Saturation{TTFT: 2500 * time.Millisecond, ITL: 75 * time.Millisecond}
	for value, want := range map[string]*Saturation{"unset": usual, "true": usual, "false": nil} {
		var pairs []string
		if value != "unset" {
			pairs = []string{"downguard", value}
		}
		got, _, err := Parse(Request{Annotations: ask(append(pairs, "threshold", "10", "max-replicas", "5")...)})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Queue.Guard); diff != "" {
			t.Errorf("downguard %s (-want +got):\n%s", value, diff)
		}
	}
}

func TestSaturationIsPublishedAsReplicas(t *testing.T) {
	if metric, target := (Trigger{Saturation: &Saturation{}}).Published(); metric != "desired-replicas" || target != 1 {
		t.Errorf("%s against %g", metric, target)
	}
}

// No page tells two times of one bucket apart, and whoever asks for a time within one
// is told where it is judged.
func TestAnSLOWithinABucketIsToldToBeJudgedAtItsBound(t *testing.T) {
	for _, tt := range []struct {
		ttft, itl time.Duration
		want      string
	}{
		{DefaultTTFT, DefaultITL, ""},
		{time.Second, 50 * time.Millisecond, ""},
		{2 * time.Second, 60 * time.Millisecond, "judged at 2.5s and 75ms, the next bounds of vLLM's histograms"},
		{2501 * time.Millisecond, 76 * time.Millisecond, "judged at 5s and 100ms, the next bounds of vLLM's histograms"},
		{2500 * time.Millisecond, 60 * time.Millisecond, "judged at 2.5s and 75ms, the next bounds of vLLM's histograms"},
		{minTTFT, minITL, "judged at 100ms and 10ms, the next bounds of vLLM's histograms"},
		{maxTTFT, maxITL, "judged at 1m20s and 1s, the next bounds of vLLM's histograms"},
	} {
		if got := (&Saturation{TTFT: tt.ttft, ITL: tt.itl}).Judged(); got != tt.want {
			t.Errorf("%v and %v: %q, want %q", tt.ttft, tt.itl, got, tt.want)
		}
	}
}
