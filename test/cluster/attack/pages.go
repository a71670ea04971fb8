//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// wide are the triggers of a tenant who wants the most read of each pod: as many
// pages as there may be, and of each all kinds of families.
func wide() []map[string]string {
	var triggers []map[string]string
	for i := range pagesOfPod {
		timeout := fmt.Sprintf("%dms", 1000-100*i)
		list := fmt.Sprintf("[{name: %s, type: histogram, quantile: 0.9, upthreshold: 2, downthreshold: 1, metriccachewindow: 10},"+
			" {name: %s, type: gauge, aggregation: windowed-avg, upthreshold: 2, downthreshold: 1, metriccachewindow: 10}]", hostileHistogram, hostileGauge)
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
	if c.allowed, err = c.allowance(ctx, t); err != nil {
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

// round is what was measured before and after all pages were read once.
func (c *campaign) round(ctx context.Context, t *target) (before, after seen, err error) {
	if before, err = c.look(ctx, t); err != nil {
		return before, after, err
	}
	if err = c.asked(ctx, t, before.pods.Hostile+targets); err != nil {
		return before, after, err
	}
	after, err = c.look(ctx, t)
	return before, after, err
}

// attackByPage measures one shape. What else the machine does makes a scrape only
// dearer, so one that seems too dear is measured again.
func (c *campaign) attackByPage(ctx context.Context, t *target, s shape, idle float64) error {
	began := time.Now()
	before := t.under("page " + s.name)
	if err := c.set(ctx, s.name); err != nil {
		return err
	}
	if err := t.forgetPeak(); err != nil {
		return err
	}
	// All scrapes of the shape before have ended by the end of a round.
	if err := c.asked(ctx, t, targets); err != nil {
		return err
	}
	least, words := 0.0, ""
	for try := range tries {
		ratio, found, err := c.compare(ctx, t, idle)
		if err != nil {
			return err
		}
		if try == 0 || ratio < least {
			least, words = ratio, found
		}
		if !s.fetched || least <= c.ratio.budget {
			break
		}
	}
	peak, err := t.peak()
	if err != nil {
		return err
	}
	memory := float64(peak-t.resting) / mb / hostilePods
	c.pod.raise(memory, "page "+s.name)
	if s.fetched {
		c.ratio.raise(least, "page "+s.name)
	} else {
		words = ""
	}
	if failed := t.under("page "+s.name) - before; failed > 0 {
		words += fmt.Sprintf("; %d calls unanswered", failed)
	}
	c.say("page %-20s %5.2f MB for one pod, within %.1f s%s", s.name, memory, time.Since(began).Seconds(), words)
	return nil
}

const (
	// targets is how many pages are read in an interval.
	targets = hostilePods * pagesOfPod
	// tries is how often one that seems too dear is measured, 2 s each.
	tries = 10
)

// allowance is the CPU, in ms, that a scrape may take beside twice that of fetching
// the same page: seven tenths of what an honest page of 8 MB takes to fetch, 1 ms
// where this was written. Any number of ms would be another budget on another machine.
func (c *campaign) allowance(ctx context.Context, t *target) (float64, error) {
	if err := c.set(ctx, "long-lines"); err != nil {
		return 0, err
	}
	if err := c.asked(ctx, t, targets); err != nil {
		return 0, err
	}
	before, after, err := c.round(ctx, t)
	if err != nil {
		return 0, err
	}
	fetches := after.pods.Fetched - before.pods.Fetched
	if fetches == 0 {
		return 0, errors.New("no page of 8 MB was fetched")
	}
	allowed := 0.7 * ms(after.fetcher-before.fetcher) / float64(fetches)
	c.say("a scrape may take %.2f ms of CPU beside twice that of fetching its page", allowed)
	return allowed, nil
}

// compare measures a round of all pages: what a scrape costs in CPU, to what it
// costs to fetch and discard.
func (c *campaign) compare(ctx context.Context, t *target, idle float64) (ratio float64, words string, err error) {
	before, after, err := c.round(ctx, t)
	if err != nil {
		return 0, "", err
	}
	scrapes, fetches := after.pods.Hostile-before.pods.Hostile, after.pods.Fetched-before.pods.Fetched
	if scrapes == 0 || fetches == 0 {
		return 0, fmt.Sprintf("; %d scrapes, %d fetches", scrapes, fetches), nil
	}
	scrape := ms(after.scraper-before.scraper-time.Duration(idle*float64(after.at.Sub(before.at)))) / float64(scrapes)
	fetch := ms(after.fetcher-before.fetcher) / float64(fetches)
	ratio = max(0, scrape-c.allowed) / fetch
	return ratio, fmt.Sprintf("; of %d kB; CPU of a scrape %.2f ms, of fetching and discarding %.2f: ratio %.2f",
		after.pods.Bytes>>10, scrape, fetch, ratio), nil
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
