package ha

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// right is a verb on a resource, such as "patch keda.sh/scaledobjects".
type right string

func rightOf(verb, group, resource string) right {
	return right(strings.TrimSpace(verb + " " + strings.TrimPrefix(group+"/"+resource, "/")))
}

// everyonesGroups are of the rights that every account has: to ask who it is and
// what it may do.
var everyonesGroups = []string{"authentication.k8s.io", "authorization.k8s.io"}

// may lists what the scaler's account may do in a namespace, as the API server
// tells the account itself.
func may(t *testing.T, namespace string) map[right]bool {
	t.Helper()
	config := shared.Config()
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + stack.Namespace + ":" + stack.Account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + stack.Namespace, "system:authenticated"},
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	review, err := clients.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(), &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rights := map[right]bool{}
	for _, rule := range review.Status.ResourceRules {
		for _, group := range rule.APIGroups {
			if slices.Contains(everyonesGroups, group) {
				continue
			}
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					rights[rightOf(verb, group, resource)] = true
				}
			}
		}
	}
	return rights
}

// did lists what the scalers did so far, and what they have been refused since
// then: for a moment after its start an API server knows no rights and refuses
// everything, and another story restarts it.
func did(t *testing.T, since time.Time) (done map[right]bool, refused []string) {
	t.Helper()
	done = map[right]bool{}
	for _, r := range requests(t) {
		if r.Object.Resource == "" || slices.Contains(everyonesGroups, r.Object.Group) {
			continue
		}
		if r.Status.Code == 403 && r.Received.After(since) {
			refused = append(refused, r.Verb+" "+r.URI)
		}
		done[rightOf(r.Verb, r.Object.Group, r.Object.Resource)] = true
		if r.Verb == "patch" && r.Status.Code == 201 {
			// An apply of something new is a patch and a creation.
			done[rightOf("create", r.Object.Group, r.Object.Resource)] = true
		}
	}
	return done, refused
}

// streamed tells whether a right is one to list what was watched: this API
// server streams lists as watches do, older ones don't.
func streamed(r right, done map[right]bool) bool {
	resource, isList := strings.CutPrefix(string(r), "list ")
	return isList && done[right("watch "+resource)]
}

// Everything that the scaler does once: what the chart grants it is used, and it
// is refused nothing.
func TestEveryRightIsUsedAndNoneIsMissing(t *testing.T) {
	began := time.Now()
	s := newSite(t)
	remove(t, secrets...)
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: stack.Namespace, Name: "keda-kaito-scaler"}}
	authentications := &kedav1alpha1.ClusterTriggerAuthentication{ObjectMeta: metav1.ObjectMeta{Name: authentication}}
	for _, object := range []client.Object{lease, authentications} {
		if err := client.IgnoreNotFound(shared.Client.Delete(t.Context(), object)); err != nil {
			t.Fatal(err)
		}
	}
	f := newFleet(t, provided()) // which is guarded, so something is learned
	s.ready("a", "b")
	f.scaled()
	known := time.Now()
	// Somebody spoils a Secret and the ClusterTriggerAuthentication.
	write(t, certs.ServerSecret, certs.Data{"tls.crt": nil, "tls.key": nil})
	s.eventually("the Secret is right again", s.whole)
	eventually(t, patience, "the ClusterTriggerAuthentication is back", s.authenticationReturns())
	f.annotate("max-replicas", "6")
	eventually(t, patience, "the ScaledObject follows", func() error {
		so := f.scaledObject()
		if err := shared.Client.Get(t.Context(), f.NamespacedName, so); err != nil {
			return err
		}
		if so.Spec.MaxReplicaCount == nil || *so.Spec.MaxReplicaCount != 6 {
			return errors.New("it doesn't")
		}
		return nil
	})
	f.unreadableTwice()
	for _, pod := range shared.KAITO.Serving(f.Namespace, f.NamespacedName.Name) {
		pod.SetWaiting(14)
	}
	eventually(t, patience, "more replicas are desired", func() error {
		if n, err := f.desired(); err != nil || n < 3 {
			return fmt.Errorf("%d are desired, %w", n, err)
		}
		return nil
	})
	// Who leads writes down what it learned of the fleet in its end: the demand of a
	// whole minute by the clock, which the evaluation after it knows.
	const minute = 2*time.Minute + 2*decision.Interval
	eventually(t, minute+patience, "the fleet is known", func() error {
		if left := minute - time.Since(known); left > 0 {
			return fmt.Errorf("not for another %s", left)
		}
		return nil
	})
	s.stop(s.leader())
	s.leader()
	f.annotate("auto-provision", "false")
	eventually(t, patience, "the ScaledObject is withdrawn", func() error {
		if err := shared.Client.Get(t.Context(), f.NamespacedName, f.scaledObject()); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is still there: %w", err)
		}
		return nil
	})

	granted := may(t, stack.Namespace)
	elsewhere := may(t, f.Namespace)
	for _, own := range []right{"get secrets", "list secrets", "create coordination.k8s.io/leases"} {
		if !granted[own] || elsewhere[own] {
			t.Errorf("%s: in its own namespace %t, elsewhere %t: want there alone", own, granted[own], elsewhere[own])
		}
	}
	var unused []right
	eventually(t, patience, "the events are written", func() error {
		done, refused := did(t, began)
		if len(refused) > 0 {
			t.Fatalf("refused: %q", refused)
		}
		unused = nil
		for _, r := range slices.Sorted(maps.Keys(granted)) {
			if !done[r] && !streamed(r, done) {
				unused = append(unused, r)
			}
		}
		if len(unused) > 0 {
			return fmt.Errorf("granted, but not used: %q; used: %q", unused, slices.Sorted(maps.Keys(done)))
		}
		return nil
	})
	t.Logf("used: %q", slices.Sorted(maps.Keys(granted)))
}

// unreadableTwice makes the same events come twice: the second time they are counted
// on the first. The leader evaluates at its own pace, so its events are waited for.
func (f *fleet) unreadableTwice() {
	f.Helper()
	pod := shared.KAITO.Serving(f.Namespace, f.NamespacedName.Name)[0]
	for times := 1; times <= 2; times++ {
		for _, turn := range []struct {
			mode   vllm.Mode
			reason string
		}{{vllm.Garbage, "PodUnreadable"}, {vllm.Serving, "PodReadable"}} {
			if err := pod.SetMode(turn.mode); err != nil {
				f.Fatal(err)
			}
			eventually(f.T, patience, fmt.Sprintf("%s has come %d times", turn.reason, times), func() error {
				if n := f.events()[turn.reason]; n < times {
					return fmt.Errorf("it has come %d times", n)
				}
				return nil
			})
		}
	}
}

func (f *fleet) annotate(key, value string) {
	f.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"scaledobject.kaito.sh/%s":%q}}}`, key, value)
	if err := shared.Client.Patch(f.Context(), f.object(), client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		f.Fatal(err)
	}
}
