//go:build node

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// earlier is the release that users upgrade from. The node has an image of that
// tag, with the program that plays it.
const earlier = "0.6.2"

// An installation of 0.6 in pods is upgraded and rolled back as users do it,
// with the values that it has, which pin the image's tag.
func TestAnUpgradeFrom06OnANode(t *testing.T) {
	helm(t, "install", release, earlierChart(t), "--namespace", "keda", "--wait", "--timeout", "3m")
	t.Cleanup(func() { uninstall(t, "keda") })
	provided, copied := unprovided(t, "provided", 2, 5, 5), unprovided(t, "copied", 2, 5, 5)
	provided.annotate(map[string]string{
		"auto-provision": "true", "max-replicas": "4", "combinepolicy": "AND",
		"metrics":          `[{"name": "vllm:num_requests_waiting", "type": "gauge", "upthreshold": "10", "downthreshold": "1"}]`,
		"evaluationwindow": "0", "scaleupcooldown": "2", "scaledowncooldown": "2",
	})
	before := map[*fleet]types.UID{}
	for _, f := range []*fleet{provided, copied} {
		if f == copied {
			f.copyScaledObject(provided)
		}
		f.awaitScaledObject()
		before[f] = f.hpa()
	}
	p := poll(t, 200*time.Millisecond, stack.Answer{Value: 5, Active: true}, copied.copiedRef())

	for _, change := range []struct {
		what, tag string
		formula   bool
		args      []string
	}{
		{"upgrade from 0.6", shared.appVersion, false, []string{"upgrade", release, "charts/keda-kaito-scaler", "--namespace", "keda", "--reuse-values", "--wait", "--timeout", "3m"}},
		{"rollback to 0.6", earlier, true, []string{"rollback", release, "1", "--namespace", "keda", "--wait", "--timeout", "3m"}},
	} {
		through(t, p, change.what, func() {
			replaced(t, change.args...)
			provided.awaitFormula(change.formula)
		}, provided, copied)
		for _, pod := range scalers(t, "keda") {
			if image := pod.Spec.Containers[0].Image; image != repository+":"+change.tag {
				t.Errorf("after the %s %s runs %s", change.what, pod.Name, image)
			}
		}
		for _, f := range []*fleet{provided, copied} {
			f.awaitScaledObject()
			if f.hpa() != before[f] {
				t.Errorf("the HPA of %s was made anew in the %s", f, change.what)
			}
			if n := f.desired(); n != 2 {
				t.Errorf("%d replicas are desired of %s after the %s, want 2 as before", n, f, change.what)
			}
		}
	}
}

// earlierChart is the chart of the old shape with its release's values.
func earlierChart(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), release)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(shared.root, "test", "cluster", "earlier", "chart"))); err != nil {
		t.Fatal(err)
	}
	values, err := os.ReadFile(filepath.Join(shared.root, "test", "chart", "testdata", "earlier", "values-v"+earlier+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "values.yaml"), values, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyScaledObject does what users did: what 0.6 had written, for another one.
func (f *fleet) copyScaledObject(from *fleet) {
	f.Helper()
	so := from.scaledObject()
	if err := shared.Client.Get(f.Context(), from.NamespacedName, so); err != nil {
		f.Fatal(err)
	}
	mine := &kedav1alpha1.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.Namespace, Name: f.NamespacedName.Name},
		Spec:       *so.Spec.DeepCopy(),
	}
	for i := range mine.Spec.Triggers {
		mine.Spec.Triggers[i].Metadata["inferenceSetNamespace"] = f.Namespace
	}
	if err := shared.Client.Create(f.Context(), mine); err != nil {
		f.Fatal(err)
	}
}

// copiedRef is how KEDA asks about the first trigger of it.
func (f *fleet) copiedRef() *pb.ScaledObjectRef {
	f.Helper()
	so := f.scaledObject()
	if err := shared.Client.Get(f.Context(), f.NamespacedName, so); err != nil {
		f.Fatal(err)
	}
	return &pb.ScaledObjectRef{Namespace: f.Namespace, Name: f.NamespacedName.Name, ScalerMetadata: so.Spec.Triggers[0].Metadata}
}

// awaitFormula waits for the ScaledObject that 0.6 writes, or for ours.
func (f *fleet) awaitFormula(want bool) {
	f.Helper()
	eventually(f.T, "the ScaledObject is rewritten", func() error {
		so := f.scaledObject()
		if err := shared.Client.Get(f.Context(), f.NamespacedName, so); err != nil {
			return err
		}
		formula := so.Spec.Advanced.ScalingModifiers.Formula
		if want != (formula != "") || want == (so.Spec.Triggers[0].Name == policy.TriggerName) {
			return fmt.Errorf("its formula is %q, its first trigger %q", formula, so.Spec.Triggers[0].Name)
		}
		return nil
	})
}

func (f *fleet) hpa() types.UID {
	f.Helper()
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	if err := shared.Client.Get(f.Context(), client.ObjectKey{Namespace: f.Namespace, Name: "keda-hpa-" + f.NamespacedName.Name}, hpa); err != nil {
		f.Fatal(err)
	}
	return hpa.UID
}
