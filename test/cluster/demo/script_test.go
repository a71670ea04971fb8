package main

import (
	"strings"
	"testing"
	"time"
)

// story plays scenes to a script, second by second.
type story struct {
	*testing.T
	script *script
	now    scene
}

func newStory(t *testing.T) *story {
	t.Helper()
	return &story{T: t, script: &script{pace: leisurely(), capacity: 13, name: "phi-4"}}
}

// serve puts so many serving replicas into the scene.
func (s *story) serve(n, waitingOnEach int) {
	s.now.Set.Wanted, s.now.Set.Ready = int32(n), int32(n)
	s.now.Replicas = nil
	for range n {
		s.now.Replicas = append(s.now.Replicas, replica{Stage: "ready", Counted: true, Ready: true, Waiting: waitingOnEach})
	}
	s.now.HPA.Current = reading{Value: float64(waitingOnEach), Known: true}
}

// pass lets time go by and returns the cues that came up.
func (s *story) pass(d time.Duration) []cue {
	s.Helper()
	var cues []cue
	for range int(d / time.Second) {
		s.now.At += time.Second
		c, told, err := s.script.next(s.now)
		if err != nil {
			s.Fatalf("at %s: %v", s.now.At, err)
		}
		if told {
			cues = append(cues, c)
		}
	}
	return cues
}

func (s *story) want(cues []cue, phases ...phase) {
	s.Helper()
	var got []phase
	for _, c := range cues {
		got = append(got, c.Phase)
	}
	if len(got) != len(phases) {
		s.Fatalf("phases %v, want %v", got, phases)
	}
	for i := range got {
		if got[i] != phases[i] {
			s.Fatalf("phases %v, want %v", got, phases)
		}
	}
}

func TestTheScriptWaitsForWhatItShows(t *testing.T) {
	s := newStory(t)
	s.want(s.pass(20 * time.Second)) // no replica, no HPA: no load either

	s.serve(1, 0)
	s.now.HPA = autoscaler{Exists: true, Target: 10, Up: rules{time.Minute, 300 * time.Second}}
	s.now.KEDA.Ready = "True"
	s.now.Published = reading{Known: true}
	s.want(s.pass(10*time.Second), calm, rising)

	// Past the first minute, but the HPA doesn't know of the queue yet.
	s.want(s.pass(50 * time.Second))
	s.serve(1, 30)
	cues := s.pass(8 * time.Second)
	s.want(cues, faster)
	if len(cues[0].Annotate) != 3 || !strings.Contains(cues[0].Story, "scaledobject.kaito.sh/scaleupcooldown=10") {
		t.Errorf("the windows are not shortened in view of the user: %+v", cues[0])
	}

	s.now.HPA.Up, s.now.HPA.Down = rules{5 * time.Second, 10 * time.Second}, rules{5 * time.Second, 10 * time.Second}
	s.want(s.pass(5*time.Second), rush)
	s.serve(3, 30)
	s.want(s.pass(20 * time.Second))
	s.serve(4, 20)
	cues = s.pass(8 * time.Second)
	s.want(cues, quiet)
	if cues[0].Offered != 0 {
		t.Errorf("load %g after the end of the load", cues[0].Offered)
	}

	s.serve(2, 0)
	s.want(s.pass(20 * time.Second))
	s.serve(1, 0)
	s.want(s.pass(2 * time.Second))
	if s.script.phase != over {
		t.Errorf("phase %s, want over", s.script.phase)
	}
}

func TestTheScriptSaysWhatDidNotHappen(t *testing.T) {
	s := newStory(t)
	s.now.HPA = autoscaler{Exists: true, Targets: "0/10 (avg)", Target: 10}
	s.now.KEDA.Ready = "False"
	s.serve(1, 0)
	s.now.At = s.script.allowed() + time.Second
	_, _, err := s.script.next(s.now)
	if err == nil || !strings.Contains(err.Error(), `a ScaledObject that KEDA calls Ready ("False")`) {
		t.Errorf("error %v", err)
	}

	s.script.phase, s.script.since = rush, s.now.At
	s.now.At += s.script.allowed() + time.Second
	_, _, err = s.script.next(s.now)
	if err == nil || !strings.Contains(err.Error(), "4 serving replicas under load: 1 are wanted, 1 serve") {
		t.Errorf("error %v", err)
	}
}
