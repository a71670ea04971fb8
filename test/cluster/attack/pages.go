//go:build linux

package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// wide are the triggers of a tenant who wants the most read of each pod: as many
// pages as there may be, and of each all kinds of families.
func wide() []map[string]string {
	var triggers []map[string]string
	for i := range pagesOfPod {
		timeout := fmt.Sprintf("%dms", 1000-50*i)
		list := fmt.Sprintf("[{name: %s, type: histogram, quantile: 0.9, upthreshold: 2, downthreshold: 1, metriccachewindow: 10},"+
			" {name: %s, type: gauge, upthreshold: 2, downthreshold: 1, metriccachewindow: 10}]", hostileHistogram, hostileGauge)
		triggers = append(triggers,
			map[string]string{"scrapeTimeout": timeout, "metrics": list},
			map[string]string{"scrapeTimeout": timeout, "metricName": hostileGauge, "threshold": "10"},
			map[string]string{"scrapeTimeout": timeout, "metricName": "vllm:num_requests_waiting", "threshold": "10"},
			map[string]string{"scrapeTimeout": timeout, "saturation": "true"},
		)
	}
	return triggers
}

// pagesOfPod is how many pages of a pod are read at most (see docs/security.md).
const pagesOfPod = 4

// attackByPages has all hostile pods serve one shape after the other.
func (c *campaign) attackByPages(ctx context.Context, t *target) error {
	idle, err := c.idle(ctx, t)
	if err != nil {
		return err
	}
	if err := c.world.scaledObject(ctx, hostile, "wide", hostile, wide()...); err != nil {
		return err
	}
	defer func() { _ = c.world.deleteScaledObject(context.WithoutCancel(ctx), hostile, "wide") }()
	if err := c.fetcher.ask(ctx, fetchQuestion{Pods: hostilePods, Port: c.port, Interval: interval / 2}, &fetchAnswer{}); err != nil {
		return err
	}
	for _, s := range shapes() {
		if err := c.attackByPage(ctx, t, s, idle); err != nil {
			return fmt.Errorf("page %s: %w", s.name, err)
		}
	}
	if err := c.set(ctx, honest); err != nil {
		return err
	}
	return c.fetcher.ask(ctx, fetchQuestion{}, &fetchAnswer{})
}

// idle is the share of a core that the scaler uses while no hostile pod is read.
func (c *campaign) idle(ctx context.Context, t *target) (float64, error) {
	before, err := cpu(t.pid)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := pause(ctx, 3*time.Second); err != nil {
		return 0, err
	}
	after, err := cpu(t.pid)
	return float64(after-before) / float64(time.Since(start)), err
}

func (c *campaign) set(ctx context.Context, name string) error {
	return c.pods.ask(ctx, podsQuestion{Shape: name}, &podsAnswer{})
}

// seen is what was measured until a moment.
type seen struct {
	at               time.Time
	pods             podsAnswer
	scraper, fetcher time.Duration
}

func (c *campaign) look(ctx context.Context, t *target) (s seen, err error) {
	s.at = time.Now()
	if err := c.pods.ask(ctx, podsQuestion{}, &s.pods); err != nil {
		return s, err
	}
	if s.scraper, err = cpu(t.pid); err != nil {
		return s, err
	}
	s.fetcher, err = cpu(c.fetcher.cmd.Process.Pid)
	return s, err
}

// attackByPage measures one shape over a round of all pages, after a first one.
func (c *campaign) attackByPage(ctx context.Context, t *target, s shape, idle float64) error {
	t.under("page " + s.name)
	if err := c.set(ctx, s.name); err != nil {
		return err
	}
	if err := t.forgetPeak(); err != nil {
		return err
	}
	const targets = hostilePods * pagesOfPod
	if err := c.asked(ctx, t, targets); err != nil {
		return err
	}
	before, err := c.look(ctx, t)
	if err != nil {
		return err
	}
	if err := c.asked(ctx, t, before.pods.Hostile+targets); err != nil {
		return err
	}
	after, err := c.look(ctx, t)
	if err != nil {
		return err
	}
	peak, err := t.peak()
	if err != nil {
		return err
	}
	memory := float64(peak-t.resting) / mb / hostilePods
	c.pod.raise(memory, "page "+s.name)
	words := ""
	scrapes, fetches := after.pods.Hostile-before.pods.Hostile, after.pods.Fetched-before.pods.Fetched
	if s.fetched && scrapes > 0 && fetches > 0 {
		scrape := ms(after.scraper-before.scraper-time.Duration(idle*float64(after.at.Sub(before.at)))) / float64(scrapes)
		fetch := ms(after.fetcher-before.fetcher) / float64(fetches)
		ratio := max(0, scrape-1) / fetch
		c.ratio.raise(ratio, "page "+s.name)
		words = fmt.Sprintf("; a scrape takes %.2f ms of CPU, fetching and discarding %.2f: ratio %.2f", scrape, fetch, ratio)
	}
	c.say("page %-20s %4d kB: %5.2f MB for one pod; %d scrapes%s", s.name, after.pods.Bytes>>10, memory, after.pods.Hostile, words)
	return nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// asked waits until the hostile pods were asked so often for their shape, or
// until it is clear that they aren't.
func (c *campaign) asked(ctx context.Context, t *target, n int64) error {
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		var pods podsAnswer
		if err := c.pods.ask(ctx, podsQuestion{}, &pods); err != nil {
			return err
		}
		if pods.Hostile >= n {
			return nil
		}
		select {
		case <-t.Done():
			return fmt.Errorf("the scaler ended: %w", t.Err())
		default:
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// names numbers them.
func names(prefix string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, prefix+strconv.Itoa(i))
	}
	return all
}
