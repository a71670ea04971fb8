package ha

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
)

// The clock of the scalers' machine is set an hour ahead, and back again: no
// call fails, nothing moves, windows go on, no certificate is made anew, and
// nobody is taken for overdue.
func TestAClockThatJumpsDoesNoHarm(t *testing.T) {
	binary, err := controlplane.BuildJumpyScaler(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "--connection-age=3s") // so that KEDA asks both
	s.binary = binary
	f, slow := newFleet(t, provided()), newFleet(t, windowed())
	slow.busy()
	s.ready("a", "b")
	f.scaled()
	leader := s.leader()
	slow.windowFull(s)
	var ours []*polls
	for _, scaler := range s.scalers {
		ours = append(ours, f.holding(scaler.GRPC, 500*time.Millisecond))
	}
	ends := []func(){f.still(), slow.still()}
	versions := secretVersions(t)
	answered := map[string]int{}
	for name, scaler := range s.scalers {
		answered[name] = len(slow.answers(scaler))
	}

	for _, jump := range []struct {
		signal syscall.Signal
		ahead  time.Duration
	}{{syscall.SIGUSR1, time.Hour}, {syscall.SIGUSR2, 0}} {
		for name, scaler := range s.scalers {
			process, err := os.FindProcess(scaler.PID())
			if err != nil {
				t.Fatal(err)
			}
			if err := process.Signal(jump.signal); err != nil {
				t.Fatal(err)
			}
			eventually(t, patience, fmt.Sprintf("the clock of %s is %s ahead", name, jump.ahead), func() error {
				return f.wantClock(scaler.Metrics, jump.ahead)
			})
		}
		pause(t, 65*time.Second) // certificates are looked at every minute
	}

	for _, end := range ends {
		end()
	}
	for _, p := range ours {
		p.stop()
		p.wantPolls(t, "a client through both jumps", 100, 0)
	}
	for name, scaler := range s.scalers {
		since := slow.answers(scaler)[answered[name]:]
		t.Logf("%s answered %d times about windows", name, len(since))
		if len(since) < 20 {
			t.Errorf("%s answered %d times about windows, want KEDA to ask both", name, len(since))
		}
		for _, a := range since {
			if a.Confidence != "measured" || a.Value != 2 {
				t.Errorf("%s answered %+v, want two replicas from its windows", name, a)
			}
		}
	}
	if after := secretVersions(t); !slices.Equal(versions, after) {
		t.Errorf("the Secrets were written: from %v to %v", versions, after)
	}
	if now := s.leader(); now != leader {
		t.Errorf("%s leads, and %s did before the jumps", now, leader)
	}
	f.wantFewEvents()
	slow.wantFewEvents()
}

func secretVersions(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, name := range secrets {
		all = append(all, secret(t, name).ResourceVersion)
	}
	return all
}

var lastAnswer = regexp.MustCompile(`(?m)^keda_kaito_scaler_last_answer_timestamp_seconds\{.*namespace="([^"]+)".*\} (\S+)$`)

// wantClock reads a scaler's clock from what it says of its last answer.
func (f *fleet) wantClock(metrics string, ahead time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metrics+"/metrics", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	page, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	for _, match := range lastAnswer.FindAllSubmatch(page, -1) {
		if string(match[1]) != f.Namespace {
			continue
		}
		seconds, err := strconv.ParseFloat(string(match[2]), 64)
		if err != nil {
			return err
		}
		off := time.Until(time.Unix(int64(seconds), 0)) - ahead
		if off.Abs() > 10*time.Second {
			return fmt.Errorf("it is off by %s", off.Round(time.Second))
		}
		return nil
	}
	return errors.New("no answer was measured")
}
