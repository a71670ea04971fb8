package ports

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
)

func insecure() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true}
}

// apiServer knows two tokens, of which one may read metrics.
type apiServer struct {
	mu      sync.Mutex
	reviews int
	down    error
	// hangs, if set, is how long a review takes.
	hangs time.Duration
	lines int
	// rightless is set once nobody may do anything.
	rightless bool
}

func (s *apiServer) authorizer() *Authorizer {
	return newAuthorizer(s.review, funcr.New(func(string, string) { s.lines++ }, funcr.Options{}))
}

func (s *apiServer) review(ctx context.Context, bearer string) (int, error) {
	s.mu.Lock()
	s.reviews++
	hangs := s.hangs
	s.mu.Unlock()
	time.Sleep(hangs)
	if s.down != nil {
		return 0, s.down
	}
	return reviewer{s.clients().AuthenticationV1().TokenReviews(), s.clients().AuthorizationV1().SubjectAccessReviews()}.review(ctx, bearer)
}

func (s *apiServer) clients() *fake.Clientset {
	clients := &fake.Clientset{}
	clients.AddReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		if token := review.Spec.Token; token == "prometheus" || token == "passer-by" {
			review.Status.Authenticated = true
			review.Status.User = authenticationv1.UserInfo{Username: token, Groups: []string{"g"}}
		}
		return true, review, nil
	})
	clients.AddReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		asked := review.Spec.NonResourceAttributes
		review.Status.Allowed = !s.rightless && review.Spec.User == "prometheus" && asked.Path == "/metrics" && asked.Verb == "get"
		return true, review, nil
	})
	return clients
}

// show shows a token from an address.
func show(ctx context.Context, handler http.Handler, client, authorization string) *httptest.ResponseRecorder {
	request := httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
	request.Header.Set("Authorization", authorization)
	request.RemoteAddr = net.JoinHostPort(client, "12345")
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	return answer
}

// metrics is what is to be read.
func metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") })
}

func TestMetricsAreForThoseWhoMayGetThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{}
		handler := s.authorizer().Handler(metrics())
		get := func(authorization string, want, wantReviews int) {
			t.Helper()
			s.reviews = 0
			time.Sleep(perClient)
			answer := show(t.Context(), handler, "10.0.0.1", authorization)
			if answer.Code != want || s.reviews != wantReviews {
				t.Errorf("%q: got %d after %d reviews, want %d after %d", authorization, answer.Code, s.reviews, want, wantReviews)
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
		time.Sleep(refusedFor)
		get("Bearer passer-by", http.StatusForbidden, 1)
		time.Sleep(allowedFor)
		s.down = errors.New("the API server is away")
		for range 3 {
			get("Bearer prometheus", http.StatusServiceUnavailable, 1)
		}
		if s.lines != 1 {
			t.Errorf("the API server's failure is told %d times, want once", s.lines)
		}
		s.down = nil
		get("Bearer prometheus", http.StatusOK, 1)
		for i := range 3 * maxTokens {
			get(fmt.Sprintf("Bearer %d", i), http.StatusUnauthorized, 1)
		}
	})
}

// Whatever a stranger shows, Prometheus reads, and the API server is asked little.
func TestAFloodOfTokensKeepsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{hangs: 100 * time.Millisecond}
		a := s.authorizer()
		handler := a.Handler(metrics())
		prometheus := func(client string) {
			t.Helper()
			if got := show(t.Context(), handler, client, "Bearer prometheus").Code; got != http.StatusOK {
				t.Errorf("after %d reviews Prometheus gets %d, want 200", s.reviews, got)
			}
		}
		prometheus("10.0.0.1")
		began, shown := time.Now(), 0
		for time.Since(began) < 10*time.Minute {
			for range 100 {
				shown++
				answer := show(t.Context(), handler, "10.0.0.66", fmt.Sprintf("Bearer %d", shown))
				if got := answer.Code; got != http.StatusUnauthorized && got != http.StatusTooManyRequests {
					t.Fatalf("a stranger gets %d, want 401 or 429", got)
				}
			}
			time.Sleep(15 * time.Second)
			prometheus("10.0.0.1")
		}
		// One each 15 s of the stranger's, one a minute of Prometheus'.
		if s.reviews > 60 {
			t.Errorf("%d reviews for %d tokens in 10 min, want 60 at most", s.reviews, shown)
		}
		if n := len(a.refused); n > maxTokens {
			t.Errorf("remembers %d tokens, want %d at most", n, maxTokens)
		}
	})
}

// Strangers at many addresses share four reviews at once; a token that was let in
// before is reviewed beside them.
func TestAFloodFromEverywhereIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{}
		a := s.authorizer()
		handler := a.Handler(metrics())
		if got := show(t.Context(), handler, "10.0.0.1", "Bearer prometheus").Code; got != http.StatusOK {
			t.Fatal(got)
		}
		time.Sleep(allowedFor)
		s.reviews, s.hangs = 0, reviewTimeout
		var strangers sync.WaitGroup
		answers := make([]int, 1000)
		for i := range answers {
			strangers.Go(func() {
				answers[i] = show(t.Context(), handler, fmt.Sprintf("10.1.%d.%d", i/250, i%250), fmt.Sprintf("Bearer %d", i)).Code
			})
		}
		synctest.Wait()
		if s.reviews != maxReviews {
			t.Errorf("%d reviews at once, want %d", s.reviews, maxReviews)
		}
		if got := show(t.Context(), handler, "10.0.0.1", "Bearer prometheus").Code; got != http.StatusOK {
			t.Errorf("Prometheus gets %d, want 200", got)
		}
		strangers.Wait()
		refused := 0
		for _, got := range answers {
			if got == http.StatusServiceUnavailable {
				refused++
			}
		}
		if want := len(answers) - maxReviews; refused != want {
			t.Errorf("%d strangers were told to come later, want %d", refused, want)
		}
		if n := len(a.asked); n > maxClients {
			t.Errorf("remembers %d clients, want %d at most", n, maxClients)
		}
	})
}

func TestATokenIsReviewedOnceForAllWhoShowIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{hangs: time.Second}
		handler := s.authorizer().Handler(metrics())
		left, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { show(left, handler, "10.0.0.1", "Bearer prometheus") })
		synctest.Wait()
		leave() // and the others don't suffer for it
		for range 10 {
			all.Go(func() {
				if got := show(t.Context(), handler, "10.0.0.1", "Bearer prometheus").Code; got != http.StatusOK {
					t.Errorf("got %d, want 200", got)
				}
			})
		}
		all.Wait()
		if s.reviews != 1 {
			t.Errorf("%d reviews, want 1", s.reviews)
		}
	})
}

func TestATokenThatLostItsRightsIsKeptOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{}
		a := s.authorizer()
		handler := a.Handler(metrics())
		show(t.Context(), handler, "10.0.0.1", "Bearer prometheus")
		time.Sleep(allowedFor)
		s.rightless = true
		if got := show(t.Context(), handler, "10.0.0.1", "Bearer prometheus").Code; got != http.StatusForbidden {
			t.Errorf("got %d, want 403", got)
		}
		if len(a.allowed) != 0 {
			t.Error("it is still familiar")
		}
	})
}

func TestReviewsHaveARateOfTheirOwn(t *testing.T) {
	config := &rest.Config{Host: "https://api.example.com:6443", QPS: 50, Burst: 100}
	if _, err := NewAuthorizer(config, funcr.New(func(string, string) {}, funcr.Options{})); err != nil {
		t.Fatal(err)
	}
	if config.QPS != 50 {
		t.Errorf("everybody's rate is %g", config.QPS)
	}
	if _, err := NewAuthorizer(&rest.Config{Host: "://"}, funcr.New(func(string, string) {}, funcr.Options{})); err == nil {
		t.Error("no error for an address that is none")
	}
}

func TestOverTLSPrometheusIsAnsweredWhateverStrangersDo(t *testing.T) {
	s := &apiServer{}
	address, scrape := startMetrics(t, newRegistry(10), s.authorizer())
	var dialer net.Dialer
	before := taken()
	for i := range 500 {
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			continue // closed in favour of another one already
		}
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}) // and no more
		if i%50 == 0 {
			if _, err := scrape(t.Context()); err != nil {
				t.Fatalf("after %d connections Prometheus gets %v", i, err)
			}
		}
	}
	if after := taken(); after > before+16<<20 {
		t.Errorf("takes %d KB", (after-before)>>10)
	}
}
