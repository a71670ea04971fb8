package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/load"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// listed are annotations with a metric list, at a test's pace.
func listed(metrics ...string) map[string]string {
	return map[string]string{
		"auto-provision": "true", "metrics": "[" + strings.Join(metrics, ",\n ") + "]", "max-replicas": "5",
		"evaluationwindow": "0", "scaleupcooldown": "2", "scaledowncooldown": "4",
	}
}

// gauge is one of them, over two seconds.
func gauge(name string, up, down float64) string {
	return fmt.Sprintf("{name: %s, type: gauge, aggregation: windowed-avg, upthreshold: %g, downthreshold: %g, metriccachewindow: 2}", name, up, down)
}

// queues asks for one more above 10 waiting requests on each, for one less
// below 1.
var queues = gauge("vllm:num_requests_waiting", 10, 1)

func TestAnUnknownMetricMovesNothingAndIsNamed(t *testing.T) {
	t.Parallel()
	s := apply(t, listed(queues, gauge("vllm:num_request_running", 10, 1)), replicas(2))
	s.awaitReady(2)
	s.queue(50, 50)
	s.told("MetricMissing", "no serving replica's page has vllm:num_request_running: did you mean vllm:num_requests_running?")
	s.stays("no move up on half of an AND", 2, 8*time.Second)
	s.queueEach(0)
	s.stays("no move down on half of it", 2, 8*time.Second)

	s.annotate("metrics", "["+queues+", "+gauge("vllm:num_requests_running", 10, 1)+"]")
	s.told("ScalingDown", "2 → 1: vllm:num_requests_waiting 0 < 1 and vllm:num_requests_running 0 < 1")
	s.wantDesired(1)
}

func TestAnyMetricOfAnORScalesUpAndAllOfThemDown(t *testing.T) {
	t.Parallel()
	annotations := listed(gauge("vllm:gpu_cache_usage_perc", 0.8, 0.2), queues)
	annotations["combinepolicy"] = "OR"
	s := apply(t, annotations)
	s.told("", "vllm:gpu_cache_usage_perc is vllm:kv_cache_usage_perc since vLLM 0.10")
	s.awaitReady(1)
	s.cacheEach(0.9)
	s.wantDesired(2)
	s.told("ScalingUp", "1 → 2: vllm:gpu_cache_usage_perc ")
	s.awaitReady(2)
	s.stays("45 % on two are between the thresholds", 2, 4*time.Second)
	s.queue(25) // 12.5 on each of two, 8.3 of three
	s.wantDesired(3)
	s.told("ScalingUp", "2 → 3: vllm:num_requests_waiting ")
	s.awaitReady(3)
	s.cacheEach(0.5)
	s.queueEach(0)
	s.stays("empty queues alone are not enough to go down", 3, 8*time.Second)
	s.cacheEach(0.1)
	s.steps(3, 1)
}

// TestUnderLoadAHistogramIsNotFooled restarts a pod, lets one join and one
// leave, each with counters that jump, and KAITO's benchmark in them.
func TestUnderLoadAHistogramIsNotFooled(t *testing.T) {
	t.Parallel()
	const histogram = "{name: vllm:%s, type: histogram, %s upthreshold: %g, downthreshold: %g, metriccachewindow: 5}"
	// At this load 0.02 s to the first token and 1 s to the last; the benchmark
	// makes seconds of the former.
	first := fmt.Sprintf(histogram, "time_to_first_token_seconds", "quantile: 0.9,", 1.0, 0.001)
	last := fmt.Sprintf(histogram, "e2e_request_latency_seconds", "", 6.0, 0.1)
	annotations := listed(first, last)
	annotations["combinepolicy"] = "OR"
	s := apply(t, annotations, adapted(func(o *kaito.Options) { o.Startup.Benchmark = 4 * time.Second }))
	generator := load.Start(func() []*vllm.Pod { return shared.KAITO.Serving(s.namespace, s.name) },
		load.Options{Prompt: load.Tokens{Mean: 50}, Output: load.Tokens{Mean: 100}})
	t.Cleanup(generator.Stop)
	generator.SetRate(20)
	s.awaitReady(1)
	s.stays("the first replica's benchmark is no load", 1, 7*time.Second)

	s.scale(2)
	s.stays("one joins", 2, 16*time.Second)
	restarted := s.awaitReady(2)[0]
	if err := restarted.Fail(kaito.Restart); err != nil {
		t.Fatal(err)
	}
	s.stays("one is restarted", 2, 10*time.Second)
	s.awaitReady(2)
	s.scale(3)
	s.stays("another joins", 3, 16*time.Second)
	s.awaitReady(3)
	s.scale(2)
	s.stays("one leaves", 2, 8*time.Second)
	s.awaitReady(2)
	s.neverTold("ScalingUp")
	s.neverTold("ScalingDown")
	if stats := generator.Stats(); stats.Sent < 500 {
		t.Errorf("%d requests in all: this test shows nothing", stats.Sent)
	}

	// It was no stiffness: a lower threshold, and then no load, move the fleet.
	first = fmt.Sprintf(histogram, "time_to_first_token_seconds", "quantile: 0.9,", 0.001, 0.0005)
	s.annotate("metrics", "["+first+", "+last+"]")
	s.wantDesired(3)
	s.told("ScalingUp", "vllm:time_to_first_token_seconds p90 ")
	generator.SetRate(0)
	s.told("ScalingDown", "idle in 5 s")
	s.wantDesired(1)
}

// neverTold checks that there is no event of a reason.
func (s *set) neverTold(reason string) {
	s.Helper()
	list, err := s.eventList()
	if err != nil {
		s.Fatal(err)
	}
	for i := range list {
		if list[i].Reason == reason {
			s.Errorf("told %s: %s", reason, list[i].Note)
		}
	}
}

// TestOneMoreOfTwelve is beyond what the HPA's own tolerance of 10 % lets pass.
func TestOneMoreOfTwelve(t *testing.T) {
	t.Parallel()
	annotations := listed(queues)
	annotations["max-replicas"] = "14"
	s := apply(t, annotations, replicas(12))
	s.awaitReady(12)
	s.queueEach(50)
	s.eventually("13 replicas desired", func() error {
		if n := s.desired(); n != 13 {
			if n != 12 {
				s.Fatalf("from 12 to %d", n)
			}
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	s.told("ScalingUp", "12 → 13: vllm:num_requests_waiting ")
	s.awaitReady(13)
	s.queueEach(0)
	s.eventually("fewer replicas", func() error {
		if n := s.desired(); n > 12 {
			return fmt.Errorf("%d are desired", n)
		}
		return nil
	})
}

// dialects are the same wish in each.
func dialects() map[string]map[string]string {
	queue := brisk()
	queue["scaledowncooldown"] = "4"
	return map[string]map[string]string{"queue": queue, "list": listed(queues)}
}

func TestReplicasOfSeveralNodesGoUpAndDownOneAtATime(t *testing.T) {
	t.Parallel()
	for dialect, annotations := range dialects() {
		for _, n := range []int{2, 3, 4} {
			t.Run(fmt.Sprintf("%s/%d", dialect, n), func(t *testing.T) {
				t.Parallel()
				s := apply(t, annotations, nodes(n), nodeCountLimit(int64(3*n)))
				s.awaitReady(1)
				s.told("", fmt.Sprintf("max-replicas 5 but nodeCountLimit %d allows 3 at %d nodes per replica", 3*n, n))
				s.queue(60)
				s.wantDesired(3)
				s.awaitReady(3)
				s.stays("there are nodes for three", 3, 5*time.Second)
				s.queueEach(0)
				s.steps(3, 1)
			})
		}
	}
}

func TestABrokenReplicaBlocksNeitherDirection(t *testing.T) {
	t.Parallel()
	for dialect, annotations := range dialects() {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			s := apply(t, annotations)
			s.awaitReady(1)
			// From now on no replica comes by itself.
			shared.KAITO.Adapt(s.namespace, s.name, func(o *kaito.Options) { o.Startup.Download = time.Hour })
			s.queue(20)
			s.wantDesired(2)
			broken := s.newest(2)
			s.stays("a replica that starts isn't asked for twice", 2, 5*time.Second)
			shared.KAITO.Adapt(s.namespace, s.name, func(o *kaito.Options) { o.Startup = quick })
			if err := broken.Fail(kaito.ImagePull); err != nil {
				t.Fatal(err)
			}
			s.told("ReplicaStuck", broken.Workspace+" is not counted on any more: ImagePullError: the image can't be pulled")
			s.queue(50)
			s.wantDesired(3)
			s.eventually("two replicas serve", func() error {
				if n := len(shared.KAITO.Serving(s.namespace, s.name)); n < 2 {
					return fmt.Errorf("%d serve", n)
				}
				return nil
			})
			s.queueEach(0)
			s.wantDesired(1)
			s.awaitReady(1)
		})
	}
}

// newest waits for the nth replica.
func (s *set) newest(n int) kaito.Replica {
	s.Helper()
	var all []kaito.Replica
	s.eventually(fmt.Sprintf("replica %d is made", n), func() error {
		if all = shared.KAITO.Replicas(s.namespace, s.name); len(all) < n {
			return fmt.Errorf("there are %d", len(all))
		}
		return nil
	})
	return all[n-1]
}

func TestABadMetricListIsRefusedAndTheLastValidOneStays(t *testing.T) {
	t.Parallel()
	s := apply(t, listed(queues))
	before := s.provisioned()
	const prefix = "scaledobject.kaito.sh/"
	good := listed(queues)["metrics"]
	item := func(rest string) string { return "[{name: vllm:num_requests_waiting, type: gauge, " + rest + "}]" }
	for _, tt := range []struct{ key, value, told string }{
		{"metrics", "[" + queues + ", " + queues + "]", "metrics[1].name \"vllm:num_requests_waiting\": must not be there twice"},
		{"metrics", item("upthreshold: 1, downthreshold: 5"), "must not be below downthreshold 5"},
		{"metrics", item("upthreshold: .inf, downthreshold: 5"), "metrics[0].upthreshold \".inf\": must be a finite number"},
		{"metrics", item("upthreshold: 1e999, downthreshold: 5"), "must be a finite number"},
		{"metrics", item("upthreshold: 5, downthreshold: NaN"), "metrics[0].downthreshold \"NaN\": must be a finite number"},
		{"metrics", item("upthreshold: 5, downtreshold: 1"), "did you mean downthreshold?"},
		{"metrics", item("upthreshold: 5, downthreshold: 1, metriccachewindow: 2h"), "must be whole seconds from 1 to 3600"},
		{"metrics", item("upthreshold: 5, downthreshold: 1, quantile: 95"), "must be above 0 and at most 1"},
		{"metrics", "[]", "must be a list of at least one metric"},
		{"metrics", "vllm:num_requests_waiting", "must be a list of metrics"},
		{"metrics", strings.Repeat("- a line of a very long list\n", 8000), "must have at most 16384 bytes"},
		{"metrics", strings.Repeat("- {}\n", 3000), "must have at most 16 metrics"},
		{"combinepolicy", "XOR", `combinepolicy "XOR": must be AND or OR`},
		{"evaluationwindow", "3601", `evaluationwindow "3601": must be whole seconds from 0 to 3600, the HPA's limits`},
		{"scaleupcooldown", "1801", `scaleupcooldown "1801": must be whole seconds from 1 to 1800, the HPA's limits`},
		{"scaledowncooldown", "0", `scaledowncooldown "0": must be whole seconds from 1 to 1800`},
		{"scaledowncooldown", "-5m", `scaledowncooldown "-5m": must be whole seconds`},
		{"max-replicas", "1e3", `max-replicas "1e3": must be a whole number`},
		{"min-replicas", "0.5", `min-replicas "0.5": must be a whole number of at least 1`},
	} {
		was, given := listed(queues)[tt.key]
		if tt.key == "metrics" {
			was = good
		}
		s.annotate(tt.key, tt.value)
		s.told("ScalingRefused", tt.told)
		if given {
			s.annotate(tt.key, was)
		} else {
			s.annotate(tt.key, nil)
		}
	}
	s.annotate("metrics", "none")
	s.told("ScalingRefused", prefix+`metrics "none": must be a list of metrics`)
	after, err := s.scaledObject()
	if err != nil || after.Generation != before.Generation || after.UID != before.UID {
		t.Errorf("the ScaledObject didn't stay as it was: %v, generation %d, before %d", err, after.Generation, before.Generation)
	}
	// And it goes on to scale.
	s.awaitReady(1)
	s.queue(50)
	s.wantDesired(2)
}

func TestMetricsWinOverAThreshold(t *testing.T) {
	t.Parallel()
	annotations := listed(queues)
	annotations["threshold"] = "1000"
	s := apply(t, annotations)
	s.told("", `threshold "1000" is ignored, because metrics is given`)
	s.awaitReady(1)
	s.queue(50)
	s.wantDesired(2)
}

// TestAListIsPublishedAsReplicas looks at what KEDA and the HPA are given: our
// decision, without a tolerance or a formula of theirs.
func TestAListIsPublishedAsReplicas(t *testing.T) {
	t.Parallel()
	s := apply(t, listed(queues))
	s.provisioned()
	s.awaitReady(1)
	s.queue(5) // between the thresholds: below the lower one a list asks for one less, whatever the minimum
	s.eventually("one replica is published", func() error {
		got, err := s.value("desired-replicas")
		if err == nil && got != "1" {
			err = errors.New(got + " is")
		}
		return err
	})
	hpa, err := s.hpa()
	if err != nil {
		t.Fatal(err)
	}
	if target := hpa.Spec.Metrics[0].External.Target.AverageValue; target == nil || target.String() != "1" {
		t.Errorf("the target is %v, want an average of 1", target)
	}
	up, down := hpa.Spec.Behavior.ScaleUp.Tolerance, hpa.Spec.Behavior.ScaleDown.Tolerance
	if up == nil || down == nil || !up.IsZero() || !down.IsZero() {
		t.Errorf("tolerances %v and %v, want 0", up, down)
	}
	so, err := s.scaledObject()
	if err != nil {
		t.Fatal(err)
	}
	if so.Spec.Advanced.ScalingModifiers.Formula != "" {
		t.Errorf("a formula %q, want none", so.Spec.Advanced.ScalingModifiers.Formula)
	}
	if how := so.Spec.Triggers[0].Metadata["combinePolicy"]; how != "AND" {
		t.Errorf("combined by %q, want AND, the default", how)
	}
}
