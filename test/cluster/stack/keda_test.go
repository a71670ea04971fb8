package stack

import "testing"

// What KEDA's operator writes, shortened.
const (
	lostOnSecondTry = `2026-01-01T00:00:02Z	ERROR	scale_handler	error getting metric for trigger	{"error": "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing\""}` + "\n"
	lostSpec        = `2026-01-01T00:00:03Z	ERROR	scale_handler	error getting metric spec for the scaler	{"error": "got empty metric spec"}` + "\n"
	toldInWords     = `2026-01-01T00:00:04Z	ERROR	scale_handler	error getting metric for trigger	{"error": "rpc error: code = Unavailable desc = InferenceSet a/b: none of its pods can be read"}` + "\n"
	askedAgain      = `2026-01-01T00:00:05Z	ERROR	external_scaler	error	{"error": "rpc error: code = Unavailable desc = error reading from server: EOF"}` + "\n"
	noAPIServer     = `2026-01-01T00:00:06Z	ERROR	scale_handler	error getting metric for trigger	{"error": "Get \"https://127.0.0.1:1\": connection refused"}` + "\n"
)

func TestACallIsUnansweredWhenKEDAsSecondTryFailsToo(t *testing.T) {
	got := Unanswered(lostOnSecondTry + toldInWords + askedAgain + noAPIServer + lostSpec)
	if len(got) != 2 {
		t.Errorf("%d calls are unanswered, want the first and the last: %q", len(got), got)
	}
}
