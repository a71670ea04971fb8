package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
)

// documents are those of the YAML files of a folder of this checkout.
func documents(t *testing.T, folder ...string) map[string]*unstructured.Unstructured {
	t.Helper()
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(append(append([]string{root}, folder...), "*.yaml")...))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %v: %v", folder, err)
	}
	all := map[string]*unstructured.Unstructured{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq(string(text), "\n---\n") {
			u := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(part), &u.Object); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if u.GetKind() != "" {
				all[filepath.Base(file)+" "+u.GetKind()] = u
			}
		}
	}
	return all
}

// here points a ScaledObject's triggers at the scaler of this test.
func here(t *testing.T, u *unstructured.Unstructured, namespace string) *kedav1alpha1.ScaledObject {
	t.Helper()
	text, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	so := &kedav1alpha1.ScaledObject{}
	if err := yaml.UnmarshalStrict(text, so); err != nil {
		t.Fatal(err)
	}
	so.Namespace = namespace
	so.OwnerReferences = nil // of a UID that isn't there
	for i := range so.Spec.Triggers {
		trigger := &so.Spec.Triggers[i]
		trigger.Metadata["scalerAddress"] = shared.Scaler.GRPC
		if _, given := trigger.Metadata["inferenceSetNamespace"]; given {
			trigger.Metadata["inferenceSetNamespace"] = namespace
		}
		trigger.AuthenticationRef.Name = "keda-kaito-scaler-creds"
	}
	return so
}

// taken waits until KEDA has taken up a ScaledObject and made its HPA.
func (s *set) taken() {
	s.Helper()
	s.provisioned()
	s.eventually("KEDA calls it Ready", func() error {
		so, err := s.scaledObject()
		if err != nil {
			return err
		}
		if ready := so.Status.Conditions.GetReadyCondition(); !ready.IsTrue() {
			return errors.New("it isn't: " + ready.Message)
		}
		return nil
	})
}

// TestKEDATakesEveryGoldenScaledObject has KEDA's admission webhook look at them.
func TestKEDATakesEveryGoldenScaledObject(t *testing.T) {
	t.Parallel()
	for file, u := range documents(t, "internal", "provision", "testdata") {
		if u.GetKind() != "ScaledObject" {
			continue
		}
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			s := apply(t, nil, named(u.GetName()))
			s.awaitReady(1)
			if err := shared.Client.Create(s.ctx, here(t, u, s.namespace)); err != nil {
				t.Fatal(err)
			}
			s.taken()
		})
	}
}

func TestTheExamplesWork(t *testing.T) {
	t.Parallel()
	for file, u := range documents(t, "examples") {
		if u.GetKind() != "InferenceSet" || u.GetName() == "phi-4" { // which the quick start is about
			continue
		}
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			s := apply(t, nil, func(o *unstructured.Unstructured) {
				namespace := o.GetNamespace()
				u.DeepCopyInto(o)
				o.SetNamespace(namespace)
			})
			if theirs := documents(t, "examples")[strings.Replace(file, "InferenceSet", "ScaledObject", 1)]; theirs != nil {
				if err := shared.Client.Create(s.ctx, here(t, theirs, s.namespace)); err != nil {
					t.Fatal(err)
				}
			}
			s.taken()
		})
	}
}

func TestBothVersionsOfInferenceSetsAreScaled(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"v1alpha1", "v1beta1"} {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			s := apply(t, listed(queues), version(v))
			s.taken()
			so, err := s.scaledObject()
			if err != nil {
				t.Fatal(err)
			}
			// The newest that is served, however the InferenceSet was written.
			if ref := so.Spec.ScaleTargetRef; ref.APIVersion != "kaito.sh/v1beta1" || ref.Name != s.name {
				t.Errorf("it scales %s %s", ref.APIVersion, ref.Name)
			}
			s.awaitReady(1)
			s.queue(50)
			s.wantDesired(2)
		})
	}
}
