package kaito

import (
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A cache of 10 000 pods and as many Workspaces, of 2 000 InferenceSets, is
// 38 MB at what an object takes here: 1.6 KB a Workspace, 1.7 KB an
// InferenceSet, 1.8 KB a pod. Types of our own for KAITO's would take 0.7 KB, and
// save 11 MB.
func TestACachedObjectIsSmall(t *testing.T) {
	const most = 2 << 10
	workspaceJSON, err := workspace("ws", state("Ready"), nodes(1), says("NodeClaimReady", "True", "NodeClaimReady", ""),
		ornate[*unstructured.Unstructured]).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	inferenceSetJSON, err := inferenceSet(map[string]string{"auto-provision": "true", "threshold": "10", "max-replicas": "5"},
		set(int64(3), "spec", "replicas"), ornate[*unstructured.Unstructured]).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	podBytes, err := pod("ws", 0, ready, full).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	// Decoded anew each time, as what comes from the API server: strings are
	// shared with nothing.
	decoded := func(data []byte) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(data); err != nil {
			t.Fatal(err)
		}
		return u
	}
	for name, one := range map[string]func() any{
		"Workspace":    func() any { return stripped(t, decoded(workspaceJSON), stripWorkspace) },
		"InferenceSet": func() any { return stripped(t, decoded(inferenceSetJSON), stripInferenceSet) },
		"pod": func() any {
			p := &corev1.Pod{}
			if err := p.Unmarshal(podBytes); err != nil {
				t.Fatal(err)
			}
			return stripped(t, p, stripPod)
		},
	} {
		got := retained(one)
		t.Logf("%s: %d bytes", name, got)
		if got > most {
			t.Errorf("a %s takes %d bytes in the cache, more than %d", name, got, most)
		}
	}
}

// retained is how much of the heap one of what f makes holds.
func retained(f func() any) uint64 {
	const n = 2000
	keep := make([]any, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range keep {
		keep[i] = f()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(keep)
	return (after.HeapAlloc - before.HeapAlloc) / n
}
