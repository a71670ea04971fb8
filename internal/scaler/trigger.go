package scaler

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Fleets knows the replicas of every InferenceSet that is read.
type Fleets interface {
	// Fleet is a snapshot from memory of what that page of its pods says; false
	// if nobody reads that InferenceSet there.
	Fleet(key types.NamespacedName, page policy.Page) (sample.Fleet, bool)
}

// Recommender answers for fleets of which something is learned.
type Recommender interface {
	Recommend(trigger policy.Trigger, fleet sample.Fleet, now time.Time) decision.Recommendation
}

// RecommendationObserver hears each recommendation that KEDA is given on a ScaledObject's trigger. It
// must not block.
type RecommendationObserver interface {
	OnRecommendation(ctx context.Context, scaledObject string, trigger policy.Trigger, recommendation decision.Recommendation)
}

// TriggerID is what a recommendation is on: one trigger.
type TriggerID struct {
	InferenceSet types.NamespacedName
	// Metric and Target are what KEDA is told.
	Metric string
	Target float64
	Page   policy.Page
	// Digest tells triggers apart that ask for one metric in several ways, such as
	// gates at two thresholds, or lists of different metrics.
	Digest uint64
}

func triggerIDOf(trigger policy.Trigger) TriggerID {
	metric, target := trigger.Published()
	return TriggerID{
		InferenceSet: keyOf(trigger),
		Metric:       metric, Target: target, Page: trigger.Page, Digest: trigger.Digest(),
	}
}

func keyOf(trigger policy.Trigger) types.NamespacedName {
	return types.NamespacedName{Namespace: trigger.Namespace, Name: trigger.InferenceSet}
}

// ScaledObjectRef is what a recommendation is on: an InferenceSet, as one ScaledObject has it.
type ScaledObjectRef struct {
	InferenceSet types.NamespacedName
	ScaledObject string
}
