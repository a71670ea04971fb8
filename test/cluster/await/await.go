// Package await waits for what a real system does within some time.
package await

import (
	"testing"
	"time"
)

// interval is short beside what a control plane takes for anything.
const interval = 50 * time.Millisecond

// Until calls a condition until it returns nil, and fails the test with its last
// error after that time. It waits in a test's cleanup too, when t.Context has ended.
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
		time.Sleep(interval)
	}
}
