package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// doorkeeper is an API server that knows two tokens, of which one may read
// metrics.
type doorkeeper struct {
	reviews int
	down    error
}

func (d *doorkeeper) gate() *gate {
	clients := &fake.Clientset{}
	clients.AddReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		d.reviews++
		review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		if token := review.Spec.Token; token == "prometheus" || token == "passer-by" {
			review.Status.Authenticated = true
			review.Status.User = authenticationv1.UserInfo{Username: token, Groups: []string{"g"}}
		}
		return true, review, d.down
	})
	clients.AddReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		asked := review.Spec.NonResourceAttributes
		review.Status.Allowed = review.Spec.User == "prometheus" && asked.Path == "/metrics" && asked.Verb == "get"
		return true, review, nil
	})
	return newGateOf(clients)
}

func TestMetricsAreForThoseWhoMayGetThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doorkeeper{}
		handler, err := d.gate().filter(logr.Discard(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, "metrics")
		}))
		if err != nil {
			t.Fatal(err)
		}
		get := func(authorization string, want, wantReviews int) {
			t.Helper()
			d.reviews = 0
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
			request.Header.Set("Authorization", authorization)
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, request)
			if answer.Code != want || d.reviews != wantReviews {
				t.Errorf("%q: got %d after %d reviews, want %d after %d", authorization, answer.Code, d.reviews, want, wantReviews)
			}
			if shown := answer.Body.String() == "metrics"; shown != (want == http.StatusOK) {
				t.Errorf("%q: shown %q", authorization, answer.Body)
			}
		}
		get("", http.StatusUnauthorized, 0)
		get("Basic cHJvbWV0aGV1cw==", http.StatusUnauthorized, 0)
		get("Bearer stranger", http.StatusUnauthorized, 1)
		get("Bearer passer-by", http.StatusForbidden, 1)
		get("Bearer prometheus", http.StatusOK, 1)
		get("Bearer prometheus", http.StatusOK, 0)
		get("Bearer passer-by", http.StatusForbidden, 0)
		time.Sleep(keepOut)
		get("Bearer passer-by", http.StatusForbidden, 1)
		time.Sleep(letIn)
		d.down = errors.New("the API server is away")
		get("Bearer prometheus", http.StatusServiceUnavailable, 1)
		d.down = nil
		get("Bearer prometheus", http.StatusOK, 1)
		for i := range 3 * maxTokens {
			get(fmt.Sprintf("Bearer %d", i), http.StatusUnauthorized, 1)
		}
	})
}

func TestWhatTheGateRemembersIsBounded(t *testing.T) {
	g := (&doorkeeper{}).gate()
	for i := range 3 * maxTokens {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
		request.Header.Set("Authorization", fmt.Sprintf("Bearer %d", i))
		if _, err := g.judge(request); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(g.known); n > maxTokens {
		t.Errorf("remembers %d tokens, want %d at most", n, maxTokens)
	}
}
