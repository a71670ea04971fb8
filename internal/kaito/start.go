package kaito

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// workspaceCondition is what the scaler reads of a Workspace's condition.
type workspaceCondition struct {
	kind, status, reason, message string
	// since is when the status became what it is; zero if that isn't told.
	since time.Time
}

func conditions(workspace *unstructured.Unstructured) []workspaceCondition {
	list, _, _ := unstructured.NestedSlice(workspace.Object, "status", "conditions")
	out := make([]workspaceCondition, 0, len(list))
	for _, item := range list {
		fields, ok := item.(map[string]any)
		if !ok {
			continue
		}
		field := func(name string) string { s, _ := fields[name].(string); return s }
		since, err := time.Parse(time.RFC3339, field("lastTransitionTime"))
		if err != nil {
			since = time.Time{}
		}
		out = append(out, workspaceCondition{field("type"), field("status"), field("reason"), field("message"), since})
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

// nodeClaimSettles is how long a fault of a node claim isn't believed: while a
// cloud looks for a GPU, it fails in one place and succeeds in the next.
const nodeClaimSettles = 3 * time.Minute

// start tells how a replica that has never been Ready is getting on, with
// KAITO's own word for it, and until when that is in doubt, zero for not at all.
func start(workspace *unstructured.Unstructured, now time.Time) (phase sample.Phase, why string, believedAt time.Time) {
	for _, c := range conditions(workspace) {
		if c.status != "False" {
			continue
		}
		waits, judged := waitingReasons[c.kind]
		if judged && !slices.Contains(waits, c.reason) {
			fault := strings.TrimSuffix(c.reason+": "+c.message, ": ")
			believed := c.since.Add(nodeClaimSettles)
			if c.kind != "NodeClaimReady" || !now.Before(believed) {
				return sample.Broken, fault, time.Time{}
			}
			why, believedAt = fault, believed
		}
		if why == "" {
			why = c.reason
		}
	}
	return sample.Starting, why, believedAt
}
