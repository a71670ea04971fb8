package scaler

import "testing"

func TestReadinessIsNoUntilSomebodyKnows(t *testing.T) {
	var r Readiness
	if r.Ready() {
		t.Error("ready before anybody knows")
	}
	answer := false
	r.Set(func() bool { return answer })
	if r.Ready() {
		t.Error("ready against the answer")
	}
	answer = true
	if !r.Ready() {
		t.Error("not ready against the answer")
	}
}
