package simulate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// seen is what a policy was given at a time, and its answer.
type seen struct {
	at    time.Time
	fleet sample.Fleet
	call  Call
}

// recorded is a policy that notes all that it is given.
func recorded(p Policy, into *[]seen) Policy {
	return Policy{Name: p.Name, New: func(s Setting) (Scaler, error) {
		scaler, err := p.New(s)
		judge := scaler.Judge
		scaler.Judge = func(fleet sample.Fleet, now time.Time) Call {
			call := judge(fleet, now)
			*into = append(*into, seen{now, fleet, call})
			return call
		}
		return scaler, err
	}}
}

// Policies see pages that were scraped, and what the API server knows, alone: a
// second one that is given these, with no simulation behind them, decides the
// same. A replica that hasn't served has nothing to read.
func TestPoliciesSeeReadingsAlone(t *testing.T) {
	s := world()
	s.Stuck, s.Loss = .2, .1
	for _, p := range []Policy{Automatic("automatic"), GuardedQueue("guarded", 10), MetricList("list", 10, 30)} {
		var all []seen
		play(t, s, loadOf(&Conversation, Spikes(.2, 20*time.Minute, 8*time.Minute), 3, 45*time.Minute), recorded(p, &all))
		again, err := p.New(s)
		if err != nil {
			t.Fatal(err)
		}
		moved := false
		for _, one := range all {
			if diff := cmp.Diff(one.call, again.Judge(one.fleet, one.at)); diff != "" {
				t.Fatalf("%s after %v:\n%s", p.Name, one.at.Sub(start), diff)
			}
			moved = moved || one.fleet.Desired != s.Initial
			for _, r := range one.fleet.Replicas {
				if r.Phase == sample.Starting && (r.Last != nil || !r.Expected.IsZero() || !r.ReadySince.IsZero()) {
					t.Fatalf("%s is told of a replica that hasn't served: %+v", p.Name, r)
				}
				if r.Last != nil && r.Last.At.After(one.at) {
					t.Fatalf("%s is given a page of the future", p.Name)
				}
			}
		}
		if len(all) < 100 || p.Name == "automatic" && !moved {
			t.Errorf("%s was asked %d times, moved %t", p.Name, len(all), moved)
		}
	}
}
