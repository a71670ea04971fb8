package lifecycle

import (
	"context"
	"time"
)

// GraceContext is a context that ends so long after another one, or when it is
// stopped.
func GraceContext(ctx context.Context, grace time.Duration) (_ context.Context, stop func()) {
	later, end := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-later.Done():
		case <-timer.C:
			end()
		}
	})
	return later, func() {
		unhook()
		end()
	}
}
