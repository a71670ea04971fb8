package kaito

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// ornate adds to metadata what the API server and others put there.
func ornate[T metav1.Object](obj T) {
	obj.SetResourceVersion("1374")
	obj.SetGenerateName("phi-4-")
	obj.SetGeneration(4)
	obj.SetCreationTimestamp(metav1.NewTime(noon))
	obj.SetFinalizers([]string{"workspace.finalizer.kaito.sh"})
	obj.SetOwnerReferences(append(obj.GetOwnerReferences(), metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: "uid"}))
	labels, annotations := obj.GetLabels(), obj.GetAnnotations()
	if labels == nil {
		labels = map[string]string{}
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	labels["controller-revision-hash"] = "phi-4-tz6th-f89cd49bd"
	annotations["kubectl.kubernetes.io/last-applied-configuration"] = strings.Repeat("x", 2000)
	obj.SetLabels(labels)
	obj.SetAnnotations(annotations)
	obj.SetManagedFields([]metav1.ManagedFieldsEntry{{
		Manager: "kubelet", Operation: metav1.ManagedFieldsOperationUpdate,
		FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:conditions":{}}}`),
	}})
}

// full adds what an inference pod of KAITO's has beyond what is read of it.
func full(p *corev1.Pod) {
	ornate(p)
	p.Spec.NodeName, p.Spec.ServiceAccountName, p.Spec.SchedulerName = "aks-nc24ads-0", "default", "default-scheduler"
	p.Spec.Tolerations = []corev1.Toleration{{Key: "nvidia.com/gpu", Operator: corev1.TolerationOpExists}}
	p.Spec.Volumes = []corev1.Volume{{Name: "dshm"}, {Name: "weights"}}
	c := &p.Spec.Containers[0]
	c.Image = "mcr.microsoft.com/aks/kaito/kaito-base:0.5.0"
	c.Command = []string{"/bin/sh", "-c", "python3 /workspace/vllm/inference_api.py --model=phi-4-mini-instruct --gpu-memory-utilization=0.9"}
	c.Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
	for i := range 10 {
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SOME_VARIABLE_%d", i), Value: "some value of it"})
	}
	for i := range 4 {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "weights", MountPath: fmt.Sprintf("/mnt/%d", i)})
	}
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/health"}}, PeriodSeconds: 10, FailureThreshold: 180}
	c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = probe, probe, probe
	p.Spec.Containers = append([]corev1.Container{{Name: "sidecar", Image: "istio/proxy", Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 15020}}}}, p.Spec.Containers...)
	p.Status.Message = "a message"
	p.Status.HostIP, p.Status.PodIPs = "10.0.0.4", []corev1.PodIP{{IP: p.Status.PodIP}}
	for i := range p.Status.ContainerStatuses {
		status := &p.Status.ContainerStatuses[i]
		status.Image, status.ImageID = c.Image, c.Image+"@sha256:"+strings.Repeat("a", 64)
		status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}
	}
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "download", RestartCount: 7}}
	p.Status.Conditions = append([]corev1.PodCondition{
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}, {Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	}, p.Status.Conditions...)
}

func stripped[T any](t require, obj T, transform func(any) (any, error)) T {
	t.Helper()
	out, err := transform(obj)
	if err != nil {
		t.Fatal(err)
	}
	return out.(T)
}

// require is a test or one draw of a property.
type require interface {
	Helper()
	Fatal(args ...any)
}

func drawPod(t *rapid.T, workspace string) *corev1.Pod {
	pick := func(name string, of ...func(*corev1.Pod)) func(*corev1.Pod) {
		return rapid.SampledFrom(of).Draw(t, name)
	}
	nothing := func(*corev1.Pod) {}
	return pod(workspace, 0,
		pick("address", at("10.1.2.3"), at("fd00::1"), at("")),
		pick("ports", nothing, port("http", 8080), port("grpc", 9000), port("http", 70000)),
		pick("readiness", ready, notReady, nothing),
		pick("phase", nothing, ended(corev1.PodFailed, "Evicted"), ended(corev1.PodSucceeded, "")),
		pick("restarts", nothing, restarts(1), restarts(2, 3)),
		pick("controller", nothing, controlledBy("nobody"), controlledBy("")),
		pick("sidecar", nothing, sidecar("http", 5000), sidecar("http", 9090)),
		pick("start", nothing, started(time.Second), started(time.Hour)),
		pick("engine", nothing, runs(-time.Hour), runs(time.Minute)),
		pick("network", nothing, func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
		pick("disruption", nothing, func(p *corev1.Pod) {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager"})
		}),
		pick("deletion", nothing, deleted[*corev1.Pod]),
		full,
	)
}

func drawWorkspace(t *rapid.T) *unstructured.Unstructured {
	pick := func(name string, of ...func(*unstructured.Unstructured)) func(*unstructured.Unstructured) {
		return rapid.SampledFrom(of).Draw(t, name)
	}
	nothing := func(*unstructured.Unstructured) {}
	return workspace("ws", pick("state", nothing, state("Pending"), state("Ready"), state("NotReady")),
		pick("nodes", nothing, nodes(0), nodes(2)),
		pick("benchmark", nothing, set("903412.55", pathPeak...), set(float64(9e5), pathPeak...), set("fast", "status", "performance")),
		pick("node claim", nothing, says("NodeClaimReady", "True", "", ""), says("NodeClaimReady", "False", "LaunchFailed", "no quota")),
		pick("inference", nothing, says("InferenceReady", "False", "WorkspaceInferenceStatusPending", "")),
		pick("deletion", nothing, deleted[*unstructured.Unstructured]),
		set(map[string]any{"instanceType": "Standard_NC24ads_A100_v4"}, "resource"),
		set([]any{"aks-nc24ads-0"}, "status", "workerNodes"),
		ornate[*unstructured.Unstructured],
	)
}

// The cache keeps exactly what is read: reading a stripped object comes to the
// same as reading the whole one.
func TestStrippingChangesNothingThatIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, p := drawWorkspace(t), drawPod(t, "ws")
		whole := fleet{workspaces{w}, pods{p}}
		lean := fleet{workspaces{stripped(t, w, stripWorkspace)}, pods{stripped(t, p, stripPod)}}
		if diff := cmp.Diff(whole.replicas(), lean.replicas(), compareReplicas); diff != "" {
			t.Errorf("replicas (-whole +stripped):\n%s", diff)
		}
		before, after := NodesPerReplica([]unstructured.Unstructured{*w}), NodesPerReplica([]unstructured.Unstructured{*lean.workspaces[0]})
		if before != after {
			t.Errorf("%d nodes per replica after stripping, %d before", after, before)
		}
		// The watches map, and the indexes find, by these.
		for name, pair := range map[string][2]client.Object{"workspace": {w, lean.workspaces[0]}, "pod": {p, lean.pods[0]}} {
			if diff := cmp.Diff(identity(pair[0]), identity(pair[1])); diff != "" {
				t.Errorf("identity of the %s (-whole +stripped):\n%s", name, diff)
			}
			if diff := cmp.Diff(Owner(t.Context(), pair[0]), Owner(t.Context(), pair[1])); diff != "" {
				t.Errorf("owner of the %s (-whole +stripped):\n%s", name, diff)
			}
		}
	})
}

func identity(obj client.Object) []string {
	return []string{obj.GetNamespace(), obj.GetName(), string(obj.GetUID()), obj.GetResourceVersion(), obj.GetLabels()[CreatedBy]}
}

func TestStrippingAnInferenceSetKeepsWhatIsReadOfIt(t *testing.T) {
	whole := inferenceSet(map[string]string{"auto-provision": "true", "treshold": "10"},
		set(int64(3), "spec", "replicas"), set(int64(10), "spec", "nodeCountLimit"),
		set(map[string]any{"inference": map[string]any{"preset": map[string]any{"name": "phi-4-mini-instruct"}}}, "spec", "template"),
		set(int64(3), "status", "replicas"), ornate[*unstructured.Unstructured])
	before := whole.DeepCopy()
	lean := stripped(t, whole, stripInferenceSet)

	want := ReadInferenceSet(whole)
	// Others' annotations mean nothing here and may be long.
	delete(want.Annotations, "kubectl.kubernetes.io/last-applied-configuration")
	if diff := cmp.Diff(want, ReadInferenceSet(lean)); diff != "" {
		t.Errorf("InferenceSet (-whole +stripped):\n%s", diff)
	}
	if lean.GroupVersionKind() != whole.GroupVersionKind() {
		t.Errorf("kind %s, want %s: events stand on it", lean.GroupVersionKind(), whole.GroupVersionKind())
	}
	if diff := cmp.Diff(before.Object, whole.Object); diff != "" {
		t.Errorf("stripping changed what it was given (-before +after):\n%s", diff)
	}
	deletedToo := stripped(t, inferenceSet(nil, deleted), stripInferenceSet)
	if !ReadInferenceSet(deletedToo).Deleting {
		t.Error("a stripped InferenceSet has forgotten that it is being deleted")
	}
}

func TestAStrippedPodIsSmall(t *testing.T) {
	whole := pod("ws", 0, ready, restarts(1), full)
	size := func(p *corev1.Pod) int {
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return len(data)
	}
	before, after := size(whole), size(stripped(t, whole, stripPod))
	if after*5 > before {
		t.Errorf("a pod of %d bytes takes %d in the cache: something that nobody reads is kept", before, after)
	}
}

func TestTheCacheHoldsOnlyWhatBelongsToInferenceSets(t *testing.T) {
	objects := CacheObjects("v1alpha1")
	byKind := map[string]cache.ByObject{}
	for obj, by := range objects {
		kind := fmt.Sprintf("%T", obj)
		if u, ok := obj.(*unstructured.Unstructured); ok {
			kind = u.GroupVersionKind().String()
		}
		byKind[kind] = by
	}
	for kind, all := range map[string]bool{
		"*v1.Pod": false, "kaito.sh/v1alpha1, Kind=Workspace": false, "kaito.sh/v1alpha1, Kind=InferenceSet": true,
	} {
		by, found := byKind[kind]
		if !found || by.Transform == nil {
			t.Errorf("%s is not cached, or whole", kind)
			continue
		}
		if all != (by.Label == nil) {
			t.Errorf("%s: selected by %v", kind, by.Label)
		}
		if all {
			continue
		}
		if !by.Label.Matches(labels.Set{CreatedBy: "phi-4"}) || by.Label.Matches(labels.Set{"app": "nginx"}) {
			t.Errorf("%s: selected by %s, want all of InferenceSets and no others", kind, by.Label)
		}
	}
	if len(byKind) != 3 {
		t.Errorf("%d kinds are cached, want 3", len(byKind))
	}
}

func TestStrippingRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, transform := range map[string]func(any) (any, error){
		"pod": stripPod, "Workspace": stripWorkspace, "InferenceSet": stripInferenceSet,
	} {
		if _, err := transform("a string"); err == nil || !strings.Contains(err.Error(), "string") {
			t.Errorf("%s: error %v, want one that names the type", name, err)
		}
	}
	odd := workspace("ws")
	odd.Object["status"] = "not an object"
	if lean := stripped(t, odd, stripWorkspace); (fleet{workspaces{lean}, nil}).replicas()[0].Phase != sample.Starting {
		t.Error("a Workspace with an odd status isn't one that starts")
	}
}
