package scaler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// gather is all series of a registry as "name{label=value,…} value", but for
// histograms' and times, and limits that nothing was left out for; without prefix, and of default/phi-4's waiting requests
// without these labels.
func gather(t *testing.T, registry prometheus.Gatherer) []string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, family := range families {
		name := strings.TrimPrefix(family.GetName(), "keda_kaito_scaler_")
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, l := range metric.GetLabel() {
				// An empty label is none.
				if value := l.GetValue(); value != "" && value != "default" && value != "phi-4" && value != waitingMetric {
					labels = append(labels, l.GetName()+"="+value)
				}
			}
			value := metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
			switch {
			case metric.GetHistogram() != nil:
				value = float64(metric.GetHistogram().GetSampleCount())
			case strings.HasSuffix(name, "timestamp_seconds"):
				value = time.Since(time.UnixMilli(int64(value * 1000))).Minutes()
			}
			if name == "over_limit_total" && value == 0 {
				continue
			}
			lines = append(lines, fmt.Sprintf("%s{%s} %.3g", name, strings.Join(labels, ","), value))
		}
	}
	return lines
}

func TestARecommendationHasMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	fleets := of(
		6, waiting("a-0", 15), waiting("b-0", 40), failing("c-0", "hangs"), sample.Replica{Pod: "d", Phase: sample.Starting},
		sample.Replica{Pod: "e", Phase: sample.Broken, Why: "no quota"}, sample.Replica{Pod: "f-0", Phase: sample.Terminating},
	)
	fleets[phi4].Replicas[1].Asleep = true
	s, _ := service(fleets)
	s.Metrics = NewMetrics(registry, fleets)
	if _, err := ask(t, s, trigger("minReplicas", "1", "maxReplicas", "20")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"desired_replicas{} 6",
		"last_answer_timestamp_seconds{} 0",
		"missing_metrics{} 0",
		"published_value{} 60", // 55 at least: a hold
		"recommendation{confidence=bounded} 0",
		"recommendation{confidence=held} 1",
		"recommendation{confidence=measured} 0",
		"recommendation{confidence=unknown} 0",
		"recommendation_direction{} 0",
		"recommended_replicas{} 6",
		"replicas{state=broken} 1",
		"replicas{state=readable} 2",
		"replicas{state=starting} 1",
		"replicas{state=terminating} 1",
		"replicas{state=unreadable} 1",
		"sleeping_replicas{} 1",
		"stuck_replicas{} 1",
		"target_value{} 10",
	}
	if diff := cmp.Diff(want, trimmed(gather(t, registry))); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}

	// Once nothing can be read, there is no value, and no zero either.
	*fleets[phi4].Replicas[0].Last = sample.Sample{}
	*fleets[phi4].Replicas[1].Last = sample.Sample{}
	if _, err := ask(t, s, trigger()); err == nil {
		t.Fatal("no error")
	}
	for _, line := range gather(t, registry) {
		if strings.HasPrefix(line, "published_value") || line == "recommendation{confidence=unknown} 0" {
			t.Errorf("with nothing readable: %s", line)
		}
	}
	// Its series end with the InferenceSet.
	delete(fleets, phi4)
	if got := gather(t, registry); len(got) != 0 {
		t.Errorf("of an InferenceSet that is gone: %q", got)
	}
}

// trimmed has a last answer of just now told as 0.
func trimmed(lines []string) []string {
	for i, line := range lines {
		if name, value, _ := strings.Cut(line, " "); strings.HasPrefix(name, "last_answer") && (strings.Contains(value, "e-") || strings.HasPrefix(value, "0.")) {
			lines[i] = name + " 0"
		}
	}
	return lines
}

func TestSeriesOfWhatNobodyAsksAboutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		fleets := of(1)
		m := NewMetrics(registry, fleets)
		subjects := func() []string {
			seen := map[string]bool{}
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range families {
				for _, metric := range family.GetMetric() {
					for _, l := range metric.GetLabel() {
						if l.GetName() == "metric" {
							seen[l.GetValue()] = true
						}
					}
				}
			}
			return slices.Sorted(maps.Keys(seen))
		}
		before := about4
		before.Metric = "vllm:num_requests_running"
		m.set(before, recommendation(decision.Measured, 1, 1, ""))
		m.set(about4, recommendation(decision.Measured, 1, 1, ""))
		if diff := cmp.Diff([]string{"vllm:num_requests_running", waitingMetric}, subjects()); diff != "" {
			t.Error(diff)
		}
		time.Sleep(3 * time.Minute) // the metric was changed meanwhile
		m.set(about4, recommendation(decision.Measured, 1, 1, ""))
		if diff := cmp.Diff([]string{waitingMetric}, subjects()); diff != "" {
			t.Errorf("after the change (-want +got):\n%s", diff)
		}
		time.Sleep(forgetAfter)
		if diff := cmp.Diff([]string{waitingMetric}, subjects()); diff != "" {
			t.Errorf("KEDA is silent (-want +got):\n%s", diff)
		}
		time.Sleep(time.Minute)
		if got := subjects(); len(got) != 0 {
			t.Errorf("KEDA is silent for over an hour: %q", got)
		}
	})
}

// Triggers that share a metric have series of their own, which don't turn into
// each other's at each call, and end with their trigger.
func TestTriggersThatShareAMetricHaveSeriesOfTheirOwn(t *testing.T) {
	listed := func(up float64) policy.Trigger {
		return policy.Trigger{Namespace: "default", InferenceSet: "phi-4", List: &policy.List{Metrics: []policy.Metric{{Name: waitingMetric, Up: up, Down: 1}}}}
	}
	gate := func(target float64) policy.Trigger {
		return policy.Trigger{Namespace: "default", InferenceSet: "phi-4", Queue: policy.Queue{
			Metric: waitingMetric, Target: target, Aggregation: policy.Gate, Window: time.Minute,
		}}
	}
	for _, tt := range []struct {
		story      string
		one, other policy.Trigger
	}{
		{"two metric lists", listed(5), listed(50)},
		{"two gates", gate(10), gate(20)},
	} {
		t.Run(tt.story, func(t *testing.T) {
			registry := prometheus.NewPedanticRegistry()
			m := NewMetrics(registry, of(1))
			wanted := func() (values []string) {
				for _, line := range gather(t, registry) {
					if strings.HasPrefix(line, "recommended_replicas{") {
						values = append(values, line)
					}
				}
				return values
			}
			for range 3 {
				m.set(triggerIDOf(tt.one), recommendation(decision.Measured, 1, 3, ""))
				m.set(triggerIDOf(tt.other), recommendation(decision.Measured, 1, 5, ""))
				var values []string
				for _, line := range wanted() {
					labels, value, _ := strings.Cut(line, " ")
					if !strings.Contains(labels, "trigger=") {
						t.Errorf("%s has no trigger", line)
					}
					values = append(values, value)
				}
				if slices.Sort(values); !slices.Equal(values, []string{"3", "5"}) {
					t.Fatalf("wanted replicas %q, want those of both", values)
				}
			}
			m.SetTriggers(phi4, []policy.Trigger{tt.other})
			if lines := wanted(); len(lines) != 1 || strings.Contains(lines[0], "trigger=") || !strings.HasSuffix(lines[0], " 5") {
				t.Errorf("once one is gone: %q", lines)
			}
			m.SetTriggers(phi4, nil)
			if lines := gather(t, registry); len(lines) > 0 {
				t.Errorf("once nobody scales it: %q", lines)
			}
		})
	}
}

// No InferenceSet has so many series that others have none.
func TestSeriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		m := NewMetrics(registry, fleets{})
		for n := range 4000 {
			s := about4
			s.Digest = uint64(n)
			m.set(s, decision.Recommendation{})
		}
		if m.size != maxTriggers {
			t.Errorf("%d subjects of one InferenceSet, want no more than %d", m.size, maxTriggers)
		}
		m.set(aboutIt("another"), decision.Recommendation{})
		if m.size != maxTriggers+1 {
			t.Error("another InferenceSet's don't fit")
		}
		for n := range maxSubjects {
			m.set(aboutIt(fmt.Sprint("one-of-many-", n)), decision.Recommendation{})
		}
		if m.size != maxSubjects {
			t.Errorf("%d subjects, want no more than %d", m.size, maxSubjects)
		}
		if got := gather(t, registry); !slices.Contains(got, "over_limit_total{limit=series} 4e+03") {
			t.Errorf("what was left out is counted as %q", got)
		}
		// What is old makes room, even if nobody collects.
		time.Sleep(forgetAfter + time.Minute)
		m.set(aboutIt("new"), decision.Recommendation{})
		if m.size != 1 || len(m.newest) != 1 {
			t.Errorf("%d subjects, want the new one alone", m.size)
		}
	})
}

func TestCallsAreCounted(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := NewMetrics(registry, fleets{})
	config, trust := certificate(t)
	listener := loopback(t)
	s, _ := service(of(1, waiting("a", 3)))
	s.Metrics = m
	server := start(t, func(ctx context.Context) error {
		return serve(ctx, listener, newServer(config, time.Hour, s, &Watchdog{}))
	})
	client := pb.NewExternalScalerClient(dial(t, listener.Addr().String(), grpc.WithTransportCredentials(trust)))
	for range 3 {
		if _, err := client.GetMetricSpec(t.Context(), trigger()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.IsActive(t.Context(), trigger("inferenceSetName", "phi-5")); status.Code(err) != codes.NotFound {
		t.Fatal(err)
	}
	stream, err := client.StreamIsActive(t.Context(), trigger())
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Fatal(err)
	}
	server.cancel()
	server.ends()
	want := []string{
		"grpc_request_duration_seconds{method=GetMetricSpec} 3", "grpc_request_duration_seconds{method=IsActive} 1",
		"grpc_request_duration_seconds{method=StreamIsActive} 1",
		"grpc_requests_total{code=NotFound,method=IsActive} 1", "grpc_requests_total{code=OK,method=GetMetricSpec} 3",
		"grpc_requests_total{code=Unimplemented,method=StreamIsActive} 1",
	}
	if diff := cmp.Diff(want, gather(t, registry)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// A service without metrics answers all the same.
func TestNoMetricsCountNothing(t *testing.T) {
	var m *Metrics
	m.set(about4, decision.Recommendation{})
	wanted := errors.New("an error")
	_, err := m.unary(t.Context(), nil, nil, func(context.Context, any) (any, error) { return nil, wanted })
	if !errors.Is(err, wanted) {
		t.Error(err)
	}
	if err := m.stream(nil, nil, nil, func(any, grpc.ServerStream) error { return wanted }); !errors.Is(err, wanted) {
		t.Error(err)
	}
}

func TestWhatWasLearnedIsMeasured(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry, of(2))
	subject := triggerIDOf(saturating)
	load := &decision.Load{Demand: 1.25, Need: 1.5, Fill: .75, ColdStart: 4 * time.Minute, Learning: true}
	m.set(subject, decision.Recommendation{Confidence: decision.Measured, Value: 2, Desired: 2, Replicas: 2, Load: load})
	got := strings.Join(gather(t, registry), "\n")
	for _, want := range []string{
		"demand_replicas{metric=desired-replicas} 1.25", "needed_replicas{metric=desired-replicas} 1.5",
		"utilization_limit_ratio{metric=desired-replicas} 0.75", "cold_start_seconds{metric=desired-replicas} 240", "learning{metric=desired-replicas} 1",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	m.set(subject, decision.Recommendation{Confidence: decision.Held, Value: 2, Desired: 2, Replicas: 2})
	if got := strings.Join(gather(t, registry), "\n"); strings.Contains(got, "demand_replicas") {
		t.Errorf("a demand is told of a hold that knows none:\n%s", got)
	}
}
