//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// attackByStrangers has one client without a certificate do its worst on all
// three ports, one attack after the other.
func (c *campaign) attackByStrangers(ctx context.Context, t *target) error {
	// Each connection is a file on both sides.
	connections := min(4000, manyFiles()/5)
	for _, q := range []strangerQuestion{
		{Attack: "watch streams", Count: 100_000, For: 8 * time.Second},
		{Attack: "rapid resets", Count: 100_000, For: 5 * time.Second},
		{Attack: "pings", Count: 200_000, For: 3 * time.Second},
		{Attack: "endless headers", Count: 20_000, For: 3 * time.Second},
		{Attack: "header bombs", Count: 1000, For: 4 * time.Second},
		{Attack: "half messages", Count: 10_000, For: 4 * time.Second},
		{Attack: "silent connections", Count: connections, For: 7 * time.Second},
		{Attack: "slow headers", Count: connections, For: 6 * time.Second},
		{Attack: "stalled handshakes", Count: connections, For: 5 * time.Second},
		{Attack: "flood of handshakes", Count: 6400, For: 5 * time.Second},
		{Attack: "slow readers", Count: connections, For: 6 * time.Second},
		{Attack: "flood of connections", Count: 16_000, For: 4 * time.Second},
	} {
		if err := c.attackByStranger(ctx, t, q); err != nil {
			return fmt.Errorf("%s: %w", q.Attack, err)
		}
	}
	return nil
}

func (c *campaign) attackByStranger(ctx context.Context, t *target, q strangerQuestion) error {
	q.GRPC, q.Metrics, q.Health = t.GRPC, t.Metrics, t.Scaler.Health
	before := t.under(q.Attack)
	if err := t.forgetPeak(); err != nil {
		return err
	}
	var answer strangerAnswer
	if err := c.stranger.ask(ctx, q, &answer); err != nil {
		return err
	}
	peak, err := t.peak()
	if err != nil {
		return err
	}
	memory := float64(peak-t.resting) / mb
	c.health.raise(memory, q.Attack)
	if answer.Failed == "" {
		answer.Failed = "was let"
	}
	c.say("%-20s %6d done (%s): %6.1f MB, %d calls unanswered", q.Attack, answer.Done, answer.Failed, memory, t.under(q.Attack)-before)
	select {
	case <-t.Done():
		return fmt.Errorf("the scaler ended: %w", t.Err())
	default:
		return nil
	}
}

// attackByTokens shows a new token at the metrics each time, while the scaler has
// an InferenceSet to provision: the flood must not take its API client's rate.
func (c *campaign) attackByTokens(ctx context.Context, t *target) error {
	done := make(chan error, 1)
	go func() {
		// In the middle of it.
		if err := pause(ctx, time.Second); err != nil {
			done <- err
			return
		}
		start := time.Now()
		err := c.provisionAnother(ctx)
		c.say("random tokens: an InferenceSet had its ScaledObject after %s", time.Since(start).Round(time.Millisecond))
		done <- err
	}()
	err := c.attackByStranger(ctx, t, strangerQuestion{Attack: "random tokens", Count: 64_000, For: 6 * time.Second})
	if other := <-done; err == nil {
		err = other
	}
	return err
}

func (c *campaign) provisionAnother(ctx context.Context) error {
	const name = "another"
	if err := c.world.inferenceSet(ctx, honest, name, 1, map[string]string{
		"scaledobject.kaito.sh/auto-provision": "true", "scaledobject.kaito.sh/max-replicas": "5",
		"scaledobject.kaito.sh/threshold": "10",
	}); err != nil {
		return err
	}
	_, err := c.world.provisioned(ctx, honest, name)
	return err
}
