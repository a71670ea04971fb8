// Package await waits for what a real system does within some time.
package await

import (
	"context"
	"testing"
	"time"
)

// interval is short beside what a control plane takes for anything.
const interval = 50 * time.Millisecond

// Until calls a condition until it returns nil, and fails the test with its last
// error after that time.
func Until(t *testing.T, within time.Duration, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		Pause(t, interval)
	}
}

// Pause lets the real system go on for so long.
func Pause(t *testing.T, d time.Duration) {
	t.Helper()
	if err := pause(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
