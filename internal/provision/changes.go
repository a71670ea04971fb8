package provision

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"

	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// fieldLabels are the fields of a ScaledObject by the annotations that they come
// from, in the order of an event.
var fieldLabels = []struct{ path, name string }{
	{"minReplicaCount", "min-replicas"},
	{"maxReplicaCount", "max-replicas"},
	{"triggers.metadata.metricName", "metricName"},
	{"triggers.metadata.threshold", "threshold"},
	{pathMetrics, "metrics"},
	{"triggers.metadata.combinePolicy", "combinepolicy"},
	{"triggers.metadata.saturation", "saturation"},
	{"triggers.metadata.downGuard", "downguard"},
	{"triggers.metadata.ttftSLO", "ttft-slo"},
	{"triggers.metadata.itlSLO", "itl-slo"},
	{behavior + "scaleUp.stabilizationWindowSeconds", "window upwards"},
	{behavior + "scaleDown.stabilizationWindowSeconds", "window downwards"},
	{behavior + "scaleUp.policies", "scaleupcooldown"},
	{behavior + "scaleDown.policies", "scaledowncooldown"},
	{behavior + "scaleUp.tolerance", "tolerance upwards"},
	{behavior + "scaleDown.tolerance", "tolerance downwards"},
	{"scaleTargetRef.apiVersion", "KAITO's API"},
}

// additions are reported as added if they were not set: "unset" is no value of theirs.
var additions = []string{pathMetrics, "triggers.metadata.combinePolicy", "triggers.metadata.saturation", "triggers.metadata.downGuard"}

const pathMetrics = "triggers.metadata.metrics"

const behavior = "advanced.horizontalPodAutoscalerConfig.behavior."

// unreportedPaths say again what another field says, or what no owner asked for: KEDA's
// certificate was renewed.
var unreportedPaths = []string{
	"triggers.metadata.minReplicas", "triggers.metadata.maxReplicas",
	"triggers.metadata.scaleUpCooldown", "triggers.metadata.scaleDownCooldown",
	"triggers.metadata." + metaCredentials,
}

// changes says what makes after of before, such as "max-replicas 5 → 8", and
// nothing if nothing that an owner asked for changed.
func changes(before, after *kedav1alpha1.ScaledObject) []string {
	changed, otherTriggers, err := changedFields(before, after)
	switch {
	case err != nil:
		return nil // compare has come by here with both
	case len(changed)+len(otherTriggers) == 0:
		return []string{"owner and mark restored"}
	}
	var out []string
	for _, path := range reportedPaths(changed) {
		if path == pathMetrics {
			if metrics, known := changedMetrics(before, after); known {
				out = append(out, metrics...)
				continue
			}
		}
		out = append(out, fieldLabel(path)+" "+changed[path])
	}
	for _, name := range otherTriggers {
		out = append(out, fmt.Sprintf("trigger %q removed", name))
	}
	return out
}

// changedFields are those of the spec and of our trigger, such as "5 → 8" by path,
// and the names of the other triggers of before.
func changedFields(before, after *kedav1alpha1.ScaledObject) (changed map[string]string, otherTriggers []string, err error) {
	old, err1 := specOf(before)
	fresh, err2 := specOf(after)
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, err
	}
	otherTriggers = loneTrigger(old, before.Spec.Triggers)
	loneTrigger(fresh, after.Spec.Triggers)
	changed = map[string]string{}
	diff(changed, "", old, fresh)
	return changed, otherTriggers, nil
}

// reportedPaths are those of the changes that an owner asked for: first those with a
// label, in the labels' order, then the others by name.
func reportedPaths(changed map[string]string) []string {
	var labelled []string
	for _, f := range fieldLabels {
		if _, found := changed[f.path]; found {
			labelled = append(labelled, f.path)
		}
	}
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(changed)), func(path string) bool {
		return slices.Contains(labelled, path) || slices.Contains(unreportedPaths, path)
	})
	return append(labelled, others...)
}

func fieldLabel(path string) string {
	for _, f := range fieldLabels {
		if f.path == path {
			return f.name
		}
	}
	return strings.TrimPrefix(path, "triggers.")
}

// changedMetrics says what changed in a metric list, metric by metric. It is known
// if there is a list before and after.
func changedMetrics(before, after *kedav1alpha1.ScaledObject) (out []string, known bool) {
	old, fresh := metricList(before), metricList(after)
	if old == nil || fresh == nil {
		return nil, false
	}
	for _, m := range fresh.Metrics {
		i := slices.IndexFunc(old.Metrics, func(o policy.Metric) bool { return measure(o) == measure(m) })
		if i < 0 {
			out = append(out, measure(m)+" added")
			continue
		}
		report := func(what, from, to string) {
			if from != to {
				out = append(out, fmt.Sprintf("%s %s %s → %s", measure(m), what, from, to))
			}
		}
		report("upthreshold", number(old.Metrics[i].Up), number(m.Up))
		report("downthreshold", number(old.Metrics[i].Down), number(m.Down))
		report("metriccachewindow", old.Metrics[i].Window.String(), m.Window.String())
	}
	for _, o := range old.Metrics {
		if !slices.ContainsFunc(fresh.Metrics, func(m policy.Metric) bool { return measure(o) == measure(m) }) {
			out = append(out, measure(o)+" removed")
		}
	}
	return out, true
}

// metricList is the metric list of a ScaledObject of ours, nil without one.
func metricList(so *kedav1alpha1.ScaledObject) *policy.List {
	if len(so.Spec.Triggers) != 1 {
		return nil
	}
	trigger, err := policy.ParseTrigger(so.Namespace, so.Spec.Triggers[0].Metadata)
	if err != nil {
		return nil
	}
	return trigger.List
}

// loneTrigger puts the trigger that is ours, or the nearest to it, in the place
// of a spec's list, and returns the names of the others.
func loneTrigger(spec map[string]any, triggers []kedav1alpha1.ScaleTriggers) (others []string) {
	list, _ := spec["triggers"].([]any)
	i := slices.IndexFunc(triggers, func(t kedav1alpha1.ScaleTriggers) bool { return t.Name == policy.TriggerName })
	if i < 0 {
		i = max(0, slices.IndexFunc(triggers, func(t kedav1alpha1.ScaleTriggers) bool { return t.Type == "external" }))
	}
	for j := range triggers {
		if j != i {
			name := triggers[j].Name
			if name == "" {
				name = triggers[j].Type
			}
			others = append(others, name)
		}
	}
	if i < len(list) {
		spec["triggers"] = list[i]
	}
	return others
}

// diff gathers what turned into what, by path.
func diff(changed map[string]string, path string, before, after any) {
	old, ok1 := before.(map[string]any)
	fresh, ok2 := after.(map[string]any)
	switch {
	case ok1 && ok2:
		keys := maps.Clone(old)
		maps.Copy(keys, fresh)
		for key := range keys {
			diff(changed, strings.TrimPrefix(path+"."+key, "."), old[key], fresh[key])
		}
	case reflect.DeepEqual(before, after):
	case after == nil:
		changed[path] = "removed"
	case before == nil && (ok2 || slices.Contains(additions, path)):
		changed[path] = "added"
	default:
		changed[path] = describe(before) + " → " + describe(after)
	}
}

// maxValue bounds, in bytes, how much of a value an event has: a metric list may be
// long.
const maxValue = 120

// describe writes a value for a person: the HPA's policies by their period, the only
// thing in them that is asked for.
func describe(value any) string {
	if policies, ok := value.([]any); ok && len(policies) == 1 {
		if p, ok := policies[0].(map[string]any); ok && p["type"] == "Pods" {
			value = p["periodSeconds"]
			if p["value"] != int64(1) {
				value = fmt.Sprintf("%v replicas in %v", p["value"], p["periodSeconds"])
			}
		}
	}
	if value == nil {
		return "unset"
	}
	return kube.Shorten(fmt.Sprint(value), maxValue)
}
