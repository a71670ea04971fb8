package scaler

import (
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/expr-lang/expr"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/test/earlier"
)

const queueTime = "vllm:request_queue_time_seconds"

// queued is a replica with so many requests waiting, each of which was queued for so
// many seconds, as all were of the last ten minutes.
func queued(pod string, waiting, seconds float64) sample.Replica {
	now := time.Now()
	r := sample.Replica{
		Pod: pod, Phase: sample.Serving, Expected: now.Add(-time.Hour), ReadySince: now.Add(-time.Hour), Ordered: now.Add(-time.Hour),
	}
	bounds := []float64{.5, 1, 10, 34, 36, math.Inf(1)}
	for at := range 121 {
		count := float64(at)
		buckets := sample.Buckets{Le: bounds, Cumulative: make([]float64, len(bounds)), Sum: count * seconds}
		for i, le := range bounds {
			if seconds <= le {
				buckets.Cumulative[i] = count
			}
		}
		r.Last = sample.NewSample(now.Add(time.Duration(at-120)*5*time.Second), []sample.Family{
			{Name: waitingMetric, Kind: sample.Gauge, Sum: waiting, Engines: 1},
			{Name: "vllm:num_requests_running", Kind: sample.Gauge, Sum: 1, Engines: 1},
			{Name: queueTime, Kind: sample.Histogram, Buckets: buckets, Engines: 1},
		}, r.Last)
		r.History.Add(r.Last, time.Hour)
	}
	return r
}

// composite is what KEDA makes of the answers to a ScaledObject's triggers: with its
// own validation, its own compiler and its own way to hand numbers on. ok is false
// where it has no number for the HPA.
func composite(t *testing.T, so *kedav1alpha1.ScaledObject, f fleets) (value float64, ok bool) {
	t.Helper()
	program, err := kedav1alpha1.ValidateAndCompileScalingModifiers(so)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := service(f)
	s.ScaledObjects = scaledObjects{phi4: so}
	data := map[string]any{}
	for i := range so.Spec.Triggers {
		trigger := &so.Spec.Triggers[i]
		ref := &pb.ScaledObjectRef{Name: "phi-4", Namespace: "default", ScalerMetadata: trigger.Metadata}
		spec, err := s.GetMetricSpec(t.Context(), ref)
		if err != nil {
			t.Fatalf("%s: %v", trigger.Name, err)
		}
		if name := spec.GetMetricSpecs()[0].GetMetricName(); name != trigger.Metadata["metricName"] {
			t.Errorf("%s is called %s", trigger.Name, name)
		}
		active, err := s.IsActive(t.Context(), ref)
		if err != nil || !active.GetResult() {
			t.Errorf("%s is active: %t, %v", trigger.Name, active.GetResult(), err)
		}
		answer, err := ask(t, s, ref)
		if err != nil {
			return 0, false // of any trigger makes one of the whole
		}
		handed := resource.MustParse(strconv.FormatFloat(answer.GetMetricValues()[0].GetMetricValueFloat(), 'f', 3, 64))
		data[trigger.Name] = handed.AsApproximateFloat64()
	}
	out, err := expr.Run(program, data)
	if err != nil {
		t.Fatal(err)
	}
	value, ok = out.(float64)
	return value, ok
}

// The formulas of 0.6 go on deciding by our answers as they did by its own: 2 for
// more, 0.5 for fewer, 1 for neither, and no number while something is unknown.
func TestTheFormulasOfVersion06DecideByOurAnswers(t *testing.T) {
	starting := sample.Replica{Pod: "c", Phase: sample.Starting}
	hung := failing("b", "no answer within 2s")
	busy := queued("b", 20, 35)
	busy.ReadySince = time.Time{}
	for _, tt := range []struct {
		story string
		fleet fleets
		want  float64
		known bool
	}{
		{"both above", of(2, queued("a", 30, 35), queued("b", 0, 35)), 2, true},
		{"both above, while one starts", of(3, queued("a", 30, 35), queued("b", 0, 35), starting), 1, true},
		{"both above, while one is too busy to be Ready", of(2, queued("a", 30, 35), busy), 1, true},
		{"both below, while one starts", of(3, queued("a", 1, .7), queued("b", 0, .7), starting), .5, true},
		{"both below", of(2, queued("a", 1, .7), queued("b", 0, .7)), .5, true},
		{"one above", of(2, queued("a", 30, 2), queued("b", 0, 2)), 1, true},
		{"one below", of(2, queued("a", 0, 2), queued("b", 0, 2)), 1, true},
		{"on the upper threshold", of(2, queued("a", 20, 35), queued("b", 0, 35)), 1, true},
		{"on the lower threshold", of(2, queued("a", 2, .7), queued("b", 0, .7)), 1, true},
		{"one can't be read", of(2, queued("a", 30, 35), hung), 0, false},
		{"nothing can be read", of(1, hung), 0, false},
		{"none serves yet", of(1, starting), 0, false},
	} {
		t.Run(tt.story, func(t *testing.T) {
			for _, name := range earlier.ScaledObjects(t) {
				so := earlier.ScaledObject(t, name)
				if !so.IsUsingModifiers() {
					continue
				}
				if got, known := composite(t, so, tt.fleet); got != tt.want || known != tt.known {
					t.Errorf("%s: %v, %t; want %v, %t", name, got, known, tt.want, tt.known)
				}
			}
		})
	}
}
