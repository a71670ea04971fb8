package ports

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/singleflight"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
)

const (
	// allowedFor and refusedFor are how long the API server's word on a token
	// counts: Prometheus comes every 15 to 60 s, and somebody who was just given
	// the right shouldn't have to wait.
	allowedFor, refusedFor = time.Minute, 10 * time.Second
	// knownFor is how long a token that was let in is reviewed before others.
	knownFor = time.Hour
	// reviewTimeout bounds the two questions to the API server.
	reviewTimeout = 5 * time.Second
	// perClient is the least time between two reviews of tokens that were never
	// let in, of one client.
	perClient = time.Second
	// maxReviews bounds how many of those are under review at once.
	maxReviews = 4
	// reviewQPS and reviewBurst are two requests for each review: of Prometheus'
	// token, and of those of at most four strangers a second.
	reviewQPS, reviewBurst = 10, 20
	// maxTokens and maxClients bound what is remembered, whatever is sent.
	maxTokens, maxClients = 128, 128
)

// Authorizer lets those read metrics who may get /metrics, by Kubernetes' own
// authentication and authorization. controller-runtime's filter does the same
// with k8s.io/apiserver, asks for every token that it doesn't know, and brings
// hundreds of packages.
type Authorizer struct {
	// review asks the API server: 200, 401 or 403.
	review  func(ctx context.Context, bearer string) (int, error)
	log     logr.Logger
	flights singleflight.Group

	// mu guards what follows.
	mu sync.Mutex
	// allowed and refused are kept apart: a flood of unknown tokens must not take
	// the place of a known one.
	allowed, refused map[token]answer
	// asked is when a client's token was last reviewed, of those never let in.
	asked   map[netip.Addr]time.Time
	reviews int
	// failure is the API server's newest, logged when it changes.
	failure string
}

// token is a digest, so that no secret stays in memory.
type token [sha256.Size]byte

// answer is the API server's to a token.
type answer struct {
	status int
	until  time.Time
}

// NewAuthorizer makes an Authorizer with a rate of its own at the API server, so
// that nobody's tokens take that of the scaler's writes.
func NewAuthorizer(config *rest.Config, log logr.Logger) (*Authorizer, error) {
	own := rest.CopyConfig(config)
	own.QPS, own.Burst, own.RateLimiter = reviewQPS, reviewBurst, nil
	authentication, err := authenticationclient.NewForConfig(own)
	if err != nil {
		return nil, fmt.Errorf("make a client for reviews: %w", err)
	}
	authorization, err := authorizationclient.NewForConfig(own)
	if err != nil {
		return nil, fmt.Errorf("make a client for reviews: %w", err)
	}
	return newAuthorizer(reviewer{authentication.TokenReviews(), authorization.SubjectAccessReviews()}.review, log), nil
}

func newAuthorizer(review func(context.Context, string) (int, error), log logr.Logger) *Authorizer {
	return &Authorizer{
		review: review, log: log,
		allowed: map[token]answer{}, refused: map[token]answer{}, asked: map[netip.Addr]time.Time{},
	}
}

// Handler is next for those who may read metrics.
func (a *Authorizer) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := a.status(r.Context(), r)
		switch status {
		case http.StatusOK:
			next.ServeHTTP(w, r)
			return
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", "1")
		}
		http.Error(w, http.StatusText(status), status)
	})
}

func (a *Authorizer) status(ctx context.Context, r *http.Request) int {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || bearer == "" {
		return http.StatusUnauthorized
	}
	key := token(sha256.Sum256([]byte(bearer)))
	if status, known := a.cached(key); known {
		return status
	}
	// All who show the same token wait for the same review, which doesn't end
	// because one of them leaves.
	status, _, _ := a.flights.Do(string(key[:]), func() (any, error) {
		return a.ask(context.WithoutCancel(ctx), key, bearer, clientOf(r)), nil
	})
	return status.(int)
}

func clientOf(r *http.Request) netip.Addr {
	at, _ := netip.ParseAddrPort(r.RemoteAddr)
	return at.Addr().Unmap()
}

func (a *Authorizer) cached(key token) (status int, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, answers := range []map[token]answer{a.allowed, a.refused} {
		if got, ok := answers[key]; ok && now.Before(got.until) {
			return got.status, true
		}
	}
	return 0, false
}

// ask reviews a token if its turn has come.
func (a *Authorizer) ask(ctx context.Context, key token, bearer string, client netip.Addr) int {
	wasAllowed, status := a.admit(key, client)
	if status != http.StatusOK {
		return status
	}
	status, err := a.review(ctx, bearer)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !wasAllowed {
		a.reviews--
	}
	a.report(err)
	if err != nil {
		return http.StatusServiceUnavailable
	}
	now := time.Now()
	if status == http.StatusOK {
		a.allowed[key] = answer{status, now.Add(allowedFor)}
		prune(a.allowed, maxTokens, answer.expiry)
		return status
	}
	delete(a.allowed, key)
	a.refused[key] = answer{status, now.Add(refusedFor)}
	prune(a.refused, maxTokens, answer.expiry)
	return status
}

func (a answer) expiry() time.Time { return a.until }

// admit tells whether a token may be reviewed now: 200, or what to answer
// instead. A token that was let in before is familiar, and always may.
func (a *Authorizer) admit(key token, client netip.Addr) (wasAllowed bool, status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if got, known := a.allowed[key]; known && now.Before(got.until.Add(knownFor)) {
		return true, http.StatusOK
	}
	if now.Sub(a.asked[client]) < perClient {
		return false, http.StatusTooManyRequests
	}
	if a.reviews >= maxReviews {
		return false, http.StatusServiceUnavailable
	}
	a.reviews++
	a.asked[client] = now
	prune(a.asked, maxClients, func(at time.Time) time.Time { return at })
	return false, http.StatusOK
}

// prune deletes the oldest of what there is too much of.
func prune[K comparable, V any](m map[K]V, limit int, at func(V) time.Time) {
	if len(m) <= limit {
		return
	}
	oldest := slices.MinFunc(slices.Collect(maps.Keys(m)), func(x, y K) int {
		return cmp.Compare(at(m[x]).UnixNano(), at(m[y]).UnixNano())
	})
	delete(m, oldest)
}

// report logs an error that wasn't there the last time. It needs mu.
func (a *Authorizer) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != a.failure {
		a.log.Error(err, "can't ask the API server who may read metrics")
	}
	a.failure = text
}

// reviewer asks Kubernetes who somebody is, and what they may.
type reviewer struct {
	tokens   authenticationclient.TokenReviewInterface
	accesses authorizationclient.SubjectAccessReviewInterface
}

func (r reviewer) review(ctx context.Context, bearer string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	who, err := r.tokens.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: bearer},
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
	may, err := r.accesses.Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: metricsPath, Verb: "get"},
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

const metricsPath = "/metrics"
