package kaito

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

func TestReadAnInferenceSet(t *testing.T) {
	phi4 := InferenceSet{
		NamespacedName: types.NamespacedName{Namespace: "default", Name: "phi-4"},
		UID:            "uid-of-phi-4",
		Annotations:    map[string]string{"scaledobject.kaito.sh/threshold": "10"},
		Replicas:       1,
	}
	with := func(change func(*InferenceSet)) InferenceSet {
		is := phi4
		change(&is)
		return is
	}
	annotations := map[string]string{"threshold": "10"}
	for _, tt := range []struct {
		name string
		from *unstructured.Unstructured
		want InferenceSet
	}{
		{"without a spec KAITO's default is one replica", inferenceSet(annotations), phi4},
		{
			"replicas and limit are given",
			inferenceSet(annotations, set(int64(3), "spec", "replicas"), set(int64(10), "spec", "nodeCountLimit")),
			with(func(is *InferenceSet) { is.Replicas, is.NodeCountLimit = 3, new(int64(10)) }),
		},
		{
			"no replica and no node are numbers too",
			inferenceSet(annotations, set(int64(0), "spec", "replicas"), set(int64(0), "spec", "nodeCountLimit")),
			with(func(is *InferenceSet) { is.Replicas, is.NodeCountLimit = 0, new(int64(0)) }),
		},
		{
			"numbers out of range",
			inferenceSet(annotations, set(int64(1)<<32, "spec", "replicas")),
			with(func(is *InferenceSet) { is.Replicas = math.MaxInt32 }),
		},
		{
			"fewer than none",
			inferenceSet(annotations, set(int64(-1), "spec", "replicas")),
			with(func(is *InferenceSet) { is.Replicas = 0 }),
		},
		{"being deleted", inferenceSet(annotations, deleted), with(func(is *InferenceSet) { is.Deleting = true })},
		{
			"what is no number is as if it weren't there",
			inferenceSet(annotations, set("many", "spec", "replicas"), set("few", "spec", "nodeCountLimit")),
			phi4,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, ReadInferenceSet(tt.from)); diff != "" {
				t.Errorf("InferenceSet (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNodesPerReplicaAreTheLargestWorkspaces(t *testing.T) {
	for _, tt := range []struct {
		name string
		from workspaces
		want int32
	}{
		{"no Workspace", nil, 0},
		{"KAITO hasn't worked it out", workspaces{workspace("a"), workspace("b", nodes(0))}, 0},
		{"one knows", workspaces{workspace("a"), workspace("b", nodes(0)), workspace("c", nodes(2))}, 2},
		{"all know", workspaces{workspace("a", nodes(3)), workspace("b", nodes(3))}, 3},
		{"replicas of two sizes", workspaces{workspace("b", nodes(1)), workspace("c", nodes(4)), workspace("a", nodes(2))}, 4},
		{"nonsense", workspaces{workspace("a", nodes(-1)), workspace("b", set("two", "status", "targetNodeCount"))}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var list []unstructured.Unstructured
			for _, w := range tt.from {
				list = append(list, *w)
			}
			if got := NodesPerReplica(list); got != tt.want {
				t.Errorf("%d nodes, want %d", got, tt.want)
			}
		})
	}
}
