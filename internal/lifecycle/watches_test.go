package lifecycle

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
)

// refusing is an API server that is away, then knows no rights, then answers.
type refusing struct {
	back, ready time.Time
	asked       int
}

func (r *refusing) RoundTrip(*http.Request) (*http.Response, error) {
	r.asked++
	switch now := time.Now(); {
	case now.Before(r.back):
		return nil, errors.New("connect: connection refused")
	case now.Before(r.ready):
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody}, nil
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

func TestAWatchBeginsAsSoonAsTheAPIServerIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		server := &refusing{back: began.Add(10 * time.Minute), ready: began.Add(10*time.Minute + 2*time.Second)}
		client := &http.Client{Transport: NewWatches(0, logr.Discard()).Wrap(server)}
		get := func(ctx context.Context, path string) (int, time.Duration) {
			t.Helper()
			since := time.Now()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://api/"+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(request)
			if err != nil {
				return 0, time.Since(since)
			}
			_ = response.Body.Close()
			return response.StatusCode, time.Since(since)
		}
		if status, took := get(t.Context(), "api/v1/namespaces/keda/secrets/mine"); status != 0 || took > 0 {
			t.Errorf("a Secret: status %d after %s, want the error at once", status, took)
		}
		stopping, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer stop()
		if _, took := get(stopping, "api/v1/pods?watch=true"); took > time.Second {
			t.Errorf("told to stop, a watch of pods ended after %s", took)
		}
		if status, took := get(t.Context(), "api/v1/pods?watch=true"); status != http.StatusOK || took > 10*time.Minute+3*time.Second {
			t.Errorf("pods: status %d after %s, want 200 within a second of the API server's return", status, took)
		}
		server.ready = time.Now().Add(time.Hour) // no rights, and that is meant
		if status, took := get(t.Context(), "apis/kaito.sh/v1beta1/workspaces"); status != http.StatusForbidden || took > refusalTimeout+2*retryInterval {
			t.Errorf("without rights: status %d after %s, want 403 soon", status, took)
		}
	})
}

// streaming is an API server whose watches end when it is told so.
type streaming struct{ ends []*io.PipeWriter }

func (s *streaming) RoundTrip(*http.Request) (*http.Response, error) {
	body, end := io.Pipe()
	s.ends = append(s.ends, end)
	return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
}

func (s *streaming) restart() {
	for _, end := range s.ends {
		_ = end.CloseWithError(errors.New("connection reset by peer"))
	}
	s.ends = nil
}

func TestWhoWatchesNoInferenceSetsKnowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &streaming{}
		w := NewWatches(2, logr.Discard())
		client := &http.Client{Transport: w.Wrap(server)}
		watch := func(path string) {
			t.Helper()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://api/apis/kaito.sh/v1beta1/"+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(request) //nolint:bodyclose // closed below, at its end
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}()
		}
		want := func(why string, blind bool) {
			t.Helper()
			time.Sleep(blindAfter) // of the bubble's clock
			if got := !w.Blind().IsZero(); got != blind {
				t.Errorf("%s: blind %t, want %t", why, got, blind)
			}
		}
		want("before any watch", true)
		watch("namespaces/a/inferencesets?watch=true")
		watch("namespaces/a/workspaces?watch=true")
		want("one of two namespaces is watched", true)
		watch("namespaces/b/inferencesets?watch=1")
		want("both are", false)
		server.restart()
		synctest.Wait()
		if !w.Blind().IsZero() {
			t.Error("blind in the moment between two watches")
		}
		want("the API server has restarted", true)
		watch("namespaces/a/inferencesets?watch=true")
		watch("namespaces/b/inferencesets") // a list
		want("a list is no watch", true)
		watch("namespaces/b/inferencesets?watch=true")
		want("both are watched again", false)
		server.restart()
	})
}
