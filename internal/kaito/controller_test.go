package kaito

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

func TestAnAnnotatedInferenceSetIsRead(t *testing.T) {
	others := workspace("other")
	others.SetLabels(map[string]string{CreatedBy: "llama"})
	elsewhere := workspace("elsewhere")
	elsewhere.SetNamespace("team-b")
	namesake := pod("b", 0, ready)
	namesake.Namespace = "team-b"
	s := tell(t, inferenceSet(asking(""), set(int64(2), "spec", "replicas")),
		workspace("b"), pod("b", 0, notReady), workspace("a"), pod("a", 0, ready), pod("a", 1, ready), others, elsewhere, namesake)
	s.reconcile()
	s.wantFleet(known{2, []string{"a-0 serving", "b-0 starting"}, []string{waiting}})
}

func TestWhoAsksForAFleetSaysWhatIsReadOfIt(t *testing.T) {
	bystander := scaledObject("bystander", "prometheus", running, "phi-4")
	elsewhere := scaledObject("elsewhere", "external", running, "phi-4")
	elsewhere.Namespace = "team-b"
	guarded := asking("a:queue")
	delete(guarded, "downguard")
	for _, tt := range []struct {
		name        string
		annotations map[string]string
		objects     []client.Object
		want        []string // nil: the fleet isn't read
	}{
		{"nobody", nil, nil, nil},
		{"annotations", asking(""), nil, []string{waiting}},
		{"annotations with a metric", asking(running), nil, []string{running}},
		{"annotations, guarded", guarded, nil, append([]string{"a:queue"}, policy.Trigger{Saturation: &policy.Saturation{}}.Reading().Families...)},
		{"a trigger written by hand", nil, []client.Object{scaledObject("mine", "external", running, "phi-4")}, []string{running}},
		{"a trigger that leaves the metric out", nil, []client.Object{scaledObject("mine", "external", "", "phi-4")}, []string{waiting}},
		{"a push trigger", nil, []client.Object{scaledObject("mine", "external-push", running, "phi-4")}, []string{running}},
		{"annotations and a trigger, each metric once", asking(""), []client.Object{
			scaledObject("phi-4", "external", waiting, "phi-4"), scaledObject("other", "external", running, "phi-4"),
		}, []string{running, waiting}},
		{"one of several triggers", nil, []client.Object{scaledObject("mine", "external", running, "llama", "phi-4")}, []string{running}},
		{"triggers on another InferenceSet", nil, []client.Object{scaledObject("mine", "external", running, "llama")}, nil},
		{"a trigger of another kind", nil, []client.Object{bystander}, nil},
		{"a trigger in another namespace", nil, []client.Object{elsewhere}, nil},
		{"switched off", map[string]string{"auto-provision": "false", "threshold": "10", "max-replicas": "5"}, nil, nil},
		{"a switch that is neither on nor off", map[string]string{"auto-provision": "maybe", "threshold": "10", "max-replicas": "5"}, nil, nil},
		{"refused annotations", map[string]string{"auto-provision": "true", "treshold": "10"}, nil, nil},
		{
			"refused annotations, where the ScaledObject from before stays in force",
			map[string]string{"auto-provision": "true", "treshold": "10"},
			[]client.Object{scaledObject("phi-4", "external", waiting, "phi-4")},
			[]string{waiting},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tell(t, append(tt.objects, inferenceSet(tt.annotations))...)
			s.reconcile()
			if tt.want == nil {
				s.wantForgotten()
				return
			}
			s.wantFleet(known{Desired: 1, Want: tt.want})
		})
	}
}

func TestAFleetThatNobodyAsksForAnyMoreIsForgotten(t *testing.T) {
	t.Run("switched off", func(t *testing.T) {
		s := tell(t, inferenceSet(asking("")), workspace("a"), pod("a", 0, ready))
		s.reconcile()
		s.wantReplicas("a-0 serving")
		s.becomes(inferenceSet(map[string]string{"auto-provision": "false"}))
		s.wantForgotten()
	})
	t.Run("the trigger's ScaledObject deleted", func(t *testing.T) {
		mine := scaledObject("mine", "external", running, "phi-4")
		s := tell(t, inferenceSet(nil), mine, workspace("a"), pod("a", 0, ready))
		s.reconcile()
		s.wantReplicas("a-0 serving")
		s.ends(mine)
		s.wantForgotten()
	})
	t.Run("the InferenceSet deleted, though a trigger still names it", func(t *testing.T) {
		is := inferenceSet(asking(""))
		s := tell(t, is, scaledObject("mine", "external", running, "phi-4"), workspace("a"), pod("a", 0, ready))
		s.reconcile()
		s.ends(is)
		s.wantForgotten()
	})
	t.Run("it comes back", func(t *testing.T) {
		is := inferenceSet(asking(""))
		s := tell(t, is)
		s.reconcile()
		s.ends(is)
		s.becomes(inferenceSet(asking(running)))
		s.wantFleet(known{Desired: 1, Want: []string{running}})
	})
}

func TestAPodThatWasReadyGoesOnServing(t *testing.T) {
	for _, tt := range []struct {
		name      string
		workspace *unstructured.Unstructured
		pod       *corev1.Pod
	}{
		{"too busy for its probe", workspace("a", state("Pending")), pod("a", 0, notReady)},
		{"its Workspace calls it broken", workspace("a", says("InferenceReady", "False", "ContainerOOMKilled", "")), pod("a", 0, notReady)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tell(t, inferenceSet(asking("")), workspace("a"), pod("a", 0, notReady))
			s.reconcile()
			s.wantReplicas("a-0 starting")
			s.becomes(pod("a", 0, ready))
			s.wantReplicas("a-0 serving")
			s.becomes(tt.workspace, tt.pod)
			s.wantReplicas("a-0 serving")
			s.reconcile()
			s.wantReplicas("a-0 serving")
		})
	}
}

// Evicted, preempted or done: its address may be another pod's by now.
func TestAPodThatWasReadyAndHasEndedServesNoMore(t *testing.T) {
	for _, phase := range []corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded} {
		s := tell(t, inferenceSet(asking("")), workspace("a"), pod("a", 0, ready))
		s.reconcile()
		s.wantReplicas("a-0 serving")
		s.becomes(workspace("a", state("NotReady")), pod("a", 0, notReady, started(time.Hour), ended(phase, "Evicted")))
		s.wantReplicas("a-0 broken")
		s.becomes(pod("a", 0, notReady, func(p *corev1.Pod) { p.UID = "its successor" }))
		s.wantReplicas("a-0 starting")
	}
}

// The watch was down while it became Ready and then too busy for its probe. KAITO's
// benchmark is over by the first Ready.
func TestAPodThatTurnedReadyUnseenServes(t *testing.T) {
	s := tell(t, inferenceSet(asking("")), workspace("a"), pod("a", 0, notReady, started(0)))
	s.reconcile()
	s.wantReplicas("a-0 starting")
	s.becomes(workspace("a", state("NotReady")), pod("a", 0, notReady, started(10*time.Minute)))
	s.wantReplicas("a-0 serving")
}

// Nobody tells when time passes: the Watcher looks again by itself.
func TestAFaultInDoubtIsLookedAtAgain(t *testing.T) {
	s := tell(t, inferenceSet(asking("")),
		workspace("a", says("NodeClaimReady", "False", "LaunchFailed", "no quota")), workspace("b"))
	now := noon.Add(time.Minute)
	s.watcher.now = func() time.Time { return now }
	look := func() time.Duration {
		t.Helper()
		result, err := s.watcher.Reconcile(t.Context(), reconcile.Request{NamespacedName: phi4})
		if err != nil {
			t.Fatal(err)
		}
		return result.RequeueAfter
	}
	if again := look(); again != 2*time.Minute {
		t.Errorf("looks again after %v, want 2 min: the fault is a minute old", again)
	}
	s.wantReplicas("a starting", "b starting")
	now = now.Add(2 * time.Minute)
	if again := look(); again != 0 {
		t.Errorf("looks again after %v for nothing", again)
	}
	s.wantReplicas("a broken", "b starting")
}

func TestAPodThatWasReadyStillEnds(t *testing.T) {
	held := pod("a", 0, ready, func(p *corev1.Pod) { p.Finalizers = []string{"test/finalizer"} })
	s := tell(t, inferenceSet(asking("")), workspace("a"), held)
	s.reconcile()
	s.ends(held)
	s.wantReplicas("a-0 terminating")
}

// Its successor has the name, and none of the past: it loads the model anew.
func TestAPodsSuccessorStartsAfresh(t *testing.T) {
	s := tell(t, inferenceSet(asking("")), workspace("a"), pod("a", 0, ready))
	s.reconcile()
	s.becomes(pod("a", 0, notReady, func(p *corev1.Pod) { p.UID = "another" }))
	s.wantReplicas("a-0 starting")
}

// KAITO calls a Workspace NotReady once it was Ready, also while its pod has been
// replaced and the new one goes through its benchmark.
func TestAPodsSuccessorStartsAfreshWhateverItsWorkspaceSays(t *testing.T) {
	s := tell(t, inferenceSet(asking("")), workspace("a"), pod("a", 0, ready))
	s.reconcile()
	successor := func(condition func(*corev1.Pod)) *corev1.Pod {
		return pod("a", 0, condition, func(p *corev1.Pod) { p.UID = "another" })
	}
	s.becomes(workspace("a", state("NotReady")), successor(notReady))
	s.wantReplicas("a-0 starting")
	s.reconcile()
	s.wantReplicas("a-0 starting")
	s.becomes(successor(ready))
	s.wantReplicas("a-0 serving")
	s.becomes(successor(notReady))
	s.wantReplicas("a-0 serving")
}

func TestAProcessThatComesLaterTakesTheWorkspacesWord(t *testing.T) {
	s := tell(t, inferenceSet(asking("")), workspace("a", state("NotReady")), pod("a", 0, notReady))
	s.reconcile()
	s.wantReplicas("a-0 serving")
	s.reconcile()
	s.wantReplicas("a-0 serving")
}

func TestPodsThatAreGoneAreForgotten(t *testing.T) {
	gone, goneToo := pod("a", 0, ready), workspace("a")
	s := tell(t, inferenceSet(asking("")), goneToo, gone, workspace("b"), pod("b", 0, ready))
	s.reconcile()
	s.ends(gone, goneToo)
	s.wantReplicas("b-0 serving")
	want := map[types.NamespacedName]map[types.UID]bool{phi4: {"uid-of-b-0": true}}
	if diff := cmp.Diff(want, s.watcher.served); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
	s.becomes(workspace("a"), pod("a", 0, notReady))
	s.wantReplicas("a-0 starting", "b-0 serving")
}

func TestACacheThatFailsChangesNothing(t *testing.T) {
	for _, broken := range []string{"Get", "Workspace", "Pod", "ScaledObject"} {
		t.Run(broken, func(t *testing.T) {
			s := tell(t, inferenceSet(asking("")), workspace("a"), pod("a", 0, ready))
			s.reconcile()
			before := s.fleets.now[phi4]
			s.broken = broken
			_, err := s.watcher.Reconcile(t.Context(), reconcile.Request{NamespacedName: phi4})
			if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "default/phi-4") {
				t.Errorf("error %v, want one that says which InferenceSet couldn't be looked at", err)
			}
			s.wantFleet(before)
		})
	}
}

func TestAProcessIsPrimedOnceItHasLookedAtEveryInferenceSet(t *testing.T) {
	llama := inferenceSet(asking(running))
	llama.SetName("llama")
	s := tell(t, inferenceSet(asking("")), llama, workspace("a"), pod("a", 0, ready))
	if s.watcher.Synced() {
		t.Error("synced before the first look")
	}
	first := initialSync{s.watcher}
	if first.NeedLeaderElection() {
		t.Error("a standby would never know whom to read")
	}
	s.broken = "Pod"
	if err := first.Start(t.Context()); !errors.Is(err, errBroken) || s.watcher.Synced() {
		t.Errorf("error %v, synced %t with a cache that failed", err, s.watcher.Synced())
	}
	s.broken = KindInferenceSet
	if err := first.Start(t.Context()); !errors.Is(err, errBroken) || s.watcher.Synced() {
		t.Errorf("error %v, synced %t with a cache that failed", err, s.watcher.Synced())
	}
	s.broken = ""
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.watcher.Synced() || len(s.fleets.now) != 2 {
		t.Errorf("synced %t with %d fleets, want 2", s.watcher.Synced(), len(s.fleets.now))
	}
}

// The controller works beside the first look, and knows what is newer than that.
func TestAnInferenceSetThatComesDuringTheFirstLookIsRead(t *testing.T) {
	s := tell(t)
	s.meanwhile = func() { s.becomes(inferenceSet(asking("")), workspace("a"), pod("a", 0, ready)) }
	if err := (initialSync{s.watcher}).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wantReplicas("a-0 serving")
	s.becomes(pod("a", 0, notReady))
	s.wantReplicas("a-0 serving")
}

// KAITO was upgraded: another manager reads its API in another version, and what
// has been seen of the pods counts on.
func TestAWatcherOutlivesItsManagers(t *testing.T) {
	llama := inferenceSet(asking(running))
	llama.SetName("llama")
	s := tell(t, inferenceSet(asking("")), llama, workspace("a"), pod("a", 0, ready))
	if err := (initialSync{s.watcher}).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Meanwhile llama goes, and the pod is too busy for its probe.
	next := tell(t, inferenceSet(asking("")), workspace("a"), pod("a", 0, notReady))
	next.fleets, next.watcher = s.fleets, fleetReconciler{s.watcher.Watcher, next.cache, "v1beta1"}
	if !next.watcher.Synced() {
		t.Error("answers stop while the next manager starts")
	}
	if err := (initialSync{next.watcher}).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	next.wantReplicas("a-0 serving")
	if _, found := s.fleets.now[client.ObjectKeyFromObject(llama)]; found || len(s.fleets.now) != 1 {
		t.Errorf("fleets are %v, want phi-4's alone", s.fleets.now)
	}
}

func TestAChangeLeadsToItsInferenceSet(t *testing.T) {
	stranger := pod("nginx", 0)
	stranger.Labels = nil
	for _, tt := range []struct {
		name string
		from func(context.Context, client.Object) []reconcile.Request
		of   client.Object
		want []string
	}{
		{"a Workspace", Owner, workspace("a"), []string{"default/phi-4"}},
		{"a pod", Owner, pod("a", 3), []string{"default/phi-4"}},
		{"a pod of no InferenceSet", Owner, stranger, nil},
		{"a ScaledObject", Named, scaledObject("mine", "external", "", "phi-4", "llama"), []string{"default/phi-4", "default/llama"}},
		{"a ScaledObject of other things", Named, scaledObject("mine", "cron", "", "phi-4"), nil},
		{"something else altogether", Named, stranger, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, request := range tt.from(t.Context(), tt.of) {
				got = append(got, request.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// A ScaledObject has the bounds that are in force, and so comes first.
func TestWhoLearnsIsToldByWhatAFleetIsScaled(t *testing.T) {
	is := inferenceSet(map[string]string{"auto-provision": "true", "max-replicas": "8"})
	mine := scaledObject("mine", "external", "", "phi-4")
	mine.Spec.MinReplicaCount, mine.Spec.MaxReplicaCount = new(int32(2)), new(int32(7))
	s := tell(t, is, mine, workspace("a"), pod("a", 0, ready))
	s.reconcile()
	asked := s.fleets.asked[phi4]
	if len(asked) != 2 || asked[0].Bounds != (policy.Bounds{Min: 2, Max: 7}) || asked[1].Saturation == nil ||
		asked[1].Bounds != (policy.Bounds{Min: 1, Max: 8}) {
		t.Errorf("asked: %+v", asked)
	}
	s.ends(is)
	if asked := s.fleets.asked[phi4]; len(asked) > 0 {
		t.Errorf("asked of one that is gone: %+v", asked)
	}
}
