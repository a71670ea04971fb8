//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

const (
	// hostileTriggers is how many of each kind one tenant writes.
	hostileTriggers = 4000
	// perObject are in one ScaledObject: an object has a megabyte and a half.
	perObject = 500
	// largest is nearly all that an object's annotations may have.
	largest = 250 << 10
)

// attackByTriggers has one tenant write whatever the API server takes, and KEDA
// call for all of it. The memory that it takes at most, and what of it stays, are
// told apart by a step for each kind.
func (c *campaign) attackByTriggers(ctx context.Context, t *target) error {
	for _, step := range []struct {
		name string
		do   func(context.Context, *target) error
	}{
		{"scrape timeouts", c.manyTimeouts},
		{"SLOs", c.manySLOs},
		{"metrics", c.manyMetrics},
		{"annotations", c.largeAnnotations},
		{"objects", c.largeObjects},
		{"lists", c.longLists},
		{"refusals", c.manyRefusals},
	} {
		before := t.under("triggers: " + step.name)
		if err := t.forgetPeak(); err != nil {
			return err
		}
		if err := step.do(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if err := c.settled(ctx, t); err != nil {
			return err
		}
		peak, err := t.peak()
		if err != nil {
			return err
		}
		live, err := t.live(ctx)
		if err != nil {
			return err
		}
		memory := float64(peak-t.resting) / mb
		c.triggers.raise(memory, step.name)
		c.say("%-20s %6.1f MB at most, %5.1f MB stay; %d calls unanswered", step.name, memory, float64(live-t.live0)/mb,
			t.under("triggers: "+step.name)-before)
	}
	return nil
}

// settled waits until the scaler has no more to do than at rest: half a second
// with less than a fifth of a core.
func (c *campaign) settled(ctx context.Context, t *target) error {
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); {
		before, err := cpu(t.pid)
		if err != nil {
			return err
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		after, err := cpu(t.pid)
		if err != nil {
			return err
		}
		if after-before < 100*time.Millisecond {
			return nil
		}
	}
	return nil
}

// askFor makes KEDA's calls for triggers, as KEDA would for each that was written,
// or as many of them as are answered within some seconds.
func (c *campaign) askFor(ctx context.Context, t *target, triggers []map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	return t.each(ctx, len(triggers), func(i int) *pb.GetMetricsRequest {
		return &pb.GetMetricsRequest{MetricName: "s0", ScaledObjectRef: &pb.ScaledObjectRef{
			Name: "hostile", Namespace: hostile, ScalerMetadata: c.world.metadata(hostile, hostile, triggers[i]),
		}}
	})
}

// write makes ScaledObjects of that prefix, with these triggers.
func (c *campaign) write(ctx context.Context, prefix string, triggers []map[string]string) error {
	writing, ctx := errgroup.WithContext(ctx)
	writing.SetLimit(4)
	for i := 0; i < len(triggers); i += perObject {
		writing.Go(func() error {
			return c.world.scaledObject(ctx, hostile, prefix+strconv.Itoa(i), hostile, triggers[i:min(i+perObject, len(triggers))]...)
		})
	}
	return writing.Wait()
}

func triggersOf(n int, trigger func(i int) map[string]string) []map[string]string {
	all := make([]map[string]string, n)
	for i := range all {
		all[i] = trigger(i)
	}
	return all
}

// manyTimeouts differ by a microsecond, and by 100 ms: each may be a page of its
// own.
func (c *campaign) manyTimeouts(ctx context.Context, t *target) error {
	triggers := triggersOf(hostileTriggers, func(i int) map[string]string {
		return map[string]string{"metricName": "vllm:num_requests_waiting", "threshold": "10", "scrapeTimeout": fmt.Sprintf("%dus", 100_000*(1+i%2*(i/2%300))+i)}
	})
	return errors.Join(c.write(ctx, "timeout", triggers), c.askFor(ctx, t, triggers))
}

// manySLOs are estimators of their own each.
func (c *campaign) manySLOs(ctx context.Context, t *target) error {
	triggers := triggersOf(hostileTriggers, func(i int) map[string]string {
		slo := fmt.Sprintf("%dus", 1_000_000+i)
		if i%2 == 0 {
			return map[string]string{"metricName": "vllm:num_requests_waiting", "threshold": "10", "downGuard": "true", "ttftSLO": slo}
		}
		return map[string]string{"saturation": "true", "ttftSLO": slo}
	})
	return errors.Join(c.write(ctx, "slo", triggers), c.askFor(ctx, t, triggers))
}

// manyMetrics that no page has are told of each. KEDA's calls alone carry them:
// whoever writes a trigger can change it at any time.
func (c *campaign) manyMetrics(ctx context.Context, t *target) error {
	return c.askFor(ctx, t, triggersOf(2*hostileTriggers, func(i int) map[string]string {
		return map[string]string{"metricName": fmt.Sprintf("m%d%s", i, strings.Repeat("x", 200)), "threshold": fmt.Sprintf("%d.5", i)}
	}))
}

// several does something for each name, some at a time.
func several(ctx context.Context, names []string, do func(context.Context, string) error) error {
	doing, ctx := errgroup.WithContext(ctx)
	doing.SetLimit(4)
	for _, name := range names {
		doing.Go(func() error { return do(ctx, name) })
	}
	return doing.Wait()
}

// largeAnnotations are of the scaler's own prefix, and of others.
func (c *campaign) largeAnnotations(ctx context.Context, _ *target) error {
	return several(ctx, names("large", 60), func(ctx context.Context, name string) error {
		key := "scaledobject.kaito.sh/metrics"
		if strings.HasSuffix(name, "5") {
			key = "scaledobject.kaito.sh/" + name
		}
		return c.world.inferenceSet(ctx, hostile, name, 1, map[string]string{
			"scaledobject.kaito.sh/auto-provision": "true", "scaledobject.kaito.sh/max-replicas": "5", key: strings.Repeat("[", largest),
		})
	})
}

// largeObjects are large in what the scaler watches beside annotations of its
// own: ScaledObjects, and the conditions of Workspaces.
func (c *campaign) largeObjects(ctx context.Context, _ *target) error {
	err := several(ctx, names("heavy", 40), func(ctx context.Context, name string) error {
		so := &kedav1alpha1.ScaledObject{
			ObjectMeta: metav1.ObjectMeta{Namespace: hostile, Name: name, Annotations: map[string]string{"x": strings.Repeat("x", largest)}},
			Spec: kedav1alpha1.ScaledObjectSpec{
				ScaleTargetRef: &kedav1alpha1.ScaleTarget{APIVersion: kaitoAPI, Kind: "InferenceSet", Name: hostile},
				Triggers: []kedav1alpha1.ScaleTriggers{{Type: "external", Metadata: c.world.metadata(hostile, hostile, map[string]string{
					"metricName": "vllm:num_requests_waiting", "threshold": "10", "x": strings.Repeat("x", largest),
				})}},
			},
		}
		return c.world.client.Create(ctx, so)
	})
	if err != nil {
		return err
	}
	return several(ctx, names("faulty", 20), func(ctx context.Context, name string) error {
		u := object("Workspace", hostile, name)
		u.SetLabels(map[string]string{kaito.LabelCreatedBy: hostile})
		u.Object["resource"] = map[string]any{"labelSelector": map[string]any{"matchLabels": map[string]any{"apps": name}}}
		if err := c.world.client.Create(ctx, u); err != nil {
			return err
		}
		var conditions []any
		for i := range 20 {
			conditions = append(conditions, map[string]any{
				"type": "T" + strconv.Itoa(i), "status": "False", "reason": "R", "message": strings.Repeat("x", 30_000),
				"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
			})
		}
		u.Object["status"] = map[string]any{"state": "Pending", "conditions": conditions}
		return c.world.client.Status().Update(ctx, u)
	})
}

// longLists are lists of metrics that are long, deep or refer to themselves.
func (c *campaign) longLists(ctx context.Context, t *target) error {
	laughs := billionLaughs()
	lists := []string{
		laughs, "- " + laughs,
		strings.Repeat("[", 100_000), strings.Repeat("- ", 50_000), strings.Repeat("{a: ", 50_000),
		"[" + strings.Repeat("{name: g, type: gauge, upthreshold: 2, downthreshold: 1},", 3000) + "]",
		strings.Repeat("- name: g\n  type: gauge\n", 9000),
	}
	err := several(ctx, names("list", len(lists)), func(ctx context.Context, name string) error {
		i, err := strconv.Atoi(strings.TrimPrefix(name, "list"))
		if err != nil {
			return err
		}
		return c.world.inferenceSet(ctx, hostile, name, 1, map[string]string{
			"scaledobject.kaito.sh/auto-provision": "true", "scaledobject.kaito.sh/max-replicas": "5", "scaledobject.kaito.sh/metrics": lists[i],
		})
	})
	if err != nil {
		return err
	}
	return c.askFor(ctx, t, triggersOf(200, func(i int) map[string]string {
		return map[string]string{"metrics": lists[i%len(lists)]}
	}))
}

// billionLaughs is YAML of a kilobyte that would be a billion words.
func billionLaughs() string {
	var b strings.Builder
	b.WriteString("a: &a [x,x,x,x,x,x,x,x,x]\n")
	for i := 'b'; i < 'k'; i++ {
		fmt.Fprintf(&b, "%c: &%c [%s]\n", i, i, strings.TrimSuffix(strings.Repeat("*"+string(i-1)+",", 9), ","))
	}
	return b.String()
}

// manyRefusals change an annotation to another wrong value, again and again.
func (c *campaign) manyRefusals(ctx context.Context, _ *target) error {
	const name = "wrong"
	if err := c.world.inferenceSet(ctx, hostile, name, 1, map[string]string{"scaledobject.kaito.sh/auto-provision": "true"}); err != nil {
		return err
	}
	return several(ctx, names("value", 1000), func(ctx context.Context, value string) error {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{"scaledobject.kaito.sh/max-replicas":%q}}}`, value+strings.Repeat("x", 1000))
		return c.world.client.Patch(ctx, object("InferenceSet", hostile, name), client.RawPatch(types.MergePatchType, []byte(patch)))
	})
}
