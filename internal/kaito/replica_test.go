package kaito

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// fleet is what an InferenceSet consists of.
type fleet struct {
	workspaces []*unstructured.Unstructured
	pods       []*corev1.Pod
}

// replicas are the fleet's a quarter of an hour later, when KAITO's faults are
// believed.
func (f fleet) replicas() []Replica { return f.at(noon.Add(15 * time.Minute)) }

func (f fleet) at(now time.Time) []Replica {
	workspaces := make([]unstructured.Unstructured, len(f.workspaces))
	for i, w := range f.workspaces {
		workspaces[i] = *w.DeepCopy()
	}
	pods := make([]corev1.Pod, len(f.pods))
	for i, p := range f.pods {
		pods[i] = *p.DeepCopy()
	}
	return Replicas(workspaces, pods, now, false)
}

type workspaces = []*unstructured.Unstructured

type pods = []*corev1.Pod

var anAddress = netip.MustParseAddrPort("10.244.0.17:5000")

// compareReplicas knows addresses, which have no exported fields.
var compareReplicas = cmp.Options{
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func TestWhoIsAReplica(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fleet fleet
		want  []Replica
	}{
		{"nobody yet", fleet{}, nil},
		{"a Workspace without a pod is starting", fleet{workspaces: workspaces{workspace("ws")}}, []Replica{
			{Workspace: "ws", Phase: sample.Starting},
		}},
		{"a Ready pod serves", fleet{workspaces{workspace("ws", state("Ready"))}, pods{pod("ws", 0, ready, restarts(0))}}, []Replica{
			{Workspace: "ws", Pod: "ws-0", UID: "uid-of-ws-0", Address: anAddress, Phase: sample.Serving, Ready: true, Since: noon},
		}},
		{
			"of a replica of three nodes only the first pod speaks, whatever the order",
			fleet{workspaces{workspace("ws")}, pods{
				pod("ws", 2, ready, at("10.0.0.2")), pod("ws", 0, ready, at("10.0.0.0")), pod("ws", 1, ready, at("10.0.0.1")),
			}},
			[]Replica{{
				Workspace: "ws", Pod: "ws-0", UID: "uid-of-ws-0", Address: netip.MustParseAddrPort("10.0.0.0:5000"),
				Phase: sample.Serving, Ready: true, Since: noon,
			}},
		},
		{
			"Ready workers without the first pod are a replica that starts",
			fleet{workspaces{workspace("ws")}, pods{pod("ws", 1, ready), pod("ws", 10, ready)}},
			[]Replica{{Workspace: "ws", Phase: sample.Starting}},
		},
		{
			"a pod belongs to the Workspace on its label, not to one with a similar name",
			fleet{workspaces{workspace("phi-4"), workspace("phi-4-x")}, pods{pod("phi-4-x", 0, ready)}},
			[]Replica{
				{Workspace: "phi-4", Phase: sample.Starting},
				{Workspace: "phi-4-x", Pod: "phi-4-x-0", UID: "uid-of-phi-4-x-0", Address: anAddress, Phase: sample.Serving, Ready: true, Since: noon},
			},
		},
		{
			"a pod whose Workspace is gone is no replica",
			fleet{nil, pods{pod("ws", 0, ready)}},
			nil,
		},
		{
			"a pod that says it is of another Workspace than its name does is none's",
			fleet{workspaces{workspace("a"), workspace("b")}, pods{pod("a", 0, ready, func(p *corev1.Pod) { p.Labels[OfWorkspace] = "b" })}},
			[]Replica{{Workspace: "a", Phase: sample.Starting}, {Workspace: "b", Phase: sample.Starting}},
		},
		{
			"one Workspace more than desired, as in an upgrade, is a replica too",
			fleet{workspaces{workspace("b"), workspace("a")}, pods{pod("a", 0, ready), pod("b", 0, ready)}},
			[]Replica{
				{Workspace: "a", Pod: "a-0", UID: "uid-of-a-0", Address: anAddress, Phase: sample.Serving, Ready: true, Since: noon},
				{Workspace: "b", Pod: "b-0", UID: "uid-of-b-0", Address: anAddress, Phase: sample.Serving, Ready: true, Since: noon},
			},
		},
		{
			"a pod that benchmarks itself answers, but isn't Ready: it starts",
			fleet{
				workspaces{workspace("ws", state("Pending"), says("InferenceReady", "False", "WorkspaceInferenceStatusPending", "wait"))},
				pods{pod("ws", 0, notReady)},
			},
			[]Replica{{
				Workspace: "ws", Pod: "ws-0", UID: "uid-of-ws-0", Address: anAddress,
				Phase: sample.Starting, Why: "WorkspaceInferenceStatusPending",
			}},
		},
		{
			"a pod that was Ready by its Workspace's word is too busy to say so: it serves",
			fleet{workspaces{workspace("ws", state("NotReady"))}, pods{pod("ws", 0, notReady)}},
			[]Replica{{Workspace: "ws", Pod: "ws-0", UID: "uid-of-ws-0", Address: anAddress, Phase: sample.Serving}},
		},
		{
			"a Workspace that was Ready once and lost its pod starts again",
			fleet{workspaces{workspace("ws", state("NotReady"))}, nil},
			[]Replica{{Workspace: "ws", Phase: sample.Starting}},
		},
		{
			"a restarted process is told by its restarts, not by those of a sidecar",
			fleet{workspaces{workspace("ws")}, pods{pod("ws", 0, ready, restarts(2, 1))}},
			[]Replica{{
				Workspace: "ws", Pod: "ws-0", UID: "uid-of-ws-0", Restarts: 2, Address: anAddress,
				Phase: sample.Serving, Ready: true, Since: noon,
			}},
		},
		{
			"a pod that turned Ready and then too busy says so by its conditions: it serves",
			fleet{workspaces{workspace("ws", state("Pending"))}, pods{pod("ws", 0, notReady, started(time.Hour), runs(-time.Hour))}},
			[]Replica{{
				Workspace: "ws", Pod: "ws-0", UID: "uid-of-ws-0", Address: anAddress, Phase: sample.Serving,
				WasReady: true, ReadySinceStart: true,
			}},
		},
		{
			"one whose engine has been restarted since serves too, and its benchmark is still to come",
			fleet{workspaces{workspace("ws", state("Pending"))}, pods{pod("ws", 0, notReady, started(time.Hour), restarts(1), runs(time.Second))}},
			[]Replica{{
				Workspace: "ws", Pod: "ws-0", UID: "uid-of-ws-0", Restarts: 1, Address: anAddress, Phase: sample.Serving, WasReady: true,
			}},
		},
		{
			"a pod that has never been Ready says so too, and its Workspace speaks of the one before it",
			fleet{workspaces{workspace("ws", state("NotReady"))}, pods{pod("ws", 0, notReady, started(time.Second), runs(time.Minute))}},
			[]Replica{{Workspace: "ws", Pod: "ws-0", UID: "uid-of-ws-0", Address: anAddress, Phase: sample.Starting}},
		},
		{
			"a stranger's pod with a replica's name and labels is none",
			fleet{workspaces{workspace("ws")}, pods{pod("ws", 0, ready, controlledBy("nobody"))}},
			[]Replica{{Workspace: "ws", Phase: sample.Starting, Why: "pod ws-0 has this replica's labels, but KAITO's StatefulSet doesn't control it"}},
		},
		{
			"nor is one that nobody controls, and KAITO's own word for a fault counts more",
			fleet{workspaces{workspace("ws", says("InferenceReady", "False", "Unschedulable", ""))}, pods{pod("ws", 0, ready, controlledBy(""))}},
			[]Replica{{Workspace: "ws", Phase: sample.Broken, Why: "Unschedulable"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.fleet.replicas(), compareReplicas); diff != "" {
				t.Errorf("replicas (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatIsBeingDeletedIsTerminating(t *testing.T) {
	for _, tt := range []struct {
		name      string
		workspace *unstructured.Unstructured
		pods      pods
	}{
		{"the Workspace, with a pod that is still Ready", workspace("ws", deleted), pods{pod("ws", 0, ready)}},
		{"the Workspace, before it had a pod", workspace("ws", deleted), nil},
		{"the pod alone, which is to be replaced", workspace("ws", state("Ready")), pods{pod("ws", 0, ready, deleted)}},
		{"a broken Workspace", workspace("ws", deleted, says("InferenceReady", "False", "ImagePullError", "")), nil},
		{"a failed pod", workspace("ws", deleted), pods{pod("ws", 0, ended(corev1.PodFailed, "Evicted"))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := fleet{workspaces{tt.workspace}, tt.pods}.replicas()
			if len(got) != 1 || got[0].Phase != sample.Terminating {
				t.Errorf("replicas: %+v, want one that terminates", got)
			}
		})
	}
}

// The reasons are those of KAITO 0.12.
func TestKAITOsReasonsTellStartingFromBroken(t *testing.T) {
	for _, tt := range []struct {
		kind   string
		reason string
		want   sample.Phase
	}{
		{"NodeClaimReady", "NodeClaimNotReady", sample.Starting},
		{"NodeClaimReady", "AwaitingReconciliation", sample.Starting},
		{"NodesReady", "NodeNotReady", sample.Starting},
		{"ResourceReady", "workspaceResourceStatusFailed", sample.Starting},
		{"ModelMirrorReady", "ModelMirrorPending", sample.Starting},
		{"InferenceReady", "WorkspaceInferenceStatusPending", sample.Starting},
		{"WorkspaceSucceeded", "workspacePending", sample.Starting},
		// The pod may serve all the same.
		{"BenchmarkCompleted", "BenchmarkFailed", sample.Starting},

		{"NodeClaimReady", "LaunchFailed", sample.Broken},
		{"NodeClaimReady", "InsufficientCapacity", sample.Broken},
		{"ModelMirrorReady", "ModelMirrorFailed", sample.Broken},
		{"InferenceReady", "ImagePullError", sample.Broken},
		{"InferenceReady", "ContainerCrashLoopBackOff", sample.Broken},
		{"InferenceReady", "ContainerOOMKilled", sample.Broken},
		{"InferenceReady", "ContainerStartError", sample.Broken},
		{"InferenceReady", "PodEvicted", sample.Broken},
		{"InferenceReady", "NodeDiskPressure", sample.Broken},
		{"InferenceReady", "NodeMemoryPressure", sample.Broken},
		{"InferenceReady", "Unschedulable", sample.Broken},
	} {
		t.Run(tt.kind+" "+tt.reason, func(t *testing.T) {
			w := workspace("ws", state("Pending"), says(tt.kind, "False", tt.reason, "what happened"))
			got := fleet{workspaces{w}, pods{pod("ws", 0, notReady)}}.replicas()[0]
			why := tt.reason
			if tt.want == sample.Broken {
				why += ": what happened"
			}
			if got.Phase != tt.want || got.Why != why {
				t.Errorf("%s, %q; want %s, %q", got.Phase, got.Why, tt.want, why)
			}
		})
	}
}

// A cloud that has no GPU in one zone may have one in the next.
func TestAFaultOfANodeClaimIsBelievedAfterAWhile(t *testing.T) {
	f := fleet{workspaces{workspace("ws",
		says("NodesReady", "False", "NodeNotReady", "waiting"),
		says("NodeClaimReady", "False", "InsufficientCapacity", "no A100 in zone 1"))}, nil}
	for after, want := range map[time.Duration]sample.Phase{
		0: sample.Starting, 3*time.Minute - time.Second: sample.Starting, 3 * time.Minute: sample.Broken, time.Hour: sample.Broken,
	} {
		got := f.at(noon.Add(after))[0]
		if got.Phase != want || got.Why != "InsufficientCapacity: no A100 in zone 1" {
			t.Errorf("after %v: %s, %q; want %s", after, got.Phase, got.Why, want)
		}
		if believedAt := noon.Add(3 * time.Minute); want == sample.Starting && !got.BelievedAt.Equal(believedAt) || want == sample.Broken && !got.BelievedAt.IsZero() {
			t.Errorf("after %v: believed at %v", after, got.BelievedAt)
		}
	}
	undated := workspace("ws", set([]any{map[string]any{
		"type": "NodeClaimReady", "status": "False", "reason": "LaunchFailed", "message": "quota",
	}}, "status", "conditions"))
	if got := (fleet{workspaces{undated}, nil}).at(noon)[0]; got.Phase != sample.Broken {
		t.Errorf("a fault without a time is %s", got.Phase)
	}
}

func TestAFaultIsToldBeforeAWait(t *testing.T) {
	w := workspace("ws",
		says("ResourceReady", "True", "workspaceResourceStatusSuccess", ""),
		says("NodesReady", "False", "NodeNotReady", "waiting"),
		says("InferenceReady", "False", "ImagePullError", "no such image"),
		set("not a list", "status", "other"))
	got := fleet{workspaces{w}, nil}.replicas()[0]
	if got.Phase != sample.Broken || got.Why != "ImagePullError: no such image" {
		t.Errorf("%s, %q; want broken for the image", got.Phase, got.Why)
	}
	w = workspace("ws", says("InferenceReady", "False", "Unschedulable", ""))
	if got := (fleet{workspaces{w}, nil}).replicas()[0]; got.Why != "Unschedulable" {
		t.Errorf("why: %q, want the reason alone where KAITO has no message", got.Why)
	}
}

func TestAReplicaThatServesIsNotBrokenByAStaleCondition(t *testing.T) {
	w := workspace("ws", says("InferenceReady", "False", "ContainerOOMKilled", "was killed before"))
	got := fleet{workspaces{w}, pods{pod("ws", 0, ready)}}.replicas()[0]
	if got.Phase != sample.Serving || got.Why != "" {
		t.Errorf("%s, %q; want serving", got.Phase, got.Why)
	}
}

func TestAPodThatEndedIsBrokenAndSaysHow(t *testing.T) {
	message := func(p *corev1.Pod) { p.Status.Message = "The node was low on resource: memory." }
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		want string
	}{
		{"evicted", pod("ws", 0, ended(corev1.PodFailed, "Evicted"), message), "pod Failed Evicted: The node was low on resource: memory."},
		{"failed without a reason", pod("ws", 0, ended(corev1.PodFailed, "")), "pod Failed"},
		{"ended by itself", pod("ws", 0, ended(corev1.PodSucceeded, "")), "pod Succeeded"},
		{"the node vanished with the pod Ready", pod("ws", 0, ready, ended(corev1.PodFailed, "NodeLost")), "pod Failed NodeLost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := fleet{workspaces{workspace("ws", state("NotReady"))}, pods{tt.pod}}.replicas()[0]
			if got.Phase != sample.Broken || got.Why != tt.want || !got.Ended {
				t.Errorf("%s, %q; want broken, %q", got.Phase, got.Why, tt.want)
			}
			if got.Address.IsValid() || got.NoAddress != "the pod has ended: its address may be another pod's" {
				t.Errorf("read at %s, %q; another pod may be there by now", got.Address, got.NoAddress)
			}
		})
	}
}

// A node that is lost keeps its pods in the API for hours.
func TestAReplicaThatDoesNotEndSaysWhy(t *testing.T) {
	on := func(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	tainted := func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager",
		})
	}
	lost := func(p *corev1.Pod) {
		p.Status.Reason, p.Status.Message = "NodeLost", "Node gpu-3 which was running pod ws-0 is unresponsive"
	}
	for _, tt := range []struct {
		name    string
		fleet   fleet
		overdue time.Duration // after its deletionTimestamp
		want    string
	}{
		{
			"its pod, evicted from a node that doesn't answer",
			fleet{workspaces{workspace("ws")}, pods{pod("ws", 0, deleted, on("gpu-3"), tainted)}},
			podEndBudget,
			"pod ws-0 is still terminating: node gpu-3 may be lost (DeletionByTaintManager)",
		},
		{
			"the node's controller says more",
			fleet{workspaces{workspace("ws")}, pods{pod("ws", 0, deleted, on("gpu-3"), lost)}},
			podEndBudget,
			"pod ws-0 is still terminating: node gpu-3 may be lost (NodeLost: Node gpu-3 which was running pod ws-0 is unresponsive)",
		},
		{
			"nobody says anything",
			fleet{workspaces{workspace("ws", deleted)}, pods{pod("ws", 0, deleted)}},
			podEndBudget,
			"pod ws-0 is still terminating: its node may be lost",
		},
		{
			"its Workspace alone",
			fleet{workspaces{workspace("ws", deleted)}, pods{pod("ws", 0, ready)}},
			workspaceEndBudget,
			"KAITO has not taken the Workspace down",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.fleet.replicas()[0]
			if got.Phase != sample.Terminating || !got.Overdue.Equal(noon.Add(tt.overdue)) || got.Why != tt.want {
				t.Errorf("%s, to be gone by %s, %q; want terminating, %s, %q", got.Phase, got.Overdue, got.Why, noon.Add(tt.overdue), tt.want)
			}
		})
	}
}

func TestWhereAPodIsRead(t *testing.T) {
	unnamed := func(p *corev1.Pod) { p.Spec.Containers[0].Ports = nil }
	renamed := func(p *corev1.Pod) { p.Spec.Containers[0].Name = "vllm" }
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		want string
	}{
		{"IPv4", pod("ws", 0, at("10.1.2.3")), "10.1.2.3:5000"},
		{"IPv6", pod("ws", 0, at("fd00::17")), "[fd00::17]:5000"},
		{"IPv4 in IPv6", pod("ws", 0, at("::ffff:10.1.2.3")), "10.1.2.3:5000"},
		{"another port named http", pod("ws", 0, port("http", 8080)), "10.244.0.17:8080"},
		{"no port named http", pod("ws", 0, port("grpc", 9000)), "10.244.0.17:5000"},
		{"a port beyond the range", pod("ws", 0, port("http", 70000)), "10.244.0.17:5000"},
		{"port zero", pod("ws", 0, port("http", 0)), "10.244.0.17:5000"},
		{"a sidecar with a port of that name", pod("ws", 0, sidecar("http", 15020)), "10.244.0.17:5000"},
		{"a sidecar, and no port of the engine's", pod("ws", 0, unnamed, sidecar("http", 15020)), "10.244.0.17:5000"},
		{"behind a routing sidecar", pod("ws", 0, port("vllm", 5001), sidecar("http", 5000)), "10.244.0.17:5001"},
		{"behind a routing sidecar, by name", pod("ws", 0, port("http", 5001), sidecar("proxy", 5000)), "10.244.0.17:5001"},
		{"a container of another name beside one with another port", pod("ws", 0, renamed, sidecar("http", 9090)), "10.244.0.17:5000"},
		{"containers of other names, one with the port's", pod("ws", 0, renamed, port("http", 8000), sidecar("admin", 9090)), "10.244.0.17:8000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := fleet{workspaces{workspace("ws")}, pods{tt.pod}}.replicas()[0]
			if got.Address.String() != tt.want || got.NoAddress != "" {
				t.Errorf("read at %s, %q; want %s", got.Address, got.NoAddress, tt.want)
			}
		})
	}
}

// A trigger chooses a port, so the address has to be the pod's alone.
func TestAnAddressThatOthersShareIsRefused(t *testing.T) {
	const allow = ": --allow-host-network lets the scaler read it"
	host := func(p *corev1.Pod) { p.Spec.HostNetwork = true }
	hostIP := func(p *corev1.Pod) { p.Status.HostIP = p.Status.PodIP }
	hostIPs := func(p *corev1.Pod) {
		p.Status.HostIP, p.Status.HostIPs = "10.0.0.4", []corev1.HostIP{{IP: "10.0.0.4"}, {IP: p.Status.PodIP}}
	}
	const shared = "the pod is on its node's network, where others listen too" + allow
	for _, tt := range []struct {
		name    string
		pod     *corev1.Pod
		refused string
		// allowed is where it is read with --allow-host-network, "" for nowhere.
		allowed string
	}{
		{"no IP yet", pod("ws", 0, at("")), "the pod has no address", ""},
		{"no IP yet on the host", pod("ws", 0, host, at("")), "the pod has no address", ""},
		{"not an IP", pod("ws", 0, at("metadata.google.internal")), "the pod has no address", ""},
		{"the node's network", pod("ws", 0, host), shared, "10.244.0.17:5000"},
		{"the node's address", pod("ws", 0, hostIP), shared, "10.244.0.17:5000"},
		{"the node's second address", pod("ws", 0, hostIPs), shared, "10.244.0.17:5000"},
		{"loopback", pod("ws", 0, at("127.0.0.53")), "the pod's address 127.0.0.53 is a loopback address, where others listen too" + allow, "127.0.0.53:5000"},
		{"loopback in IPv6", pod("ws", 0, at("::1")), "the pod's address ::1 is a loopback address, where others listen too" + allow, "[::1]:5000"},
		{"loopback in disguise", pod("ws", 0, at("::ffff:127.0.0.1")), "the pod's address 127.0.0.1 is a loopback address, where others listen too" + allow, "127.0.0.1:5000"},
		{"the cloud's metadata", pod("ws", 0, at("169.254.169.254")), "the pod's address 169.254.169.254 is none that a pod may have", ""},
		{"the cloud's metadata on the host", pod("ws", 0, host, at("169.254.169.254")), "the pod's address 169.254.169.254 is none that a pod may have", ""},
		{"link-local in IPv6", pod("ws", 0, at("fe80::1")), "the pod's address fe80::1 is none that a pod may have", ""},
		{"a zone", pod("ws", 0, at("fd00::1%eth0")), "the pod's address fd00::1%eth0 is none that a pod may have", ""},
		{"multicast", pod("ws", 0, at("224.0.0.1")), "the pod's address 224.0.0.1 is none that a pod may have", ""},
		{"all addresses", pod("ws", 0, at("0.0.0.0")), "the pod's address 0.0.0.0 is none that a pod may have", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, p := []unstructured.Unstructured{*workspace("ws")}, stripped(t, tt.pod, stripPod)
			got := Replicas(w, []corev1.Pod{*p}, noon, false)[0]
			if got.Address.IsValid() || got.NoAddress != tt.refused {
				t.Errorf("read at %s, refused for %q; want %q", got.Address, got.NoAddress, tt.refused)
			}
			got = Replicas(w, []corev1.Pod{*p}, noon, true)[0]
			switch at := got.Address.String(); {
			case tt.allowed != "" && (at != tt.allowed || got.NoAddress != ""):
				t.Errorf("allowed, it is read at %s, %q; want %s", at, got.NoAddress, tt.allowed)
			case tt.allowed == "" && (got.Address.IsValid() || got.NoAddress != tt.refused):
				t.Errorf("allowed, it is read at %s, %q; want %q", at, got.NoAddress, tt.refused)
			}
		})
	}
}

// Whatever KAITO and the kubelet write, there is one replica a Workspace, in
// order, and only pods with the index 0 speak.
func TestReplicasAreTheWorkspacesWhateverTheyHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfDistinct(rapid.StringMatching(`[a-c]{1,3}`), func(s string) string { return s }).Draw(t, "names")
		var f fleet
		for _, name := range names {
			w := workspace(name)
			if rapid.Bool().Draw(t, "odd status") {
				set(rapid.SampledFrom([]any{"x", int64(7), []any{"y", map[string]any{"type": int64(3)}}}).Draw(t, "conditions"), "status", "conditions")(w)
			}
			if rapid.Bool().Draw(t, "deleted") {
				deleted(w)
			}
			f.workspaces = append(f.workspaces, w)
			for n := range rapid.IntRange(0, 3).Draw(t, "pods") {
				f.pods = append(f.pods, pod(name, n, rapid.SampledFrom([]func(*corev1.Pod){ready, notReady, deleted[*corev1.Pod]}).Draw(t, "pod")))
			}
		}
		got := f.replicas()
		slices.Sort(names)
		if len(got) != len(names) {
			t.Fatalf("%d replicas of %d Workspaces", len(got), len(names))
		}
		for i, r := range got {
			if r.Workspace != names[i] || (r.Pod != "" && r.Pod != names[i]+"-0") {
				t.Errorf("replica %d is %s with pod %q, want %s", i, r.Workspace, r.Pod, names[i])
			}
		}
	})
}

func TestABenchmarkIsReadHoweverItIsWritten(t *testing.T) {
	for _, tt := range []struct {
		value any
		want  float64
	}{
		{"903412.55", 903412.55},
		{" 900000 ", 900000},
		{int64(900000), 900000},
		{9e5, 9e5},
		{"fast", 0},
		{"NaN", 0},
		{"-5", 0},
		{"1e300", 0},
		{true, 0},
		{map[string]any{}, 0},
	} {
		f := fleet{workspaces: workspaces{workspace("ws", set(tt.value, pathPeak...))}}
		if got := f.replicas()[0].PeakTokensPerMinute; got != tt.want {
			t.Errorf("%v: %v, want %v", tt.value, got, tt.want)
		}
	}
}
