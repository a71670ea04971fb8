package provision

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

// quickStart is the README's own example.
func quickStart(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	return example(t, "phi-4.yaml")
}

// example is one of those that users get, as the API server has it.
func example(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(data, &u.Object); err != nil {
		t.Fatal(err)
	}
	// The API server's.
	u.SetUID("653701a3-0561-4b36-8008-36fbc0ac77ee")
	return u
}

// desired is what an InferenceSet should have, as it is applied.
func desired(t *testing.T, u *unstructured.Unstructured, s Settings) *unstructured.Unstructured {
	t.Helper()
	is := kaito.ReadInferenceSet(u)
	p, _, err := policy.Parse(policy.Request{Annotations: is.Annotations, NodeCountLimit: is.NodeCountLimit})
	if err != nil {
		t.Fatal(err)
	}
	object, err := applied(ScaledObject(is, p, s))
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// live is a ScaledObject as it comes back from the cluster.
func live(t *testing.T, object *unstructured.Unstructured) *kedav1alpha1.ScaledObject {
	t.Helper()
	data, err := object.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var so kedav1alpha1.ScaledObject
	if err := yaml.Unmarshal(data, &so); err != nil {
		t.Fatal(err)
	}
	so.TypeMeta = metav1.TypeMeta{} // which a client leaves out
	so.ResourceVersion, so.UID, so.Generation = "1", "uid", 3
	so.Status.Conditions = kedav1alpha1.Conditions{{Type: "Ready", Status: "True"}}
	return &so
}

func TestOnlyTheSpecTheMarkAndTheOwnerAreOurs(t *testing.T) {
	none, apply, replace := difference{}, difference{any: true}, difference{any: true, surplus: true}
	hpa := func(so *kedav1alpha1.ScaledObject) *kedav1alpha1.HorizontalPodAutoscalerConfig {
		return so.Spec.Advanced.HorizontalPodAutoscalerConfig
	}
	for _, tt := range []struct {
		name string
		add  func(*kedav1alpha1.ScaledObject)
		want difference
	}{
		{"nothing", func(*kedav1alpha1.ScaledObject) {}, none},
		{"a pause", func(so *kedav1alpha1.ScaledObject) { so.Annotations["autoscaling.keda.sh/paused"] = "true" }, none},
		{"labels", func(so *kedav1alpha1.ScaledObject) {
			so.Labels = map[string]string{"scaledobject.keda.sh/name": "phi-4"}
		}, none},
		{"KEDA's finalizer", func(so *kedav1alpha1.ScaledObject) { so.Finalizers = []string{"finalizer.keda.sh"} }, none},
		{"another owner", func(so *kedav1alpha1.ScaledObject) {
			so.OwnerReferences = append([]metav1.OwnerReference{{Name: "app", UID: "uid-of-app"}}, so.OwnerReferences...)
		}, none},
		{"the same in other words", func(so *kedav1alpha1.ScaledObject) {
			hpa(so).Behavior.ScaleUp.Tolerance = new(resource.MustParse("0.10"))
		}, none},
		{"a fallback", func(so *kedav1alpha1.ScaledObject) { so.Spec.Fallback = &kedav1alpha1.Fallback{Replicas: 2} }, replace},
		{"idle replicas", func(so *kedav1alpha1.ScaledObject) { so.Spec.IdleReplicaCount = new(int32(0)) }, replace},
		{"a cooldown of zero", func(so *kedav1alpha1.ScaledObject) { so.Spec.CooldownPeriod = new(int32(0)) }, replace},
		{"a name for the HPA", func(so *kedav1alpha1.ScaledObject) { hpa(so).Name = "mine" }, replace},
		{"a formula", func(so *kedav1alpha1.ScaledObject) { so.Spec.Advanced.ScalingModifiers.Formula = "a + b" }, replace},
		{"trigger metadata", func(so *kedav1alpha1.ScaledObject) { so.Spec.Triggers[0].Metadata["note"] = "mine" }, apply},
		{"another trigger", func(so *kedav1alpha1.ScaledObject) {
			so.Spec.Triggers = append(so.Spec.Triggers, kedav1alpha1.ScaleTriggers{Type: "cron"})
		}, apply},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := desired(t, quickStart(t), settings)
			existing := live(t, want)
			tt.add(existing)
			got, err := compare(existing, live(t, want))
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

// Every field that we write is one that we watch: without it, or with another
// value, there is a difference.
func TestEachOfOurFieldsIsADifference(t *testing.T) {
	want := desired(t, quickStart(t), settings)
	paths := leaves("", map[string]any{"metadata": want.Object["metadata"], "spec": want.Object["spec"]})
	if len(paths) < 30 {
		t.Fatalf("%d fields, want those of the golden file: %q", len(paths), paths)
	}
	for _, path := range paths {
		if path == "\x00metadata\x00name" || path == "\x00metadata\x00namespace" {
			continue // by which it is found
		}
		missing := want.DeepCopy()
		alter(missing.Object, path, func(any) any { return nil })
		other := want.DeepCopy()
		alter(other.Object, path, func(value any) any {
			switch value := value.(type) {
			case string:
				if _, err := resource.ParseQuantity(value); err == nil {
					return "7"
				}
				return value + "-x"
			case int64:
				return value + 1
			case bool:
				return !value
			}
			t.Fatalf("%s is a %T", path, value)
			return nil
		})
		for _, existing := range []*unstructured.Unstructured{missing, other} {
			got, err := compare(live(t, existing), live(t, want))
			if err != nil || !got.any {
				t.Errorf("%s: %+v, %v; want a difference", path, got, err)
			}
		}
	}
}

// leaves are the paths to all values that aren't objects or lists, such as
// /spec/triggers/0/type/.
func leaves(path string, value any) []string {
	var out []string
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			out = append(out, leaves(path+"\x00"+key, v)...)
		}
	case []any:
		for i, v := range value {
			out = append(out, leaves(fmt.Sprintf("%s\x00%d", path, i), v)...)
		}
	default:
		return []string{path}
	}
	return out
}

// alter replaces the value at a path, or takes it away for nil.
func alter(value any, path string, with func(any) any) {
	head, rest := cut(path)
	switch value := value.(type) {
	case map[string]any:
		if rest != "" {
			alter(value[head], rest, with)
			return
		}
		if value[head] = with(value[head]); value[head] == nil {
			delete(value, head)
		}
	case []any:
		var i int
		if _, err := fmt.Sscan(head, &i); err != nil {
			panic(err)
		}
		alter(value[i], rest, with)
	}
}

func cut(path string) (head, rest string) {
	path = path[1:]
	for i := range len(path) {
		if path[i] == 0 {
			return path[:i], path[i:]
		}
	}
	return path, ""
}

func TestATriggerOfOursReadsAsItWasMeant(t *testing.T) {
	is := kaito.ReadInferenceSet(quickStart(t))
	p, _, err := policy.Parse(policy.Request{Annotations: is.Annotations, NodeCountLimit: is.NodeCountLimit})
	if err != nil {
		t.Fatal(err)
	}
	so := ScaledObject(is, p, settings)
	got, err := policy.ParseTrigger(so.Namespace, so.Spec.Triggers[0].Metadata)
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Trigger{Namespace: "default", InferenceSet: "phi-4", Queue: p.Queue, Bounds: p.Bounds}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("trigger (-want +got):\n%s", diff)
	}
	if kind := so.Spec.Triggers[0].MetricType; kind != autoscalingv2.AverageValueMetricType {
		t.Errorf("metric type %s: the HPA would count pods instead of replicas", kind)
	}
}
