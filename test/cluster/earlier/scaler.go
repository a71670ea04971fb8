package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// scaler answers from what it saw when it looked last.
type scaler struct {
	pb.UnimplementedExternalScalerServer
	kube    client.Client
	address string

	// mu guards what follows.
	mu     sync.Mutex
	fleets map[client.ObjectKey]*fleet
}

// fleet is an InferenceSet as it was seen last.
type fleet struct {
	ready bool // as many replicas as are desired
	pods  map[string]*pod
}

// pod is a serving one, with its page as it was first and last.
type pod struct{ first, last page }

// look lists InferenceSets and pods, reads the pods, and writes ScaledObjects.
func (s *scaler) look(ctx context.Context) error {
	sets := &unstructured.UnstructuredList{}
	sets.SetAPIVersion("kaito.sh/v1beta1")
	sets.SetKind("InferenceSetList")
	if err := s.kube.List(ctx, sets); err != nil {
		return err
	}
	var pods corev1.PodList
	if err := s.kube.List(ctx, &pods, client.HasLabels{createdBy}); err != nil {
		return err
	}
	pages := map[client.ObjectKey]map[string]page{}
	for i := range pods.Items {
		if p := &pods.Items[i]; serving(p) {
			key := client.ObjectKey{Namespace: p.Namespace, Name: p.Labels[createdBy]}
			if pages[key] == nil {
				pages[key] = map[string]page{}
			}
			if read, err := get(ctx, p.Status.PodIP); err == nil {
				pages[key][p.Name] = read
			}
		}
	}
	var failed error
	for i := range sets.Items {
		is := &sets.Items[i]
		s.remember(is, pages[client.ObjectKeyFromObject(is)])
		failed = errors.Join(failed, s.provision(ctx, is))
	}
	return failed
}

func serving(p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil || p.Status.PodIP == "" {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (s *scaler) remember(is *unstructured.Unstructured, pages map[string]page) {
	desired, _, _ := unstructured.NestedInt64(is.Object, "spec", "replicas")
	ready, _, _ := unstructured.NestedInt64(is.Object, "status", "readyReplicas")
	s.mu.Lock()
	defer s.mu.Unlock()
	key := client.ObjectKeyFromObject(is)
	before := s.fleets[key]
	f := &fleet{ready: ready == desired, pods: map[string]*pod{}}
	for name, last := range pages {
		f.pods[name] = &pod{first: last, last: last}
		if before != nil && before.pods[name] != nil {
			f.pods[name].first = before.pods[name].first
		}
	}
	s.fleets[key] = f
}

// GetMetricSpec is the external scaler's.
func (s *scaler) GetMetricSpec(_ context.Context, ref *pb.ScaledObjectRef) (*pb.GetMetricSpecResponse, error) {
	name, err := metricName(ref)
	if err != nil {
		return nil, err
	}
	target := 1.0
	if given := ref.GetScalerMetadata()["threshold"]; given != "" {
		if target, err = strconv.ParseFloat(given, 64); err != nil {
			return nil, err
		}
	}
	return &pb.GetMetricSpecResponse{MetricSpecs: []*pb.MetricSpec{{MetricName: name, TargetSizeFloat: target}}}, nil
}

// GetMetrics is the external scaler's.
func (s *scaler) GetMetrics(_ context.Context, request *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	value, err := s.value(request.GetScaledObjectRef())
	if err != nil {
		return nil, err
	}
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{MetricName: request.GetMetricName(), MetricValueFloat: value}}}, nil
}

// IsActive is the external scaler's.
func (s *scaler) IsActive(_ context.Context, ref *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	value, err := s.value(ref)
	return &pb.IsActiveResponse{Result: value > 0}, err
}

func metricName(ref *pb.ScaledObjectRef) (string, error) {
	name := ref.GetScalerMetadata()["metricName"]
	if name == "" {
		return "", fmt.Errorf("trigger of ScaledObject %s/%s: metricName is required", ref.GetNamespace(), ref.GetName())
	}
	return name, nil
}

func (s *scaler) value(ref *pb.ScaledObjectRef) (float64, error) {
	name, err := metricName(ref)
	if err != nil {
		return 0, err
	}
	metadata := ref.GetScalerMetadata()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fleets[client.ObjectKey{Namespace: metadata["inferenceSetNamespace"], Name: metadata["inferenceSetName"]}]
	if f == nil {
		return 0, fmt.Errorf("InferenceSet %s/%s is not there", metadata["inferenceSetNamespace"], metadata["inferenceSetName"])
	}
	switch how := metadata["aggregation"]; how {
	case "gate":
		if f.ready {
			return 1, nil
		}
		return 0, nil
	case "service-avg":
		return f.mean(name)
	case "windowed-avg":
		return f.meanOverTime(name), nil
	default:
		return 0, fmt.Errorf("aggregation %q is unknown", how)
	}
}

// mean of a gauge over the serving replicas.
func (f *fleet) mean(name string) (float64, error) {
	sum, n := 0.0, 0
	for _, p := range f.pods {
		if value, ok := p.last[name]; ok {
			sum += value
			n++
		}
	}
	if n == 0 {
		return 0, fmt.Errorf("no pod has %s", name)
	}
	return sum / float64(n), nil
}

// meanOverTime of a histogram's observations since the pods were first read.
func (f *fleet) meanOverTime(name string) float64 {
	sum, count := 0.0, 0.0
	for _, p := range f.pods {
		sum += p.last[name+"_sum"] - p.first[name+"_sum"]
		count += p.last[name+"_count"] - p.first[name+"_count"]
	}
	if count <= 0 {
		return 0
	}
	return sum / count
}
