package chart

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// What Helm installs and upgrades in other people's ways is what the API server
// takes, and its pods are admitted under the restricted standard. Nothing runs.
func TestWhatHelmInstalls(t *testing.T) {
	s := start(t, stack.Options{NoKAITO: true, NoKEDAProcesses: true})
	restricted(t, s, stack.Namespace)
	t.Run("values of earlier releases", func(t *testing.T) {
		began := time.Now()
		for _, version := range slices.Sorted(maps.Keys(earlierValues(t))) {
			t.Run(version, func(t *testing.T) { installsAndUpgrades(t, s, version) })
		}
		fmt.Printf("figure earlier_values_seconds %.0f\n", time.Since(began).Seconds())
	})
	t.Run("a value that nobody knows is refused by name", func(t *testing.T) {
		out, err := tryHelm(t, s, "install", release, ours, "--namespace", stack.Namespace, "--set", "replicaCout=2")
		if err == nil || !strings.Contains(out, "replicaCout") {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("a chart around this one", func(t *testing.T) { isASubchart(t, s) })
	t.Run("without a fixed user", func(t *testing.T) { hasNoFixedUser(t, s) })
}

// restricted makes the API server refuse pods that want more than the restricted
// standard allows.
func restricted(t *testing.T, s *stack.Stack, namespace string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := client.IgnoreAlreadyExists(s.Client.Create(t.Context(), ns)); err != nil {
		t.Fatal(err)
	}
	patch := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	if err := s.Client.Patch(t.Context(), ns, client.RawPatch(types.MergePatchType, patch)); err != nil {
		t.Fatal(err)
	}
}

// installsAndUpgrades goes both ways in which users bring the values of an
// earlier release along: in the release of Helm's, and in a file.
func installsAndUpgrades(t *testing.T, s *stack.Stack, version string) {
	in := []string{"--namespace", stack.Namespace}
	helm(t, s, append([]string{"install", release, earlierChart(t, version)}, in...)...)
	uids := identities(t, s)
	notes := helm(t, s, append([]string{"upgrade", release, ours, "--reuse-values"}, in...)...)
	wantThisRelease(t, s, version, notes)
	if after := identities(t, s); !maps.Equal(uids, after) {
		t.Errorf("objects that old pods and KEDA use were made anew: %v, before %v", after, uids)
	}
	helm(t, s, append([]string{"uninstall", release}, in...)...)

	notes = helm(t, s, append([]string{"upgrade", "--install", release, ours, "--values", earlierValues(t)[version]}, in...)...)
	wantThisRelease(t, s, version, notes)
	helm(t, s, append([]string{"uninstall", release}, in...)...)
}

// identities are those of the objects that are patched in place.
func identities(t *testing.T, s *stack.Stack) map[string]types.UID {
	t.Helper()
	found := map[string]types.UID{}
	for name, object := range map[string]client.Object{
		release: &appsv1.Deployment{}, release + "-svc": &corev1.Service{}, release + "-sa": &corev1.ServiceAccount{},
		serverSecret: &corev1.Secret{}, clientSecret: &corev1.Secret{},
	} {
		if err := s.Client.Get(t.Context(), client.ObjectKey{Namespace: stack.Namespace, Name: name}, object); err != nil {
			t.Fatal(err)
		}
		found[name] = object.GetUID()
	}
	return found
}

// wantThisRelease wants this release's image in pods that are admitted, whatever
// tag the values pin, and the notes to say so.
func wantThisRelease(t *testing.T, s *stack.Stack, pinned, notes string) {
	t.Helper()
	d := deployment(t, s, stack.Namespace)
	if got, want := image(d), "keda-kaito-scaler:"+appVersion(t); got != want {
		t.Errorf("the image is %s, want %s", got, want)
	}
	if !strings.Contains(notes, pinned) {
		t.Errorf("the notes say nothing of the tag %s, which gave way:\n%s", pinned, notes)
	}
	wantAdmitted(t, s, d)
}

// wantAdmitted waits for a pod of the Deployment's template. It stays pending,
// without nodes.
func wantAdmitted(t *testing.T, s *stack.Stack, d *appsv1.Deployment) {
	t.Helper()
	eventually(t, "pods of "+d.Name+" are admitted", func(ctx context.Context) error {
		var pods corev1.PodList
		if err := s.Client.List(ctx, &pods, client.InNamespace(d.Namespace), client.MatchingLabels(d.Spec.Selector.MatchLabels)); err != nil {
			return err
		}
		for i := range pods.Items {
			if pods.Items[i].Spec.Containers[0].Image == d.Spec.Template.Spec.Containers[0].Image {
				return nil
			}
		}
		return fmt.Errorf("none of %d has its image", len(pods.Items))
	})
}

// isASubchart is how KAITO's distribution has it: a condition, a namespace, and
// values for all charts.
func isASubchart(t *testing.T, s *stack.Stack) {
	umbrella := umbrellaChart(t)
	helm(t, s, "dependency", "build", umbrella)
	const namespace = "production"
	helm(t, s, "install", "stack", umbrella, "--namespace", namespace, "--create-namespace")
	d := deployment(t, s, stack.Namespace) // by namespaceOverride
	if got, want := d.Spec.Template.Spec.Containers[0].Image, "registry.example/kaito-project/keda-kaito-scaler:"+appVersion(t); got != want {
		t.Errorf("the image is %s, want %s", got, want)
	}
	wantAdmitted(t, s, d)
	var all appsv1.DeploymentList
	if err := s.Client.List(t.Context(), &all, client.InNamespace(namespace)); err != nil || len(all.Items) > 0 {
		t.Errorf("%d Deployments in the release's own namespace: %v", len(all.Items), err)
	}
	helm(t, s, "upgrade", "stack", umbrella, "--namespace", namespace, "--reuse-values", "--set", release+".enabled=false")
	eventually(t, "disabled, nothing of it is left", func(ctx context.Context) error {
		for name, object := range map[string]client.Object{
			release: &appsv1.Deployment{}, release + "-svc": &corev1.Service{}, release + "-sa": &corev1.ServiceAccount{},
		} {
			err := s.Client.Get(ctx, client.ObjectKey{Namespace: stack.Namespace, Name: name}, object)
			if err == nil {
				return errors.New(name + " is there")
			}
			if !apierrors.IsNotFound(err) {
				return err
			}
		}
		return nil
	})
	helm(t, s, "uninstall", "stack", "--namespace", namespace)
}

func umbrellaChart(t *testing.T) string {
	t.Helper()
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Chart.yaml": fmt.Sprintf(`apiVersion: v2
name: stack
version: 0.1.0
dependencies:
  - name: %[1]s
    version: ">=0-0"
    repository: file://%[2]s
    condition: %[1]s.enabled
`, release, filepath.Join(root, ours)),
		"values.yaml": fmt.Sprintf(`global:
  imageRegistry: registry.example
  storageClass: somebody else's
%s:
  enabled: true
  namespaceOverride: %s
`, release, stack.Namespace),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// hasNoFixedUser is how OpenShift wants it: the namespace's own user is filled in
// by the platform.
func hasNoFixedUser(t *testing.T, s *stack.Stack) {
	const namespace = "openshift"
	restricted(t, s, namespace)
	helm(t, s, append([]string{"install", release, ours, "--namespace", namespace}, noFixedUser...)...)
	d := deployment(t, s, namespace)
	pod := d.Spec.Template.Spec
	if c := pod.SecurityContext; c.RunAsUser != nil || c.RunAsGroup != nil || c.FSGroup != nil || len(c.SupplementalGroups) > 0 {
		t.Errorf("the pod names users: %+v", c)
	}
	for _, container := range pod.Containers {
		if c := container.SecurityContext; c.RunAsUser != nil || c.RunAsGroup != nil {
			t.Errorf("container %s names users: %+v", container.Name, c)
		}
	}
	wantAdmitted(t, s, d)
	helm(t, s, "uninstall", release, "--namespace", namespace)
}

// noFixedUser are the values for it.
var noFixedUser = []string{"--set", "podSecurityContext.runAsUser=null", "--set", "podSecurityContext.runAsGroup=null"}
