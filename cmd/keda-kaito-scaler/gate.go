package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	// letIn and keepOut are how long the API server's word on a token counts:
	// Prometheus comes every 15 to 60 s, and somebody who was just given the
	// right shouldn't have to wait.
	letIn, keepOut = time.Minute, 10 * time.Second
	// reviewTimeout bounds the two questions to the API server.
	reviewTimeout = 5 * time.Second
	// maxTokens bounds what is remembered, whatever is sent.
	maxTokens = 128
)

// gate lets those at the metrics who may get /metrics, by Kubernetes' own
// authentication and authorisation. controller-runtime's filter does the same
// with k8s.io/apiserver, which would bring some 200 packages.
type gate struct {
	kubernetes kubernetes.Interface

	// mu guards known.
	mu    sync.Mutex
	known map[[sha256.Size]byte]verdict
}

// verdict is the answer to a token at a path.
type verdict struct {
	status int
	until  time.Time
}

// newGate implements metricsserver.Options.FilterProvider.
func newGate(config *rest.Config, client *http.Client) (metricsserver.Filter, error) {
	clients, err := kubernetes.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("make a client for reviews: %w", err)
	}
	return newGateOf(clients).filter, nil
}

func newGateOf(clients kubernetes.Interface) *gate {
	return &gate{kubernetes: clients, known: map[[sha256.Size]byte]verdict{}}
}

func (g *gate) filter(log logr.Logger, next http.Handler) (http.Handler, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := g.judge(r)
		if err != nil {
			log.Error(err, "can't ask the API server who may read metrics")
		}
		if status != http.StatusOK {
			http.Error(w, http.StatusText(status), status)
			return
		}
		next.ServeHTTP(w, r)
	}), nil
}

func (g *gate) judge(r *http.Request) (int, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		return http.StatusUnauthorized, nil
	}
	key := sha256.Sum256([]byte(r.URL.Path + "\x00" + token))
	now := time.Now()
	if v, ok := g.recall(key, now); ok {
		return v.status, nil
	}
	status, err := g.review(r.Context(), token, r.URL.Path)
	if err != nil {
		return http.StatusServiceUnavailable, err
	}
	v := verdict{status: status, until: now.Add(keepOut)}
	if status == http.StatusOK {
		v.until = now.Add(letIn)
	}
	g.remember(key, v)
	return status, nil
}

func (g *gate) recall(key [sha256.Size]byte, now time.Time) (verdict, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v, ok := g.known[key]
	return v, ok && now.Before(v.until)
}

func (g *gate) remember(key [sha256.Size]byte, v verdict) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.known) >= maxTokens {
		clear(g.known) // asking again costs less than choosing
	}
	g.known[key] = v
}

func (g *gate) review(ctx context.Context, token, path string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	who, err := g.kubernetes.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token},
	}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("review a token: %w", err)
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	user := who.Status.User
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for name, values := range user.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	may, err := g.kubernetes.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("review the access of %s: %w", user.Username, err)
	}
	if !may.Status.Allowed {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}
