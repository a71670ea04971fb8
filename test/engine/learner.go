package engine

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/automatic"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// Learner is automatic mode, which learns what a replica serves.
type Learner struct {
	scaler automatic.Scaler
}

func (*Learner) policy() automatic.Policy {
	return automatic.Policy{
		Min: 1, Max: 10, Budget: tolerated,
		SLO: sample.SLO{FirstToken: sweptSLO.TTFT.Seconds(), PerToken: sweptSLO.ITL.Seconds()},
	}
}

// Capacity is the requests a second of the load that was seen which one replica is taken to
// serve: the load at which one point more is late, and what the mean request is of it.
func (l *Learner) Capacity() float64 {
	m := &l.scaler.Model
	curve := m.Curve(l.policy().SLO, false)
	return curve.Fill(tolerated) / m.Cost()
}

// reading is what automatic mode reads.
func reading() policy.Reading { return policy.Trigger{Saturation: &policy.Saturation{}}.Reading() }

// Learn shows a course to a learner as that of the only replica, which KAITO's benchmark
// found this peak of; 0 if there was none.
func (c Course) Learn(l *Learner, peak float64) {
	var history sample.History
	judged := c[0].At
	for _, s := range c {
		history.Add(s, reading().Window)
		if s.At.Sub(judged) < EvaluationInterval-ScrapeInterval/2 {
			continue
		}
		judged = s.At
		began := c[0].At
		l.scaler.Recommend(l.policy(), sample.Fleet{
			Desired: 1, Freshness: 3 * ScrapeInterval, Interval: ScrapeInterval, Grace: 10 * time.Minute,
			PeakTokensPerMinute: peak,
			Replicas: []sample.Replica{{
				Pod: "engine-0", Phase: sample.Serving, Ordered: began, Expected: began, ReadySince: began,
				History: history, Last: history.Newest(),
			}},
		}, s.At)
	}
}

// Learned is what automatic mode takes a replica to serve, by its course and by the peak
// that KAITO's benchmark found.
func (c Course) Learned(peak float64) float64 {
	var l Learner
	c.Learn(&l, peak)
	return l.Capacity()
}

// LearnedOfSimulated is what it learns of a simulated engine that serves these requests.
func LearnedOfSimulated(ctx context.Context, physics simulate.Engine, requests []load.Request) (float64, error) {
	reading := reading()
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
		return 0, err
	}
	return c.Learned(physics.PeakTokensPerMinute()), nil
}

// CompareCapacity holds what automatic mode learned of the slow GPU against its capacity. Pages tell what is late by the bounds of histograms, 75 ms for an
// SLO of 60, so what is learned may be anything from the capacity by the one to that by
// the other, and a tenth beyond.
func CompareCapacity(tb testing.TB, c Course) error {
	tb.Helper()
	physics := SlowGPU()
	bySLO, judged, err := SimulatedCapacities(tb.Context(), physics, 30_000)
	if err != nil {
		return err
	}
	is := c.Learned(physics.PeakTokensPerMinute())
	tb.Logf("the capacity is %.2f/s by the SLO, %.2f/s as it is judged; %.2f/s was learned", bySLO, judged, is)
	fmt.Printf("figure engine_capacity_error %.3f\n", math.Abs(is/bySLO-1))
	if !(is >= .9*bySLO && is <= 1.1*judged) {
		return fmt.Errorf("%.2f/s were learned, between %.2f/s and %.2f/s can be served", is, bySLO, judged)
	}
	return nil
}
