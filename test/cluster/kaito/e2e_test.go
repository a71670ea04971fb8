package kaito

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/await"
)

// patience is how long a test waits for what should come within a second or
// two: long enough for two busy cores.
const patience = time.Minute

// fixture is a control plane with the stand-in on it, and a client.
type fixture struct {
	client.Client
	t     *testing.T
	kaito *KAITO
}

// onControlPlane runs a story on a real API server and controller manager.
func onControlPlane(t *testing.T, v Versions, o Options) fixture {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a control plane")
	}
	cluster, err := planes[v]()
	if err != nil {
		t.Fatal(err)
	}
	if err := Install(t.Context(), cluster.Config(), v); err != nil {
		t.Fatal(err)
	}
	k, err := Start(t.Context(), cluster.Config(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Stop(); err != nil {
			t.Error(err)
		}
	})
	cfg, err := private(cluster.Config())
	if err != nil {
		t.Fatal(err)
	}
	version, err := servedVersion(cfg)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	addTypes(scheme, version)
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{Client: c, t: t, kaito: k}
	t.Cleanup(func() { f.clean() }) // before the stand-in stops
	return f
}

// clean leaves nothing of a test's to the next one.
func (f fixture) clean() {
	// The test's own context is over.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.DeleteAllOf(ctx, &InferenceSet{}, client.InNamespace("default")); err != nil {
		f.t.Error(err)
	}
	for {
		var pods corev1.PodList
		var sets InferenceSetList
		if err := errors.Join(f.List(ctx, &pods), f.List(ctx, &sets)); err != nil {
			f.t.Error(err)
			return
		}
		if len(pods.Items)+len(sets.Items) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (f fixture) create(name string, replicas int32) *InferenceSet {
	f.t.Helper()
	set := &InferenceSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: InferenceSetSpec{
			Replicas:      replicas,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"apps": name}},
			Template:      Template{Resource: Resource{InstanceType: "Standard_NC24ads_A100_v4"}},
		},
	}
	if err := f.Create(f.t.Context(), set); err != nil {
		f.t.Fatal(err)
	}
	return set
}

// scale goes through the scale subresource, as the HPA does.
func (f fixture) scale(name string, replicas int32) {
	f.t.Helper()
	set := &InferenceSet{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":`+string('0'+replicas)+`}}`))
	if err := f.SubResource("scale").Patch(f.t.Context(), set, patch); err != nil {
		f.t.Fatal(err)
	}
}

func (f fixture) awaitReady(name string, n int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	if err := f.kaito.AwaitReady(ctx, "default", name, n); err != nil {
		f.t.Fatal(err)
	}
}

// eventually waits until the objects are as they should be.
func (f fixture) eventually(what string, ok func() bool) {
	f.t.Helper()
	await.Until(f.t, patience, what, func() error {
		if !ok() {
			return errors.New("it isn't so")
		}
		return nil
	})
}

func (f fixture) set(name string) *InferenceSet {
	f.t.Helper()
	set := &InferenceSet{}
	if err := f.Get(f.t.Context(), client.ObjectKey{Namespace: "default", Name: name}, set); err != nil {
		f.t.Fatal(err)
	}
	return set
}

func (f fixture) workspaces(name string) []Workspace {
	f.t.Helper()
	var list WorkspaceList
	if err := f.List(f.t.Context(), &list, client.MatchingLabels{LabelCreatedBy: name}); err != nil {
		f.t.Fatal(err)
	}
	return list.Items
}

func (f fixture) pods(name string) []corev1.Pod {
	f.t.Helper()
	var list corev1.PodList
	if err := f.List(f.t.Context(), &list, client.MatchingLabels{LabelCreatedBy: name}); err != nil {
		f.t.Fatal(err)
	}
	return list.Items
}

func TestOneToThreeToOneAndAway(t *testing.T) {
	f := onControlPlane(t, Both, Options{Termination: 3 * time.Second})
	f.create("phi-4", 1)
	f.awaitReady("phi-4", 1)
	f.eventually("status of one replica", func() bool {
		s := f.set("phi-4").Status
		return s.Replicas == 1 && s.ReadyReplicas == 1 && s.Selector == "inferenceset.kaito.sh/created-by=phi-4" &&
			meta.IsStatusConditionTrue(s.Conditions, "InferenceSetReady")
	})
	ws := f.workspaces("phi-4")[0]
	if ws.Status.State != "Ready" || ws.Status.TargetNodeCount != 1 || !strings.HasPrefix(ws.Name, "phi-4-") ||
		ws.OwnerReferences[0].Kind != "InferenceSet" {
		t.Errorf("Workspace: %+v", ws)
	}

	f.scale("phi-4", 3)
	f.awaitReady("phi-4", 3)
	for _, r := range f.kaito.Replicas("default", "phi-4") {
		if page := get(t, r); !strings.Contains(page, "vllm:num_requests_waiting{") {
			t.Errorf("replica %s serves no page of vLLM's: %.80s", r.Workspace, page)
		}
	}
	f.eventually("status of three replicas", func() bool {
		s := f.set("phi-4").Status
		return s.Replicas == 3 && s.ReadyReplicas == 3
	})

	f.scale("phi-4", 1)
	f.eventually("pods that end gracefully", func() bool {
		ending := 0
		for _, p := range f.pods("phi-4") {
			if p.DeletionTimestamp != nil && *p.DeletionGracePeriodSeconds == 30 {
				ending++
			}
		}
		return ending == 2
	})
	f.awaitReady("phi-4", 1)
	f.eventually("one pod left", func() bool { return len(f.pods("phi-4")) == 1 && len(f.workspaces("phi-4")) == 1 })

	set := f.set("phi-4")
	if err := f.Delete(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	f.eventually("nothing left", func() bool {
		err := f.Get(t.Context(), client.ObjectKeyFromObject(set), set)
		return apierrors.IsNotFound(err) && len(f.workspaces("phi-4")) == 0 && len(f.pods("phi-4")) == 0 &&
			len(f.kaito.Replicas("default", "phi-4")) == 0
	})
}

func get(t *testing.T, r Replica) string {
	t.Helper()
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.VLLM.Addr()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestStagesInOrder(t *testing.T) {
	const step = 2 * time.Second // each stage must be looked at, on busy cores too
	f := onControlPlane(t, Both, Options{Startup: Stages{Node: step, Download: step, Engine: step, Benchmark: step}})
	f.create("slow", 1)

	// What a scraper finds, in the order in which it finds it.
	var seen []string
	saw := func(what string) {
		if len(seen) == 0 || seen[len(seen)-1] != what {
			seen = append(seen, what)
		}
	}
	f.eventually("a ready replica", func() bool {
		replicas := f.kaito.Replicas("default", "slow")
		if len(replicas) == 0 {
			return false
		}
		pods := f.pods("slow")
		if len(pods) == 0 || pods[0].Status.PodIP == "" {
			saw("no pod")
			return false
		}
		ready := podReady(&pods[0])
		switch page := get(t, replicas[0]); {
		case strings.Contains(page, "refused"):
			saw("refused")
		case !strings.Contains(page, "vllm:"):
			saw("stub")
		case ready:
			saw("ready")
		case !strings.Contains(page, `vllm:num_requests_waiting{engine="0",model_name="phi-4-mini-instruct"} 0.0`):
			saw("saturated")
		}
		return ready
	})
	want := []string{"no pod", "stub", "refused", "saturated", "ready"}
	if !slices.Equal(seen, want) {
		t.Errorf("stages seen: %v, want %v", seen, want)
	}
	r := f.kaito.Replicas("default", "slow")[0]
	if s := r.VLLM.Stats(); s.GenerationTokens == 0 || s.Running != 0 || s.Waiting != 0 {
		t.Errorf("after the benchmark: %+v, want tokens counted and nothing running", s)
	}
	f.eventually("the benchmark's result", func() bool {
		ws := f.workspaces("slow")[0]
		return ws.Status.Performance != nil && ws.Status.Performance.Metrics["peakTokensPerMinute"].Value != "" &&
			f.set("slow").Status.Performance != nil
	})
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func TestReplicasOfSeveralNodesOnV1alpha1(t *testing.T) {
	f := onControlPlane(t, OnlyV1alpha1, Options{NodesPerReplica: 3})
	set := f.create("big", 1)
	if v := set.GetObjectKind().GroupVersionKind().Version; v != "" && v != "v1alpha1" {
		t.Fatalf("speaks %s", v)
	}
	f.awaitReady("big", 1)
	f.eventually("three ready pods", func() bool {
		pods := f.pods("big")
		return len(pods) == 3 && podReady(&pods[0]) && podReady(&pods[1]) && podReady(&pods[2])
	})
	addresses := map[string]bool{}
	for _, p := range f.pods("big") {
		addresses[p.Status.PodIP] = true
	}
	if len(addresses) != 3 {
		t.Errorf("addresses: %v, want one for each pod", addresses)
	}
	if n := f.workspaces("big")[0].Status.TargetNodeCount; n != 3 {
		t.Errorf("targetNodeCount: %d, want 3", n)
	}
}

func TestNotReadyGoesFirst(t *testing.T) {
	f := onControlPlane(t, Both, Options{})
	f.create("phi-4", 1)
	f.awaitReady("phi-4", 1)
	old := f.kaito.Replicas("default", "phi-4")[0]

	f.kaito.Adapt("default", "phi-4", func(o *Options) { o.Startup = Stages{Download: time.Minute} })
	f.scale("phi-4", 3)
	f.eventually("two replicas downloading", func() bool {
		r := f.kaito.Replicas("default", "phi-4")
		return len(r) == 3 && r[1].Stage == Downloading && r[2].Stage == Downloading
	})
	f.scale("phi-4", 1)
	f.awaitReady("phi-4", 1)
	if left := f.kaito.Replicas("default", "phi-4")[0]; left.Workspace != old.Workspace {
		t.Errorf("the ready replica %s was removed before one that starts", old.Workspace)
	}

	// A surge makes one more, and takes one away again.
	f.kaito.Adapt("default", "phi-4", func(o *Options) { o.Startup = Stages{} })
	f.kaito.Surge("default", "phi-4", true)
	f.awaitReady("phi-4", 2)
	if n := f.set("phi-4").Spec.Replicas; n != 1 {
		t.Errorf("spec.replicas %d during a surge, want 1", n)
	}
	f.kaito.Surge("default", "phi-4", false)
	f.awaitReady("phi-4", 1)
}

func TestFailures(t *testing.T) {
	f := onControlPlane(t, Both, Options{})
	f.create("phi-4", 1)
	f.awaitReady("phi-4", 1)
	r := f.kaito.Replicas("default", "phi-4")[0]
	fail := func(failure Failure) {
		t.Helper()
		if err := r.Fail(failure); err != nil {
			t.Fatal(err)
		}
	}
	workspaceIs := func(state, reason string) {
		t.Helper()
		f.eventually(state+" "+reason, func() bool {
			ws := f.workspaces("phi-4")[0]
			c := meta.FindStatusCondition(ws.Status.Conditions, "InferenceReady")
			return ws.Status.State == state && c != nil && c.Reason == reason
		})
	}

	fail(Hung)
	if page := get(t, r); !strings.Contains(page, "deadline exceeded") {
		t.Errorf("hung: %.80s", page)
	}
	fail(Garbage)
	if page := get(t, r); !strings.Contains(page, "<html>") {
		t.Errorf("garbage: %.80s", page)
	}
	fail(NotReady)
	workspaceIs("NotReady", "WorkspaceInferenceStatusPending")
	fail(Crash)
	workspaceIs("NotReady", "ContainerCrashLoopBackOff")
	if page := get(t, r); !strings.Contains(page, "refused") {
		t.Errorf("crashed: %.80s", page)
	}
	if err := r.Recover(); err != nil {
		t.Fatal(err)
	}
	workspaceIs("Ready", "WorkspaceInferenceStatusSuccess")

	fail(Restart)
	f.eventually("a restarted container", func() bool {
		pod := f.pods("phi-4")[0]
		return podReady(&pod) && pod.Status.ContainerStatuses[0].RestartCount == 1
	})
	if page := get(t, r); !strings.Contains(page, "vllm:") {
		t.Errorf("after the restart: %.80s", page)
	}

	// A pod deleted by hand comes back under its name.
	pod := f.pods("phi-4")[0]
	if err := f.Delete(t.Context(), &pod); err != nil {
		t.Fatal(err)
	}
	f.eventually("the pod's successor", func() bool {
		pods := f.pods("phi-4")
		return len(pods) == 1 && pods[0].Name == pod.Name && pods[0].UID != pod.UID && podReady(&pods[0])
	})
}
