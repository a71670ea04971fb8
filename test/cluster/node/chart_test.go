//go:build node

package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// The life of an installation in KEDA's namespace, from helm install to helm
// uninstall.
func TestTheChartOnANode(t *testing.T) {
	restricted(t, "keda")
	before := inventory(t)
	notes := helm(t, append([]string{"install"}, chart("keda", shared.tag)...)...)
	t.Cleanup(func() { uninstall(t, "keda") })
	if strings.Contains(notes, "WARNING") || !strings.Contains(notes, "answers KEDA at keda-kaito-scaler-svc.keda.svc:10450.") {
		t.Errorf("the notes of an installation where KEDA is:\n%s", notes)
	}
	t.Run("its pods are Ready at once and may do nothing", func(t *testing.T) {
		wantPods(t, "keda")
		wantProcesses(t, "65532", "65532")
	})
	t.Run("an InferenceSet scales", scales)
	t.Run("upgrade and rollback lose no poll but on connections that move", upgrades)
	t.Run("a drain takes one replica at a time", drains)
	t.Run("uninstall leaves what the notes say", func(t *testing.T) {
		f := newFleet(t, "left", 1)
		f.awaitScaledObject()
		f.annotate(map[string]string{"auto-provision": "false"})
		eventually(t, "the scaler removes its ScaledObject", func() error {
			if err := shared.Client.Get(t.Context(), f.NamespacedName, f.scaledObject()); !apierrors.IsNotFound(err) {
				return fmt.Errorf("the ScaledObject: %w", err)
			}
			return nil
		})
		if n := f.desired(); n != 1 {
			t.Errorf("%d replicas, want 1 as before", n)
		}
		f.remove()
		helm(t, "uninstall", release, "--namespace", "keda", "--wait")
		wantNothingElse(t, before, slices.Sorted(slices.Values(slices.Concat(leftovers("keda"), learned(t, before), namespaces(t, before)))))
		for _, args := range deletions(notes) {
			shared.kubectl(t, args...)
		}
		wantNothingElse(t, before, namespaces(t, before))
	})
}

// leftovers are what NOTES.txt tells of.
func leftovers(namespace string) []string {
	return []string{
		"ClusterTriggerAuthentication /keda-kaito-scaler-creds",
		"Lease " + namespace + "/keda-kaito-scaler",
		"Secret " + namespace + "/keda-kaito-scaler-ca",
		"Secret " + namespace + "/keda-kaito-scaler-client-certs",
		"Secret " + namespace + "/keda-kaito-scaler-server-certs",
	}
}

// learned are the ConfigMaps that the notes tell of: as many as were needed.
func learned(t *testing.T, before []string) []string {
	t.Helper()
	return slices.DeleteFunc(added(before, inventory(t)), func(object string) bool {
		return !strings.HasPrefix(object, "ConfigMap keda/keda-kaito-scaler-learned-")
	})
}

// namespaces are those that the test made since, with what each has by itself.
func namespaces(t *testing.T, before []string) []string {
	t.Helper()
	var out []string
	for _, object := range added(before, inventory(t)) {
		if strings.HasPrefix(object, "Namespace ") || strings.HasPrefix(object, "ServiceAccount ") && strings.HasSuffix(object, "/default") ||
			strings.HasPrefix(object, "ConfigMap ") && strings.HasSuffix(object, "/kube-root-ca.crt") {
			out = append(out, object)
		}
	}
	return out
}

// restricted makes the API server refuse pods that want more than the restricted
// standard allows, KEDA's too.
func restricted(t *testing.T, namespace string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	patch := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	if err := shared.Client.Patch(t.Context(), ns, client.RawPatch("application/merge-patch+json", patch)); err != nil {
		t.Fatal(err)
	}
}

func scalers(t *testing.T, namespace string) []corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	err := shared.Client.List(t.Context(), &pods, client.InNamespace(namespace), client.MatchingLabels{"app.kubernetes.io/name": release})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// wantPods wants two pods that the kubelet found Ready within 5 s of their start.
func wantPods(t *testing.T, namespace string) {
	t.Helper()
	pods := scalers(t, namespace)
	if len(pods) != 2 {
		t.Fatalf("%d pods, want 2", len(pods))
	}
	for _, pod := range pods {
		if !podReady(&pod) || pod.Status.ContainerStatuses[0].RestartCount > 0 {
			t.Errorf("pod %s: %+v", pod.Name, pod.Status)
			continue
		}
		var at time.Time
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady {
				at = c.LastTransitionTime.Time
			}
		}
		took := at.Sub(pod.Status.ContainerStatuses[0].State.Running.StartedAt.Time)
		t.Logf("%s was Ready %s after its container had started", pod.Name, took)
		if took > 5*time.Second {
			t.Errorf("%s was Ready after %s, want 5s at most", pod.Name, took)
		}
	}
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// wantProcesses looks at the scaler's processes as the kernel has them: nobody's,
// without a right, without a way to one, with the system calls filtered.
func wantProcesses(t *testing.T, user, group string) {
	t.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range commands {
		command, err := os.ReadFile(file)
		if err != nil || !bytes.HasPrefix(command, []byte("/keda-kaito-scaler\x00")) {
			continue
		}
		found++
		status, err := os.ReadFile(filepath.Join(filepath.Dir(file), "status"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"Uid:" + strings.Repeat("\t"+user, 4), "Gid:" + strings.Repeat("\t"+group, 4),
			"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
			"NoNewPrivs:\t1", "Seccomp:\t2",
		} {
			if !bytes.Contains(status, []byte("\n"+want+"\n")) {
				t.Errorf("a scaler's process has no %q:\n%s", want, status)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d processes of the scaler, want 2", found)
	}
}

// scales: KEDA reaches the scaler by the Service's name over mutual TLS, and the
// replicas are real pods.
func scales(t *testing.T) {
	addresses, err := Resolver().LookupHost(t.Context(), "keda-kaito-scaler-svc.keda.svc.cluster.local.")
	if err != nil || len(addresses) != 1 {
		t.Fatalf("the Service's name is at %v: %v", addresses, err)
	}
	f := newFleet(t, "scales", 1)
	f.awaitScaledObject()
	so := f.scaledObject()
	if err := shared.Client.Get(t.Context(), f.NamespacedName, so); err != nil {
		t.Fatal(err)
	}
	if got := so.Spec.Triggers[0].Metadata; got["scalerAddress"] != "keda-kaito-scaler-svc.keda.svc:10450" || got["enableTLS"] != "true" {
		t.Errorf("the trigger's metadata: %v", got)
	}
	f.queue(25) // three replicas for 25 waiting, ten on each
	f.wantDesired(3)
	f.awaitReady(3)
	if n := len(f.pods(t.Context())); n != 3 {
		t.Errorf("%d pods run, want 3", n)
	}
	f.queue() // nothing waits
	f.wantDesired(1)
	f.awaitReady(1)
	eventually(t, "one pod is left", func() error {
		if n := len(f.pods(t.Context())); n != 1 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

// upgrades replaces both replicas twice while KEDA and a client of ours ask.
func upgrades(t *testing.T) {
	f := newFleet(t, "upgrades", 2, 10, 10) // at the target: nothing but a wrong answer would move it
	f.awaitScaledObject()
	p := poll(t, 200*time.Millisecond, stack.Answer{Value: 20, Active: true}, f.ref())
	for _, change := range []struct {
		what, tag string
		args      []string
	}{
		{"helm upgrade", next, append([]string{"upgrade"}, chart("keda", next)...)},
		{"helm rollback", shared.tag, []string{"rollback", release, "1", "--namespace", "keda", "--wait", "--timeout", "3m"}},
	} {
		through(t, p, change.what, func() { replaced(t, change.args...) }, f)
		for _, pod := range scalers(t, "keda") {
			if image := pod.Spec.Containers[0].Image; image != repository+":"+change.tag {
				t.Errorf("after %s %s runs %s", change.what, pod.Name, image)
			}
		}
	}
	if n := f.desired(); n != 2 {
		t.Errorf("%d replicas are desired, want 2 as before", n)
	}
	c, err := f.condition()
	if err != nil || c.Status != metav1.ConditionTrue {
		t.Errorf("the ScaledObject: %+v, %v", c, err)
	}
	p.Stop()
}

// replaced runs helm and waits until the replicas of before are gone.
func replaced(t *testing.T, args ...string) {
	t.Helper()
	old := scalers(t, "keda")
	helm(t, args...)
	eventually(t, "the old replicas are gone", func() error {
		for _, pod := range old {
			if err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(&pod), &corev1.Pod{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("%s: %w", pod.Name, err)
			}
		}
		return nil
	})
}

// drains evicts both replicas, as kubectl drain does: the second has to wait for
// the first one's successor.
func drains(t *testing.T) {
	old := scalers(t, "keda")
	evict := func(pod *corev1.Pod) error {
		return shared.Client.SubResource("eviction").Create(t.Context(), pod, &policyv1.Eviction{})
	}
	if err := evict(&old[0]); err != nil {
		t.Fatal(err)
	}
	if err := evict(&old[1]); !apierrors.IsTooManyRequests(err) {
		t.Errorf("the second replica, right after the first: %v, want a refusal for now", err)
	}
	eventually(t, "the second replica may go", func() error { return evict(&old[1]) })
	eventually(t, "two replicas are Ready", func() error {
		ready := 0
		for _, pod := range scalers(t, "keda") {
			if podReady(&pod) {
				ready++
			}
		}
		if ready != 2 {
			return fmt.Errorf("%d are", ready)
		}
		return nil
	})
}

// Whoever tells the chart of another namespace than KEDA's is told so by KEDA.
func TestInAnotherNamespaceThanKEDAs(t *testing.T) {
	const elsewhere = "elsewhere"
	since := metav1.Now()
	install(t, elsewhere, "--create-namespace", "keda.namespace="+elsewhere)
	f := newFleet(t, "unreached", 1)
	var said string
	eventually(t, "KEDA says why", func() error {
		for line := range strings.Lines(shared.kedaLog(t, since)) {
			if !strings.Contains(line, "unreached") {
				continue
			}
			said = line
			if strings.Contains(line, "certificate signed by unknown authority") {
				return nil
			}
		}
		return fmt.Errorf("it says %q", said)
	})
	t.Logf("KEDA says: %s", said)
	eventually(t, "the ScaledObject is not Ready", func() error {
		c, err := f.condition()
		if err == nil && c.Status != metav1.ConditionFalse {
			err = errors.New("it is " + string(c.Status))
		}
		return err
	})
	c, err := f.condition()
	t.Logf("the ScaledObject: %+v, %v", c, err)
}

// Without a right on other namespaces, those InferenceSets alone are scaled that
// it is told to watch.
func TestWatchedNamespacesAlone(t *testing.T) {
	for _, name := range []string{"watched", "unwatched"} {
		if err := shared.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	notes := install(t, "keda", "watchNamespaces={watched}")
	if !strings.Contains(notes, "It scales InferenceSets of these namespaces alone: watched.") {
		t.Errorf("the notes:\n%s", notes)
	}
	f, other := newFleet(t, "watched", 1), newFleet(t, "unwatched", 1)
	f.awaitScaledObject()
	f.queue(15)
	f.wantDesired(2)
	f.awaitReady(2)
	if err := shared.Client.Get(t.Context(), other.NamespacedName, other.scaledObject()); !apierrors.IsNotFound(err) {
		t.Errorf("the ScaledObject in a namespace that is not watched: %v, want none", err)
	}
}
