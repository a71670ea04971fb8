package decision

import (
	"bytes"
	"compress/flate"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// experienced is a mind that has watched two replicas for an hour and a half,
// with the fleet as it is then.
func experienced(t require) (*Scaler, sample.Fleet, time.Time) {
	t.Helper()
	var m Scaler
	const long = 90 * time.Minute
	busy, idle := worksAt(9), worksAt(4)
	busy.Ordered, busy.ReadySince = t0.Add(-4*time.Minute), t0.Add(time.Minute)
	f := thinks(&m, saturates(), 0, long, 2, busy, idle)
	return &m, f, t0.Add(long)
}

// require is a test or one draw of a property.
type require interface {
	Helper()
	Fatalf(format string, args ...any)
}

func TestAMindRemembersAcrossProcesses(t *testing.T) {
	before, f, now := experienced(t)
	memory := before.Memory()
	t.Logf("%d bytes", len(memory))
	if len(memory) == 0 || len(memory) > 8<<10 {
		t.Fatalf("a memory of %d bytes", len(memory))
	}
	after, err := Recall(memory, now.Add(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if began, at := after.Since(); !began.Equal(before.learned.Began) || !at.Equal(before.learned.At) {
		t.Errorf("it is remembered as of %v to %v", began, at)
	}
	later := now.Add(15 * time.Second)
	was, is := before.Recommend(saturates(), f, later), after.Recommend(saturates(), f, later)
	if is.Load == nil || math.Abs(is.Load.Need-was.Load.Need) > .02 || math.Abs(is.Load.Demand-was.Load.Demand) > .02 ||
		is.Load.ColdStart != was.Load.ColdStart || is.Load.Learning != was.Load.Learning {
		t.Errorf("before: %s\nafter: %s\n%+v, %+v", was.Reason, is.Reason, was.Load, is.Load)
	}
}

// Two minds that read the same pods, one of which began later: with the other's
// memory they agree.
func TestAStandbyAdoptsWhatTheLeaderKnows(t *testing.T) {
	leader, f, now := experienced(t)
	standby := &Scaler{}
	thinks(standby, saturates(), 88*time.Minute, 90*time.Minute, 2, worksAt(9), worksAt(4))
	recalled, err := Recall(leader.Memory(), now)
	if err != nil {
		t.Fatal(err)
	}
	standby.Merge(recalled)
	later := now.Add(Interval)
	l, s := leader.Recommend(saturates(), f, later), standby.Recommend(saturates(), f, later)
	if l.Value != s.Value || math.Abs(l.Load.Need-s.Load.Need) > .02 {
		t.Errorf("leader: %s\nstandby: %s", l.Reason, s.Reason)
	}
	// One that knows less has nothing to tell.
	young := &Scaler{}
	thinks(young, saturates(), 89*time.Minute, 90*time.Minute, 2, worksAt(9), worksAt(4))
	known := leader.learned
	leader.Merge(young)
	if leader.learned != known {
		t.Error("who has watched for an hour learned from who has for a minute")
	}
}

// After a gap nothing is released before a whole window was seen; after a
// restart of seconds it is as if there had been none.
func TestARestartReleasesNothingOnWhatItDidNotSee(t *testing.T) {
	workers := func() []*worker { return []*worker{worksAt(1), worksAt(1), worksAt(1), worksAt(1)} }
	var m Scaler
	thinks(&m, saturates(), 0, 30*time.Minute, 4, workers()...)
	for _, tt := range []struct {
		gap  time.Duration
		want float64
	}{{10 * time.Second, 3}, {5 * time.Minute, 4}, {30 * time.Hour, 4}} {
		began := 30*time.Minute + tt.gap
		after, err := Recall(m.Memory(), t0.Add(began))
		if err != nil {
			t.Fatal(err)
		}
		f := thinks(after, saturates(), began, began+time.Minute, 4, workers()...)
		if v := after.Answer(saturates(), f, t0.Add(began+time.Minute)); v.Value != tt.want {
			t.Errorf("a minute after a gap of %v: %v, want %v: %s", tt.gap, v.Value, tt.want, v.Reason)
		}
	}
}

// A gap doesn't look like a surge at its end.
func TestAGapIsNoSurge(t *testing.T) {
	var m Scaler
	thinks(&m, saturates(), 0, time.Hour, 2, worksAt(7), worksAt(7))
	for _, gap := range []time.Duration{5 * time.Minute, 10 * time.Minute, 40 * time.Minute} {
		began := time.Hour + gap
		after, err := Recall(m.Memory(), t0.Add(began))
		if err != nil {
			t.Fatal(err)
		}
		f := thinks(after, saturates(), began, began+3*time.Minute, 2, worksAt(7), worksAt(7))
		if v := after.Answer(saturates(), f, t0.Add(began+3*time.Minute)); v.Value != 2 {
			t.Errorf("after a gap of %v: %s", gap, v.Reason)
		}
	}
}

func TestWhatNobodyLearnedIsNotRecalled(t *testing.T) {
	m, _, now := experienced(t)
	good := m.Memory()
	edit := func(change func([]byte) []byte) []byte {
		fields, err := unpack(good)
		if err != nil {
			t.Fatal(err)
		}
		return packAnew(change(fields))
	}
	for _, tt := range []struct {
		story  string
		memory []byte
		why    string
	}{
		{"nothing", nil, "it is of another version"},
		{"text", []byte("learned"), "it is of another version"},
		{"of a later version", append([]byte{memoryVersion + 2}, good[1:]...), "it is of another version"},
		{"damaged", append([]byte{memoryVersion}, "learned"...), "it can't be inflated"},
		{"cut off", good[:len(good)/2], "it can't be inflated"},
		{"of fewer fields", edit(func(b []byte) []byte { return b[:len(b)-1] }), "it is cut off"},
		{"of more fields", edit(func(b []byte) []byte { return append(b, 0) }), "it has 1 bytes too many"},
		{"of zeros for ever", packAnew(make([]byte, 1<<24)), "it has"},
		{"of the year 36 000", edit(func(b []byte) []byte { b[0] = 1; return b }), "it has a time of"},
		{"of tomorrow", edit(func(b []byte) []byte { b[12]++; return b }), "its times make no sense, or lie ahead of this clock"},
		{"of no number", edit(func(b []byte) []byte { copy(b[80:], []byte{0x7f, 0xff, 0xff, 0xff}); return b }), "it has an amount of NaN"},
	} {
		if _, err := Recall(tt.memory, now); err == nil || !strings.HasPrefix(err.Error(), tt.why) {
			t.Errorf("%s: %v, want %s", tt.story, err, tt.why)
		}
	}
	if memory := new(Scaler).Memory(); memory != nil {
		t.Errorf("%d bytes of nothing", len(memory))
	}
}

// What is read was written by somebody: it is judged by without harm, and told
// again as it is. The fuzzer's bytes are taken as a memory, and as its fields.
func FuzzMemory(f *testing.F) {
	m, fleet, now := experienced(harmless{})
	fields, err := unpack(m.Memory())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.Memory(), false)
	f.Add(fields, true)
	f.Fuzz(func(t *testing.T, memory []byte, fields bool) {
		if fields {
			memory = packAnew(memory)
		}
		m, err := Recall(memory, now)
		if err != nil {
			if len(err.Error()) > 200 {
				t.Fatalf("a refusal of %d bytes", len(err.Error()))
			}
			return
		}
		again, err := Recall(m.Memory(), now)
		if err != nil {
			t.Fatalf("what was recalled is not: %v", err)
		}
		// What somebody else wrote may not make use of all 254 parts; ours does.
		last, err := Recall(again.Memory(), now)
		if err != nil || !bytes.Equal(last.Memory(), again.Memory()) {
			t.Fatalf("told again it is something else: %v", err)
		}
		v := m.Recommend(saturates(), fleet, now.Add(10*time.Second))
		if !(v.Value >= 1 && v.Value <= 50) {
			t.Fatalf("%v published: %s", v.Value, v.Reason)
		}
	})
}

// harmless fails nothing: what is made with it can't.
type harmless struct{}

func (harmless) Helper()               {}
func (harmless) Fatalf(string, ...any) {}

// However demand went, a need is never remembered as less than it was.
func TestANeedIsNeverRememberedAsLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Scaler{learned: Learned{Began: t0, At: t0.Add(2 * time.Hour)}}
		for i := range int64(recent) {
			m.learned.Need[slot(minute(m.learned.At)-i)] = rapid.Float32Range(0, 100).Draw(t, "need")
		}
		after, err := Recall(m.Memory(), m.learned.At)
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(recent) {
			at := slot(minute(m.learned.At) - i)
			if was, is := m.learned.Need[at], after.learned.Need[at]; is < was-1e-4 || is > was+.5 {
				t.Fatalf("%v is remembered as %v", was, is)
			}
		}
	})
}

// packAnew packs as it was done before compressors were used again.
func packAnew(fields []byte) []byte {
	packed := bytes.NewBuffer([]byte{memoryVersion})
	w, err := flate.NewWriter(packed, flate.BestCompression)
	if err == nil {
		_, err = w.Write(fields)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		panic(err)
	}
	return packed.Bytes()
}

// What was learned of 2 000 fleets is packed every five minutes: that takes no
// compressor for each.
func TestMemoryMakesNoGarbage(t *testing.T) {
	m, _, _ := experienced(t)
	memory := m.Memory()
	// It was 31, of 840 kB. Under the race detector a pool drops some of what it is
	// given, on purpose.
	if n := testing.AllocsPerRun(100, func() { m.Memory() }); checks == "3000" && n > 3 {
		t.Errorf("%v allocations", n)
	}
	fields, err := unpack(memory)
	if err != nil {
		t.Fatal(err)
	}
	if anew := packAnew(fields); len(memory) > len(anew)*11/10+16 {
		t.Errorf("%d bytes, which were %d with the best compression", len(memory), len(anew))
	}
}
