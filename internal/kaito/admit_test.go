package kaito

import (
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// asks is a ScaledObject on phi-4, made so long after noon, with triggers that
// have these metadata beside the usual ones.
func asks(name string, after time.Duration, triggers ...map[string]string) *kedav1alpha1.ScaledObject {
	so := scaledObject(name, "external", waiting, make([]string, len(triggers))...)
	so.CreationTimestamp = metav1.NewTime(noon.Add(after))
	for i, more := range triggers {
		metadata := so.Spec.Triggers[i].Metadata
		metadata["inferenceSetName"] = "phi-4"
		maps.Copy(metadata, more)
	}
	return so
}

// onPort reads another page.
func onPort(port int) map[string]string { return map[string]string{"metricPort": strconv.Itoa(port)} }

func promising(ttft string) map[string]string {
	return map[string]string{"saturation": "true", "ttftSLO": ttft, "threshold": "", "metricName": ""}
}

func wanting(threshold int) map[string]string {
	return map[string]string{"threshold": strconv.Itoa(threshold)}
}

// refused is what KEDA is told of a trigger of that ScaledObject, "" if it is
// answered.
func (s *story) refused(so *kedav1alpha1.ScaledObject, i int) string {
	s.Helper()
	trigger, err := policy.ParseTrigger("default", so.Spec.Triggers[i].Metadata)
	if err != nil {
		s.Fatal(err)
	}
	return s.watcher.Refused(trigger)
}

func (s *story) wantRefused(so *kedav1alpha1.ScaledObject, i int, limit string) {
	s.Helper()
	switch why := s.refused(so, i); {
	case limit == "" && why != "":
		s.Errorf("trigger %d of %s is refused: %s", i, so.Name, why)
	case !strings.Contains(why, limit):
		s.Errorf("trigger %d of %s is refused with %q, want it to tell of %s", i, so.Name, why, limit)
	}
}

func TestTheOldestTriggersWithinTheLimitsAreAnswered(t *testing.T) {
	for _, tt := range []struct {
		name string
		// own is the InferenceSet's ScaledObject, made last; nil for none.
		own     *kedav1alpha1.ScaledObject
		objects []*kedav1alpha1.ScaledObject
		// answered and refused are the first ScaledObject's trigger of each kind.
		answered, refused []string
		limit             string
		pages             int
	}{
		{
			name: "pages: the fifth is refused, and one that an older one has isn't",
			objects: []*kedav1alpha1.ScaledObject{
				asks("e", 5, onPort(8005)), asks("d", 4, onPort(8004)), asks("c", 3, onPort(8003)), asks("b", 2, onPort(8002)),
				asks("a", 1, onPort(8001)), asks("f", 6, onPort(8001)),
			},
			answered: []string{"a", "b", "c", "d", "f"}, refused: []string{"e"}, limit: "4 pages", pages: 4,
		},
		{
			name: "its own ScaledObject comes first, however young",
			own:  asks("phi-4", 9, onPort(9000)),
			objects: []*kedav1alpha1.ScaledObject{
				asks("a", 1, onPort(8001)), asks("b", 2, onPort(8002)), asks("c", 3, onPort(8003)), asks("d", 4, onPort(8004)),
			},
			answered: []string{"phi-4", "a", "b", "c"}, refused: []string{"d"}, limit: "4 pages", pages: 4,
		},
		{
			name: "SLOs",
			objects: []*kedav1alpha1.ScaledObject{
				asks("a", 1, promising("1s")), asks("b", 2, promising("2s")), asks("c", 3, promising("3s")), asks("d", 4, promising("4s")),
				asks("e", 5, promising("5s")), asks("f", 6, promising("3s")),
			},
			answered: []string{"a", "b", "c", "d", "f"}, refused: []string{"e"}, limit: "4 pairs of ttftSLO and itlSLO", pages: 1,
		},
		{
			name: "of the same age by name",
			objects: []*kedav1alpha1.ScaledObject{
				asks("e", 1, onPort(8005)), asks("d", 1, onPort(8004)), asks("c", 1, onPort(8003)), asks("b", 1, onPort(8002)), asks("a", 1, onPort(8001)),
			},
			answered: []string{"a", "b", "c", "d"}, refused: []string{"e"}, limit: "4 pages", pages: 4,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objects := []client.Object{inferenceSet(nil)}
			byName := map[string]*kedav1alpha1.ScaledObject{}
			if tt.own != nil {
				tt.own.OwnerReferences = []metav1.OwnerReference{{Kind: KindInferenceSet, Name: "phi-4", UID: "uid-of-phi-4", Controller: new(true)}}
				tt.objects = append(tt.objects, tt.own)
			}
			for _, so := range tt.objects {
				objects, byName[so.Name] = append(objects, so), so
			}
			s := tell(t, objects...)
			s.reconcile()
			for _, name := range tt.answered {
				s.wantRefused(byName[name], 0, "")
			}
			for _, name := range tt.refused {
				s.wantRefused(byName[name], 0, tt.limit)
			}
			if pages := len(policy.Readings(s.fleets.asked[phi4])); pages != tt.pages {
				t.Errorf("%d pages are read, want %d", pages, tt.pages)
			}
		})
	}
}

// The ScaledObject that 0.6 wrote for the longest list goes on whole, beside what the
// annotations ask for now: its formula fails if one trigger does. Its readiness gate
// is no page.
func TestTheLongestScaledObjectOfVersion06IsAnsweredWhole(t *testing.T) {
	triggers := []map[string]string{{"metricName": "readiness_gate", "aggregation": "gate", "threshold": "", "scrapeTimeout": "5s"}}
	for i := range 16 {
		triggers = append(triggers, map[string]string{
			"metricName": "vllm:metric_" + strconv.Itoa(i), "aggregation": "service-avg", "threshold": "", "scrapeTimeout": "3s",
		})
	}
	so := asks("phi-4", 1, triggers...)
	so.OwnerReferences = []metav1.OwnerReference{{Kind: KindInferenceSet, Name: "phi-4", UID: "uid-of-phi-4", Controller: new(true)}}
	s := tell(t, inferenceSet(asking("")), stripped(t, so, StripScaledObject))
	s.reconcile()
	for i := range triggers {
		s.wantRefused(so, i, "")
	}
	if pages := policy.Readings(s.fleets.asked[phi4]); len(pages) != 2 {
		t.Errorf("%d pages are read, want that of its triggers and that of the annotations", len(pages))
	}
}

// The annotations' trigger counts as that of the ScaledObject that is yet to come.
func TestAnnotationsComeBeforeOthersScaledObjects(t *testing.T) {
	s := tell(t, inferenceSet(asking("")),
		asks("a", 1, onPort(8001)), asks("b", 2, onPort(8002)), asks("c", 3, onPort(8003)), asks("d", 4, onPort(8004)))
	s.reconcile()
	pages := policy.Readings(s.fleets.asked[phi4])
	if len(pages) != 4 || pages[0].Page != (policy.Page{}) {
		t.Errorf("read: %+v, want the annotations' page and three more", pages)
	}
	s.wantRefused(asks("d", 4, onPort(8004)), 0, "4 pages")
}

func TestOneTenantsThousandsOfTriggersCostNoMoreThanLookingAtSome(t *testing.T) {
	many := make([]map[string]string, 500)
	for i := range many {
		many[i] = wanting(i + 1)
	}
	so := asks("hostile", 1, many...)
	young := asks("young", 2, onPort(8001))
	s := tell(t, inferenceSet(nil), stripped(t, so, StripScaledObject), young)
	s.reconcile()
	if n := len(s.fleets.asked[phi4]); n != MaxTriggers {
		t.Errorf("%d triggers are answered, want %d", n, MaxTriggers)
	}
	s.wantRefused(so, 0, "")
	s.wantRefused(so, MaxTriggers-1, "")
	s.wantRefused(so, MaxTriggers, "18 triggers")
	s.wantRefused(so, 499, "18 triggers")
	s.wantRefused(young, 0, "18 triggers")

	// Once they are gone, all is as before.
	s.ends(so)
	s.wantRefused(young, 0, "")
	s.ends(young)
	s.wantForgotten()
	if n := len(s.watcher.admissions); n > 0 {
		t.Errorf("%d admissions are remembered of nothing", n)
	}
}

// Triggers that were never looked at are refused as well, and so is what the cache
// left out.
func TestWhatIsNotLookedAtIsRefused(t *testing.T) {
	same := make([]map[string]string, MaxParsed)
	s := tell(t, inferenceSet(nil), asks("a", 1, same...), asks("b", 2, wanting(99)))
	s.reconcile()
	s.wantRefused(asks("b", 2, wanting(99)), 0, "18 triggers")
	s.wantRefused(asks("a", 1, nil), 0, "")
}

func TestTheOwnerIsToldWhichLimitsAreExceeded(t *testing.T) {
	var a Admission
	if known := a.Message(); known != "" {
		t.Errorf("told %q of nothing", known)
	}
	a.exceeded[tooManyPages], a.exceeded[tooManySLOs] = true, true
	want := "not every trigger that names it is answered: there are more than 4 pages (metricProtocol, metricPort, metricPath and scrapeTimeout together make one), " +
		"and than 4 pairs of ttftSLO and itlSLO. Its own ScaledObject's come first, then the oldest ScaledObject's: delete those that aren't needed"
	if diff := cmp.Diff(want, a.Message()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestAStrippedScaledObjectIsReadAsTheWhole(t *testing.T) {
	whole := asks("mine", 1, onPort(8001), promising("1s"))
	whole.Generation, whole.UID, whole.ResourceVersion = 7, "uid", "9"
	whole.OwnerReferences = []metav1.OwnerReference{{Kind: KindInferenceSet, Name: "phi-4", UID: "uid-of-phi-4", Controller: new(true)}}
	whole.Annotations = map[string]string{policy.ManagedBy: "keda-kaito-scaler", kedav1alpha1.PausedAnnotation: "true", "other": strings.Repeat("x", 200<<10)}
	whole.Spec.Triggers = append(whole.Spec.Triggers, kedav1alpha1.ScaleTriggers{
		Type: "prometheus", Name: "p", Metadata: map[string]string{"query": strings.Repeat("x", 200<<10)},
	})
	whole.Spec.MaxReplicaCount = new(int32(7))
	whole.Status.LastActiveTime = new(metav1.Now())
	whole.Status.Conditions = kedav1alpha1.Conditions{{Type: kedav1alpha1.ConditionReady, Status: metav1.ConditionFalse, Message: strings.Repeat("x", 200<<10)}}
	lean := stripped(t, whole, StripScaledObject)
	if message := lean.Status.Conditions[0].Message; len(message) > 1<<10 || !strings.HasPrefix(message, "xxx") {
		t.Errorf("%d bytes of a condition's message are kept", len(message))
	}
	whole.Status.Conditions[0].Message = lean.Status.Conditions[0].Message
	if diff := cmp.Diff(triggersOf(whole), triggersOf(lean)); diff != "" || len(triggersOf(lean)) != 2 {
		t.Errorf("triggers (-whole +stripped):\n%s", diff)
	}
	want := whole.DeepCopy()
	delete(want.Annotations, "other")
	want.Spec.Triggers[2].Metadata = nil
	if diff := cmp.Diff(want, lean); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := StripScaledObject("a string"); err == nil || !strings.Contains(err.Error(), "string") {
		t.Errorf("error %v, want one that names the type", err)
	}
}

func TestALargeScaledObjectIsKeptInAFewKilobytes(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	whole := asks("mine", 1, map[string]string{"other": long}, onPort(8001))
	whole.Spec.ScaleTargetRef = &kedav1alpha1.ScaleTarget{APIVersion: "kaito.sh/v1beta1", Kind: "InferenceSet", Name: "phi-4"}
	whole.Spec.Advanced = &kedav1alpha1.AdvancedConfig{ScalingModifiers: kedav1alpha1.ScalingModifiers{Formula: long}}
	for range 100 {
		whole.OwnerReferences = append(whole.OwnerReferences, metav1.OwnerReference{Name: "x"})
	}
	whole.OwnerReferences = append(whole.OwnerReferences, metav1.OwnerReference{Name: "phi-4", Controller: new(true)})
	for range 2000 {
		whole.Spec.Triggers = append(whole.Spec.Triggers, kedav1alpha1.ScaleTriggers{Type: "cron", Name: "x"})
	}
	lean := stripped(t, whole, StripScaledObject)
	text, err := json.Marshal(lean)
	if err != nil || len(text) > 64<<10 {
		t.Errorf("%d bytes are kept, %v", len(text), err)
	}
	if *lean.Spec.ScaleTargetRef != *whole.Spec.ScaleTargetRef || !lean.IsUsingModifiers() || metav1.GetControllerOf(lean) == nil ||
		lean.Annotations[CutScaledObject] == "" || len(triggersOf(lean)) != 1 {
		t.Errorf("what is read of it is gone: %+v", lean)
	}
}
