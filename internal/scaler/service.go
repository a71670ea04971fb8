// Package scaler answers KEDA: the gRPC service of an external scaler. Answers
// come from memory; no call reads a pod or the API server.
package scaler

import (
	"context"
	"fmt"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Service answers KEDA's calls. It implements pb.ExternalScalerServer for
// triggers of type external; those of type external-push get Unimplemented.
type Service struct {
	pb.UnimplementedExternalScalerServer

	Fleets Fleets
	// Recommender may be nil: then nothing is learned.
	Recommender Recommender
	Observer    RecommendationObserver
	// OnCall is told of each call, whatever comes of it; may be nil.
	OnCall func(of ScaledObjectRef)
	// Handshakes remember those that failed; may be nil.
	Handshakes *Handshakes
	// Metrics, if not nil, hears the recommendations too, and counts the calls.
	Metrics *Metrics
	// Refused says in words why a trigger isn't answered, "" if it is: of one
	// InferenceSet so many are. It may be nil: then all are.
	Refused func(trigger policy.Trigger) string
	// Absent says in words why nothing is read of an InferenceSet; it may be nil.
	Absent func(ctx context.Context, key types.NamespacedName) string
	// ScaledObjects may be nil: then every trigger's is an AverageValue.
	ScaledObjects ScaledObjects
	// StaleSince is since when nobody has seen how many replicas are desired, zero while
	// that is known; it may be nil.
	StaleSince func() time.Time
	// Started tells whether the fleets have been looked at once: until then no
	// answer about one would be worth much.
	Started func() bool
}

// GetMetricSpec names the metric and its target. It depends on the trigger's
// metadata alone: when it fails, KEDA drops the trigger from the HPA.
func (s *Service) GetMetricSpec(_ context.Context, ref *pb.ScaledObjectRef) (*pb.GetMetricSpecResponse, error) {
	trigger, err := s.trigger(ref)
	if err != nil {
		return nil, err
	}
	metric, target := trigger.Published()
	return &pb.GetMetricSpecResponse{MetricSpecs: []*pb.MetricSpec{{
		MetricName:      metric,
		TargetSizeFloat: target,
	}}}, nil
}

// GetMetrics publishes the recommendation on the trigger's fleet. Where there is
// nothing to go by it is an error, which makes KEDA and the HPA hold: an empty
// list would read as nothing at all.
func (s *Service) GetMetrics(ctx context.Context, req *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	trigger, err := s.trigger(req.GetScaledObjectRef())
	if err != nil {
		return nil, err
	}
	key, fleet, err := s.fleet(ctx, trigger)
	if err != nil {
		return nil, err
	}
	ref := req.GetScaledObjectRef()
	s.addScaledObject(ctx, &trigger, types.NamespacedName{Namespace: ref.GetNamespace(), Name: ref.GetName()}, ref.GetScalerMetadata())
	judge := decision.Evaluate
	if s.Recommender != nil {
		judge = s.Recommender.Recommend
	}
	recommendation := judge(trigger, fleet, time.Now())
	if why := s.staleReason(trigger, recommendation); why != "" {
		return nil, status.Errorf(codes.Unavailable, "InferenceSet %s: %s", key, why)
	}
	s.Observer.OnRecommendation(ctx, ref.GetName(), trigger, recommendation)
	s.Metrics.set(triggerIDOf(trigger), recommendation)
	if recommendation.Confidence == decision.Unknown {
		return nil, status.Errorf(codes.Unavailable, "InferenceSet %s: %s", key, recommendation.Reason)
	}
	// KEDA takes the float if it is above zero, else the integer, which is 0.
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{
		MetricName:       req.GetMetricName(),
		MetricValueFloat: recommendation.Value,
	}}}, nil
}

// staleReason says in words why a recommendation can't be published, "" if it can: a number of
// replicas, and a value to hold on, are relative to the replicas desired. From a
// cache that stood still while the HPA went on, they would take back its last
// step. A total of what was read is none of these. It is told to KEDA alone, for
// it is no news of the fleet.
func (s *Service) staleReason(trigger policy.Trigger, recommendation decision.Recommendation) string {
	if s.StaleSince == nil || recommendation.Confidence == decision.Unknown {
		return ""
	}
	since := s.StaleSince()
	if since.IsZero() || isTotal(trigger, recommendation) {
		return ""
	}
	return fmt.Sprintf("how many replicas are desired has not been seen for %s, because the API server ended the watch: holding",
		time.Since(since).Round(time.Second))
}

// isTotal tells whether a recommendation is a total of what was read.
func isTotal(trigger policy.Trigger, recommendation decision.Recommendation) bool {
	if trigger.List != nil || trigger.Saturation != nil || recommendation.Confidence != decision.Measured {
		return false
	}
	return trigger.Queue.Aggregation == policy.Sum || trigger.Queue.Aggregation == policy.Rate
}

// IsActive is true as long as replicas are desired, those that are starting
// included: KEDA must not take away what is on its way.
func (s *Service) IsActive(ctx context.Context, ref *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	trigger, err := s.trigger(ref)
	if err != nil {
		return nil, err
	}
	_, fleet, err := s.fleet(ctx, trigger)
	if err != nil {
		return nil, err
	}
	return &pb.IsActiveResponse{Result: fleet.Desired > 0}, nil
}

func (s *Service) fleet(ctx context.Context, trigger policy.Trigger) (types.NamespacedName, sample.Fleet, error) {
	key := keyOf(trigger)
	if !s.Started() {
		return key, sample.Fleet{}, status.Error(codes.Unavailable,
			"keda-kaito-scaler is starting and has not read the pods yet: try again in a few seconds")
	}
	if s.Refused != nil {
		if why := s.Refused(trigger); why != "" {
			return key, sample.Fleet{}, status.Error(codes.ResourceExhausted, why)
		}
	}
	fleet, known := s.Fleets.Fleet(key, trigger.Page)
	if !known {
		why := fmt.Sprintf("InferenceSet %s does not exist, or was made just now", key)
		if s.Absent != nil {
			why = s.Absent(ctx, key)
		}
		return key, sample.Fleet{}, status.Error(codes.NotFound, why)
	}
	return key, fleet, nil
}

// trigger is what a call is about.
func (s *Service) trigger(ref *pb.ScaledObjectRef) (policy.Trigger, error) {
	trigger, err := triggerOf(ref)
	if err == nil && s.OnCall != nil {
		s.OnCall(ScaledObjectRef{keyOf(trigger), ref.GetName()})
	}
	return trigger, err
}

func triggerOf(ref *pb.ScaledObjectRef) (policy.Trigger, error) {
	trigger, err := policy.ParseTrigger(ref.GetNamespace(), ref.GetScalerMetadata())
	if err != nil {
		return policy.Trigger{}, status.Errorf(codes.InvalidArgument, "trigger of ScaledObject %s/%s: %v",
			ref.GetNamespace(), ref.GetName(), err)
	}
	return trigger, nil
}

// addScaledObject adds to a trigger what its ScaledObject says of it: KEDA tells a
// scaler the metadata and no more.
func (s *Service) addScaledObject(ctx context.Context, trigger *policy.Trigger, key types.NamespacedName, metadata map[string]string) {
	if s.ScaledObjects == nil {
		return
	}
	object, found := s.ScaledObjects.ScaledObject(ctx, key)
	if !found {
		return
	}
	complete(trigger, object, metricTypeOf(object, metadata))
}
