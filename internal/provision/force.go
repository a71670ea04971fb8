package provision

import (
	"fmt"
	"strings"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// force is how much of a ScaledObject that is there scales anything.
type force uint8

const (
	whole force = iota
	// onlyUp is all that the HPA does while some of its metrics are errors.
	onlyUp
	none
)

// forceOf is how much of a ScaledObject is in force, and why not all of it is, in
// words. KEDA gets an error for each trigger that we refuse: of a formula that makes
// one of the whole.
func forceOf(so *kedav1alpha1.ScaledObject) (how force, why string) {
	switch {
	case so.DeletionTimestamp != nil:
		return none, "its ScaledObject is being deleted"
	case so.NeedToBePausedByAnnotation():
		return none, "its ScaledObject is paused by annotation"
	}
	refused := 0
	for i := range so.Spec.Triggers {
		t := &so.Spec.Triggers[i]
		if !strings.HasPrefix(t.Type, "external") {
			continue
		}
		if _, err := policy.ParseTrigger(so.Namespace, t.Metadata); err != nil {
			if refused++; why == "" {
				why = fmt.Sprintf("trigger %q of its ScaledObject is refused: %v", t.Name, err)
			}
		}
	}
	switch {
	case refused == 0:
		return whole, ""
	case refused == len(so.Spec.Triggers), so.IsUsingModifiers():
		return none, why
	}
	return onlyUp, why
}

// measuring names the metrics of a ScaledObject of an earlier version.
func measuring(so *kedav1alpha1.ScaledObject) string {
	var metrics []string
	for i := range so.Spec.Triggers {
		if metric := so.Spec.Triggers[i].Metadata["metricName"]; metric != "" {
			metrics = append(metrics, metric)
		}
	}
	switch by := strings.Join(metrics, ", "); {
	case by == "":
		return ""
	case so.IsUsingModifiers():
		return " by the formula of an earlier version on " + by
	default:
		return " on " + by
	}
}
