package provision

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// difference is what sets a ScaledObject apart from the desired one. The spec
// is ours as a whole. Of the metadata only our mark and our owner reference are:
// labels, other annotations (such as those that pause), other owners and KEDA's
// finalizer are others'.
type difference struct {
	// any is whether there is one at all.
	any bool
	// surplus is whether the spec has a field that the desired one lacks, which
	// an apply would leave if it is somebody else's. A list is applied whole.
	surplus bool
}

func compare(existing, desired *kedav1alpha1.ScaledObject) (difference, error) {
	before, err := specOf(existing)
	if err != nil {
		return difference{}, err
	}
	after, err := specOf(desired)
	if err != nil {
		return difference{}, err
	}
	d := difference{surplus: !covers(after, before)}
	d.any = d.surplus || !reflect.DeepEqual(before, after) || !marked(existing) || !owned(existing, desired.OwnerReferences[0])
	return d, nil
}

func marked(so *kedav1alpha1.ScaledObject) bool { return so.Annotations[policy.ManagedBy] == Manager }

func owned(so *kedav1alpha1.ScaledObject, by metav1.OwnerReference) bool {
	return slices.ContainsFunc(so.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.UID == by.UID && o.APIVersion == by.APIVersion && o.Kind == by.Kind && o.Name == by.Name &&
			same(o.Controller, by.Controller)
	})
}

// ofEarlier tells whether a ScaledObject was written by an earlier version, whose
// triggers have other names.
func ofEarlier(so *kedav1alpha1.ScaledObject) bool {
	return !slices.ContainsFunc(so.Spec.Triggers, func(t kedav1alpha1.ScaleTriggers) bool { return t.Name == policy.TriggerName })
}

// specOf is a spec in the words of JSON, without objects that are empty, such as
// KEDA's type always writes.
func specOf(so *kedav1alpha1.ScaledObject) (map[string]any, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&so.Spec)
	if err != nil {
		return nil, fmt.Errorf("convert ScaledObject %s/%s: %w", so.Namespace, so.Name, err)
	}
	prune(object)
	return object, nil
}

func prune(value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, child := range value {
			prune(child)
			if object, ok := child.(map[string]any); ok && len(object) == 0 {
				delete(value, key)
			}
		}
	case []any:
		for _, child := range value {
			prune(child)
		}
	}
}

// covers tells whether whole has every field of part, whatever its value.
func covers(whole, part map[string]any) bool {
	for key, value := range part {
		there, found := whole[key]
		if !found {
			return false
		}
		object, ok1 := there.(map[string]any)
		inner, ok2 := value.(map[string]any)
		if ok1 && ok2 && !covers(object, inner) {
			return false
		}
	}
	return true
}

// spoken are fields of a ScaledObject by the annotations that they come from, in
// the order in which changes are told.
var spoken = []struct{ path, name string }{
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

// novel are told as added where they were not: "unset" is no value of theirs.
var novel = []string{pathMetrics, "triggers.metadata.combinePolicy", "triggers.metadata.saturation", "triggers.metadata.downGuard"}

const pathMetrics = "triggers.metadata.metrics"

const behavior = "advanced.horizontalPodAutoscalerConfig.behavior."

// echoes say again what another field says, or what no owner asked for: KEDA's
// certificate was renewed.
var echoes = []string{
	"triggers.metadata.minReplicas", "triggers.metadata.maxReplicas",
	"triggers.metadata.scaleUpCooldown", "triggers.metadata.scaleDownCooldown",
	"triggers.metadata." + metaCredentials,
}

// changes says what makes after of before, such as "max-replicas 5 → 8", and
// nothing if that is nothing to the owner.
func changes(before, after *kedav1alpha1.ScaledObject) []string {
	old, err1 := specOf(before)
	fresh, err2 := specOf(after)
	if err1 != nil || err2 != nil {
		return nil // compare has come by here with both
	}
	removed := loneTrigger(old, before.Spec.Triggers)
	loneTrigger(fresh, after.Spec.Triggers)
	turns := map[string]string{}
	diff(turns, "", old, fresh)
	if len(turns)+len(removed) == 0 {
		return []string{"owner and mark restored"}
	}
	for _, path := range echoes {
		delete(turns, path)
	}
	lists := listTurns(turns, before, after)
	var out []string
	for _, s := range spoken {
		if s.path == pathMetrics {
			out = append(out, lists...)
		}
		if text, found := turns[s.path]; found {
			out = append(out, s.name+" "+text)
			delete(turns, s.path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(turns)) {
		out = append(out, strings.TrimPrefix(path, "triggers.")+" "+turns[path])
	}
	for _, name := range removed {
		out = append(out, fmt.Sprintf("trigger %q removed", name))
	}
	return out
}

// listTurns takes the turn of a metric list out of turns and tells it metric by
// metric, if there is one before and after.
func listTurns(turns map[string]string, before, after *kedav1alpha1.ScaledObject) []string {
	if _, found := turns[pathMetrics]; !found {
		return nil
	}
	old, fresh := listOf(before), listOf(after)
	if old == nil || fresh == nil {
		return nil
	}
	delete(turns, pathMetrics)
	var out []string
	for _, m := range fresh.Metrics {
		i := slices.IndexFunc(old.Metrics, func(o policy.Metric) bool { return measure(o) == measure(m) })
		if i < 0 {
			out = append(out, measure(m)+" added")
			continue
		}
		turn := func(what, from, to string) {
			if from != to {
				out = append(out, fmt.Sprintf("%s %s %s → %s", measure(m), what, from, to))
			}
		}
		turn("upthreshold", number(old.Metrics[i].Up), number(m.Up))
		turn("downthreshold", number(old.Metrics[i].Down), number(m.Down))
		turn("metriccachewindow", old.Metrics[i].Window.String(), m.Window.String())
	}
	for _, o := range old.Metrics {
		if !slices.ContainsFunc(fresh.Metrics, func(m policy.Metric) bool { return measure(o) == measure(m) }) {
			out = append(out, measure(o)+" removed")
		}
	}
	return out
}

// listOf is the metric list of a ScaledObject of ours, nil without one.
func listOf(so *kedav1alpha1.ScaledObject) *policy.List {
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
func diff(turns map[string]string, path string, before, after any) {
	old, ok1 := before.(map[string]any)
	fresh, ok2 := after.(map[string]any)
	switch {
	case ok1 && ok2:
		keys := maps.Clone(old)
		maps.Copy(keys, fresh)
		for key := range keys {
			diff(turns, strings.TrimPrefix(path+"."+key, "."), old[key], fresh[key])
		}
	case reflect.DeepEqual(before, after):
	case after == nil:
		turns[path] = "removed"
	case before == nil && (ok2 || slices.Contains(novel, path)):
		turns[path] = "added"
	default:
		turns[path] = say(before) + " → " + say(after)
	}
}

// maxSaid bounds how much of a value is told: a metric list may be long.
const maxSaid = 120

// say writes a value for a person: the HPA's policies by their period, the only
// thing in them that is asked for.
func say(value any) string {
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
	text := fmt.Sprint(value)
	if len(text) > maxSaid {
		text = strings.ToValidUTF8(text[:maxSaid], "") + "…"
	}
	return text
}
