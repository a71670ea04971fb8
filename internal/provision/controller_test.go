package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
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
	if !found || !ours(so, kaito.ReadInferenceSet(inferenceSet())) || *so.Spec.MaxReplicaCount != 5 {
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
	behavior := func(s kedav1alpha1.ScaledObjectSpec) *autoscalingv2.HorizontalPodAutoscalerBehavior {
		return s.Advanced.HorizontalPodAutoscalerConfig.Behavior
	}
	for _, tt := range []struct {
		key, value string
		event      string
		holds      func(kedav1alpha1.ScaledObjectSpec) bool
	}{
		{
			"max-replicas", "7", "max-replicas 5 → 7; now scaling between 1 and 7 replicas",
			func(s kedav1alpha1.ScaledObjectSpec) bool { return *s.MaxReplicaCount == 7 },
		},
		{
			"min-replicas", "2", "min-replicas 1 → 2; now scaling between 2 and 5 replicas",
			func(s kedav1alpha1.ScaledObjectSpec) bool { return *s.MinReplicaCount == 2 },
		},
		{
			"threshold", "2.5", "threshold 10 → 2.5; now scaling between 1 and 5 replicas on vllm:num_requests_waiting, 2.5 for each replica",
			func(s kedav1alpha1.ScaledObjectSpec) bool { return s.Triggers[0].Metadata["threshold"] == "2.5" },
		},
		{
			"metricName", "vllm:num_requests_running", "metricName vllm:num_requests_waiting → vllm:num_requests_running; now scaling between 1 and 5 replicas on vllm:num_requests_running",
			func(s kedav1alpha1.ScaledObjectSpec) bool {
				return s.Triggers[0].Metadata["metricName"] == "vllm:num_requests_running"
			},
		},
		{
			// Zero is a window like any other, and not one that isn't given.
			"evaluationwindow", "0", "window upwards 60 → 0; window downwards 300 → 0; now scaling between 1 and 5 replicas",
			func(s kedav1alpha1.ScaledObjectSpec) bool {
				return *behavior(s).ScaleUp.StabilizationWindowSeconds == 0 && *behavior(s).ScaleDown.StabilizationWindowSeconds == 0
			},
		},
		{
			"scaleupcooldown", "30", "scaleupcooldown 300 → 30; now scaling between 1 and 5 replicas",
			func(s kedav1alpha1.ScaledObjectSpec) bool { return behavior(s).ScaleUp.Policies[0].PeriodSeconds == 30 },
		},
		{
			"scaledowncooldown", "30", "scaledowncooldown 600 → 30; now scaling between 1 and 5 replicas",
			func(s kedav1alpha1.ScaledObjectSpec) bool {
				return behavior(s).ScaleDown.Policies[0].PeriodSeconds == 30
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

func TestWhatNodeCountLimitAllowsIsAnEventOfItsOwn(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantEvents("Normal ScaledObjectCreated: scaling between 1 and 5 replicas")

	// KAITO has worked out the nodes of a replica.
	workspace := kaito.Object("v1beta1", kaito.KindWorkspace)
	workspace.SetNamespace("default")
	workspace.SetName("phi-4-x")
	workspace.SetLabels(map[string]string{kaito.CreatedBy: "phi-4"})
	workspace.Object["status"] = map[string]any{"targetNodeCount": int64(4)}
	w.create(workspace)
	w.reconcile()
	w.wantEvents(
		"Normal ScaledObjectUpdated: max-replicas 5 → 2; now scaling between 1 and 2 replicas on vllm:num_requests_waiting, 10 for each replica",
		"Warning ScalingCapped: max-replicas 5 but nodeCountLimit 10 allows 2 at 4 nodes per replica")
	if diff := cmp.Diff([]string{"default/phi-4-x"}, w.recorder.related); diff != "" {
		t.Errorf("the event is related to (-want +got):\n%s", diff)
	}
	if so, _ := w.scaledObject("phi-4"); *so.Spec.MaxReplicaCount != 2 {
		t.Errorf("maximum %d, want 2", *so.Spec.MaxReplicaCount)
	}

	limit := func(n int64) {
		change(w, "phi-4", kaito.Object("v1beta1", kaito.KindInferenceSet), func(u *unstructured.Unstructured) {
			u.Object["spec"] = map[string]any{"replicas": int64(1), "nodeCountLimit": n}
		})
		w.reconcile()
	}
	limit(11) // changes nothing but the words
	w.wantEvents("Warning ScalingCapped: max-replicas 5 but nodeCountLimit 11 allows 2 at 4 nodes per replica")
	limit(12)
	w.wantEvents("Normal ScaledObjectUpdated: max-replicas 2 → 3", "Warning ScalingCapped: max-replicas 5 but nodeCountLimit 12 allows 3")
	limit(20)
	w.wantEvents("Normal ScaledObjectUpdated: max-replicas 3 → 5")
	limit(12)
	w.wantEvents("Normal ScaledObjectUpdated: max-replicas 5 → 3", "Warning ScalingCapped: max-replicas 5 but nodeCountLimit 12 allows 3")

	w.restart(settings)
	w.reconcile()
	w.wantEvents() // the one before has told
}

// An update of the InferenceSet from one node to two leaves Workspaces of both
// kinds for a while: the larger ones must fit too, whatever the cache's order.
func TestTheLargestReplicaDecidesWhatNodeCountLimitAllows(t *testing.T) {
	sized := func(name string, nodes int64) *unstructured.Unstructured {
		w := kaito.Object("v1beta1", kaito.KindWorkspace)
		w.SetNamespace("default")
		w.SetName(name)
		w.SetLabels(map[string]string{kaito.CreatedBy: "phi-4"})
		w.Object["status"] = map[string]any{"targetNodeCount": nodes}
		return w
	}
	w := newWorld(t, inferenceSet("max-replicas", "20"), sized("a", 1), sized("b", 2), sized("c", 2), sized("d", 0))
	for range 4 {
		w.reconcile()
	}
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated: scaling between 1 and 5 replicas", "Warning ScalingCapped")
	if diff := cmp.Diff([]string{"default/b"}, w.recorder.related); diff != "" {
		t.Errorf("the limit is told of (-want +got):\n%s", diff)
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
			if note := w.recorder.last; !strings.HasSuffix(note, "; still in force: scaling between 1 and 5 replicas on vllm:num_requests_waiting, 10 for each replica, "+
				"guarded on the way down: 2.5s to the first token, 75ms between tokens") {
				t.Errorf("the event doesn't tell what is in force: %s", note)
			}
			w.wantState("outdated")
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

// The mark and the owner make a ScaledObject ours. Who takes both off makes it
// theirs; who takes one off finds it again.
func TestAScaledObjectWithoutMarkAndOwnerIsItsUsers(t *testing.T) {
	w := newWorld(t, inferenceSet())
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectCreated")
	for _, take := range []func(*kedav1alpha1.ScaledObject){
		func(so *kedav1alpha1.ScaledObject) { so.Annotations = nil },
		func(so *kedav1alpha1.ScaledObject) { so.OwnerReferences = nil },
	} {
		change(w, "phi-4", &kedav1alpha1.ScaledObject{}, take)
		w.reconcile()
		w.wantWrites("apply phi-4")
		w.wantEvents("Normal ScaledObjectUpdated: owner and mark restored")
	}
	change(w, "phi-4", &kedav1alpha1.ScaledObject{}, func(so *kedav1alpha1.ScaledObject) {
		so.Annotations, so.OwnerReferences = nil, nil
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
	})
	survived := func() {
		t.Helper()
		so, _ := w.scaledObject("phi-4")
		if so.Annotations["autoscaling.keda.sh/paused-scale-in"] != "true" || so.Labels["team"] != "a" ||
			len(so.Finalizers) != 1 {
			t.Errorf("ScaledObject: %+v", so.ObjectMeta)
		}
	}
	w.reconcile()
	w.wantWrites()
	w.annotate("max-replicas", "7")
	w.reconcile()
	w.wantWrites("apply phi-4")
	w.wantEvents("Normal ScaledObjectUpdated: max-replicas 5 → 7")
	survived()

	// The spec is ours as a whole, and what is put into it goes.
	change(w, "phi-4", &kedav1alpha1.ScaledObject{}, func(so *kedav1alpha1.ScaledObject) {
		so.Spec.Fallback = &kedav1alpha1.Fallback{FailureThreshold: 3, Replicas: 2}
		so.Spec.Advanced.HorizontalPodAutoscalerConfig.Name = "mine"
	})
	w.reconcile()
	w.wantWrites("patch phi-4")
	w.wantEvents("Normal ScaledObjectUpdated: advanced.horizontalPodAutoscalerConfig.name removed; fallback removed; now scaling between 1 and 7 replicas")
	survived()
	if so, _ := w.scaledObject("phi-4"); so.Spec.Fallback != nil {
		t.Errorf("the fallback is still there: %+v", so.Spec.Fallback)
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
	w.wantEvents("Normal ScaledObjectUpdated: min-replicas unset → 1; metadata.enableTLS false → true; now scaling between 1 and 5 replicas")
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

// A process that is told to stop, or loses its Lease, in the middle of a write:
// the next leader does it, and nobody has failed.
func TestAStopInTheMiddleOfAWriteIsNoFailure(t *testing.T) {
	for name, begin := range map[string]func(w *world){
		"a write": func(w *world) {
			w.refusal = fmt.Errorf("client rate limiter Wait returned an error: %w", context.Canceled)
		},
		"a read": func(w *world) { w.failure = context.Canceled },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, inferenceSet())
			begin(w)
			var lines []string
			ctx, stop := context.WithCancel(log.IntoContext(t.Context(), funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})))
			stop()
			if result, err := w.controller.Reconcile(ctx, reconcile.Request{NamespacedName: phi4}); err != nil || result != (reconcile.Result{}) {
				t.Errorf("got %+v, %v: the controller would log and count it", result, err)
			}
			w.wantEvents()
			w.wantState("")
			if len(lines) > 0 {
				t.Errorf("logged %q", lines)
			}
			families, err := w.metrics.Gather()
			if err != nil || len(families) > 0 {
				t.Errorf("counted: %v, %v", families, err)
			}
		})
	}
}

// Annotations have 256 kB, and there may be thousands of InferenceSets: the last
// events of each are remembered in a few bytes.
func TestTheLastEventsTakeAFewBytes(t *testing.T) {
	l := newEventDedup()
	long := strings.Repeat("x", 1<<18)
	if !l.isNew(phi4, long+"a") || l.isNew(phi4, long+"a") || !l.isNew(phi4, long+"b") {
		t.Error("a long text is new twice, or another one is not")
	}
	if !l.isNewWarning(phi4, "AnnotationNoted", long, true) || l.isNewWarning(phi4, "AnnotationNoted", long, true) || !l.isNewWarning(phi4, "AnnotationNoted", long+"b", true) {
		t.Error("a long warning is new twice, or another one is not")
	}
	if n := len(fmt.Sprintf("%v", *l.entries[phi4])); n > 500 {
		t.Errorf("%d bytes are remembered of one InferenceSet", n)
	}
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
