package provision

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

func TestSomebodyElsesAutoscalingWins(t *testing.T) {
	for _, tt := range []struct {
		name  string
		other client.Object
		event string
	}{
		{"of the same name", foreign("phi-4", "kaito.sh/v1beta1", "InferenceSet", "phi-4"), `ScaledObject "phi-4"`},
		{"of the same name, on something else", foreign("phi-4", "apps/v1", "Deployment", "phi-4"), `ScaledObject "phi-4"`},
		{"of another name", foreign("mine", "kaito.sh/v1beta1", "InferenceSet", "phi-4"), `ScaledObject "mine"`},
		{"in another version of the API, which KEDA's admission lets through", foreign("mine", "kaito.sh/v1alpha1", "InferenceSet", "phi-4"), `ScaledObject "mine"`},
		{"an HPA", autoscaler("by-hand", "kaito.sh/v1beta1", "InferenceSet", "phi-4", ""), `HorizontalPodAutoscaler "by-hand"`},
		{"an HPA in another version of the API", autoscaler("by-hand", "kaito.sh/v1alpha1", "InferenceSet", "phi-4", ""), `HorizontalPodAutoscaler "by-hand"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, inferenceSet(), tt.other)
			before := w.read(tt.other)
			w.reconcile()
			w.wantWrites()
			w.wantEvents(`Warning AutoscalingConflict: ` + tt.event + `, which keda-kaito-scaler did not make, is in the way`)
			w.wantState("conflicting")
			if diff := cmp.Diff([]string{"default/" + tt.other.GetName()}, w.recorder.related); diff != "" {
				t.Errorf("the event is related to (-want +got):\n%s", diff)
			}
			w.annotate("auto-provision", "false")
			w.reconcile()
			w.wantWrites()
			w.wantState("")
			if diff := cmp.Diff(before, w.read(tt.other)); diff != "" {
				t.Errorf("the user's own (-before +after):\n%s", diff)
			}

			w.annotate("auto-provision", "true")
			w.delete(tt.other)
			w.reconcile()
			w.wantWrites("apply phi-4")
			w.wantEvents("Normal ScaledObjectCreated")
			w.wantState("provisioned")
		})
	}
}

func TestAutoscalingThatComesLaterTakesOver(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated")
	mine := foreign("mine", "kaito.sh/v1alpha1", "InferenceSet", "phi-4")
	w.create(mine)
	w.reconcile()
	w.wantWrites("delete phi-4")
	w.wantEvents(`Warning AutoscalingConflict: ScaledObject "mine"`)
	hpa := autoscaler("by-hand", "kaito.sh/v1beta1", "InferenceSet", "phi-4", "")
	w.create(hpa)
	w.reconcile()
	w.wantEvents(`Warning AutoscalingConflict: ScaledObject "mine" and HorizontalPodAutoscaler "by-hand", which keda-kaito-scaler did not make, are in the way: they stay`)
	w.delete(mine)
	w.reconcile()
	w.wantEvents(`Warning AutoscalingConflict: HorizontalPodAutoscaler "by-hand", which`)
	w.wantWrites()
	w.delete(hpa)
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated")
}

// The cache lists in no order, and a look at the same is no news.
func TestAConflictWithSeveralIsToldOnceWhateverTheOrder(t *testing.T) {
	w := newWorld(t, inferenceSet(),
		foreign("a", "kaito.sh/v1beta1", "InferenceSet", "phi-4"), foreign("b", "kaito.sh/v1alpha1", "InferenceSet", "phi-4"),
		autoscaler("y", "kaito.sh/v1beta1", "InferenceSet", "phi-4", ""), autoscaler("x", "kaito.sh/v1beta1", "InferenceSet", "phi-4", ""))
	for range 4 {
		w.reconcile()
	}
	w.wantEvents(`Warning AutoscalingConflict: ScaledObject "a" and ScaledObject "b" and HorizontalPodAutoscaler "x" and HorizontalPodAutoscaler "y", which`)
	if diff := cmp.Diff([]string{"default/a"}, w.recorder.related); diff != "" {
		t.Errorf("the event is related to (-want +got):\n%s", diff)
	}
}

func TestUnrelatedAutoscalingIsNoConflict(t *testing.T) {
	elsewhere := foreign("phi-4", "kaito.sh/v1beta1", "InferenceSet", "phi-4")
	elsewhere.Namespace = "team-b"
	hpaElsewhere := autoscaler("by-hand", "kaito.sh/v1beta1", "InferenceSet", "phi-4", "")
	hpaElsewhere.Namespace = "team-b"
	for name, object := range map[string]client.Object{
		"on another InferenceSet":                foreign("llama", "kaito.sh/v1beta1", "InferenceSet", "llama"),
		"on a Deployment of the same name":       foreign("web", "apps/v1", "Deployment", "phi-4"),
		"of another API's kind of that name":     foreign("other", "example.com/v1", "InferenceSet", "phi-4"),
		"in another namespace":                   elsewhere,
		"the HPA that KEDA made for ours":        autoscaler("keda-hpa-phi-4", "kaito.sh/v1beta1", "InferenceSet", "phi-4", "phi-4"),
		"an HPA on a Deployment of the name":     autoscaler("web", "apps/v1", "Deployment", "phi-4", ""),
		"an HPA on another InferenceSet":         autoscaler("llama", "kaito.sh/v1beta1", "InferenceSet", "llama", ""),
		"an HPA in another namespace":            hpaElsewhere,
		"an HPA with the name of the scaled one": autoscaler("phi-4", "apps/v1", "Deployment", "web", ""),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, inferenceSet(), object)
			w.reconcile()
			w.wantWrites("apply phi-4")
			w.wantEvents("Normal ScaledObjectCreated")
		})
	}
}

func TestWhoseInferenceSetIsLookedAt(t *testing.T) {
	for _, tt := range []struct {
		name string
		ask  func(context.Context, client.Object) []reconcile.Request
		of   client.Object
		want []string
	}{
		{"ours", affected, foreign("phi-4", "kaito.sh/v1beta1", "InferenceSet", "phi-4"), []string{"default/phi-4"}},
		{"of another name", affected, foreign("mine", "kaito.sh/v1alpha1", "InferenceSet", "phi-4"), []string{"default/mine", "default/phi-4"}},
		{"on a Deployment", affected, foreign("mine", "apps/v1", "Deployment", "phi-4"), []string{"default/mine"}},
		{"without an API version", affected, foreign("mine", "", "InferenceSet", "phi-4"), []string{"default/mine"}},
		{"with an odd API version", affected, foreign("mine", "a/b/c", "InferenceSet", "phi-4"), []string{"default/mine"}},
		{"without a target", affected, &kedav1alpha1.ScaledObject{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine"}}, []string{"default/mine"}},
		{"a user's HPA", affectedByAutoscaler, autoscaler("x", "kaito.sh/v1alpha1", "InferenceSet", "phi-4", ""), []string{"default/phi-4"}},
		{"KEDA's HPA", affectedByAutoscaler, autoscaler("x", "kaito.sh/v1alpha1", "InferenceSet", "phi-4", "phi-4"), nil},
		{"an HPA on a Deployment", affectedByAutoscaler, autoscaler("x", "apps/v1", "Deployment", "phi-4", ""), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, request := range tt.ask(t.Context(), tt.of) {
				got = append(got, request.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("InferenceSets (-want +got):\n%s", diff)
			}
		})
	}
}

// A tenant may write ScaledObjects by the thousand. The owner is told once which
// limits they exceed, and not of each.
func TestTriggersBeyondTheLimitsAreToldOnce(t *testing.T) {
	for _, switched := range []string{"true", "false"} {
		w := newWorld(t, inferenceSet("auto-provision", switched))
		page := func(i int) *kedav1alpha1.ScaledObject {
			so := foreign(fmt.Sprintf("so-%d", i), "apps/v1", "Deployment", "web")
			so.Spec.Triggers = []kedav1alpha1.ScaleTriggers{{Type: "external", Metadata: map[string]string{
				"inferenceSetName": "phi-4", "threshold": "10", "metricPort": strconv.Itoa(8000 + i),
			}}}
			return so
		}
		for i := range 3 {
			w.create(page(i))
		}
		w.reconcile()
		w.recorder.events = nil
		for i := range 20 {
			w.create(page(3 + i))
			w.reconcile()
		}
		w.wantEvents("Warning TriggersRefused: not every trigger that names it is answered: there are more than 4 pages (")
		for i := range 23 {
			w.delete(page(i))
		}
		w.reconcile()
		w.wantEvents()
		if n := len(w.controller.reported.entries); switched == "false" && n > 0 {
			t.Errorf("%d InferenceSets are remembered for nothing", n)
		}
	}
}

// What the cache keeps of ours must compare as the whole, and what it cuts must
// not pass for ours.
func TestAStrippedScaledObjectComparesAsTheWhole(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for name, tt := range map[string]struct {
		bend func(*kedav1alpha1.ScaledObject)
		same bool
	}{
		"as it was written":        {func(*kedav1alpha1.ScaledObject) {}, true},
		"with others' annotations": {func(so *kedav1alpha1.ScaledObject) { so.Annotations["autoscaling.keda.sh/paused"] = "true" }, true},
		"without our mark":         {func(so *kedav1alpha1.ScaledObject) { so.Annotations = nil }, false},
		"with another trigger": {func(so *kedav1alpha1.ScaledObject) {
			so.Spec.Triggers = append(so.Spec.Triggers, kedav1alpha1.ScaleTriggers{Type: "cron"})
		}, false},
		"with a long value more":        {func(so *kedav1alpha1.ScaledObject) { so.Spec.Triggers[0].Metadata["x"] = long }, false},
		"with a long formula":           {func(so *kedav1alpha1.ScaledObject) { so.Spec.Advanced.ScalingModifiers.Formula = long }, false},
		"with another maximum":          {func(so *kedav1alpha1.ScaledObject) { so.Spec.MaxReplicaCount = new(int32(9)) }, false},
		"with a container that is long": {func(so *kedav1alpha1.ScaledObject) { so.Spec.ScaleTargetRef.EnvSourceContainerName = long }, false},
	} {
		t.Run(name, func(t *testing.T) {
			is := kaito.ReadInferenceSet(inferenceSet())
			p, _, err := policy.Parse(policy.Request{Annotations: is.Annotations})
			if err != nil {
				t.Fatal(err)
			}
			desired := ScaledObject(is, p, settings)
			existing := desired.DeepCopy()
			tt.bend(existing)
			lean, err := kaito.StripScaledObject(existing)
			if err != nil {
				t.Fatal(err)
			}
			so := lean.(*kedav1alpha1.ScaledObject)
			d, err := compare(so, desired)
			if err != nil || d.any == tt.same {
				t.Errorf("a difference: %t, %v; want %t", d.any, err, !tt.same)
			}
			if !ours(so, is) {
				t.Error("it isn't known as ours any more")
			}
		})
	}
}

// A cluster may have thousands of HPAs that are none of our business.
func TestAStrippedAutoscalerIsReadAsTheWholeAndSmall(t *testing.T) {
	for _, owner := range []string{"", "phi-4"} {
		whole := autoscaler("x", "kaito.sh/v1beta1", "InferenceSet", "phi-4", owner)
		whole.UID, whole.ResourceVersion = "uid", "7"
		whole.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": strings.Repeat("x", 2000)}
		whole.Spec.Metrics = make([]autoscalingv2.MetricSpec, 10)
		whole.Status.CurrentMetrics = make([]autoscalingv2.MetricStatus, 10)
		stripped, err := stripAutoscaler(whole)
		if err != nil {
			t.Fatal(err)
		}
		lean := stripped.(*autoscalingv2.HorizontalPodAutoscaler)
		want := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "x", UID: "uid", ResourceVersion: "7", OwnerReferences: whole.OwnerReferences,
		}}
		want.Spec.ScaleTargetRef = whole.Spec.ScaleTargetRef
		if diff := cmp.Diff(want, lean); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(scaledByAutoscaler(whole), scaledByAutoscaler(lean)); diff != "" {
			t.Errorf("the InferenceSet it scales (-whole +stripped):\n%s", diff)
		}
	}
	for status, want := range map[corev1.ConditionStatus]autoscalingv2.HorizontalPodAutoscalerCondition{
		corev1.ConditionTrue:  {Type: autoscalingv2.ScalingActive, Status: corev1.ConditionTrue},
		corev1.ConditionFalse: {Type: autoscalingv2.ScalingActive, Status: corev1.ConditionFalse, Reason: "FailedGetExternalMetric", Message: strings.Repeat("x", 509) + "…"},
	} {
		whole := autoscaler("x", "kaito.sh/v1beta1", "InferenceSet", "phi-4", "phi-4")
		whole.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{
			{Type: autoscalingv2.AbleToScale, Status: corev1.ConditionTrue},
			{Type: autoscalingv2.ScalingActive, Status: status, Reason: "FailedGetExternalMetric", Message: strings.Repeat("x", 3000)},
		}
		stripped, err := stripAutoscaler(whole)
		if err != nil {
			t.Fatal(err)
		}
		got := stripped.(*autoscalingv2.HorizontalPodAutoscaler).Status.Conditions
		if diff := cmp.Diff([]autoscalingv2.HorizontalPodAutoscalerCondition{want}, got); diff != "" {
			t.Errorf("whether it gets metrics (-want +got):\n%s", diff)
		}
	}
	if _, err := stripAutoscaler("a string"); err == nil || !strings.Contains(err.Error(), "string") {
		t.Errorf("error %v, want one that names the type", err)
	}
}
