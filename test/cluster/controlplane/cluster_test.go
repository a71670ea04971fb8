package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/await"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
)

func adminClient(t *testing.T, c *controlplane.Cluster) client.Client {
	t.Helper()
	kube, err := client.New(c.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return kube
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestVersionIsStamped(t *testing.T) {
	t.Logf("the cluster was ready after %s", bootTime.Round(100*time.Millisecond))
	d, err := discovery.NewDiscoveryClientForConfig(shared.Config())
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(v.GitVersion, "v1.36.") || v.Major != "1" || v.Minor != "36" || v.GitTreeState != "clean" {
		t.Errorf("version %+v, want v1.36.x, 1, 36, clean", v)
	}
	if os.Getenv("KUBEBUILDER_ASSETS") == "" && strings.HasPrefix(v.BuildDate, "1970") {
		t.Errorf("build date %s, want the release's", v.BuildDate)
	}
}

func TestExternalMetricsAreServed(t *testing.T) {
	d, err := discovery.NewDiscoveryClientForConfig(shared.Config())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.ServerResourcesForGroupVersion("external.metrics.k8s.io/v1beta1"); err != nil {
		t.Error(err)
	}
}

// Min above max is refused by the CRD's own rule, the other two by KEDA's
// webhook.
func TestBadScaledObjectsAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ spec, want string }{
		"min above max":         {"{minReplicaCount: 5, maxReplicaCount: 2}", "minReplicaCount must be less than or equal to maxReplicaCount"},
		"idle as many as busy":  {"{minReplicaCount: 1, idleReplicaCount: 1}", "IdleReplicaCount=1 must be less than MinReplicaCount=1"},
		"the same trigger name": {"{}", `triggerName "same" is defined multiple times`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := object(t, `
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: bad, namespace: default}
spec: `+test.spec)
			cron := map[string]any{"type": "cron", "name": "same", "metadata": map[string]any{
				"timezone": "UTC", "start": "0 0 * * *", "end": "1 0 * * *", "desiredReplicas": "1",
			}}
			spec := bad.Object["spec"].(map[string]any)
			spec["scaleTargetRef"] = map[string]any{"name": "web"}
			spec["triggers"] = []any{cron, cron}
			err := adminClient(t, shared).Create(t.Context(), bad)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a refusal that says %q", err, test.want)
			}
		})
	}
}

// The whole way of a number, with a scaler that needs nobody: KEDA's cron
// trigger, through KEDA's operator under KEDA's RBAC, its adapter, the API
// server's aggregation and the HPA controller, to the Deployment's scale.
func TestKEDAScalesADeployment(t *testing.T) {
	ctx, kube := t.Context(), adminClient(t, shared)
	deployment := object(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: cron, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: cron}}
  template:
    metadata: {labels: {app: cron}}
    spec: {containers: [{name: main, image: none}]}
`)
	scaled := object(t, `
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: cron, namespace: default}
spec:
  scaleTargetRef: {name: cron}
  minReplicaCount: 1
  maxReplicaCount: 5
  pollingInterval: 1
  triggers:
  - {type: cron, metadata: {timezone: UTC, start: 0 0 1 1 *, end: 59 23 31 12 *, desiredReplicas: "3"}}
`)
	for _, o := range []client.Object{deployment, scaled} {
		if err := kube.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	await.Until(t, time.Minute, "KEDA scales the Deployment", func() error {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(deployment), deployment); err != nil {
			return err
		}
		replicas, _, err := unstructured.NestedInt64(deployment.Object, "spec", "replicas")
		if err == nil && replicas != 3 {
			err = errors.New("the Deployment has not got its 3 replicas")
		}
		return err
	})
	if err := kube.Delete(ctx, scaled); err != nil {
		t.Fatal(err)
	}
}

// Deleting an owner takes what it owns away: the garbage collector runs.
func TestOwnedObjectsAreCollected(t *testing.T) {
	ctx, kube := t.Context(), adminClient(t, shared)
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner", Namespace: "default"}}
	if err := kube.Create(ctx, owner); err != nil {
		t.Fatal(err)
	}
	owned := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owned", Namespace: "default"}}
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}
	if err := kube.Create(ctx, owned); err != nil {
		t.Fatal(err)
	}
	if err := kube.Delete(ctx, owner); err != nil {
		t.Fatal(err)
	}
	await.Until(t, 20*time.Second, "the garbage is collected", func() error {
		err := kube.Get(ctx, client.ObjectKeyFromObject(owned), owned)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("the owned object is still there"), err)
	})
}

// A pod may have a loopback address, and is left alone by the controllers.
func TestPodWithLoopbackAddress(t *testing.T) {
	ctx, kube := t.Context(), adminClient(t, shared)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "simulated", Namespace: "default"},
		Spec:       corev1.PodSpec{NodeName: "nowhere", Containers: []corev1.Container{{Name: "main", Image: "none"}}},
	}
	if err := kube.Create(ctx, pod); err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIP = "127.0.0.11"
	pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	if err := kube.Status().Update(ctx, pod); err != nil {
		t.Fatal(err)
	}
	if err := kube.Delete(ctx, pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
}

// A program with a ServiceAccount's kubeconfig has this account's rights only.
func TestServiceAccountHasItsOwnRights(t *testing.T) {
	ctx := t.Context()
	path, err := shared.ServiceAccountKubeconfig(ctx, "keda", "keda-operator")
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	kube, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := kube.List(ctx, &corev1.PodList{}); err != nil {
		t.Errorf("KEDA may list pods: %v", err)
	}
	err = kube.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "no", Namespace: "default"}})
	if !apierrors.IsForbidden(err) {
		t.Errorf("KEDA may not create ConfigMaps: got %v", err)
	}
}

// Two clusters at once don't disturb each other; one without KEDA is a plain
// control plane; a port that somebody else was faster to take costs a second
// attempt; Stop leaves neither a process nor a file.
func TestSecondClusterBesideTheFirst(t *testing.T) {
	audit := filepath.Join(t.TempDir(), "audit.log")
	unlucky := programs
	unlucky.Etcd = losesItsPortOnce(t, programs.Etcd)
	second, err := controlplane.Start(t.Context(), controlplane.Options{
		Programs: unlucky, AuditLog: audit,
		NoKEDAOperator: true, NoKEDAAdapter: true, NoKEDAWebhooks: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	kube := adminClient(t, second)
	name := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "only-here"}}
	if err := kube.Create(t.Context(), name); err != nil {
		t.Error(err)
	}
	err = adminClient(t, shared).Get(t.Context(), client.ObjectKeyFromObject(name), &corev1.Namespace{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the first cluster knows the second's namespace: %v", err)
	}
	processes := second.Processes()
	if err := second.Stop(); err != nil {
		t.Error(err)
	}
	if err := second.Stop(); err != nil {
		t.Errorf("stopping twice: %v", err)
	}
	if len(processes) != 3 {
		t.Errorf("%d processes, want etcd, kube-apiserver and kube-controller-manager", len(processes))
	}
	for _, p := range processes {
		if alive(p.PID()) {
			t.Errorf("%s (pid %d) is still there", p.Name(), p.PID())
		}
	}
	if _, err := os.Stat(second.Dir()); !os.IsNotExist(err) {
		t.Errorf("%s is still there", second.Dir())
	}
	if log, err := os.ReadFile(audit); err != nil || !strings.Contains(string(log), "only-here") {
		t.Errorf("the audit log doesn't know of the namespace: %v", err)
	}
}

// losesItsPortOnce wraps a program: its first start finds the port taken.
func losesItsPortOnce(t *testing.T, program string) string {
	t.Helper()
	wrapper := filepath.Join(t.TempDir(), "unlucky")
	script := fmt.Sprintf(`#!/bin/sh
if mkdir %q 2>/dev/null; then echo 'listen tcp: bind: address already in use'; exit 1; fi
exec %q "$@"
`, wrapper+".was-here", program)
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return wrapper
}

// A component that dies is reported with its name and its log.
func TestDeadComponentIsReported(t *testing.T) {
	c, err := controlplane.Start(t.Context(), controlplane.Options{
		Programs: programs, NoKEDAOperator: true, NoKEDAAdapter: true, NoKEDAWebhooks: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range c.Processes() {
		if p.Name() == "kube-controller-manager" {
			if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	select {
	case <-c.Failed():
	case <-time.After(10 * time.Second):
		t.Error("nobody noticed")
	}
	if err := c.Err(); err == nil || !strings.Contains(err.Error(), "kube-controller-manager ended by itself: signal: killed") {
		t.Errorf("got %v", err)
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	// What is needed to find out why stays.
	if _, err := os.Stat(filepath.Join(c.Dir(), "kube-controller-manager.log")); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(c.Dir()); err != nil {
		t.Error(err)
	}
}

// Cancelling while the cluster starts takes down what has started.
func TestCancelDuringStart(t *testing.T) {
	for _, after := range []time.Duration{300 * time.Millisecond, 4 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			_, err := controlplane.Start(ctx, controlplane.Options{Programs: programs})
			if err == nil {
				t.Fatal("started all the same")
			}
			left, err := os.ReadDir(os.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range left {
				t.Errorf("left behind: %s", entry.Name())
			}
		})
	}
}

// alive reports whether a process with this id exists, a zombie included.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
