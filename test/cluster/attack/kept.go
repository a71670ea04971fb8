//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	// keptName is the namespace and the InferenceSet of pods of which as much as
	// can be is kept.
	keptName = "kept"
	keptPods = 8
	// keptMetrics is as many as a list may have.
	keptMetrics = 16
	// keptBuckets is as many buckets as a family may have (see docs/security.md).
	keptBuckets = 200
	// keptVariants are pages that differ in what could be shared between two of
	// them: the bounds of the buckets, and the process that they are of.
	keptVariants = 8
)

// keeper is a scaler that reads those pods alone, beside all other parts: what is
// kept for an hour's window takes minutes to gather.
type keeper struct {
	*target
	since time.Time
}

// startKept starts it and lets it begin.
func (c *campaign) startKept(ctx context.Context) (*keeper, error) {
	if err := c.world.namespace(ctx, keptName); err != nil {
		return nil, err
	}
	if err := c.world.inferenceSet(ctx, keptName, keptName, keptPods, nil); err != nil {
		return nil, err
	}
	for i := range keptPods {
		if err := c.world.replica(ctx, keptName, keptName, i, podIP(keptNet, i), c.port); err != nil {
			return nil, err
		}
	}
	k := &keeper{}
	var err error
	if k.target, err = c.startScaler(ctx, keptName, "--watch-namespaces="+keptName); err != nil {
		return nil, err
	}
	if k.live0, err = k.live(ctx); err != nil {
		return nil, err
	}
	k.since = time.Now()
	return k, c.world.scaledObject(ctx, keptName, keptName, keptName, long()...)
}

// long are the triggers of a tenant who wants the most kept of each pod.
func long() []map[string]string {
	var triggers []map[string]string
	for i := range pagesOfPod {
		timeout := fmt.Sprintf("%dms", 1000-100*i)
		var items []string
		for m := range keptMetrics {
			items = append(items, fmt.Sprintf("{name: k%d, type: histogram, quantile: 0.9, upthreshold: 2, downthreshold: 1, metriccachewindow: 3600}", m))
		}
		triggers = append(triggers,
			map[string]string{"scrapeTimeout": timeout, "metrics": "[" + strings.Join(items, ", ") + "]"},
			map[string]string{"scrapeTimeout": timeout, "metricName": hostileGauge, "threshold": "10", "aggregation": "windowed-avg", "metricCacheWindow": "3600"},
			map[string]string{"scrapeTimeout": timeout, "metricName": "absent", "threshold": "10", "aggregation": "gate", "metricCacheWindow": "3600"},
			map[string]string{"scrapeTimeout": timeout, "saturation": "true"},
		)
	}
	return triggers
}

// keptPage is one of those pages: honest, and then as many histograms as may be
// asked for, and names of families that nobody asks for.
func keptPage(variant int) []byte {
	var b strings.Builder
	for m := range keptMetrics {
		fmt.Fprintf(&b, "# TYPE k%d histogram\n", m)
		for i := range keptBuckets - 1 {
			fmt.Fprintf(&b, "k%d_bucket{le=\"%d.%d\"} %d\n", m, i, variant, i)
		}
		fmt.Fprintf(&b, "k%d_bucket{le=\"+Inf\"} %d\nk%d_sum 1\nk%d_count %d\n", m, keptBuckets, m, m, keptBuckets)
	}
	for i := range 250 {
		fmt.Fprintf(&b, "# TYPE n%d%s gauge\n", i, strings.Repeat("n", 240))
	}
	b.WriteString("g 1\n")
	page := ok(b.String())
	// Another process each time, of the same length.
	return []byte(strings.Replace(string(page), "\nprocess_start_time_seconds 179", fmt.Sprintf("\nprocess_start_time_seconds 1%d9", variant), 1))
}

// endKept measures what is kept, while no page is in the middle of being read.
func (c *campaign) endKept(ctx context.Context, k *keeper) error {
	if err := c.pods.ask(ctx, podsQuestion{Silent: true}, &podsAnswer{}); err != nil {
		return err
	}
	if err := pause(ctx, 2*interval); err != nil {
		return err
	}
	live, err := k.live(ctx)
	if err != nil {
		return err
	}
	memory := float64(live-k.live0) / mb / keptPods
	c.kept.raise(memory, fmt.Sprintf("%d s of %d histograms in %d windows of an hour", int(time.Since(k.since).Seconds()), keptMetrics, pagesOfPod))
	c.say("kept: %.2f MB of one pod after %s", memory, time.Since(k.since).Round(time.Second))
	if c.profiles != "" {
		err = c.profile(ctx, k.target, keptName)
	}
	return err
}
