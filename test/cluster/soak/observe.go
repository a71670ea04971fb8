package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// The API server is away now and then, and then there is nothing to be seen: the
// next look comes soon.

// watch looks at the desired replicas of all fleets.
func (s *soak) watch(ctx context.Context) {
	now := time.Now()
	var list unstructured.UnstructuredList
	list.SetAPIVersion("kaito.sh/v1beta1")
	list.SetKind("InferenceSetList")
	if s.list(ctx, &list) != nil {
		return
	}
	there := map[types.NamespacedName]*unstructured.Unstructured{}
	for i := range list.Items {
		u := &list.Items[i]
		there[types.NamespacedName{Namespace: u.GetNamespace(), Name: u.GetName()}] = u
	}
	pods := 0
	for _, f := range s.fleets {
		pods += len(s.stack.KAITO.Replicas(f.Namespace, f.Name))
		u := there[f.NamespacedName]
		if u == nil || u.GetDeletionTimestamp() != nil {
			f.gone()
			continue
		}
		n, found, err := unstructured.NestedInt64(u.Object, "spec", "replicas")
		if err != nil || !found {
			continue
		}
		counted, _, _ := unstructured.NestedInt64(u.Object, "status", "replicas")
		s.noteMove(f.seen(look{uid: u.GetUID(), desired: int(n), counted: int(counted), at: now}))
	}
	s.mu.Lock()
	s.pods = pods
	s.mu.Unlock()
}

func (s *soak) noteMove(moved, back bool, wrong string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if back {
		s.back++
	}
	if moved && !s.start.IsZero() {
		s.moves++
	}
	if wrong != "" {
		s.wrong = append(s.wrong, wrong)
		s.say("wrong move: %s", wrong)
	}
}

func (s *soak) list(ctx context.Context, list client.ObjectList, o ...client.ListOption) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return s.stack.Client.List(ctx, list, o...)
}

// learnReferences takes from the ScaledObjects what KEDA asks with.
func (s *soak) learnReferences(ctx context.Context) {
	var list kedav1alpha1.ScaledObjectList
	if s.list(ctx, &list) != nil {
		return
	}
	byName := map[types.NamespacedName]map[string]string{}
	for i := range list.Items {
		so := &list.Items[i]
		if len(so.Spec.Triggers) == 1 {
			byName[client.ObjectKeyFromObject(so)] = so.Spec.Triggers[0].Metadata
		}
	}
	for _, f := range s.fleets {
		if metadata := byName[f.NamespacedName]; metadata != nil {
			f.setAsked(metadata)
		}
	}
}

// measure takes a sample of each scaler. One that is just being killed has none.
func (s *soak) measure(ctx context.Context) {
	for name, scaler := range s.site.members() {
		one, err := needs(ctx, scaler.Metrics)
		if err != nil {
			continue
		}
		s.mu.Lock()
		s.samples[name] = append(s.samples[name], one)
		s.mu.Unlock()
	}
}

// watchCertificates notes each certificate that stands in a Secret.
func (s *soak) watchCertificates(ctx context.Context) {
	for _, name := range secrets {
		found := &corev1.Secret{}
		if s.stack.Client.Get(ctx, types.NamespacedName{Namespace: stack.Namespace, Name: name}, found) != nil {
			continue
		}
		certificate := found.Data["tls.crt"]
		if len(certificate) == 0 {
			continue
		}
		s.mu.Lock()
		if s.leaves[name] == nil {
			s.leaves[name] = map[string]bool{}
		}
		s.leaves[name][fmt.Sprintf("%x", sha256.Sum256(certificate))] = true
		s.mu.Unlock()
	}
}

var secrets = []string{certs.CASecret, certs.ServerSecret, certs.ClientSecret}

// reissued is how many certificates were made since the soak began.
func (s *soak) reissued() int {
	n := 0
	for _, seen := range s.leaves {
		n += len(seen) - 1
	}
	return n
}

// countEvents counts how often the scalers told something. Events live for an
// hour, and each is seen before its end.
func (s *soak) countEvents(ctx context.Context) {
	first := s.counting.IsZero()
	for i := range namespaces {
		var list eventsv1.EventList
		if s.list(ctx, &list, client.InNamespace(namespaceOf(i))) != nil {
			return
		}
		s.mu.Lock()
		for j := range list.Items {
			e := &list.Items[j]
			if e.ReportingController != "keda-kaito-scaler" {
				continue
			}
			times := 1
			if e.Series != nil {
				times = int(e.Series.Count)
			}
			s.events[string(e.UID)] = max(s.events[string(e.UID)], times)
		}
		s.mu.Unlock()
	}
	if first {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.before, s.counting = s.told(), time.Now()
	}
}

// told is how many events there were so far, repetitions included. Caller holds
// mu.
func (s *soak) told() int {
	n := 0
	for _, times := range s.events {
		n += times
	}
	return n
}

// readLogs looks for what was not answered in KEDA's log, and for errors in the
// scalers'.
func (s *soak) readLogs(from int64) {
	if data, err := os.ReadFile(s.stack.Process("keda-operator").LogFile()); err == nil { //nolint:gosec // a log of the soak's own
		s.lost = stack.Unanswered(string(data[min(from, int64(len(data))):]))
	}
	members := s.site.members()
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if data, err := os.ReadFile(members[name].LogFile()); err == nil { //nolint:gosec // a log of the soak's own
			s.heed(string(data))
		}
	}
}

// heed counts the errors of a scaler's log by their words. That the API server
// can't be reached is no error of the scaler's.
func (s *soak) heed(log string) {
	for line := range strings.Lines(log) {
		var entry struct {
			Level   string `json:"level"`
			Logger  string `json:"logger"`
			Message string `json:"msg"`
			Error   string `json:"error"`
		}
		if json.Unmarshal([]byte(line), &entry) != nil || entry.Level != "error" || entry.Logger == "leaderelection" ||
			strings.Contains(entry.Error, "connection refused") {
			continue
		}
		s.errors[entry.Message+": "+entry.Error]++
	}
}

// ranked are what was counted, the most frequent first.
func ranked(counts map[string]int) []string {
	words := slices.Collect(maps.Keys(counts))
	slices.SortFunc(words, func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for i, w := range words {
		words[i] = fmt.Sprintf("%d × %s", counts[w], w)
	}
	return words
}
