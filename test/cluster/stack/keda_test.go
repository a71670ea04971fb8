package stack

import (
	"testing"
	"time"
)

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

func TestFailuresOfOneMoveAreOneMissedPoll(t *testing.T) {
	at := func(seconds ...float64) []time.Time {
		var times []time.Time
		for _, s := range seconds {
			times = append(times, time.Unix(0, int64(s*1e9)))
		}
		return times
	}
	for _, tt := range []struct {
		failures []time.Time
		want     int
	}{
		{nil, 0},
		{at(1), 1},
		{at(1, 1.2, 1.4, 1.6), 1},
		{at(1, 3, 5.9), 1},
		{at(1, 3, 5, 7), 2}, // nobody answers for six seconds
		{at(1, 60), 2},
	} {
		if got := Missed(tt.failures); got != tt.want {
			t.Errorf("%v: %d polls missed, want %d", tt.failures, got, tt.want)
		}
	}
	lines := []string{"2026-11-27T13:51:45Z\tERROR\tx", "2026-11-27T13:51:47Z\tERROR\ty", "no time"}
	if got := Times(lines); len(got) != 2 || got[1].Sub(got[0]) != 2*time.Second {
		t.Errorf("times %v", got)
	}
}
