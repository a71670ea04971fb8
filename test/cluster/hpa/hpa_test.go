// Package hpa_test compares the simulation's HPA with the real controller: the
// same values at the same times have to lead to the same decisions.
package hpa_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

const (
	// target of each replica.
	target = 10
	// decisions are compared for each trial.
	decisions = 50
)

// trial is a behaviour with a load.
type trial struct {
	name     string
	up, down simulate.Behaviour
	from     int32
	// swing is how many replicas' worth the load wanders from one sync to the
	// next, at most.
	swing float64
}

var bounds = policy.Bounds{Min: 1, Max: 12}

func trials() []trial {
	free := simulate.Behaviour{Pods: 100, Period: time.Second}
	return []trial{
		{"free", free, free, 1, 3},
		{
			// KAITO's threshold, a hundred times faster.
			"queue",
			simulate.Behaviour{Pods: 1, Period: 3 * time.Second, Window: 2 * time.Second, Tolerance: .1},
			simulate.Behaviour{Pods: 1, Period: 6 * time.Second, Window: 3 * time.Second, Tolerance: .5},
			3, 2,
		},
		{"saturation", free, simulate.Behaviour{Pods: 1, Period: 3 * time.Second, Window: 2 * time.Second}, 2, 2},
		{
			"windows",
			simulate.Behaviour{Pods: 100, Period: time.Second, Window: 3 * time.Second},
			simulate.Behaviour{Pods: 100, Period: time.Second, Window: 11 * time.Second},
			6, 2,
		},
		{
			"rates",
			simulate.Behaviour{Pods: 2, Period: 7 * time.Second},
			simulate.Behaviour{Pods: 1, Period: 3 * time.Second},
			12, 4,
		},
		{
			"both",
			simulate.Behaviour{Pods: 3, Period: 11 * time.Second, Window: 2 * time.Second},
			simulate.Behaviour{Pods: 2, Period: 6 * time.Second, Window: 7 * time.Second, Tolerance: .2},
			4, 3,
		},
	}
}

// series is a load that wanders between nothing and more than the bounds allow.
func (tr *trial) series(seed uint64) []float64 {
	r := rand.New(rand.NewPCG(seed, 1))
	load := float64(tr.from)
	all := make([]float64, decisions+1)
	for i := range all {
		load = min(max(load+(2*r.Float64()-1)*tr.swing, 0), 14)
		// Thousandths, as KEDA hands on.
		all[i] = math.Round(load*target*1000) / 1000
	}
	return all
}

func rules(b simulate.Behaviour) *autoscalingv2.HPAScalingRules {
	return &autoscalingv2.HPAScalingRules{
		StabilizationWindowSeconds: new(int32(b.Window / time.Second)),
		SelectPolicy:               new(autoscalingv2.MaxChangePolicySelect),
		Tolerance:                  resource.NewMilliQuantity(int64(math.Round(1000*b.Tolerance)), resource.DecimalSI),
		Policies: []autoscalingv2.HPAScalingPolicy{{
			Type: autoscalingv2.PodsScalingPolicy, Value: b.Pods, PeriodSeconds: int32(b.Period / time.Second),
		}},
	}
}

func (tr *trial) hpa() *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: tr.name},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "kaito.sh/v1beta1", Kind: "InferenceSet", Name: tr.name},
			MinReplicas:    new(bounds.Min), MaxReplicas: bounds.Max,
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(tr.up), ScaleDown: rules(tr.down)},
			Metrics: []autoscalingv2.MetricSpec{{
				Type: autoscalingv2.ExternalMetricSourceType,
				External: &autoscalingv2.ExternalMetricSource{
					Metric: autoscalingv2.MetricIdentifier{Name: tr.name},
					Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewQuantity(target, resource.DecimalSI)},
				},
			}},
		},
	}
}

func TestTheModelDecidesAsTheController(t *testing.T) {
	c, err := client.NewWithWatch(plane.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	served := &metrics{client: c, series: map[string][]float64{}, seen: map[string][]looked{}}
	all := trials()
	for i := range all {
		served.series[all[i].name] = all[i].series(uint64(i) + 1)
	}
	served.serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	echoed := make(chan error, 1)
	go func() { echoed <- echo(ctx, c) }()
	t.Cleanup(func() {
		cancel()
		if err := <-echoed; err != nil {
			t.Errorf("echo the replicas: %v", err)
		}
	})
	for i := range all {
		start(t, c, &all[i])
	}
	for i := range all {
		t.Run(all[i].name, func(t *testing.T) { compare(t, served, &all[i]) })
	}
}

// start makes the target, waits until its status tells, and then the HPA: its
// first look has to be one that succeeds.
func start(t *testing.T, c client.Client, tr *trial) {
	t.Helper()
	object := kaito.NewInferenceSet("v1beta1", types.NamespacedName{Namespace: "default", Name: tr.name}, int(tr.from), nil)
	if err := c.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, client.ObjectKeyFromObject(object), object)
		_, found, _ := unstructured.NestedString(object.Object, "status", "selector")
		return found, err
	})
	if err != nil {
		t.Fatalf("the status of %s: %v", tr.name, err)
	}
	if err := c.Create(t.Context(), tr.hpa()); err != nil {
		t.Fatal(err)
	}
}

// compare waits until the controller has looked often enough, and plays the same
// to the model.
func compare(t *testing.T, served *metrics, tr *trial) {
	var syncs []looked
	err := wait.PollUntilContextTimeout(t.Context(), 200*time.Millisecond, 3*time.Minute, true, func(context.Context) (bool, error) {
		var err error
		syncs, err = served.syncs(tr.name)
		return len(syncs) > decisions, err
	})
	if err != nil {
		t.Fatalf("after %d syncs: %v", len(syncs), err)
	}
	model := simulate.HPA{Up: tr.up, Down: tr.down, Bounds: bounds}
	moves, story := 0, ""
	for i, s := range syncs[:decisions] {
		if s.spec != s.status {
			t.Fatalf("sync %d: status.replicas was %d, spec.replicas %d: the echo was late", i, s.status, s.spec)
		}
		said, did := model.Sync(s.total, target, s.spec, s.at), syncs[i+1].spec
		story += fmt.Sprintf("%3d: after %6.2f s, total %6.2f on %2d: controller → %2d, model → %2d\n",
			i, s.at.Sub(syncs[0].at).Seconds(), s.total, s.spec, did, said)
		if said != did {
			t.Fatalf("the model decides otherwise:\n%s", story)
		}
		if did != s.spec {
			moves++
		}
	}
	if moves < 5 {
		t.Errorf("%d moves in %d decisions: the load didn't try it", moves, decisions)
	}
	t.Logf("%d decisions, %d of them moves, over %.0f s, all alike", decisions, moves, syncs[decisions].at.Sub(syncs[0].at).Seconds())
}
