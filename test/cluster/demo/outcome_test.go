package main

import (
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/load"
)

// run of a demo: the replicas wanted, second by second.
func recorded(wanted ...int) *record {
	r := &record{
		began: map[phase]time.Duration{faster: 2 * time.Second, quiet: 20 * time.Second},
		load:  load.Stats{Sent: 100, Refused: 5},
	}
	for i, n := range wanted {
		r.points = append(r.points, point{At: time.Duration(i) * time.Second, Wanted: n, Serving: n, Targets: "25/10 (avg)"})
	}
	r.last = scene{
		At:  time.Duration(len(wanted)) * time.Second,
		Set: inferenceSet{Name: "phi-4", Wanted: int32(wanted[len(wanted)-1]), Ready: 1},
		HPA: autoscaler{Exists: true}, Events: []event{{Reason: "ScaledObjectCreated"}},
	}
	return r
}

// at repeats n for so many seconds.
func steady(n, seconds int) []int {
	out := make([]int, seconds)
	for i := range out {
		out[i] = n
	}
	return out
}

func wantedOver(parts ...[]int) []int {
	var all []int
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestChecksKnowGoodFromBad(t *testing.T) {
	good := wantedOver(steady(0, 1), steady(1, 5), steady(2, 10), steady(3, 12), steady(2, 10), steady(1, 3))
	for _, tt := range []struct {
		name  string
		run   *record
		fails string
	}{
		{"good", recorded(good...), ""},
		{"too few", recorded(wantedOver(steady(1, 5), steady(2, 10), steady(1, 3))...), "Under load: 1 → 2 replicas"},
		{"never back", recorded(good[:30]...), "After the load: back to 2 replica"},
		{"two at once", recorded(wantedOver(steady(1, 5), steady(3, 10), steady(2, 10), steady(1, 3))...), "One replica at a time"},
		{"too fast", recorded(wantedOver(steady(1, 5), steady(2, 5), steady(3, 10), steady(2, 10), steady(1, 3))...), "ups 5 s apart"},
		{"before its time", recorded(wantedOver(steady(1, 1), good[6:])...), "The default windows held"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var failed []string
			for _, c := range tt.run.checks(leisurely()) {
				if !c.OK {
					failed = append(failed, c.Text)
				}
			}
			switch {
			case tt.fails == "" && len(failed) > 0:
				t.Errorf("fails: %q", failed)
			case tt.fails != "" && (len(failed) != 1 || !strings.Contains(failed[0], tt.fails)):
				t.Errorf("fails %q, want %q", failed, tt.fails)
			}
		})
	}
}

func TestARequestWithoutAReplicaFails(t *testing.T) {
	r := recorded(1, 2, 3)
	r.load.Unserved = 1
	checks := r.checks(leisurely())
	if last := checks[len(checks)-1]; last.OK || !strings.Contains(last.Text, "1 without a replica") {
		t.Errorf("%+v", last)
	}
}
