package provision

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
)

func TestAnAnnotatedInferenceSetGetsItsScaledObjectOnce(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated: scaling between 1 and 5 replicas on vllm:num_requests_waiting, 10 for each replica")
	if diff := cmp.Diff([]string{"default/phi-4"}, w.recorder.regarding); diff != "" {
		t.Errorf("the event stands on (-want +got):\n%s", diff)
	}
	so, found := w.scaledObject("phi-4")
	if !found || !ours(so, "uid-of-phi-4") || *so.Spec.MaxReplicaCount != 5 {
		t.Errorf("ScaledObject: %+v", so)
	}
}

func TestNothingIsWrittenBeforeTheCertificatesStand(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.controller.settings.Trust = func() error { return errors.New("no certificate yet") }
	result, err := w.controller.Reconcile(t.Context(), reconcile.Request{NamespacedName: phi4})
	if err != nil || result.RequeueAfter != trustInterval {
		t.Errorf("got %+v, %v, want to look again in %s", result, err, trustInterval)
	}
	w.wantWrites()
	w.controller.settings.Trust = settings.Trust
	w.reconcile()
	w.wantWrites("apply phi-4")
}

func TestAnInferenceSetThatDoesNotAskGetsNothing(t *testing.T) {
	for _, switched := range []string{"false", "0"} {
		w := newWorld(t, inferenceSet("auto-provision", switched))
		w.reconcile()
		w.wantWrites()
		w.wantEvents()
	}
	w := newWorld(t)
	w.reconcile()
	w.wantWrites()
}

func TestAChangedAnnotationChangesTheScaledObject(t *testing.T) {
	for _, tt := range []struct {
		key, value string
		event      string
		holds      func(kedav1alpha1.ScaledObjectSpec) bool
	}{
		{
			"max-replicas", "7", "scaling between 1 and 7 replicas",
			func(s kedav1alpha1.ScaledObjectSpec) bool { return *s.MaxReplicaCount == 7 },
		},
		{
			"min-replicas", "2", "scaling between 2 and 5 replicas",
			func(s kedav1alpha1.ScaledObjectSpec) bool { return *s.MinReplicaCount == 2 },
		},
		{
			"threshold", "2.5", "scaling between 1 and 5 replicas on vllm:num_requests_waiting, 2.5 for each",
			func(s kedav1alpha1.ScaledObjectSpec) bool { return s.Triggers[0].Metadata["threshold"] == "2.5" },
		},
		{
			"metricName", "vllm:num_requests_running", "scaling between 1 and 5 replicas on vllm:num_requests_running",
			func(s kedav1alpha1.ScaledObjectSpec) bool {
				return s.Triggers[0].Metadata["metricName"] == "vllm:num_requests_running"
			},
		},
		{
			// Zero is a window like any other, and not one that isn't given.
			"evaluationwindow", "0", "scaling between 1 and 5 replicas",
			func(s kedav1alpha1.ScaledObjectSpec) bool {
				behavior := s.Advanced.HorizontalPodAutoscalerConfig.Behavior
				return *behavior.ScaleUp.StabilizationWindowSeconds == 0 && *behavior.ScaleDown.StabilizationWindowSeconds == 0
			},
		},
		{
			"scaleupcooldown", "30", "scaling between 1 and 5 replicas",
			func(s kedav1alpha1.ScaledObjectSpec) bool {
				return s.Advanced.HorizontalPodAutoscalerConfig.Behavior.ScaleUp.Policies[0].PeriodSeconds == 30
			},
		},
		{
			"scaledowncooldown", "30", "scaling between 1 and 5 replicas",
			func(s kedav1alpha1.ScaledObjectSpec) bool {
				return s.Advanced.HorizontalPodAutoscalerConfig.Behavior.ScaleDown.Policies[0].PeriodSeconds == 30
			},
		},
	} {
		t.Run(tt.key, func(t *testing.T) {
			w := newWorld(t, inferenceSet())
			w.reconcile()
			w.wantWrites("apply phi-4")
			w.wantEvents("Normal ScaledObjectCreated")
			w.annotate(tt.key, tt.value)
			w.reconcile()
			w.wantWrites("apply phi-4")
			w.wantEvents("Normal ScaledObjectUpdated: " + tt.event)
			if so, _ := w.scaledObject("phi-4"); !tt.holds(so.Spec) {
				t.Errorf("%s %s has not come to the ScaledObject: %+v", tt.key, tt.value, so.Spec)
			}
		})
	}
}

func TestTheMaximumIsCorrectedWhenKAITOTellsTheNodes(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantEvents("Normal ScaledObjectCreated: scaling between 1 and 5 replicas")
	workspace := kaito.Object("v1beta1", kaito.KindWorkspace)
	workspace.SetNamespace("default")
	workspace.SetName("phi-4-x")
	workspace.SetLabels(map[string]string{kaito.CreatedBy: "phi-4"})
	workspace.Object["status"] = map[string]any{"targetNodeCount": int64(4)}
	w.create(workspace)
	w.reconcile()
	w.wantEvents("Normal ScaledObjectUpdated: scaling between 1 and 2 replicas on vllm:num_requests_waiting, 10 for each replica; " +
		"max-replicas 5 but nodeCountLimit 10 allows 2 at 4 nodes per replica")
	if so, _ := w.scaledObject("phi-4"); *so.Spec.MaxReplicaCount != 2 {
		t.Errorf("maximum %d, want 2", *so.Spec.MaxReplicaCount)
	}
}

func TestARefusalLeavesEverythingAsItIsAndIsToldOnce(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pairs []string
		want  string
	}{
		{"a switch that is no switch", []string{"auto-provision", "yes please"}, `scaledobject.kaito.sh/auto-provision "yes please": must be "true" or "false"`},
		{"a bad threshold", []string{"threshold", "abc"}, `scaledobject.kaito.sh/threshold "abc": must be a number`},
		{"bounds that contradict", []string{"min-replicas", "6"}, `scaledobject.kaito.sh/min-replicas "6": must not be above the maximum of 5 replicas`},
		{"a typo", []string{"treshold", "7"}, `scaledobject.kaito.sh/treshold "7": no such annotation, did you mean scaledobject.kaito.sh/threshold?`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, inferenceSet())
			w.reconcile()
			w.wantWrites("apply phi-4")
			w.wantEvents("Normal ScaledObjectCreated")
			before, _ := w.scaledObject("phi-4")

			w.annotate(tt.pairs...)
			w.reconcile()
			w.wantEvents("Warning ScalingRefused: nothing was changed: " + tt.want)
			w.wantWrites()
			after, found := w.scaledObject("phi-4")
			if diff := cmp.Diff(before, after); !found || diff != "" {
				t.Errorf("the ScaledObject from before (-before +after):\n%s", diff)
			}
		})
	}
}

func TestTheSameRefusalIsNewsAfterItWasMended(t *testing.T) {
	const refusal = `Warning ScalingRefused: nothing was changed: scaledobject.kaito.sh/threshold "abc"`
	t.Run("mended", func(t *testing.T) {
		w := newWorld(t, inferenceSet())
		w.reconcile()
		w.wantEvents("Normal ScaledObjectCreated")
		w.annotate("threshold", "abc")
		w.reconcile()
		w.wantEvents(refusal)
		w.annotate("threshold", "10")
		w.reconcile()
		w.wantEvents() // nothing came of it
		w.annotate("threshold", "abc")
		w.reconcile()
		w.wantEvents(refusal)
	})
	t.Run("switched off meanwhile", func(t *testing.T) {
		w := newWorld(t, inferenceSet("threshold", "abc"))
		w.reconcile()
		w.wantEvents(refusal)
		w.annotate("auto-provision", "false")
		w.reconcile()
		w.wantEvents()
		w.annotate("auto-provision", "true")
		w.reconcile()
		w.wantEvents(refusal)
	})
	t.Run("made anew", func(t *testing.T) {
		w := newWorld(t, inferenceSet("threshold", "abc"))
		w.reconcile()
		w.wantEvents(refusal)
		w.delete(inferenceSet())
		w.reconcile()
		w.create(inferenceSet("threshold", "abc"))
		w.reconcile()
		w.wantEvents(refusal)
	})
}

func TestANameThatKEDACannotTakeIsRefused(t *testing.T) {
	for _, tt := range []struct {
		length  int
		refused bool
	}{{54, false}, {55, true}} {
		is := inferenceSet()
		is.SetName(strings.Repeat("x", tt.length))
		w := newWorld(t, is)
		if err := w.try(client.ObjectKeyFromObject(is)); err != nil {
			t.Fatal(err)
		}
		if tt.refused {
			w.wantEvents(`Warning ScalingRefused: nothing was changed: metadata.name "` + is.GetName() + `": must have at most 54 characters`)
			w.wantWrites()
		} else {
			w.wantEvents("Normal ScaledObjectCreated")
		}
	}
}

func TestSwitchingOffTakesTheScaledObjectAway(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated")
	w.annotate("auto-provision", "false")
	w.reconcile()
	w.wantWrites("delete phi-4")
	w.wantEvents("Normal ScaledObjectRemoved: auto-provision is off: the ScaledObject is gone and replicas stay as they are")
	w.annotate("auto-provision", "true")
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated")
}

func TestAScaledObjectEndsWithItsInferenceSet(t *testing.T) {
	is := inferenceSet()
	is.SetFinalizers([]string{"inferenceset.finalizer.kaito.sh"})
	w := newWorld(t, is)
	w.reconcile()
	w.wantEvents("Normal ScaledObjectCreated")
	w.wantWrites("apply phi-4")
	w.delete(is) // KAITO's finalizer holds it
	w.reconcile()
	w.wantWrites("delete phi-4")
	w.wantEvents() // nobody needs to be told of what they did
}

func TestAScaledObjectThatIsBeingDeletedIsLeftToEnd(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantEvents("Normal ScaledObjectCreated")
	w.wantWrites("apply phi-4")
	change(w, "phi-4", &kedav1alpha1.ScaledObject{}, func(so *kedav1alpha1.ScaledObject) {
		so.Finalizers = []string{"finalizer.keda.sh"}
	})
	so, _ := w.scaledObject("phi-4")
	w.delete(so)
	w.annotate("max-replicas", "7")
	w.reconcile()
	w.wantWrites()
	w.annotate("auto-provision", "false")
	w.reconcile()
	w.wantWrites()
	w.annotate("auto-provision", "true")
	change(w, "phi-4", &kedav1alpha1.ScaledObject{}, func(so *kedav1alpha1.ScaledObject) { so.Finalizers = nil })
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated: scaling between 1 and 7 replicas")
}

// The garbage collector takes the old one's, and its end is the new one's
// beginning: nobody is told of a conflict that there isn't.
func TestALeftOverOfAnInferenceSetMadeAnewIsNoConflict(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated")
	w.delete(inferenceSet())
	w.reconcile()
	anew := inferenceSet()
	anew.SetUID("uid-of-another")
	w.create(anew)
	w.reconcile()
	w.wantWrites()
	w.wantEvents()
	so, _ := w.scaledObject("phi-4")
	w.delete(so)
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated")
}

func TestSomebodyElsesScaledObjectWins(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rival *kedav1alpha1.ScaledObject
	}{
		{"of the same name", foreign("phi-4", "kaito.sh/v1beta1", "InferenceSet", "phi-4")},
		{"of the same name, on something else", foreign("phi-4", "apps/v1", "Deployment", "phi-4")},
		{"of another name", foreign("mine", "kaito.sh/v1beta1", "InferenceSet", "phi-4")},
		{"in another version of the API, which KEDA's admission lets through", foreign("mine", "kaito.sh/v1alpha1", "InferenceSet", "phi-4")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, inferenceSet(), tt.rival)
			before, _ := w.scaledObject(tt.rival.Name)
			w.reconcile()
			w.wantWrites()
			w.wantEvents(`Warning AutoscalingConflict: ScaledObject "` + tt.rival.Name + `", which keda-kaito-scaler did not make, is in the way`)
			if diff := cmp.Diff([]string{"default/" + tt.rival.Name}, w.recorder.related); diff != "" {
				t.Errorf("the event is related to (-want +got):\n%s", diff)
			}
			w.annotate("auto-provision", "false")
			w.reconcile()
			w.wantWrites()
			after, found := w.scaledObject(tt.rival.Name)
			if diff := cmp.Diff(before, after); !found || diff != "" {
				t.Errorf("the user's ScaledObject (-before +after):\n%s", diff)
			}

			w.annotate("auto-provision", "true")
			w.delete(tt.rival)
			w.reconcile()
			w.wantWrites("apply phi-4")
			w.wantEvents("Normal ScaledObjectCreated")
		})
	}
}

func TestAScaledObjectThatComesLaterTakesOver(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated")
	w.create(foreign("mine", "kaito.sh/v1alpha1", "InferenceSet", "phi-4"))
	w.reconcile()
	w.wantWrites("delete phi-4")
	w.wantEvents(`Warning AutoscalingConflict: ScaledObject "mine"`)
}

func TestAnUnrelatedScaledObjectIsNoConflict(t *testing.T) {
	elsewhere := foreign("phi-4", "kaito.sh/v1beta1", "InferenceSet", "phi-4")
	elsewhere.Namespace = "team-b"
	for name, so := range map[string]*kedav1alpha1.ScaledObject{
		"on another InferenceSet":            foreign("llama", "kaito.sh/v1beta1", "InferenceSet", "llama"),
		"on a Deployment of the same name":   foreign("web", "apps/v1", "Deployment", "phi-4"),
		"of another API's kind of that name": foreign("other", "example.com/v1", "InferenceSet", "phi-4"),
		"in another namespace":               elsewhere,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, inferenceSet(), so)
			w.reconcile()
			w.wantWrites("apply phi-4")
			w.wantEvents("Normal ScaledObjectCreated")
		})
	}
}

// Who takes our mark off a ScaledObject makes it theirs.
func TestAScaledObjectWithoutOurMarkIsItsUsers(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated")
	change(w, "phi-4", &kedav1alpha1.ScaledObject{}, func(so *kedav1alpha1.ScaledObject) {
		so.Annotations = nil
		so.Spec.MaxReplicaCount = new(int32(50))
	})
	w.reconcile()
	w.wantWrites()
	w.wantEvents(`Warning AutoscalingConflict: ScaledObject "phi-4"`)
	w.annotate("auto-provision", "false")
	w.reconcile()
	w.wantWrites()
}

func TestUsersAdditionsSurvive(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated")
	change(w, "phi-4", &kedav1alpha1.ScaledObject{}, func(so *kedav1alpha1.ScaledObject) {
		so.Annotations["autoscaling.keda.sh/paused-scale-in"] = "true"
		so.Labels = map[string]string{"team": "a"}
		so.Finalizers = []string{"finalizer.keda.sh"}
		so.Spec.Fallback = &kedav1alpha1.Fallback{FailureThreshold: 3, Replicas: 2}
	})
	w.reconcile()
	w.wantWrites()
	w.annotate("max-replicas", "7")
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectUpdated")
	so, _ := w.scaledObject("phi-4")
	if so.Annotations["autoscaling.keda.sh/paused-scale-in"] != "true" || so.Labels["team"] != "a" ||
		len(so.Finalizers) != 1 || so.Spec.Fallback == nil || *so.Spec.MaxReplicaCount != 7 {
		t.Errorf("ScaledObject after a change: %+v", so)
	}
}

func TestWhatAUserBentIsPutStraight(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantEvents("Normal ScaledObjectCreated")
	w.wantWrites("apply phi-4")
	change(w, "phi-4", &kedav1alpha1.ScaledObject{}, func(so *kedav1alpha1.ScaledObject) {
		so.Spec.MinReplicaCount = nil
		so.Spec.Triggers[0].Metadata["enableTLS"] = "false"
	})
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectUpdated: scaling between 1 and 5 replicas")
	so, _ := w.scaledObject("phi-4")
	if so.Spec.MinReplicaCount == nil || *so.Spec.MinReplicaCount != 1 || so.Spec.Triggers[0].Metadata["enableTLS"] != "true" {
		t.Errorf("ScaledObject: %+v", so.Spec)
	}
	w.delete(so)
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated")
}

func TestAWriteThatFailsIsToldAndTriedAgain(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.refusal = errors.New(`admission webhook "vscaledobject.kb.io" denied the request: no`)
	for range 3 {
		err := w.try(phi4)
		if !errors.Is(err, w.refusal) || !strings.Contains(err.Error(), "apply ScaledObject default/phi-4") {
			t.Errorf("error %v, want the refusal, and what was being done", err)
		}
	}
	w.wantEvents(`Warning ProvisioningFailed: the ScaledObject could not be written, trying again: admission webhook "vscaledobject.kb.io" denied the request: no`)
	w.wantWrites("apply phi-4", "apply phi-4", "apply phi-4")
	w.refusal = nil
	w.reconcile()
	w.wantEvents("Normal ScaledObjectCreated")
}

func TestANamespaceThatEndsIsNoFailure(t *testing.T) {
	w := newWorld(t, inferenceSet())
	forbidden := apierrors.NewForbidden(schema.GroupResource{Group: "keda.sh", Resource: "scaledobjects"}, "phi-4", errors.New("the namespace is being terminated"))
	forbidden.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	w.refusal = forbidden
	if err := w.try(phi4); err != nil {
		t.Errorf("error %v, want none: it would be tried again until the namespace is gone", err)
	}
	w.wantEvents()
}

func TestAReadOrADeletionThatFailsIsTriedAgain(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantEvents("Normal ScaledObjectCreated")
	w.failure = errors.New("the cache is broken")
	if err := w.try(phi4); !errors.Is(err, w.failure) || !strings.Contains(err.Error(), "ScaledObject default/phi-4") {
		t.Errorf("error %v, want one that says what couldn't be read", err)
	}
	w.annotate("auto-provision", "false")
	if err := w.try(phi4); !errors.Is(err, w.failure) || !strings.Contains(err.Error(), "ScaledObject default/phi-4") {
		t.Errorf("error %v, want one that says what couldn't be read", err)
	}
	w.failure, w.refusal = nil, errors.New("no rights")
	if err := w.try(phi4); !errors.Is(err, w.refusal) || !strings.Contains(err.Error(), "delete ScaledObject default/phi-4") {
		t.Errorf("error %v, want one that says what couldn't be deleted", err)
	}
	w.wantEvents()
	w.refusal = nil
	w.reconcile()
	w.wantEvents("Normal ScaledObjectRemoved")
}

func TestALongNoteFitsAnEvent(t *testing.T) {
	long := inferenceSet()
	annotations := long.GetAnnotations()
	for _, letter := range "abcdefghijklmnopqrstuvwxyz" {
		annotations["scaledobject.kaito.sh/"+strings.Repeat(string(letter), 30)] = strings.Repeat("é", 100)
	}
	long.SetAnnotations(annotations)
	w := newWorld(t, long)
	w.reconcile()
	if len(w.recorder.events) != 1 {
		t.Fatalf("%d events, want 1", len(w.recorder.events))
	}
	_, note, _ := strings.Cut(w.recorder.events[0], ": ")
	if len(note) > 1024 || len(note) < 1000 || !strings.HasSuffix(note, "…") {
		t.Errorf("a note of %d bytes: %s", len(note), note)
	}
}
