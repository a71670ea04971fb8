package engine

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/automatic"
	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// Learner is a mode that learns what a replica serves.
type Learner interface {
	// Judge sees the fleet each time that the HPA asks.
	Judge(fleet sample.Fleet, now time.Time)
	// Capacity is the requests a second of the load that was seen which one replica is
	// taken to serve.
	Capacity() float64
}

// NewLearners are the modes by name: automatic mode, and automatic mode as it is going to
// be.
func NewLearners() (map[string]Learner, error) {
	p, _, err := policy.Parse(policy.Request{Annotations: map[string]string{
		policy.Prefix + "auto-provision": "true", policy.Prefix + "max-replicas": "10",
		policy.Prefix + "ttft-slo": sweptSLO.TTFT.String(), policy.Prefix + "itl-slo": sweptSLO.ITL.String(),
	}})
	if err != nil {
		return nil, err
	}
	return map[string]Learner{
		"automatic": &automaticNow{trigger: p.Trigger("default", "engine")}, "automatic-next": &automaticNext{},
	}, nil
}

// automaticNow is automatic mode. What it takes a replica to serve is the load divided by
// the demand in replicas, both of the last minutes.
type automaticNow struct {
	trigger policy.Trigger
	mind    decision.Scaler
	seen    []seen
}

// seen is what there was at one time.
type seen struct {
	at time.Time
	// started are requests that had their first token, since the process began.
	started, demand float64
}

// lately are those that automaticNow's capacity is of.
const lately = 5 * time.Minute

func (a *automaticNow) Judge(fleet sample.Fleet, now time.Time) {
	v := a.mind.Recommend(a.trigger, fleet, now)
	if v.Load == nil || fleet.Replicas[0].Last == nil {
		return
	}
	f, _ := fleet.Replicas[0].Last.Family(policy.FamilyTTFT)
	a.seen = append(a.seen, seen{now, f.Buckets.Count(), v.Load.Demand})
}

func (a *automaticNow) Capacity() float64 {
	if len(a.seen) == 0 {
		return math.NaN()
	}
	last := a.seen[len(a.seen)-1]
	first, demand, n := last, 0.0, 0.0
	for i := len(a.seen) - 1; i >= 0 && last.at.Sub(a.seen[i].at) <= lately; i-- {
		first = a.seen[i]
		demand += first.demand
		n++
	}
	return (last.started - first.started) / last.at.Sub(first.at).Seconds() / (demand / n)
}

// automaticNext is automatic mode as it is going to be. It learns a load at which one
// point more is late, and what the mean request is of it.
type automaticNext struct {
	scaler automatic.Scaler
}

func (a *automaticNext) policy() automatic.Policy {
	return automatic.Policy{
		Min: 1, Max: 10, Budget: tolerated,
		SLO: sample.SLO{FirstToken: sweptSLO.TTFT.Seconds(), PerToken: sweptSLO.ITL.Seconds()},
	}
}

func (a *automaticNext) Judge(fleet sample.Fleet, now time.Time) {
	a.scaler.Recommend(a.policy(), fleet, now)
}

func (a *automaticNext) Capacity() float64 {
	m := &a.scaler.Model
	curve := m.Curve(a.policy().SLO, false)
	return curve.Fill(tolerated) / m.Cost()
}

// Learn shows a course to a learner as that of the only replica, which KAITO's benchmark
// found this peak of; 0 if there was none.
func (c Course) Learn(l Learner, peak float64) {
	var history sample.History
	judged := c[0].At
	for _, s := range c {
		history.Add(s, decision.SaturationReading().Window)
		if s.At.Sub(judged) < EvaluationInterval-ScrapeInterval/2 {
			continue
		}
		judged = s.At
		began := c[0].At
		l.Judge(sample.Fleet{
			Desired: 1, Freshness: 3 * ScrapeInterval, Interval: ScrapeInterval, Grace: 10 * time.Minute,
			PeakTokensPerMinute: peak,
			Replicas: []sample.Replica{{
				Pod: "engine-0", Phase: sample.Serving, Ordered: began, Expected: began, ReadySince: began,
				History: history, Last: history.Newest(),
			}},
		}, s.At)
	}
}

// Learned is what each mode takes a replica to serve, by its course and by the peak that
// KAITO's benchmark found.
func (c Course) Learned(peak float64) (map[string]float64, error) {
	learners, err := NewLearners()
	if err != nil {
		return nil, err
	}
	learned := map[string]float64{}
	for mode, l := range learners {
		c.Learn(l, peak)
		learned[mode] = l.Capacity()
	}
	return learned, nil
}

// LearnedOfSimulated are those learned of a simulated engine that serves these requests.
func LearnedOfSimulated(ctx context.Context, physics simulate.Engine, requests []load.Request) (map[string]float64, error) {
	reading := decision.SaturationReading()
	var c Course
	var began time.Time
	end := requests[len(requests)-1].At
	err := Watched(ctx, physics, requests, reading.Families, reading.Window, func(fleet sample.Fleet, now time.Time) {
		if began.IsZero() {
			began = now
		}
		// An engine that has nothing to do says nothing of a capacity.
		if s := fleet.Replicas[0].Last; s != nil && now.Sub(began) <= end {
			c = append(c, s)
		}
	})
	if err != nil {
		return nil, err
	}
	return c.Learned(physics.PeakTokensPerMinute())
}

// CompareCapacity holds what automatic mode as it is going to be learned of the slow GPU
// against its capacity. Pages tell what is late by the bounds of histograms, 75 ms for an
// SLO of 60, so what is learned may be anything from the capacity by the one to that by
// the other, and a tenth beyond.
func CompareCapacity(tb testing.TB, c Course) error {
	tb.Helper()
	physics := SlowGPU()
	bySLO, judged, err := SimulatedCapacities(tb.Context(), physics, 30_000)
	if err != nil {
		return err
	}
	learned, err := c.Learned(physics.PeakTokensPerMinute())
	if err != nil {
		return err
	}
	is := learned["automatic-next"]
	tb.Logf("the capacity is %.2f/s by the SLO, %.2f/s as it is judged; %.2f/s was learned by automatic mode, %.2f/s by automatic mode as it is going to be",
		bySLO, judged, learned["automatic"], is)
	fmt.Printf("figure engine_capacity_error %.3f\n", math.Abs(is/bySLO-1))
	if !(is >= .9*bySLO && is <= 1.1*judged) {
		return fmt.Errorf("%.2f/s were learned, between %.2f/s and %.2f/s can be served", is, bySLO, judged)
	}
	return nil
}
