package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/rest"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/scaler"
	"github.com/kaito-project/keda-kaito-scaler/internal/scrape"
)

// Told to stop, the program goes on answering for as long as KEDA may still be
// sent to it.
func TestAnswersLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, tell := context.WithCancel(t.Context())
		answering, stop := lingering(ctx, drain)
		defer stop()
		time.Sleep(time.Hour)
		tell()
		told := time.Now()
		synctest.Wait()
		if answering.Err() != nil {
			t.Fatal("answers end at once")
		}
		<-answering.Done()
		if after := time.Since(told); after != drain {
			t.Errorf("answers end after %s, want %s", after, drain)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, tell := context.WithCancel(t.Context())
		answering, stop := lingering(ctx, drain)
		tell()
		synctest.Wait()
		stop()
		if answering.Err() == nil {
			t.Error("answers go on although everything else has ended")
		}
	})
}

// Whatever a manager is at when the program is told to stop, that is no failure.
func TestAStopWhileAManagerBeginsIsNoError(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stop()
		http.Error(w, "going away", http.StatusInternalServerError)
	}))
	defer api.Close()
	var lines []string
	log := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
	p := newProgram(defaults(), &rest.Config{Host: api.URL}, log)
	p.options.workingNamespace = "keda"
	reader := scrape.New(scrape.Config{})
	p.judges = scaler.NewJudges(reader, reader.Swept, log)
	p.watcher = kaito.NewWatcher(reader, p.judges)
	err := p.generations(ctx, cluster(map[time.Duration]func(*fakediscovery.FakeDiscovery) error{}), "v1beta1")
	if ctx.Err() == nil {
		t.Fatal("the API server was never asked")
	}
	if err != nil || len(lines) != 0 {
		t.Errorf("error %v, log %q; want neither", err, lines)
	}
}
