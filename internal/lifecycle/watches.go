package lifecycle

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// Watches keeps the watches of KAITO's objects and their pods alive, and knows
// whether InferenceSets are being watched. When the API server goes away, client-go
// tries again after growing pauses of up to a minute, in which it neither notices
// that the API server is back nor that the program is to stop, and meanwhile what
// is in the cache looks like news. So a request that can't be made waits here, and
// the streams are counted as they pass.
type Watches struct {
	// wanted is how many streams there are when all is well: one, or one for each
	// watched namespace.
	wanted int
	log    logr.Logger

	// mu guards what follows.
	mu   sync.Mutex
	open map[string]int // streams, by path
	lost time.Time      // since when there are fewer than wanted; zero while there are enough
}

// NewWatches are those of so many namespaces, 0 for all.
func NewWatches(namespaces int, log logr.Logger) *Watches {
	return &Watches{wanted: max(1, namespaces), log: log, open: map[string]int{}, lost: time.Now()}
}

// blindAfter is how long a stream may be away. The API server ends each after
// some minutes, and the next one begins within milliseconds.
const blindAfter = 3 * time.Second

// Blind is since when InferenceSets have not been watched; zero while they are.
func (w *Watches) Blind() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost.IsZero() || time.Since(w.lost) < blindAfter {
		return time.Time{}
	}
	return w.lost
}

func (w *Watches) add(path string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[path] += n
	if w.open[path] == 0 {
		delete(w.open, path)
	}
	switch enough := len(w.open) >= w.wanted; {
	case enough && !w.lost.IsZero():
		if away := time.Since(w.lost); away > blindAfter {
			w.log.Info("InferenceSets are watched", "after", away.Round(time.Millisecond).String())
		}
		w.lost = time.Time{}
	case !enough && w.lost.IsZero():
		w.lost = time.Now()
	}
}

// Wrap looks at what passes through a transport.
func (w *Watches) Wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if !isFleetRequest(request) {
			return next.RoundTrip(request)
		}
		response, err := retry(request, next)
		if err != nil || response.StatusCode != http.StatusOK || !isInferenceSetWatch(request) {
			return response, err
		}
		path := request.URL.Path
		w.add(path, 1)
		response.Body = &stream{ReadCloser: response.Body, ended: sync.OnceFunc(func() { w.add(path, -1) })}
		return response, nil
	})
}

// retryInterval is how long a request waits before it is made once more.
const retryInterval = time.Second

// refusalTimeout is how long an API server may refuse: one that has just begun knows no
// rights for a moment. Beyond that it is meant.
const refusalTimeout = 10 * time.Second

// retry makes a request until the API server answers it.
func retry(request *http.Request, next http.RoundTripper) (*http.Response, error) {
	var refused time.Time // first
	for {
		response, err := next.RoundTrip(request)
		switch {
		case err != nil:
		case response.StatusCode < http.StatusInternalServerError && response.StatusCode != http.StatusForbidden:
			return response, nil
		case refused.IsZero():
			refused = time.Now()
		case time.Since(refused) > refusalTimeout:
			return response, nil
		}
		timer := time.NewTimer(retryInterval)
		select {
		case <-request.Context().Done():
			timer.Stop()
			return response, err
		case <-timer.C:
		}
		if err == nil {
			_ = response.Body.Close()
		}
	}
}

// isFleetRequest tells a list or a watch of what fleets are made of. Nobody but the
// cache asks for these.
func isFleetRequest(request *http.Request) bool {
	if request.Method != http.MethodGet {
		return false
	}
	for _, resource := range []string{"/inferencesets", "/workspaces", "/pods"} {
		if strings.HasSuffix(request.URL.Path, resource) {
			return true
		}
	}
	return false
}

func isInferenceSetWatch(request *http.Request) bool {
	if !strings.HasSuffix(request.URL.Path, "/inferencesets") {
		return false
	}
	switch request.URL.Query().Get("watch") {
	case "true", "1":
		return true
	}
	return false
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// stream is a watch's body, which ends once: by an error, or closed.
type stream struct {
	io.ReadCloser
	ended func()
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil {
		s.ended()
	}
	return n, err
}

func (s *stream) Close() error {
	s.ended()
	return s.ReadCloser.Close()
}
