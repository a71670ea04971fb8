package simulate

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestGivenRequestsAreRead(t *testing.T) {
	load, err := ReadRequests("r", strings.NewReader("\ufeffarrival_seconds,prompt_tokens,output_tokens\n0,200,60\n\n61.5,3000,0\n"))
	want := &Load{Name: "r", Requests: []Request{{0, 200, 60}, {61.5, 3000, 1}}, Length: 4 * time.Minute}
	if diff := cmp.Diff(want, load); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	text := "arrival_seconds,prompt_tokens,output_tokens,cancel_after_seconds\n0,200,60,3\n1.25,10,20,\n"
	load, err = ReadRequests("r", strings.NewReader(text))
	if diff := cmp.Diff([]float64{3, math.Inf(1)}, load.Cancels); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	var written bytes.Buffer
	if err := load.WriteRequests(&written); err != nil || written.String() != text {
		t.Errorf("it is written as %q, %v", written.String(), err)
	}
}

func TestGivenRequestsAreRefusedInWords(t *testing.T) {
	const head = "arrival_seconds,prompt_tokens,output_tokens\n"
	for text, why := range map[string]string{
		"":                        "r has no request",
		head:                      "r has no request",
		"at,in,out\n":             `r: the first line is "at,in,out": it must be arrival_seconds,prompt_tokens,output_tokens, or`,
		head + "0,1\n":            "r, line 2: 2 fields: must be 3, as in the first line",
		head + "0,1,2,3\n":        "r, line 2: 4 fields: must be 3",
		head + "5,1,1\n4,1,1\n":   "r, line 3: arrival_seconds 4 is before the line above it",
		head + "NaN,1,1\n":        `arrival_seconds "NaN": must be a number from 0 to 2678400`,
		head + "-1,1,1\n":         `arrival_seconds "-1": must be a number from 0`,
		head + "0,some,1\n":       `tokens "some": must be a whole number`,
		head + "0,1,1\n1e9,1,1\n": `line 3: arrival_seconds "1e9"`,
		strings.TrimSpace(head) + ",cancel_after_seconds\n0,1,1,soon\n": `line 2: cancel_after_seconds "soon": must be a number`,
	} {
		if _, err := ReadRequests("r", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want an error with %q", text, err, why)
		}
	}
}

func TestResultsAreOfEachRequest(t *testing.T) {
	load := &Load{Requests: []Request{{.5, 200, 60}, {1, 10, 1}, {2, 10, 5}, {3, 10, 5}, {4, 10, 5}}}
	var written bytes.Buffer
	err := load.WriteResults(&written, "mine,", []RequestResult{{Served, .25, .031}, {Served, .1, 0}, {Refused, 0, 0}, {Cancelled, .7, 0}, {}})
	want := "mine,0.5,200,60,served,0.250000,0.031000\nmine,1,10,1,served,0.100000,\nmine,2,10,5,refused,,\nmine,3,10,5,cancelled,0.700000,\nmine,4,10,5,unfinished,,\n"
	if diff := cmp.Diff(want, written.String()); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if got := ResultsHeader("policy,"); strings.Count(got, ",") != strings.Count(strings.SplitN(want, "\n", 2)[0], ",") {
		t.Errorf("the header is %q", got)
	}
}

// Given requests are played as they are, whatever the seed.
func TestGivenRequestsAreTheSameForEachSeed(t *testing.T) {
	load := hour(1, 1)
	scenario := Scenario{Name: "given", Trace: load, AsIs: true, Length: load.Length}
	for _, seed := range []uint64{1, 2} {
		if diff := cmp.Diff(load, scenario.Load(&Engines[0], DefaultSLO, seed)); diff != "" {
			t.Errorf("seed %d:\n%s", seed, diff)
		}
	}
}

// What is taken for requests is written and read as the same.
func FuzzRequests(f *testing.F) {
	f.Add("arrival_seconds,prompt_tokens,output_tokens\n0,200,60\n61.5,3000,0\n")
	f.Add("arrival_seconds,prompt_tokens,output_tokens,cancel_after_seconds\n0,200,60,3\n1.25,10,20,\n")
	f.Fuzz(func(t *testing.T, text string) {
		load, err := ReadRequests("r", strings.NewReader(text))
		if err != nil {
			return
		}
		var written bytes.Buffer
		if err := load.WriteRequests(&written); err != nil {
			t.Fatal(err)
		}
		again, err := ReadRequests("r", &written)
		if diff := cmp.Diff(load, again); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}
