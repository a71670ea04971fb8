package automatic

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// experienced is a world that was watched for a day and a half.
func experienced(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 4)
	for range 6 {
		w.plays(3*time.Hour, 30)
		w.plays(3*time.Hour, 20)
	}
	return w
}

func bytesOf(t *testing.T, s *Scaler) []byte {
	t.Helper()
	data, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAnotherProcessGoesOnWhereOneEnded(t *testing.T) {
	w := experienced(t)
	data := bytesOf(t, &w.scaler)
	if len(data) > 8<<10 {
		t.Errorf("%d bytes", len(data))
	}
	var after Scaler
	if err := after.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	if again := bytesOf(t, &after); !bytes.Equal(data, again) {
		t.Errorf("told again it is something else: %d bytes, then %d", len(data), len(again))
	}
	left := w.now
	before := w.plays(2*time.Minute, 20)
	// The same two minutes for the other.
	other := newWorld(t, 4)
	other.scaler, other.now, other.counts, other.fleet = after, left, w.counts, w.fleet
	now := other.plays(2*time.Minute, 20)
	if math.Abs(now.Need-before.Need) > .1 || now.Replicas != before.Replicas || now.ColdStart != before.ColdStart || now.Learning != before.Learning {
		t.Errorf("before: %s\nafter: %s", before.Reason, now.Reason)
	}
}

// A week of slots, each another value, is what the ConfigMaps have room for: 900 kB for
// each of eight, for 2 000 fleets.
func TestAStateIsSmall(t *testing.T) {
	s := experienced(t).scaler
	for i := range s.Demand.Slots {
		s.Demand.Slots[i] = float32(1 + math.Mod(math.Sin(float64(i))*1e4, .9))
	}
	if data := bytesOf(t, &s); len(data) > 3600 {
		t.Errorf("%d bytes", len(data))
	}
}

// A process that starts anew releases nothing on what it hasn't seen; one that was away
// for seconds goes on.
func TestARestartReleasesNothingThatWasNotSeen(t *testing.T) {
	for away, want := range map[time.Duration]int32{30 * time.Second: 3, time.Hour: 4} {
		w := newWorld(t, 4)
		w.plays(time.Hour, 8)
		data := bytesOf(t, &w.scaler)
		w.scaler = Scaler{}
		if err := w.scaler.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(away)
		if w.plays(2*time.Minute, 8); w.last.Replicas != want {
			t.Errorf("away for %s: %s", away, w.last.Reason)
		}
	}
}

// A standby takes over what the leader knows, and the other way round nothing.
func TestWhoHasKnownItForLessTakesOver(t *testing.T) {
	leader := experienced(t)
	young := newWorld(t, 4)
	young.now, young.fleet, young.counts = leader.now, leader.fleet, leader.counts
	young.plays(10*time.Minute, 20)
	known := bytesOf(t, &leader.scaler)
	leader.scaler.Merge(&young.scaler)
	if !bytes.Equal(known, bytesOf(t, &leader.scaler)) {
		t.Error("who has watched for days learned from who has for minutes")
	}
	var told Scaler
	if err := told.UnmarshalBinary(known); err != nil {
		t.Fatal(err)
	}
	watched := young.scaler.Watched
	young.scaler.Merge(&told)
	if young.scaler.Demand.First != leader.scaler.Demand.First || young.scaler.Model.Benchmark != leader.scaler.Model.Benchmark || young.scaler.Watched.After(watched) {
		t.Errorf("first minute %d, want %d", young.scaler.Demand.First, leader.scaler.Demand.First)
	}
}

func TestWhatIsNoStateIsRefused(t *testing.T) {
	good := bytesOf(t, &experienced(t).scaler)
	for why, data := range map[string][]byte{
		"it is of another version": append([]byte{4}, good[1:]...),
		"it can't be inflated":     good[:len(good)/2],
	} {
		s := Scaler{Seen: 1}
		if err := s.UnmarshalBinary(data); err == nil || !strings.HasPrefix(err.Error(), why) || s.Seen != 1 {
			t.Errorf("%v, want %s", err, why)
		}
	}
	if err := new(Scaler).UnmarshalBinary(nil); err == nil {
		t.Error("nothing is a state")
	}
}

// FuzzState reads what anybody may have written, and recommends by it.
func FuzzState(f *testing.F) {
	w := newWorld(&testing.T{}, 2)
	w.plays(time.Hour, 5)
	if data, err := w.scaler.MarshalBinary(); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Scaler
		if s.UnmarshalBinary(data) != nil {
			return
		}
		w := newWorld(t, 2)
		w.scaler, w.now = s, s.Evaluated
		if r := w.plays(3*time.Minute, 5); r.Replicas < 1 || r.Replicas > 20 {
			t.Fatalf("%d: %s", r.Replicas, r.Reason)
		}
	})
}

// Every exported field is of a kind that is written.
func TestEveryFieldIsWritten(t *testing.T) {
	var s, read Scaler
	c := codec{}
	c.value(reflect.ValueOf(&s).Elem())
	c = codec{data: c.data, reading: true}
	if c.value(reflect.ValueOf(&read).Elem()); c.wrong != "" || len(c.data) > 0 {
		t.Errorf("%q, %d bytes are left", c.wrong, len(c.data))
	}
}
