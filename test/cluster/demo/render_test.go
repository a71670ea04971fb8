package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file under testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew)\n%s", name, diff)
	}
}

// rushHour is a scene in the middle of the demo.
func rushHour() scene {
	return scene{
		At: 98 * time.Second, Phase: "rush", Offered: 36,
		Story: "Rush hour: 36 requests a second. One replica at a time, at most one per cooldown of 10 s; KAITO's guard " +
			"turns away what the full queues can't take.",
		Set: inferenceSet{Name: "phi-4", Wanted: 4, Ready: 1},
		Replicas: []replica{
			{Name: "phi-4-9ccg2", Stage: "ready", Counted: true, Ready: true, Running: 32, Waiting: 25, Seats: 32},
			{Name: "phi-4-7k4dx", Stage: "not ready", Counted: true, Running: 32, Waiting: 33, Seats: 32},
			{Name: "phi-4-x2vql", Stage: "benchmarking", Running: 24, Waiting: 16, Seats: 32},
			{Name: "phi-4-m8rtt", Stage: "awaiting node", Seats: 32},
		},
		Published: reading{58, true},
		KEDA:      scaledObject{Exists: true, Ready: "True", Active: "True"},
		HPA: autoscaler{
			Exists: true, Targets: "19334m/10 (avg)", Target: 10, Current: reading{19.334, true}, Desired: 4, Min: 1, Max: 5,
			Up: rules{5 * time.Second, 10 * time.Second}, Down: rules{5 * time.Second, 10 * time.Second},
			Reason: "ScaleUpLimit", Message: "the desired replica count is increasing faster than the maximum scale rate",
		},
		Events: []event{
			{At: 0, Reason: "ScaledObjectCreated", Note: "scaling between 1 and 5 replicas on vllm:num_requests_waiting, 10 for each replica"},
			{At: 35 * time.Second, Reason: "ScalingUp", Note: "1 → 3: vllm:num_requests_waiting is 22 in total on 1 replica, 10 wanted on each"},
			{At: 61 * time.Second, Reason: "LoadUnknown", Note: "cannot tell the load", Warning: true},
			{At: 93 * time.Second, Reason: "ScalingUp", Note: "4 → 5, the maximum: vllm:num_requests_waiting is 58 in total on 2 replicas, 10 wanted on each, which would be 6"},
		},
	}
}

// upAndDown is a whole run.
func upAndDown() []point {
	var points []point
	for at := time.Duration(0); at < 150*time.Second; at += 500 * time.Millisecond {
		p := point{At: at, Wanted: 1, Serving: 1}
		s := int(at.Seconds())
		switch {
		case s < 12:
			p.Serving = 0
		case s < 60:
			p.Offered, p.Waiting = 15, min(s-12, 33)
		case s < 110:
			p.Offered, p.Waiting, p.Wanted, p.Serving = 36, 64, 2+min((s-60)/15, 2), 1+min((s-60)/13, 3)
		case s < 140:
			p.Wanted = 4 - (s-110)/10
			p.Serving = p.Wanted
		}
		points = append(points, p)
	}
	return points
}

func TestFramesFitTheTerminal(t *testing.T) {
	points := upAndDown()[:196]
	for name, size := range map[string][2]int{"frame-80x24.txt": {80, 24}, "frame-120x40.txt": {120, 40}} {
		lines := frame(rushHour(), points, "keda-kaito-scaler: the quick start, live", size[0], size[1])
		text := ansi.Strip(strings.Join(lines, "\n")) + "\n"
		golden(t, name, text)
	}
	for _, size := range [][2]int{{1, 1}, {20, 5}, {40, 12}, {80, 24}, {100, 30}, {300, 90}} {
		for _, s := range []scene{{}, rushHour()} {
			lines := frame(s, points, "title", size[0], size[1])
			if len(lines) != size[1] { // all of it, or what was there before would show
				t.Errorf("%v: %d lines", size, len(lines))
			}
			for _, line := range lines {
				if w := ansi.StringWidth(line); w > size[0] {
					t.Errorf("%v: a line of %d columns: %q", size, w, line)
				}
			}
		}
	}
}

func TestANarrowTerminalKeepsTheNumbers(t *testing.T) {
	text := ansi.Strip(strings.Join(frame(rushHour(), nil, "keda-kaito-scaler: the quick start, live", 60, 16), "\n"))
	for _, want := range []string{"1:38\n", "wait ███▏  25\n", "publishes 58"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestACommandIsBrokenAtSpacesAlone(t *testing.T) {
	s := rushHour()
	s.Story = (&script{pace: leisurely(), name: "phi-4"}).command()
	s.Story = "The demo now shortens the windows: " + s.Story
	text := ansi.Strip(strings.Join(frame(s, nil, "title", 80, 24), "\n"))
	for word := range strings.FieldsSeq(s.Story) {
		if !strings.Contains(text, word) {
			t.Errorf("no %q in\n%s", word, text)
		}
	}
}

func TestTroubleIsShown(t *testing.T) {
	s := rushHour()
	s.Trouble = "get hpa: connection refused"
	text := ansi.Strip(strings.Join(frame(s, nil, "title", 80, 24), "\n"))
	if !strings.Contains(text, "can't look: get hpa: connection refused") {
		t.Errorf("no word of it in\n%s", text)
	}
}

func TestThePlotShowsTheWholeRun(t *testing.T) {
	golden(t, "plot.txt", ansi.Strip(strings.Join(plot(upAndDown(), 60*time.Second), "\n"))+"\n")
	if lines := plot(nil, 0); lines != nil {
		t.Errorf("a plot of nothing: %q", lines)
	}
}

func TestPlainLinesTellWhatChanged(t *testing.T) {
	var out bytes.Buffer
	p := &plain{out: &out}
	s := rushHour()
	s.At, s.Story, s.Events = 90*time.Second, "Rush hour.", s.Events[:2]
	p.show(s, nil)
	s.At += time.Second // nothing new: no line
	p.show(s, nil)
	s.At, s.Events = s.At+2*time.Second, rushHour().Events
	p.show(s, nil)
	s.At, s.HPA.Targets = s.At+time.Second, "17/10 (avg)"
	p.show(s, nil)
	s.At, s.HPA = s.At+5*time.Second, autoscaler{}
	s.Published.Known = false
	p.show(s, nil)
	s.Story, s.Phase, s.Offered = "The load is over.", "quiet", 0
	p.show(s, nil)
	golden(t, "plain.txt", out.String())
}

func TestBars(t *testing.T) {
	for _, tt := range []struct {
		value, full float64
		want        string
	}{
		{0, 8, "    "}, {0.001, 8, "▏   "}, {1, 8, "▌   "}, {4, 8, "██  "}, {5, 8, "██▌ "}, {8, 8, "████"}, {20, 8, "████"}, {3, 0, "▏   "},
	} {
		if got := bar(tt.value, tt.full, 4); got != tt.want {
			t.Errorf("bar(%g of %g) = %q, want %q", tt.value, tt.full, got, tt.want)
		}
	}
}

func TestNoPeakIsLostInAPlot(t *testing.T) {
	points := []point{{At: 0, Waiting: 1}, {At: time.Second, Waiting: 9}, {At: 2 * time.Second, Waiting: 2}, {At: 9 * time.Second, Waiting: 4}}
	got := resample(points, waiting, 5, 20*time.Second)
	if diff := cmp.Diff([]float64{9, 2, 4, -1, -1}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"█▁  ", "██▁ "}, columns([]float64{16, 9, 0.1, -1}, 16, 2)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
