// Package kaito sees KAITO's objects as the scaler does: InferenceSets, the
// Workspaces that are their replicas, and the pods behind these. It knows who
// is a replica and where it stands in its life. Facts about KAITO live here and
// nowhere else. It writes nothing and dials nobody.
package kaito

import (
	"math"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// The API that KAITO's objects belong to, and what marks a replica.
const (
	Group = "kaito.sh"
	// KindInferenceSet scales through /scale; KindWorkspace is one replica.
	KindInferenceSet = "InferenceSet"
	KindWorkspace    = "Workspace"

	// CreatedBy is the label of a Workspace, and of its pods, that names the
	// InferenceSet they belong to.
	CreatedBy = "inferenceset.kaito.sh/created-by"
	// OfWorkspace is the label of a pod that names its Workspace.
	OfWorkspace = "kaito.sh/workspace"
)

// Versions of the API in order of preference. v1beta1 came with KAITO 0.11.
var Versions = []string{"v1beta1", "v1alpha1"}

// InferenceSet is what the scaler reads of one.
type InferenceSet struct {
	types.NamespacedName
	UID         types.UID
	Annotations map[string]string
	// Replicas is spec.replicas; KAITO's default is 1.
	Replicas int32
	// NodeCountLimit is spec.nodeCountLimit, nil if it isn't given.
	NodeCountLimit *int64
	Deleting       bool
}

// ReadInferenceSet reads one of any served version.
func ReadInferenceSet(u *unstructured.Unstructured) InferenceSet {
	is := InferenceSet{
		NamespacedName: types.NamespacedName{Namespace: u.GetNamespace(), Name: u.GetName()},
		UID:            u.GetUID(),
		Annotations:    u.GetAnnotations(),
		Replicas:       1,
		Deleting:       u.GetDeletionTimestamp() != nil,
	}
	if n, found, err := unstructured.NestedInt64(u.Object, "spec", "replicas"); found && err == nil {
		is.Replicas = whole(n)
	}
	if n, found, err := unstructured.NestedInt64(u.Object, "spec", "nodeCountLimit"); found && err == nil {
		is.NodeCountLimit = &n
	}
	return is
}

// NodesPerReplica is the largest status.targetNodeCount among an InferenceSet's
// Workspaces, 0 until KAITO has worked one out. They differ while the
// InferenceSet changes from one size to another.
func NodesPerReplica(workspaces []unstructured.Unstructured) int32 {
	n, _ := Sized(workspaces)
	return n
}

// Sized is that number and the Workspace that tells it, nil if none does. Of
// several it is the first by name: a cache lists them in any order.
func Sized(workspaces []unstructured.Unstructured) (int32, *unstructured.Unstructured) {
	var largest int64
	var of *unstructured.Unstructured
	for i := range workspaces {
		w := &workspaces[i]
		n, found, err := unstructured.NestedInt64(w.Object, "status", "targetNodeCount")
		if !found || err != nil || n <= 0 || n < largest {
			continue
		}
		if n > largest || w.GetName() < of.GetName() {
			largest, of = n, w
		}
	}
	return whole(largest), of
}

// whole is n within int32, for numbers of things: schemas have int32, and an
// object that gets by them mustn't come out as a number that wrapped around.
func whole(n int64) int32 { return int32(max(0, min(n, math.MaxInt32))) }

// Object is an empty object of one of KAITO's kinds, for the client to fill.
func Object(version, kind string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: Group, Version: version, Kind: kind})
	return u
}

// List is an empty list of one of KAITO's kinds, for the client to fill.
func List(version, kind string) *unstructured.UnstructuredList {
	l := &unstructured.UnstructuredList{}
	l.SetGroupVersionKind(schema.GroupVersionKind{Group: Group, Version: version, Kind: kind + "List"})
	return l
}
