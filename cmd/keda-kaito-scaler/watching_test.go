package main

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
)

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
		w := newWatching(2, logr.Discard())
		client := &http.Client{Transport: w.wrap(server)}
		watch := func(path string) {
			t.Helper()
			response, err := client.Get("http://api/apis/kaito.sh/v1beta1/" + path) //nolint:bodyclose // closed below, at its end
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
