package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
)

func TestTheQuickStartShowsWhatKAITODocuments(t *testing.T) {
	t.Parallel()
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(root, "examples", "phi-4.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(manifest, &u.Object); err != nil {
		t.Fatal(err)
	}
	s := &set{T: t, ctx: t.Context(), namespace: u.GetNamespace(), name: u.GetName()}
	if err := shared.Client.Create(s.ctx, u); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	s.told("ScaledObjectCreated", "scaling between 1 and 5 replicas on vllm:num_requests_waiting, 10 for each replica")
	s.awaitReady(1)

	s.eventually("kubectl get scaledobject", func() error {
		return s.row("/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects/phi-4", map[string]string{
			"Name": "phi-4", "ScaleTargetKind": "kaito.sh/v1beta1.InferenceSet", "ScaleTargetName": "phi-4",
			"Min": "1", "Max": "5", "Ready": "True", "Active": "True", "Fallback": "False", "Paused": "False",
			"Triggers": "external", "Authentications": "keda-kaito-scaler-creds",
		})
	})
	s.eventually("kubectl get hpa", func() error {
		return s.row("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/keda-hpa-phi-4", map[string]string{
			"Name": "keda-hpa-phi-4", "Reference": "InferenceSet/phi-4", "Targets": "0/10 (avg)",
			"MinPods": "1", "MaxPods": "5", "Replicas": "1",
		})
	})
	hpa, err := s.hpa()
	if err != nil {
		t.Fatal(err)
	}
	if got := hpa.Annotations["scaledobject.kaito.sh/managed-by"]; got != "keda-kaito-scaler" {
		t.Errorf("the HPA's managed-by is %q", got)
	}
	behavior, err := json.Marshal(hpa.Spec.Behavior)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"scaleUp":{"stabilizationWindowSeconds":60,"selectPolicy":"Max","policies":[{"type":"Pods","value":1,"periodSeconds":300}],"tolerance":"100m"},` +
		`"scaleDown":{"stabilizationWindowSeconds":300,"selectPolicy":"Max","policies":[{"type":"Pods","value":1,"periodSeconds":600}],"tolerance":"500m"}}`
	if diff := cmp.Diff(want, string(behavior)); diff != "" {
		t.Errorf("behaviour (-want +got):\n%s", diff)
	}
}

// row compares columns as kubectl prints them.
func (s *set) row(uri string, want map[string]string) error {
	raw, err := shared.Get(s.ctx, uri, "application/json;as=Table;v=v1;g=meta.k8s.io")
	if err != nil {
		return err
	}
	var table metav1.Table
	if err := json.Unmarshal(raw, &table); err != nil {
		return err
	}
	if len(table.Rows) != 1 {
		return fmt.Errorf("%d rows", len(table.Rows))
	}
	got := map[string]string{}
	for i, column := range table.ColumnDefinitions {
		if _, asked := want[column.Name]; asked {
			got[column.Name] = fmt.Sprint(table.Rows[0].Cells[i])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return errors.New(diff)
	}
	return nil
}

// provisioned waits for the ScaledObject and its HPA.
func (s *set) provisioned() *kedav1alpha1.ScaledObject {
	s.Helper()
	var so *kedav1alpha1.ScaledObject
	s.eventually("a ScaledObject with its HPA", func() (err error) {
		if so, err = s.scaledObject(); err != nil {
			return err
		}
		_, err = s.hpa()
		return err
	})
	return so
}

// withdrawn waits for their end.
func (s *set) withdrawn() {
	s.Helper()
	s.eventually("the end of ScaledObject and HPA", func() error {
		_, err1 := s.scaledObject()
		_, err2 := s.hpa()
		if !apierrors.IsNotFound(err1) || !apierrors.IsNotFound(err2) {
			return fmt.Errorf("ScaledObject: %w, HPA: %w", err1, err2)
		}
		return nil
	})
}

func TestScalingEndsWithAutoProvisionAndWithTheInferenceSet(t *testing.T) {
	t.Parallel()
	s := apply(t, brisk())
	s.provisioned()
	s.annotate("auto-provision", "false")
	s.withdrawn()
	s.told("ScaledObjectRemoved", "replicas stay as they are")
	s.annotate("auto-provision", "true")
	s.provisioned()
	if err := shared.Client.Delete(s.ctx, s.object()); err != nil {
		t.Fatal(err)
	}
	s.withdrawn()
}

func TestAChangedAnnotationChangesTheScaledObject(t *testing.T) {
	t.Parallel()
	s := apply(t, brisk())
	before := s.provisioned()
	s.annotate("max-replicas", "7")
	s.eventually("a maximum of 7", func() error {
		so, err := s.scaledObject()
		if err == nil && *so.Spec.MaxReplicaCount != 7 {
			err = fmt.Errorf("it is %d", *so.Spec.MaxReplicaCount)
		}
		if err == nil && so.UID != before.UID {
			s.Fatal("it was made anew")
		}
		return err
	})
	s.told("ScaledObjectUpdated", "scaling between 1 and 7 replicas")
}

func TestWhatIsOursIsRestoredAndWhatIsTheUsersStays(t *testing.T) {
	t.Parallel()
	s := apply(t, brisk())
	s.provisioned()
	// KEDA writes to it as well at this time.
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		so, err := s.scaledObject()
		if err != nil {
			return err
		}
		so.Annotations["autoscaling.keda.sh/paused-scale-in"] = "true"
		*so.Spec.MaxReplicaCount = 50
		so.Spec.Triggers[0].Metadata["threshold"] = "1"
		return shared.Client.Update(s.ctx, so)
	})
	if err != nil {
		t.Fatal(err)
	}
	s.eventually("the ScaledObject is restored", func() error {
		so, err := s.scaledObject()
		if err != nil {
			return err
		}
		if *so.Spec.MaxReplicaCount != 5 || so.Spec.Triggers[0].Metadata["threshold"] != "10" {
			return fmt.Errorf("maximum %d, threshold %s", *so.Spec.MaxReplicaCount, so.Spec.Triggers[0].Metadata["threshold"])
		}
		if so.Annotations["autoscaling.keda.sh/paused-scale-in"] != "true" {
			s.Fatal("the user's pause is gone")
		}
		return nil
	})
}

func TestAUsersOwnScaledObjectIsNeverTouched(t *testing.T) {
	t.Parallel()
	off := brisk()
	off["auto-provision"] = "false"
	s := apply(t, off)
	theirs := &kedav1alpha1.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "by-hand"},
		Spec: kedav1alpha1.ScaledObjectSpec{
			ScaleTargetRef: &kedav1alpha1.ScaleTarget{APIVersion: "kaito.sh/v1alpha1", Kind: "InferenceSet", Name: s.name},
			Triggers: []kedav1alpha1.ScaleTriggers{{Type: "external", Metadata: map[string]string{
				"scalerAddress": shared.Scaler.GRPC, "enableTLS": "true", "inferenceSetName": s.name, "threshold": "10",
			}, AuthenticationRef: &kedav1alpha1.AuthenticationRef{Kind: "ClusterTriggerAuthentication", Name: "keda-kaito-scaler-creds"}}},
		},
	}
	if err := shared.Client.Create(s.ctx, theirs); err != nil {
		t.Fatal(err)
	}
	s.eventually("KEDA takes up the user's ScaledObject", func() error {
		so := &kedav1alpha1.ScaledObject{}
		if err := shared.Client.Get(s.ctx, client.ObjectKeyFromObject(theirs), so); err != nil {
			return err
		}
		if ready := so.Status.Conditions.GetReadyCondition(); !ready.IsTrue() {
			return errors.New("it isn't Ready")
		}
		theirs = so
		return nil
	})
	s.annotate("auto-provision", "true")
	s.told("AutoscalingConflict", `ScaledObject "by-hand"`)
	s.always("theirs stays and ours isn't made", 5*time.Second, func() error {
		if _, err := s.scaledObject(); !apierrors.IsNotFound(err) {
			return fmt.Errorf("ours: %w", err)
		}
		so := &kedav1alpha1.ScaledObject{}
		if err := shared.Client.Get(s.ctx, client.ObjectKeyFromObject(theirs), so); err != nil {
			return err
		}
		if so.Generation != theirs.Generation {
			return errors.New("theirs was changed")
		}
		return nil
	})
	if err := shared.Client.Delete(s.ctx, theirs); err != nil {
		t.Fatal(err)
	}
	s.provisioned()
}

func TestBadInputIsRefusedWhereTheUserLooks(t *testing.T) {
	t.Parallel()
	s := apply(t, brisk())
	before := s.provisioned()
	for _, tt := range []struct{ key, value, told string }{
		{"threshold", "abc", `scaledobject.kaito.sh/threshold "abc": must be a number of at least 0.001`},
		{"threshold", "0", `scaledobject.kaito.sh/threshold "0": must be a number`},
		{"threshold", "-1", `scaledobject.kaito.sh/threshold "-1": must be a number`},
		{"threshold", "NaN", `scaledobject.kaito.sh/threshold "NaN": must be a number`},
		{"max-replicas", "0", `scaledobject.kaito.sh/max-replicas "0": must be a whole number of at least 1`},
		{"min-replicas", "6", `scaledobject.kaito.sh/min-replicas "6": must not be above the maximum of 5 replicas`},
		{"treshold", "10", `scaledobject.kaito.sh/treshold "10": no such annotation, did you mean scaledobject.kaito.sh/threshold?`},
		{"auto-provision", "maybe", `scaledobject.kaito.sh/auto-provision "maybe": must be "true" or "false"`},
	} {
		good, given := brisk()[tt.key]
		s.annotate(tt.key, tt.value)
		s.told("ScalingRefused", "nothing was changed: "+tt.told)
		if given {
			s.annotate(tt.key, good)
		} else {
			s.annotate(tt.key, nil)
		}
	}
	s.annotate("max-replicas", nil)
	s.told("ScalingRefused", "scaledobject.kaito.sh/max-replicas: required unless spec.nodeCountLimit is given")
	after, err := s.scaledObject()
	if err != nil || after.Generation != before.Generation || after.UID != before.UID {
		t.Errorf("the ScaledObject didn't stay as it was: %v, generation %d, before %d", err, after.Generation, before.Generation)
	}
	// Each of them is in the log once.
	log, err := os.ReadFile(shared.Scaler.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]int{}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, s.namespace) && strings.Contains(line, "recorded an event") && strings.Contains(line, "ScalingRefused") {
			_, note, _ := strings.Cut(line, `"note":`)
			lines[note]++
		}
	}
	if len(lines) != 9 {
		t.Errorf("%d refusals in the log, want 9: %q", len(lines), slices.Sorted(maps.Keys(lines)))
	}
	for note, n := range lines {
		if n != 1 {
			t.Errorf("%d times in the log: %s", n, note)
		}
	}
}

func TestBadInputFromTheStartMakesNothing(t *testing.T) {
	t.Parallel()
	s := apply(t, map[string]string{"auto-provision": "true", "treshold": "10", "max-replicas": "5"})
	s.told("ScalingRefused", "did you mean scaledobject.kaito.sh/threshold?")
	if _, err := s.scaledObject(); !apierrors.IsNotFound(err) {
		t.Errorf("ScaledObject: %v, want none", err)
	}
}
