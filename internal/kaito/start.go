package kaito

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
)

// condition is what the scaler reads of a Workspace's condition.
type condition struct {
	kind, status, reason, message string
}

func conditions(workspace *unstructured.Unstructured) []condition {
	list, _, _ := unstructured.NestedSlice(workspace.Object, "status", "conditions")
	out := make([]condition, 0, len(list))
	for _, item := range list {
		fields, ok := item.(map[string]any)
		if !ok {
			continue
		}
		field := func(name string) string { s, _ := fields[name].(string); return s }
		out = append(out, condition{field("type"), field("status"), field("reason"), field("message")})
	}
	return out
}

// waitingReasons are KAITO's reasons for a condition that is False because
// something takes its time. Every other reason of these conditions is a fault
// that time alone doesn't mend.
var waitingReasons = map[string][]string{
	"NodeClaimReady":   {"NodeClaimNotReady", "AwaitingReconciliation"},
	"ModelMirrorReady": {"ModelMirrorPending"},
	"InferenceReady":   {"WorkspaceInferenceStatusPending"},
}

// start tells how a replica that has never been Ready is getting on, with
// KAITO's own word for it.
func start(workspace *unstructured.Unstructured) (decision.Phase, string) {
	why := ""
	for _, c := range conditions(workspace) {
		if c.status != "False" {
			continue
		}
		waits, judged := waitingReasons[c.kind]
		if judged && !slices.Contains(waits, c.reason) {
			return decision.Broken, strings.TrimSuffix(c.reason+": "+c.message, ": ")
		}
		if why == "" {
			why = c.reason
		}
	}
	return decision.Starting, why
}
