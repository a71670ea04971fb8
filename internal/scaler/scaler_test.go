package scaler

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

const waitingMetric = "vllm:num_requests_waiting"

var phi4 = types.NamespacedName{Namespace: "default", Name: "phi-4"}

// fleets are known by name.
type fleets map[types.NamespacedName]sample.Fleet

func (f fleets) Fleet(key types.NamespacedName, _ policy.Page) (sample.Fleet, bool) {
	fleet, found := f[key]
	return fleet, found
}

// recorder keeps what it seen.
type recordingObserver struct {
	seen []string
	last decision.Recommendation
}

func (a *recordingObserver) OnRecommendation(_ context.Context, _ string, trigger policy.Trigger, v decision.Recommendation) {
	metric, _ := trigger.Published()
	a.seen = append(a.seen, keyOf(trigger).String()+" "+metric+" "+v.Confidence.String())
	a.last = v
}

// of is a fleet of default/phi-4, just read.
func of(desired int32, replicas ...sample.Replica) fleets {
	return fleets{phi4: {Desired: desired, Replicas: replicas, Freshness: 15 * time.Second, Grace: 10 * time.Minute}}
}

func waiting(pod string, n float64) sample.Replica {
	now := time.Now()
	families := []sample.Family{{Name: waitingMetric, Kind: sample.Gauge, Sum: n, Engines: 1}}
	return sample.Replica{Pod: pod, Phase: sample.Serving, Expected: now.Add(-time.Hour), Last: sample.NewSample(now, families, nil)}
}

// counting has counted 600 prompt tokens in the last minute.
func counting(pod string) sample.Replica {
	now := time.Now()
	r := sample.Replica{Pod: pod, Phase: sample.Serving, Expected: now.Add(-time.Hour)}
	for at := range 13 {
		families := []sample.Family{{Name: "vllm:prompt_tokens_total", Kind: sample.Counter, Sum: float64(50 * at), Engines: 1}}
		r.Last = sample.NewSample(now.Add(time.Duration(at-12)*5*time.Second), families, r.Last)
		r.History.Add(r.Last, time.Hour)
	}
	return r
}

func failing(pod, why string) sample.Replica {
	return sample.Replica{Pod: pod, Phase: sample.Serving, Expected: time.Now().Add(-time.Minute), Failure: why}
}

func service(f Fleets) (*Service, *recordingObserver) {
	a := &recordingObserver{}
	return &Service{Fleets: f, Observer: a, Started: func() bool { return true }}, a
}

// trigger is a ScaledObject's of default/phi-4, ten for each replica.
func trigger(pairs ...string) *pb.ScaledObjectRef {
	metadata := map[string]string{
		"scalerAddress": "scaler:10450", "inferenceSetName": "phi-4", "inferenceSetNamespace": "default", "threshold": "10",
	}
	for i := 0; i < len(pairs); i += 2 {
		metadata[pairs[i]] = pairs[i+1]
	}
	return &pb.ScaledObjectRef{Name: "phi-4", Namespace: "default", ScalerMetadata: metadata}
}

func ask(t *testing.T, s *Service, ref *pb.ScaledObjectRef) (*pb.GetMetricsResponse, error) {
	t.Helper()
	return s.GetMetrics(t.Context(), &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: waitingMetric})
}

func value(x float64) *pb.GetMetricsResponse {
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{MetricName: waitingMetric, MetricValueFloat: x}}}
}

func wantError(t *testing.T, err error, code codes.Code, message string) {
	t.Helper()
	if got := status.Code(err); got != code {
		t.Errorf("code %s, want %s", got, code)
	}
	if got := status.Convert(err).Message(); got != message {
		t.Errorf("message %q, want %q", got, message)
	}
}

func TestKEDAGetsTheTotal(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fleets fleets
		want   float64
		answer string
	}{
		{"the sum over the replicas, not their mean", of(3, waiting("a", 15), waiting("b", 15), waiting("c", 15)), 45, "measured"},
		{"a fraction", of(1, waiting("a", 0.25)), 0.25, "measured"},
		{"what makes the HPA hold while all replicas start", of(2, sample.Replica{Pod: "a", Phase: sample.Starting}), 20, "held"},
		{"what makes the HPA hold while the unread one could tip the scale", of(2, waiting("a", 1), failing("b", "hangs")), 20, "held"},
		{"the lower end, which is enough to grow", of(2, waiting("a", 50), failing("b", "hangs")), 50, "bounded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, seen := service(tt.fleets)
			got, err := ask(t, s, trigger())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(value(tt.want), got, protocmp.Transform()); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"default/phi-4 " + waitingMetric + " " + tt.answer}, seen.seen); diff != "" {
				t.Errorf("seen (-want +got):\n%s", diff)
			}
		})
	}
}

// KEDA takes the float if it is above zero and else the integer, so an idle
// fleet's zero is both.
func TestAnIdleFleetIsZero(t *testing.T) {
	s, _ := service(of(1, waiting("a", 0)))
	got, err := ask(t, s, trigger())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.GetMetricValues()) != 1 {
		t.Fatalf("%d values: an empty list is an error to the HPA, several are added up", len(got.GetMetricValues()))
	}
	if v := got.GetMetricValues()[0]; v.GetMetricValueFloat() != 0 || v.GetMetricValue() != 0 {
		t.Errorf("answer %+v, want zero in both fields", v)
	}
}

func TestTheAnswerBearsTheNameThatWasAsked(t *testing.T) {
	s, _ := service(of(1, waiting("a", 3)))
	got, err := s.GetMetrics(t.Context(), &pb.GetMetricsRequest{ScaledObjectRef: trigger(), MetricName: "as-KEDA-calls-it"})
	if err != nil {
		t.Fatal(err)
	}
	if name := got.GetMetricValues()[0].GetMetricName(); name != "as-KEDA-calls-it" {
		t.Errorf("name %q", name)
	}
}

func TestAnUnknownLoadIsAnErrorWithItsReason(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fleets  fleets
		ref     *pb.ScaledObjectRef
		code    codes.Code
		message string
	}{
		{
			"nothing readable", of(2, failing("phi-4-a-0", "refuses connections"), failing("phi-4-b-0", "hangs")), trigger(),
			codes.Unavailable, "InferenceSet default/phi-4: cannot tell the load: no serving replica's value (of 2) of " +
				"vllm:num_requests_waiting can be read (phi-4-a-0: refuses connections)",
		},
		{
			"a metric that no page has", of(1, waiting("phi-4-a-0", 3)), trigger("metricName", "vllm:num_request_waiting"),
			codes.Unavailable, "InferenceSet default/phi-4: cannot tell the load: the only serving replica's value of " +
				"vllm:num_request_waiting can be read (phi-4-a-0: its page has no vllm:num_request_waiting)",
		},
		{
			"no such InferenceSet", of(1), trigger("inferenceSetName", "phi-5"),
			codes.NotFound, "InferenceSet default/phi-5 does not exist, or was made just now",
		},
		{
			"an InferenceSet of another namespace",
			fleets{{Namespace: "team-b", Name: "phi-4"}: {}},
			trigger("inferenceSetNamespace", "team-b"),
			codes.InvalidArgument, `trigger of ScaledObject default/phi-4: inferenceSetNamespace "team-b": must be the ScaledObject's own namespace "default"`,
		},
		{
			"no InferenceSet named", of(1), trigger("inferenceSetName", ""),
			codes.InvalidArgument, "trigger of ScaledObject default/phi-4: inferenceSetName: required: the InferenceSet whose replicas are read",
		},
		{
			"a bad threshold", of(1), trigger("threshold", "ten"),
			codes.InvalidArgument, `trigger of ScaledObject default/phi-4: threshold "ten": must be a number of at least 0.001, such as 10`,
		},
		{
			"no trigger at all", of(1), nil,
			codes.InvalidArgument, "trigger of ScaledObject /: inferenceSetName: required: the InferenceSet whose replicas are read",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := service(tt.fleets)
			got, err := ask(t, s, tt.ref)
			if got != nil {
				t.Errorf("answer %v beside the error", got)
			}
			wantError(t, err, tt.code, tt.message)
		})
	}
}

// Each case has words of its own where the ScaledObject's owner looks: KEDA puts
// the error on it.
func TestATriggerThatIsNotAnsweredSaysWhy(t *testing.T) {
	s, seen := service(of(1, waiting("a", 3)))
	s.Refused = func(trigger policy.Trigger) string {
		if trigger.Page.Port == 8005 {
			return "too many pages"
		}
		return ""
	}
	s.Absent = func(_ context.Context, key types.NamespacedName) string { return key.Name + " is nowhere" }
	for _, tt := range []struct {
		ref     *pb.ScaledObjectRef
		code    codes.Code
		message string
	}{
		{trigger("metricPort", "8005"), codes.ResourceExhausted, "too many pages"},
		{trigger("inferenceSetName", "phi-5"), codes.NotFound, "phi-5 is nowhere"},
	} {
		_, err := ask(t, s, tt.ref)
		wantError(t, err, tt.code, tt.message)
		_, err = s.IsActive(t.Context(), tt.ref)
		wantError(t, err, tt.code, tt.message)
		if _, err := s.GetMetricSpec(t.Context(), tt.ref); err != nil {
			t.Errorf("%v: KEDA would drop the trigger from the HPA", err)
		}
	}
	if len(seen.seen) > 0 {
		t.Errorf("seen %q", seen.seen)
	}
	if _, err := ask(t, s, trigger()); err != nil {
		t.Errorf("one within the limits isn't answered: %v", err)
	}
}

func TestAnUnknownLoadIsReportedToo(t *testing.T) {
	s, seen := service(of(1, failing("a", "hangs")))
	if _, err := ask(t, s, trigger()); err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff([]string{"default/phi-4 " + waitingMetric + " unknown"}, seen.seen); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
}

// When GetMetricSpec fails, KEDA can drop the trigger from the HPA for good.
func TestTheMetricAndItsTargetDependOnTheMetadataAlone(t *testing.T) {
	s := &Service{ // knows nobody, and hasn't started
		Fleets: fleets{}, Observer: &recordingObserver{}, Started: func() bool { return false },
	}
	for _, tt := range []struct {
		name   string
		ref    *pb.ScaledObjectRef
		metric string
		target float64
	}{
		{"the default", trigger(), "vllm:num_requests_waiting", 10},
		{"as given", trigger("metricName", "vllm:num_requests_running", "threshold", "2.5"), "vllm:num_requests_running", 2.5},
		{"of an InferenceSet that isn't there", trigger("inferenceSetName", "nobody"), "vllm:num_requests_waiting", 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := s.GetMetricSpec(t.Context(), tt.ref)
			if err != nil {
				t.Fatal(err)
			}
			want := &pb.GetMetricSpecResponse{MetricSpecs: []*pb.MetricSpec{{MetricName: tt.metric, TargetSizeFloat: tt.target}}}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
	_, err := s.GetMetricSpec(t.Context(), trigger("threshold", "0"))
	wantError(t, err, codes.InvalidArgument, `trigger of ScaledObject default/phi-4: threshold "0": must be a number of at least 0.001, such as 10`)
}

func TestBeforeTheFirstLookNoAnswerIsGiven(t *testing.T) {
	const message = "keda-kaito-scaler is starting and has not read the pods yet: try again in a few seconds"
	started := false
	s, seen := service(of(1, waiting("a", 0)))
	s.Started = func() bool { return started }
	_, err := ask(t, s, trigger())
	wantError(t, err, codes.Unavailable, message)
	_, err = s.IsActive(t.Context(), trigger())
	wantError(t, err, codes.Unavailable, message)
	if len(seen.seen) > 0 {
		t.Errorf("seen %q of a fleet that nobody has looked at", seen.seen)
	}
	started = true
	if _, err := ask(t, s, trigger()); err != nil {
		t.Errorf("after the first look: %v", err)
	}
}

func TestActiveAsLongAsReplicasAreDesired(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fleets fleets
		want   bool
	}{
		{"idle", of(1, waiting("a", 0)), true},
		{"starting, without a pod", of(1), true},
		{"unreadable", of(1, failing("a", "hangs")), true},
		{"none desired", of(0), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := service(tt.fleets)
			got, err := s.IsActive(t.Context(), trigger())
			if err != nil {
				t.Fatal(err)
			}
			if got.GetResult() != tt.want {
				t.Errorf("active: %t, want %t", got.GetResult(), tt.want)
			}
		})
	}
	s, _ := service(of(1))
	_, err := s.IsActive(t.Context(), trigger("inferenceSetName", "phi-5"))
	wantError(t, err, codes.NotFound, "InferenceSet default/phi-5 does not exist, or was made just now")
	_, err = s.IsActive(t.Context(), trigger("inferenceSetNamespace", "team-b"))
	wantError(t, err, codes.InvalidArgument,
		`trigger of ScaledObject default/phi-4: inferenceSetNamespace "team-b": must be the ScaledObject's own namespace "default"`)
}

// The API server was away, and is back: the HPA has gone from 2 to 1, and nobody
// here has seen it. To hold on 2, or to take a step from there, would be a step
// of its own.
func TestWithoutAWatchNothingIsSaidThatRestsOnTheReplicasDesired(t *testing.T) {
	list := `[{"name":"` + waitingMetric + `","type":"gauge","upthreshold":10,"downthreshold":1}]`
	for _, tt := range []struct {
		name   string
		fleets fleets
		ref    *pb.ScaledObjectRef
		told   bool
	}{
		{"a total of what was read", of(2, waiting("a", 3), waiting("b", 4)), trigger(), true},
		{"a rate of what was read", of(1, counting("a")), trigger("metricName", "vllm:prompt_tokens_total", "aggregation", "rate"), true},
		{"a readiness gate", of(1, waiting("a", 3)), trigger("metricName", "readiness_gate", "aggregation", "gate"), false},
		{"a hold on a lost reading", of(2, waiting("a", 3), failing("b", "hangs")), trigger(), false},
		{"a metric list", of(2, waiting("a", 3), waiting("b", 4)), trigger("metrics", list, "threshold", ""), false},
		{"what was learned", of(2, sample.Replica{Pod: "a", Phase: sample.Starting}), trigger("saturation", "true", "threshold", ""), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, seen := service(tt.fleets)
			var blind time.Time
			s.StaleSince = func() time.Time { return blind }
			if _, err := ask(t, s, tt.ref); err != nil {
				t.Fatalf("while it is watched: %v", err)
			}
			blind = time.Now().Add(-12 * time.Second)
			_, err := ask(t, s, tt.ref)
			if tt.told {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantError(t, err, codes.Unavailable, "InferenceSet default/phi-4: how many replicas are desired has not been seen for 12s, "+
				"because the API server ended the watch: holding")
			if len(seen.seen) != 1 {
				t.Errorf("seen %q, want nothing of what was not published", seen.seen)
			}
		})
	}
}
