package chart

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// With watchNamespaces the scaler has Roles where it watches, and works with
// them; elsewhere it has no right, sees nothing and leaves everything alone.
func TestOnlyWatchedNamespacesAreScaled(t *testing.T) {
	audit := filepath.Join(t.TempDir(), "audit.log")
	s := start(t, stack.Options{HPASync: 2 * time.Second, KAITO: quick, AuditLog: audit, AuditPolicy: stack.AuditPolicy})
	for _, name := range []string{"team-a", "team-b", "stranger"} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := s.Client.Create(t.Context(), namespace); err != nil {
			t.Fatal(err)
		}
	}
	scaler := run(t, s, "watchNamespaces={team-a,team-b}")
	scaler.wantRights(t, "team-a", "team-b")

	alone := example(t, s, "stranger") // it is there first
	for _, pod := range s.KAITO.Serving(alone.GetNamespace(), alone.GetName()) {
		pod.SetWaiting(25)
	}
	quickStart(t, s, "team-a")
	quickStart(t, s, "team-b")
	wantLeftAlone(t, s, alone)

	// A ScaledObject by hand doesn't open the door either: KEDA gets an error, and
	// the HPA doesn't move.
	byHand := scaledObjectByHand(alone, scaler.grpc)
	if err := s.Client.Create(t.Context(), byHand); err != nil {
		t.Fatal(err)
	}
	eventually(t, "KEDA is refused an InferenceSet that isn't watched", func(ctx context.Context) error {
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(byHand), byHand); err != nil {
			return err
		}
		if condition(byHand, "Ready") == nil {
			return errors.New("the ScaledObject is Ready")
		}
		if _, found, _ := unstructured.NestedSlice(byHand.Object, "status", "conditions"); !found {
			return errors.New("KEDA has not looked at it")
		}
		return nil
	})
	if n := replicas(t, s, alone); n != 1 {
		t.Errorf("%d replicas are desired in a namespace that isn't watched, want the 1 as before", n)
	}
	scaler.wantNothingForbidden(t)
	wantNothingRefused(t, audit, stack.Namespace, "team-a", "team-b")
}

// wantRights asks the API server what the process's account may do: everything
// in these namespaces, nothing in others.
func (c *scaler) wantRights(t *testing.T, namespaces ...string) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, namespace := range append([]string{"", "stranger", "default", stack.Namespace}, namespaces...) {
		for _, resource := range []string{"pods", "inferencesets.kaito.sh", "workspaces.kaito.sh", "scaledobjects.keda.sh"} {
			want := slices.Contains(namespaces, namespace)
			if got := may(t, clients, "list", resource, namespace); got != want {
				t.Errorf("may list %s in namespace %q: %t, want %t", resource, namespace, got, want)
			}
		}
	}
}

// may asks whether the client's own account has a right; "" is all namespaces.
func may(t *testing.T, clients kubernetes.Interface, verb, resource, namespace string) bool {
	t.Helper()
	name, group, _ := strings.Cut(resource, ".")
	review, err := clients.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Group: group, Resource: name, Namespace: namespace,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

// wantLeftAlone wants neither ScaledObject nor event nor move.
func wantLeftAlone(t *testing.T, s *stack.Stack, is *unstructured.Unstructured) {
	t.Helper()
	key := client.ObjectKeyFromObject(is)
	if err := s.Client.Get(t.Context(), key, scaledObject()); !apierrors.IsNotFound(err) {
		t.Errorf("a ScaledObject in a namespace that isn't watched: %v", err)
	}
	var hpas autoscalingv2.HorizontalPodAutoscalerList
	var events eventsv1.EventList
	for _, list := range []client.ObjectList{&hpas, &events} {
		if err := s.Client.List(t.Context(), list, client.InNamespace(key.Namespace)); err != nil {
			t.Fatal(err)
		}
	}
	if len(hpas.Items) > 0 {
		t.Errorf("%d HPAs in a namespace that isn't watched", len(hpas.Items))
	}
	for i := range events.Items {
		if e := &events.Items[i]; e.ReportingController == release {
			t.Errorf("an event in a namespace that isn't watched: %s: %s", e.Reason, e.Note)
		}
	}
	if n := replicas(t, s, is); n != 1 {
		t.Errorf("%d replicas are desired in a namespace that isn't watched, want the 1 as before", n)
	}
}

func replicas(t *testing.T, s *stack.Stack, is *unstructured.Unstructured) int64 {
	t.Helper()
	if err := s.Client.Get(t.Context(), client.ObjectKeyFromObject(is), is); err != nil {
		t.Fatal(err)
	}
	n, _, err := unstructured.NestedInt64(is.Object, "spec", "replicas")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func scaledObjectByHand(is *unstructured.Unstructured, address string) *unstructured.Unstructured {
	so := scaledObject()
	so.SetNamespace(is.GetNamespace())
	so.SetName("by-hand")
	so.Object["spec"] = map[string]any{
		"scaleTargetRef":  map[string]any{"apiVersion": is.GetAPIVersion(), "kind": is.GetKind(), "name": is.GetName()},
		"pollingInterval": int64(1), "minReplicaCount": int64(1), "maxReplicaCount": int64(5),
		"triggers": []any{map[string]any{
			"type": "external", "metricType": "AverageValue",
			"metadata": map[string]any{
				"scalerAddress": address, "enableTLS": "true", "threshold": "10", "inferenceSetName": is.GetName(),
			},
			"authenticationRef": map[string]any{"kind": "ClusterTriggerAuthentication", "name": "keda-kaito-scaler-creds"},
		}},
	}
	return so
}

// wantNothingRefused reads the API server's audit log: the scaler was refused
// nothing, and asked for objects of no other namespaces.
func wantNothingRefused(t *testing.T, audit string, namespaces ...string) {
	t.Helper()
	requests, err := stack.Requests(audit)
	if err != nil {
		t.Fatal(err)
	}
	if len(requests) < 50 {
		t.Errorf("the audit log has %d requests of the scaler, want all that it made", len(requests))
	}
	for _, r := range requests {
		if r.Status.Code == 401 || r.Status.Code == 403 {
			t.Errorf("%s %s was refused: %d", r.Verb, r.URI, r.Status.Code)
		}
		inCluster := r.Object.Resource == "" || r.Object.Resource == "clustertriggerauthentications" ||
			r.Object.Group == "authorization.k8s.io"
		if !inCluster && !slices.Contains(namespaces, r.Object.Namespace) {
			t.Errorf("%s %s is about namespace %q, want %q alone", r.Verb, r.URI, r.Object.Namespace, namespaces)
		}
	}
}
