package kaito

import (
	"encoding/json"
	"fmt"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// CutScaledObject marks a ScaledObject of the cache of which triggers were left
// out. No object of the API server's has it: annotations of theirs are left out.
const CutScaledObject = "keda-kaito-scaler/cut"

// What is kept of a ScaledObject, which may have 1.5 MB of anything.
const (
	maxTriggerBytes = 32 << 10
	maxSpecBytes    = 8 << 10
	maxOwners       = 16
)

// readAnnotations are our mark and those by which people pause KEDA.
var readAnnotations = []string{
	policy.ManagedBy, kedav1alpha1.PausedAnnotation, kedav1alpha1.PausedReplicasAnnotation,
	kedav1alpha1.PausedScaleInAnnotation, kedav1alpha1.PausedScaleOutAnnotation,
}

// StripScaledObject keeps what is read of a ScaledObject, anybody's. Ours is
// compared with what it should be, so what is cut still differs from that.
func StripScaledObject(obj any) (any, error) {
	so, ok := obj.(*kedav1alpha1.ScaledObject)
	if !ok {
		return nil, fmt.Errorf("strip a ScaledObject: got %T", obj)
	}
	kept := &kedav1alpha1.ScaledObject{
		TypeMeta: so.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Namespace: so.Namespace, Name: so.Name, UID: so.UID, ResourceVersion: so.ResourceVersion, Generation: so.Generation,
			CreationTimestamp: so.CreationTimestamp, DeletionTimestamp: so.DeletionTimestamp, OwnerReferences: owners(so),
		},
	}
	for _, key := range readAnnotations {
		if value, found := so.Annotations[key]; found {
			metav1.SetMetaDataAnnotation(&kept.ObjectMeta, key, shorten(value))
		}
	}
	if err := keepSpec(so, kept); err != nil {
		return nil, err
	}
	if !keepTriggers(so, kept) {
		metav1.SetMetaDataAnnotation(&kept.ObjectMeta, CutScaledObject, "true")
	}
	for _, c := range so.Status.Conditions[:min(len(so.Status.Conditions), maxOwners)] {
		c.Message = shorten(c.Message)
		kept.Status.Conditions = append(kept.Status.Conditions, c)
	}
	// KEDA sets it at each poll that was answered.
	kept.Status.LastActiveTime = so.Status.LastActiveTime
	kept.Status.HpaName = shorten(so.Status.HpaName)
	return kept, nil
}

// owners are an object's, the controller among them.
func owners(so *kedav1alpha1.ScaledObject) []metav1.OwnerReference {
	if len(so.OwnerReferences) <= maxOwners {
		return so.OwnerReferences
	}
	kept := so.OwnerReferences[:maxOwners:maxOwners]
	if controller := metav1.GetControllerOf(so); controller != nil {
		kept = append(kept[:maxOwners-1:maxOwners-1], *controller)
	}
	return kept
}

// keepSpec takes over the spec without its triggers; of one that is longer than
// any that makes sense, only what it scales and that it isn't ours.
func keepSpec(from, to *kedav1alpha1.ScaledObject) error {
	spec := from.Spec
	spec.Triggers = nil
	text, err := json.Marshal(&spec)
	if err != nil {
		return fmt.Errorf("strip ScaledObject %s/%s: %w", from.Namespace, from.Name, err)
	}
	if len(text) <= maxSpecBytes {
		to.Spec = spec
		return nil
	}
	to.Spec.MinReplicaCount, to.Spec.MaxReplicaCount = spec.MinReplicaCount, spec.MaxReplicaCount
	if ref := spec.ScaleTargetRef; ref != nil {
		to.Spec.ScaleTargetRef = &kedav1alpha1.ScaleTarget{
			APIVersion: shorten(ref.APIVersion), Kind: shorten(ref.Kind), Name: shorten(ref.Name),
		}
	}
	if from.IsUsingModifiers() {
		to.Spec.Advanced = &kedav1alpha1.AdvancedConfig{ScalingModifiers: kedav1alpha1.ScalingModifiers{Formula: "too long"}}
	}
	return nil
}

// keepTriggers takes over the triggers that may be answered, and of others that
// they are there; false if not all of them.
func keepTriggers(from, to *kedav1alpha1.ScaledObject) bool {
	bytes := 0
	for i := range from.Spec.Triggers {
		t := &from.Spec.Triggers[i]
		lean := kedav1alpha1.ScaleTriggers{Type: shorten(t.Type), Name: shorten(t.Name), MetricType: t.MetricType, UseCachedMetrics: t.UseCachedMetrics}
		if ref := t.AuthenticationRef; ref != nil {
			lean.AuthenticationRef = &kedav1alpha1.AuthenticationRef{Kind: shorten(ref.Kind), Name: shorten(ref.Name)}
		}
		// Metadata that are longer are refused at KEDA's call.
		if size := policy.MetadataSize(t.Metadata); external(t.Type) && size <= policy.MaxMetadata {
			lean.Metadata = t.Metadata
			bytes += size
		}
		if i == MaxParsed || bytes > maxTriggerBytes {
			return false
		}
		to.Spec.Triggers = append(to.Spec.Triggers, lean)
	}
	return true
}

// triggerOf is a trigger of a ScaledObject that this scaler can answer. Of those
// that it can't, the answer to KEDA's call says why.
func triggerOf(so *kedav1alpha1.ScaledObject, i int) (policy.Trigger, bool) {
	t := &so.Spec.Triggers[i]
	if !external(t.Type) {
		return policy.Trigger{}, false
	}
	trigger, err := policy.ParseTrigger(so.Namespace, t.Metadata)
	if err != nil {
		return policy.Trigger{}, false
	}
	if trigger.Bounds == (policy.Bounds{}) {
		trigger.Bounds = policy.Bounds{Min: *so.GetHPAMinReplicas(), Max: so.GetHPAMaxReplicas()}
	}
	trigger.ScaledObject = so.Name
	return trigger, true
}

func external(kind string) bool { return kind == "external" || kind == "external-push" }

// MaxParsed bounds how many triggers of ScaledObjects are parsed for one
// InferenceSet, to find those that are answered.
const MaxParsed = 64
