package simulate

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestGeneratedLoadsHaveTheTracesStatistics(t *testing.T) {
	for _, tt := range []struct {
		kind    *Kind
		in, out float64
		// The index of dispersion over a minute at 5.53 requests a second.
		dispersion float64
	}{
		{&Conversation, 1155, 211, 0},
		{&Code, 2048, 28, 0},
	} {
		load := Generate("x", tt.kind, Steady(), 20, time.Hour, 1)
		in, out := load.Mean()
		if math.Abs(in/tt.in-1) > .1 || math.Abs(out/tt.out-1) > .2 {
			t.Errorf("%s: means of %.0f in and %.0f out, the trace has %.0f and %.0f", tt.kind.Name, in, out, tt.in, tt.out)
		}
		if rps := float64(len(load.Requests)) / 3600; math.Abs(rps/20-1) > .05 {
			t.Errorf("%s: %.2f requests a second, asked for 20", tt.kind.Name, rps)
		}
		if !slices.IsSortedFunc(load.Requests, func(a, b Request) int {
			if a.At < b.At {
				return -1
			}
			return 1
		}) {
			t.Error("the requests don't ascend in time")
		}
	}
}

func TestShapes(t *testing.T) {
	for name, tt := range map[string]struct {
		shape Shape
		at    time.Duration
		want  float64
	}{
		"a day at ten":             {Days(.3), 10 * time.Hour, 1},
		"a day at night":           {Days(.3), 2 * time.Hour, .3},
		"the next day at ten":      {Days(.3), 34 * time.Hour, 1},
		"Saturday at ten":          {Week(.4), 5*24*time.Hour + 10*time.Hour, .6},
		"before the step":          {Step(.25, time.Hour), 59 * time.Minute, .25},
		"after it":                 {Step(.25, time.Hour), time.Hour, 1},
		"the last three minutes":   {Spikes(.1, time.Hour, 3*time.Minute), 58 * time.Minute, 1},
		"and those before":         {Spikes(.1, time.Hour, 3*time.Minute), 56 * time.Minute, .1},
		"half way up the sawtooth": {Sawtooth(.2, 10*time.Minute), 25 * time.Minute, .6},
	} {
		if got := tt.shape(tt.at); math.Abs(got-tt.want) > .01 {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestReadTrace(t *testing.T) {
	const head = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
	load, err := ReadTrace("t", strings.NewReader(head+"2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:05.4799600,3180,0\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Request{{0, 4808, 10}, {1.5, 3180, 1}}
	if !slices.Equal(load.Requests, want) || load.Length != 2500*time.Millisecond {
		t.Errorf("got %v over %v", load.Requests, load.Length)
	}
	// Those of 2024 have a zone, and no fraction where that would be zero.
	load, err = ReadTrace("t", strings.NewReader(head+"2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,2399,6\n2024-05-10 02:00:01.5+02:00,76,15\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Request{{0, 2162, 5}, {.99007, 2399, 6}, {1.49007, 76, 15}}; !slices.Equal(load.Requests, want) {
		t.Errorf("of 2024: %v, want %v", load.Requests, want)
	}
	for text, why := range map[string]string{
		"":                                  "at least 2",
		head:                                "at least 2",
		"a,b":                               "the first line",
		head + "yesterday,1,2\n":            "line 2: time",
		head + "2023-11-16 18:17:03,1\n":    "2 fields",
		head + "2023-11-16 18:17:03,-1,2\n": "tokens",
		head + "2023-11-16 18:17:03,1,2\n2023-11-16 18:17:02,1,2\n":            "line 3",
		head + "2023-11-16 18:17:03,1,99999999\n2023-11-16 18:17:02,1,2\n":     "from 0 to 10000000",
		head + "2023-11-16 18:17:03,1,2," + strings.Repeat("x", 70_000) + "\n": "too long",
	} {
		if _, err := ReadTrace("t", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.40q: %v, want an error with %q", text, err, why)
		}
	}
}

func TestReplicateKeepsTheRate(t *testing.T) {
	trace := hour(1, 1)
	for _, copies := range []float64{.5, 1, 2.5} {
		load := Replicate(trace, copies, time.Minute, 3*time.Hour, 1)
		want := 3 * copies * float64(len(trace.Requests))
		if got := float64(len(load.Requests)); math.Abs(got/want-1) > .03 {
			t.Errorf("%v copies over three hours are %v requests, want %v", copies, got, want)
		}
	}
	e := Engines[0]
	if copies := Copies(trace, &e, 4, DefaultSLO); math.Abs(copies-4) > .7 {
		t.Errorf("an hour that needs one replica has to be played %.2f times at once to need four", copies)
	}
}

func TestNamedLoads(t *testing.T) {
	for _, name := range LoadNames() {
		shape, err := ShapeNamed(name, time.Hour, 5*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		for at := time.Duration(0); at < time.Hour; at += time.Minute {
			if rate := shape(at); rate <= 0 || rate > 1 {
				t.Errorf("%s is at %v of its peak after %v", name, rate, at)
			}
		}
	}
	if _, err := ShapeNamed("flat", time.Hour, time.Minute); err == nil {
		t.Error("a load that nobody knows was made")
	}
	if _, err := KindNamed("poetry"); err == nil {
		t.Error("a kind that nobody knows was found")
	}
}

func TestAnOracleBridgesPausesThatAreShorterThanAColdStart(t *testing.T) {
	need := []int32{1, 3, 1, 1, 3, 1, 1, 1, 2, 1}
	if got := bridge(need, 3); !slices.Equal(got, []int32{1, 3, 3, 3, 3, 1, 1, 1, 2, 1}) {
		t.Errorf("got %v", got)
	}
	if got := bridge(need, 4); !slices.Equal(got, []int32{1, 3, 3, 3, 3, 2, 2, 2, 2, 1}) {
		t.Errorf("got %v", got)
	}
}
