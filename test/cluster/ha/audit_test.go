package ha

import (
	"testing"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// requests are all that the scalers' account has made so far.
func requests(t *testing.T) []stack.Request {
	t.Helper()
	all, err := stack.Requests(audit)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
