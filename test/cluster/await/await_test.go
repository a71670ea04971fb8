package await

import (
	"errors"
	"testing"
	"time"
)

// What a test deletes in its cleanup is gone a little later, when the test's context
// has ended.
func TestAWaitGoesOnInACleanup(t *testing.T) {
	asked := 0
	t.Run("a test", func(t *testing.T) {
		t.Cleanup(func() {
			Until(t, time.Minute, "the third time", func() error {
				if asked++; asked < 3 {
					return errors.New("not yet")
				}
				return nil
			})
		})
	})
	if asked != 3 {
		t.Errorf("asked %d times", asked)
	}
}
