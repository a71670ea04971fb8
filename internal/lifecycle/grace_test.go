package lifecycle

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Told to stop, the program goes on answering for as long as KEDA may still be
// sent to it.
func TestAnswersLinger(t *testing.T) {
	const grace = 3 * time.Second
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		answering, stop := GraceContext(ctx, grace)
		defer stop()
		time.Sleep(time.Hour)
		end()
		ended := time.Now()
		synctest.Wait()
		if answering.Err() != nil {
			t.Fatal("answers end at once")
		}
		<-answering.Done()
		if after := time.Since(ended); after != grace {
			t.Errorf("answers end after %s, want %s", after, grace)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		answering, stop := GraceContext(ctx, grace)
		end()
		synctest.Wait()
		stop()
		if answering.Err() == nil {
			t.Error("answers go on although everything else has ended")
		}
	})
}
