package kaito

import (
	"maps"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is KAITO's API group.
const Group = "kaito.sh"

// The names that KAITO gives.
const (
	LabelCreatedBy = "inferenceset.kaito.sh/created-by"
	LabelWorkspace = "kaito.sh/workspace"

	inferenceSetFinalizer = "inferenceset.finalizer.kaito.sh"
	workspaceFinalizer    = "workspace.finalizer.kaito.sh"
)

// InferenceSet is what the stand-in reads and writes of one. The versions have
// the same fields; Start says which of them is spoken.
type InferenceSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   InferenceSetSpec   `json:"spec,omitempty"`
	Status InferenceSetStatus `json:"status,omitempty"`
}

// InferenceSetSpec is the wanted number of replicas and what each is made of.
type InferenceSetSpec struct {
	Replicas       int32                 `json:"replicas"`
	NodeCountLimit int                   `json:"nodeCountLimit,omitempty"`
	LabelSelector  *metav1.LabelSelector `json:"labelSelector"`
	Template       Template              `json:"template,omitempty"`
}

// Template is copied into each Workspace.
type Template struct {
	Resource  Resource              `json:"resource,omitempty"`
	Inference *apiextensionsv1.JSON `json:"inference,omitempty"`
}

// Resource is what a Workspace asks of its nodes.
type Resource struct {
	// Count is set in Workspaces only.
	Count         int                   `json:"count,omitempty"`
	InstanceType  string                `json:"instanceType,omitempty"`
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`
}

// InferenceSetStatus is written by the stand-in alone.
type InferenceSetStatus struct {
	// Replicas echoes spec.replicas.
	Replicas      int32              `json:"replicas,omitempty"`
	ReadyReplicas int32              `json:"readyReplicas,omitempty"`
	Selector      string             `json:"selector,omitempty"`
	Conditions    []metav1.Condition `json:"conditions,omitempty"`
	Performance   *Performance       `json:"performance,omitempty"`
}

// Workspace is one replica. Its wishes stand at the top, not under spec.
type Workspace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Resource  Resource              `json:"resource,omitempty"`
	Inference *apiextensionsv1.JSON `json:"inference,omitempty"`
	Status    WorkspaceStatus       `json:"status,omitempty"`
}

// WorkspaceStatus is written by the stand-in alone.
type WorkspaceStatus struct {
	// State is Pending, Ready, or NotReady for one that was Ready before.
	State string `json:"state,omitempty"`
	// TargetNodeCount is the number of nodes of this replica.
	TargetNodeCount int32              `json:"targetNodeCount,omitempty"`
	Conditions      []metav1.Condition `json:"conditions,omitempty"`
	Performance     *Performance       `json:"performance,omitempty"`
}

// Performance is the result of the start-up benchmark.
type Performance struct {
	Metrics map[string]Measure `json:"metrics,omitempty"`
}

// Measure is one figure of it.
type Measure struct {
	Value string `json:"value"`
}

// InferenceSetList is a list of InferenceSets.
type InferenceSetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []InferenceSet `json:"items"`
}

// WorkspaceList is a list of Workspaces.
type WorkspaceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Workspace `json:"items"`
}

// addTypes registers KAITO's kinds under one version.
func addTypes(s *runtime.Scheme, version string) {
	gv := schema.GroupVersion{Group: Group, Version: version}
	s.AddKnownTypeWithName(gv.WithKind("InferenceSet"), &InferenceSet{})
	s.AddKnownTypeWithName(gv.WithKind("InferenceSetList"), &InferenceSetList{})
	s.AddKnownTypeWithName(gv.WithKind("Workspace"), &Workspace{})
	s.AddKnownTypeWithName(gv.WithKind("WorkspaceList"), &WorkspaceList{})
	metav1.AddToGroupVersion(s, gv)
}

// DeepCopyObject implements runtime.Object.
func (in *InferenceSet) DeepCopyObject() runtime.Object { return in.deepCopy() }

func (in *InferenceSet) deepCopy() *InferenceSet {
	out := *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.LabelSelector = in.Spec.LabelSelector.DeepCopy()
	out.Spec.Template.Resource = in.Spec.Template.Resource.deepCopy()
	out.Spec.Template.Inference = in.Spec.Template.Inference.DeepCopy()
	out.Status.Conditions = copyConditions(in.Status.Conditions)
	out.Status.Performance = in.Status.Performance.deepCopy()
	return &out
}

// DeepCopyObject implements runtime.Object.
func (in *Workspace) DeepCopyObject() runtime.Object { return in.deepCopy() }

func (in *Workspace) deepCopy() *Workspace {
	out := *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Resource = in.Resource.deepCopy()
	out.Inference = in.Inference.DeepCopy()
	out.Status.Conditions = copyConditions(in.Status.Conditions)
	out.Status.Performance = in.Status.Performance.deepCopy()
	return &out
}

// DeepCopyObject implements runtime.Object.
func (in *InferenceSetList) DeepCopyObject() runtime.Object {
	out := &InferenceSetList{TypeMeta: in.TypeMeta, Items: make([]InferenceSet, len(in.Items))}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range in.Items {
		out.Items[i] = *in.Items[i].deepCopy()
	}
	return out
}

// DeepCopyObject implements runtime.Object.
func (in *WorkspaceList) DeepCopyObject() runtime.Object {
	out := &WorkspaceList{TypeMeta: in.TypeMeta, Items: make([]Workspace, len(in.Items))}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range in.Items {
		out.Items[i] = *in.Items[i].deepCopy()
	}
	return out
}

func (r Resource) deepCopy() Resource {
	r.LabelSelector = r.LabelSelector.DeepCopy()
	return r
}

func (p *Performance) deepCopy() *Performance {
	if p == nil {
		return nil
	}
	return &Performance{Metrics: maps.Clone(p.Metrics)}
}

func copyConditions(in []metav1.Condition) []metav1.Condition {
	if in == nil {
		return nil
	}
	out := make([]metav1.Condition, len(in))
	for i := range in {
		in[i].DeepCopyInto(&out[i])
	}
	return out
}
